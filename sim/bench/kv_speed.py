"""Bench of the KV unit's throughput: page beats without gaps, appended blocks back to back."""

import cocotb
from cocotb.triggers import RisingEdge

from sim.bench import parameters, rng
from sim.bench.kv_bench import KVBench, fill_random
from sim.bench.kv_model import World, expected_visits, random_step


async def prepare(bench, step):
    bench.load_step(step)
    bench.prepare(signal=1)
    while not bench.semaphores.given[0]:
        await bench.cycles(1)


@cocotb.test(timeout_time=3, timeout_unit="ms")
async def page_beats(dut):
    """Latency 60, slots always free, scattered pages of the shortest head: >= 97 % of cycles."""
    config = parameters()["config"]
    draw = rng("page beats")
    world = World(config, head_blocks=1, kv_heads=4, head_group=1, batch_rows=4, kv_pages=24)
    fill_random(world, draw)
    for walk_latency in (60, 400):  # 400: its beats queue behind those of pages
        options = {"walk_latency": walk_latency, "write_outstanding": 16, "check_slots": False}
        bench = KVBench(dut, world, latency=60, salt=walk_latency, **options)
        await bench.begin()
        step = random_step(world, draw, [(32 * 7 + 5, 1), (0, 1), (32 * 6 + 30, 3)])
        await prepare(bench, step)
        beats: list[int] = []

        async def watch(beats=beats, bench=bench):
            cycle = 0
            while True:
                await RisingEdge(dut.clk)
                cycle += 1
                if int(dut.pages__data__valid.value):
                    beats.append(cycle)

        bench._tasks.append(cocotb.start_soon(watch()))
        bench.append_layer(step, 0)
        bench.attend(0)
        await bench.visits(step, 0)
        visits = len(expected_visits(world, step))
        assert len(beats) == visits * 2 * world.half_bytes // config.port_bytes
        share = len(beats) / (beats[-1] - beats[0] + 1)
        dut._log.info("walk latency %d: page beats in %.2f %%", walk_latency, 100 * share)
        assert share >= 0.97, f"page beats in {share:.2%} of cycles"
        bench.end()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def appended_blocks(dut):
    """Blocks offered every cycle: at most a cycle a beat, and one a request."""
    config = parameters()["config"]
    draw = rng("appended blocks")
    world = World(config, head_blocks=2, kv_heads=2, head_group=1, batch_rows=4, kv_pages=4)
    fill_random(world, draw)
    bench = KVBench(dut, world, latency=5, write_outstanding=16, salt="appends")
    await bench.begin()
    step = random_step(world, draw, [(3, config.row_capacity // 2)])
    await prepare(bench, step)
    bench.append_layer(step, 0)
    blocks, start = bench.appends.pending, bench.writer.cycle
    await bench.appends.drained()
    cycles = bench.writer.cycle - start
    await bench.idle()
    bench.compare_memory()
    heads = blocks // world.head_blocks
    requests = blocks + heads
    beats = blocks * 32 // config.port_bytes + heads
    assert len(bench.writer.requests) == requests
    assert bench.writer.beats == beats
    dut._log.info("%d blocks in %d cycles, %d write beats", blocks, cycles, beats)
    assert cycles <= beats + requests // 8 + 20
    bench.end()
