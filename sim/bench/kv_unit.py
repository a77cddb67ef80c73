"""Bench of the KV unit: steps of random segments against the model, under random stalls."""

import cocotb

from hdl.config import PAGE_TOKENS
from sim.bench import Coverage, parameters, rng
from sim.bench.kv_bench import KVBench, fill_random
from sim.bench.kv_model import BASE, World, random_step

ON_CHIP: dict[str, bytes] = {}
"""The on-chip memory survives a reset, and so from test to test."""


def make_world(config, draw, **fields) -> World:
    """A world of random shape; ``fields`` fix some of it."""
    head_group = fields.pop("head_group", draw.randint(1, 4))
    shape = {
        "head_blocks": draw.randint(1, min(config.head_blocks, 2)),
        "kv_heads": draw.randint(1, 3),
        "head_group": head_group,
        "batch_rows": draw.randint(1, config.row_capacity // head_group),
        "kv_pages": 14,
        "layers": 2,
        "slack_bytes": config.port_bytes * draw.randrange(3),
        **fields,
    }
    world = World(config, **shape)
    if config.kv_on_chip_bytes:
        pages = world.kv_at - BASE
        old = ON_CHIP.get("pages", bytes(config.kv_on_chip_bytes))
        assert world.size - pages <= len(old), "the bench needs more on-chip memory"
        world.content[pages:] = old[: world.size - pages]
    else:
        fill_random(world, draw)
    return world


def keep_on_chip(world: World):
    if world.config.kv_on_chip_bytes:
        pages = bytes(world.content[world.kv_at - BASE :])
        old = ON_CHIP.get("pages", bytes(world.config.kv_on_chip_bytes))
        ON_CHIP["pages"] = pages + old[len(pages) :]


def random_lengths(config, draw, most_pages):
    """(first position, rows) of segments: decodes, chunks, whole prompts."""
    lengths, rows, pages = [], 0, 0
    wanted = draw.randint(1, config.row_capacity)
    while rows < wanted:
        count = draw.choice([1, 1, draw.randint(1, wanted - rows)])
        position = draw.choice(
            [0, draw.randrange(120), 32 * draw.randrange(4), 32 * draw.randrange(1, 4) - 1]
        )
        need = -(-(position + count) // PAGE_TOKENS)
        if pages + need > most_pages:
            break
        lengths.append((position, count))
        rows += count
        pages += need
    return lengths or [(5, 1)]


async def run_step(bench, draw, cover, *, layers=2, lengths=None, directed=False, **tables):
    """PREPARE, then appends and ATTEND of each layer; ``directed`` leaves out the coin tosses.

    ``tables`` are options of ``random_step``.
    """
    world = bench.world
    lengths = lengths or random_lengths(world.config, draw, 9)
    tables = {"contiguous": draw.random() < 0.3, **tables}
    step = random_step(world, draw, lengths, **tables)
    bench.load_step(step)
    wait, signal = draw.choice([(0, 8), (1, 4), (0x11, 0x06)])
    given = list(bench.semaphores.given)
    bench.prepare(wait, signal)
    if wait:
        await bench.cycles(draw.randrange(40, 80))
        assert not bench.instructions.pending, "PREPARE was not taken"
        assert bench.monitor.blocked, "does not count as waiting for its semaphore"
        assert bench.semaphores.given == given, "signalled before its wait"
        bench.semaphores.give(wait)
    # The program orders APPEND behind PREPARE; after a reset the unit holds appends by itself.
    held = not bench.visited and (directed or draw.random() < 0.5)
    cover.hit("appends wait for PREPARE", held)
    while not held and bench.semaphores.given == given:
        await bench.cycles(1)
    for layer in range(layers):
        offset = layer * world.layer_bytes
        early = not layer if directed else draw.random() < 0.5
        if early:
            bench.attend(offset)
            await bench.cycles(draw.randrange(200))
        bench.append_layer(step, offset)
        if not early:
            await bench.appends.drained()
            bench.attend(offset)
        expected = await bench.visits(step, offset)
        cover.hit("ATTEND before its appends", early)
        cover.hit("ATTEND after its appends", not early)
        cover.hit(
            "several batches", any(v["row"] != s.row for v in expected for s in step.segments)
        )
        cover.hit("several segments", len(step.segments) > 1)
        cover.hit("second layer", layer > 0)
        cover.hit("several pages", any(v["token"] for v in expected))
        cover.hit("chunk across pages", any(p % 32 + r > 32 for p, r in lengths))
        cover.hit("decode", any(r == 1 for _, r in lengths))
        cover.hit("several heads", world.kv_heads > 1)
        cover.hit("slots go round", len(expected) > world.config.page_slots)
        cover.hit("odd batches", expected[-1]["parity"] == 0)
    await bench.idle()
    want = [g + (signal >> s & 1) for s, g in enumerate(given)]
    assert bench.semaphores.given == want, f"signals {bench.semaphores.given}, expected {want}"
    bench.compare_memory()
    keep_on_chip(world)


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def random_steps(dut):
    """Random shapes, tables, owners and stalls; several steps after one reset."""
    config = parameters()["config"]
    draw = rng("random steps")
    cover = Coverage(
        "appends wait for PREPARE",
        "ATTEND before its appends",
        "ATTEND after its appends",
        "several batches",
        "several segments",
        "second layer",
        "several pages",
        "chunk across pages",
        "decode",
        "several heads",
        "slots go round",
        "odd batches",
    )
    # One step that reaches every bin, whatever the seed; then random ones.
    # (No slack: the last head ends where its page ends.)
    shape = {"head_blocks": 1, "kv_heads": 3, "head_group": 2, "batch_rows": 2, "slack_bytes": 0}
    world = make_world(config, draw, **shape)
    bench = KVBench(dut, world, stall=0.2, latency=(1, 40), write_latency=300, salt="directed")
    await bench.begin()
    await run_step(bench, draw, cover, lengths=[(30, 4), (33, 1)], directed=True)
    bench.end()
    for number in range(parameters()["worlds"]):
        world = make_world(config, draw)
        bench = KVBench(
            dut,
            world,
            stall=draw.choice([0.0, 0.2, 0.5]),
            run=draw.choice([1, 8]),
            latency=draw.choice([1, (1, 40), 200]),
            write_latency=draw.choice([1, 60, 300]),
            write_outstanding=draw.choice([1, 4, 20]),
            salt=number,
        )
        await bench.begin()
        for _ in range(2):
            await run_step(bench, draw, cover)
        bench.end()
    cover.assert_complete()


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def longest_head(dut):
    """HEAD_BLOCKS at its limit: page halves fill the slots; a batch of every row."""
    config = parameters()["config"]
    draw = rng("longest head")
    world = make_world(
        config,
        draw,
        head_blocks=config.head_blocks,
        kv_heads=1,
        head_group=1,
        batch_rows=config.row_capacity,
        layers=1,
        kv_pages=3 if config.kv_on_chip_bytes else 8,
    )
    bench = KVBench(dut, world, stall=0.1, run=4, latency=(10, 30), salt="longest")
    await bench.begin()
    lengths = [(31, 2)] if config.kv_on_chip_bytes else [(31, config.row_capacity - 1), (64, 1)]
    await run_step(bench, draw, Any(), layers=1, lengths=lengths)
    bench.end()


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def tables_change(dut):
    """Another page in the same word of the table, from step to step: no stale translation."""
    config = parameters()["config"]
    draw = rng("tables change")
    shape = {"head_blocks": 1, "kv_heads": 1, "head_group": 1, "batch_rows": 1}
    world = make_world(config, draw, **shape, layers=1, kv_pages=8)
    bench = KVBench(dut, world, latency=10, salt="tables")
    await bench.begin()
    for _ in range(5):
        fixed = {"first_beat": 0, "contiguous": False}
        await run_step(bench, draw, Any(), layers=1, lengths=[(5, 1)], **fixed)
    bench.end()


class Any:
    """A cover that takes everything."""

    def hit(self, *_):
        pass
