"""Bench of the KV unit's faults: cause, detail, address and index of each; then a good step."""

from collections.abc import Callable
from dataclasses import dataclass, field

import cocotb

from hdl.isa import Fault, Opcode, encode
from hdl.kv import Operand
from sim.bench import parameters, rng
from sim.bench.kv_bench import KVBench
from sim.bench.kv_model import Step, World, random_step

LENGTHS = [(70, 2), (30, 3)]  # (first position, rows): pages 0 .. 2 and 0 .. 1


@dataclass
class Case:
    """A step that is wrong in one way."""

    cause: Fault
    detail: int | Callable = 0
    address: Callable = field(default=lambda world, step: 0)
    change: Callable | None = None  # (world, step): tables, owners
    model: dict = field(default_factory=dict)
    header: dict = field(default_factory=dict)
    offset: int = 0
    attends: bool = True  # the fault is found by ATTEND, not by PREPARE
    visits: int = 0  # good visits before the fault that must come
    append: dict | None = None  # a block appended before the others
    walk_only: bool = False  # ATTEND without the layer's appends: found before any page is read
    extra: bool = False  # a block appended after all of the layer
    words: list[int] | None = None  # instead of PREPARE and ATTEND; the last one faults


def entry_address(segment: int, page: int):
    return lambda world, step: step.segments[segment].table + 4 * page


def owner_address(segment: int, page: int):
    return lambda world, step: world.owners_at + 4 * step.segments[segment].pages[page]


def page_number(segment: int, page: int):
    return lambda world, step: step.segments[segment].pages[page]


def set_entry(segment: int, page: int, value):
    """Change a table entry, in memory and in the model."""

    def change(world: World, step: Step):
        number = value(world) if callable(value) else value
        part = step.segments[segment]
        part.pages[page] = number
        world.put(part.table + 4 * page, number.to_bytes(4, "little"))

    return change


def set_owner(segment: int, page: int, flip: int):
    """Flip bits of a page's owner."""

    def change(world: World, step: Step):
        at = owner_address(segment, page)(world, step)
        owner = int.from_bytes(world.get(at, 4), "little") ^ flip
        world.put(at, owner.to_bytes(4, "little"))

    return change


def take_page(segment: int, page: int, number: int):
    """Another page of memory, rightly owned."""

    def change(world: World, step: Step):
        set_entry(segment, page, number)(world, step)
        owner = step.segments[segment].owner
        world.put(owner_address(segment, page)(world, step), owner.to_bytes(4, "little"))

    return change


def no_rows(world: World, step: Step):
    step.segments[1].rows = 0


def swap_pages(world: World, step: Step):
    """Sequence 1 names a page of sequence 0."""
    set_entry(1, 0, step.segments[0].pages[1])(world, step)


def short_table(segment: int, pages: int):
    def change(world: World, step: Step):
        del step.segments[segment].pages[pages:]

    return change


def bad_operand(detail: Operand, **fields) -> Case:
    return Case(Fault.BAD_OPERAND, detail.value, attends=False, **fields)


APPEND = {"head": 0, "row": 0, "block": 0, "value": 0}


def cases(world: World) -> dict[str, Case]:
    """Every fault the unit can find."""
    config = world.config
    heads, beat = world.kv_heads, config.port_bytes
    owner = Fault.KV_OWNER
    listed = {
        "table too short for new rows": Case(
            Fault.KV_PAGE, 2, entry_address(0, 2), short_table(0, 2), attends=False
        ),
        "empty table": Case(
            Fault.KV_PAGE, 0, entry_address(1, 0), short_table(1, 0), attends=False
        ),
        "new page past KV_PAGES": Case(
            Fault.KV_PAGE,
            lambda world, step: world.kv_pages,
            entry_address(1, 1),
            set_entry(1, 1, lambda world: world.kv_pages),
            attends=False,
        ),
        "old page far past KV_PAGES": Case(
            Fault.KV_PAGE,
            1 << 24 | 1,
            entry_address(0, 1),
            set_entry(0, 1, 1 << 24 | 1),
            visits=1,
        ),
        "stranger's new page": Case(
            owner, page_number(0, 2), owner_address(0, 2), set_owner(0, 2, 1), attends=False
        ),
        "stranger's page, top bit": Case(
            owner, page_number(1, 1), owner_address(1, 1), set_owner(1, 1, 1 << 31), attends=False
        ),
        "stranger's old page": Case(
            owner, page_number(0, 0), owner_address(0, 0), set_owner(0, 0, 1 << 7), visits=0
        ),
        "page of the step's other sequence": Case(
            owner, page_number(0, 1), owner_address(0, 1), swap_pages, attends=False
        ),
        "the older fault wins": Case(
            owner,
            page_number(0, 2),
            owner_address(0, 2),
            lambda world, step: (
                set_owner(0, 2, 2)(world, step),
                short_table(1, 0)(world, step),
            ),
            attends=False,
        ),
        "address does not fit": Case(
            Fault.BAD_ADDRESS,
            0,
            lambda world, step: (1 << 40) - 1,
            model={"kv_base": (1 << 40) - beat},
            attends=False,
        ),
        "HEAD_BLOCKS 0": bad_operand(Operand.HEAD_BLOCKS, model={"head_blocks": 0}),
        "HEAD_BLOCKS too large": bad_operand(
            Operand.HEAD_BLOCKS, model={"head_blocks": config.head_blocks + 1}
        ),
        "KV_HEADS 0": bad_operand(Operand.KV_HEADS, model={"kv_heads": 0}),
        "HEAD_GROUP 0": bad_operand(Operand.BATCH, model={"head_group": 0}),
        "BATCH_ROWS 0": bad_operand(Operand.BATCH, model={"batch_rows": 0}),
        "batch past row_capacity": Case(
            Fault.BAD_OPERAND,
            Operand.BATCH.value,
            model={"head_group": config.row_capacity // 2 + 1, "batch_rows": 2},
        ),
        "no rows": bad_operand(Operand.STEP, header={"rows": 0}),
        "too many rows": bad_operand(Operand.STEP, header={"rows": config.row_capacity + 1}),
        "no segments": bad_operand(Operand.STEP, header={"segments": 0}),
        "more segments than rows": bad_operand(Operand.STEP, header={"segments": 6}),
        "page size not aligned": bad_operand(
            Operand.ALIGNMENT, model={"kv_page_bytes": world.page_bytes + beat // 2}
        ),
        "owners not aligned": bad_operand(
            Operand.ALIGNMENT, model={"kv_owners": world.owners_at + 2}
        ),
        "offset not aligned": Case(Fault.BAD_OPERAND, Operand.ALIGNMENT.value, offset=beat // 2),
        "heads past the page": Case(
            Fault.BAD_OPERAND,
            Operand.PAGE_RANGE.value,
            model={"kv_page_bytes": world.layer_bytes - beat},
            walk_only=True,
        ),
        "append to a row that is not": Case(
            Fault.BAD_OPERAND, Operand.APPEND.value, append={**APPEND, "row": 5}
        ),
        "append to a head that is not": Case(
            Fault.BAD_OPERAND, Operand.APPEND.value, append={**APPEND, "head": heads}
        ),
        "append of a block that is not": Case(
            Fault.BAD_OPERAND, Operand.APPEND.value, append={**APPEND, "block": world.head_blocks}
        ),
        "one append too many": Case(Fault.BAD_OPERAND, Operand.APPEND_COUNT.value, extra=True),
        "segment without rows": bad_operand(Operand.STEP, change=no_rows),
        "append past the page": Case(
            Fault.BAD_OPERAND,
            Operand.PAGE_RANGE.value,
            append={**APPEND, "value": 1},
            offset=world.page_bytes - 2 * world.half_bytes + beat,
        ),
        "ATTEND before PREPARE": Case(
            Fault.ILLEGAL_INSTRUCTION,
            words=[encode(Opcode.ATTEND, queries=0, output=0, weights=0, offset=0)],
        ),
        "another unit's instruction": Case(
            Fault.ILLEGAL_INSTRUCTION, words=[encode(Opcode.PREPARE), encode(Opcode.END)]
        ),
        "opcode 0": Case(Fault.ILLEGAL_INSTRUCTION, words=[0]),
    }
    if config.kv_on_chip_bytes:
        far = config.kv_on_chip_bytes // world.page_bytes + 1
        assert config.kv_on_chip_bytes % world.page_bytes == world.page_bytes - beat
        listed |= {
            "old page past the on-chip memory": Case(
                Fault.BAD_ADDRESS,
                address=lambda world, step: world.page_address(far),
                change=take_page(0, 0, far),
            ),
            "last beat of a page past the on-chip memory": Case(
                Fault.BAD_ADDRESS,
                # Head 1: its third request of 256 beats at the most.
                address=lambda world, step: (
                    world.page_address(far - 1) + 2 * world.half_bytes + 2 * 256 * beat
                ),
                change=take_page(0, 0, far - 1),
                visits=3,
            ),
            "new page past the on-chip memory": Case(
                Fault.BAD_ADDRESS,
                address=lambda world, step: world.page_address(far) + 30 * 32,  # token 30
                change=take_page(1, 0, far),
                append={**APPEND, "row": 2},
            ),
        }
    return listed


async def run_case(dut, name: str, case: Case, world: World):
    draw = rng("fault", name)
    step = random_step(world, draw, LENGTHS, spare_entries=0, contiguous=True)
    if case.change:
        case.change(world, step)
    bench = KVBench(dut, world, stall=0.1, latency=(3, 20), salt=name, expect_fault=True)
    await bench.begin()
    bench.load_step(step, world.model(**case.model), step.header(**case.header))
    first = bench.instructions.index = draw.randrange(1 << 19)
    if case.words is not None:
        for word in case.words:
            index = bench.instructions.issue(word)
    else:
        index = bench.prepare(signal=1)
        while case.attends and not bench.semaphores.given[0]:
            assert not bench.monitor.fault, f"{name}: {bench.monitor.fault}"
            await bench.cycles(1)
        if case.extra:
            bench.append_layer(step, 0)
            bench.appends.send({"elements": [7] * 32, "scale": 1, "offset": 0, **APPEND})
        elif case.append:
            payload = {"elements": [7] * 32, "scale": 1, "offset": case.offset, **case.append}
            bench.appends.send(payload)
        elif case.attends or case.walk_only:
            index = bench.attend(case.offset)
            await bench.cycles(100)
            if not case.walk_only:
                bench.append_layer(step, case.offset)
    for _ in range(6000):
        if bench.monitor.fault:
            break
        await bench.cycles(1)
    want = {
        "cause": case.cause.value,
        "detail": case.detail(world, step) if callable(case.detail) else case.detail,
        "address": case.address(world, step),
        "index": index,
    }
    assert bench.monitor.fault == want, f"{name}: {bench.monitor.fault}, expected {want}"
    assert first <= index
    # Nothing begins afterwards: no instruction, no append, no visit past the good ones.
    bench.instructions.issue(encode(Opcode.PREPARE))
    taken = bench.appends.sent
    await bench.cycles(300)
    assert bench.instructions.pending, f"{name}: an instruction was taken after the fault"
    assert bench.appends.sent <= taken + 1, f"{name}: appends were taken after the fault"
    if case.append:
        bench.compare_memory()  # the bad block is not written
    assert len(bench.matrix.values) <= case.visits, f"{name}: {bench.matrix.values}"
    bench.end()


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def every_fault(dut):
    """Each wrong step faults as it must; after a reset the unit works."""
    config = parameters()["config"]
    shape: dict = {"head_blocks": 1, "kv_heads": 2, "head_group": 2, "batch_rows": 2, "layers": 1}
    shape["kv_pages"] = 128 if config.kv_on_chip_bytes else 8
    for name in cases(World(config, **shape)):
        world = World(config, **shape)
        await run_case(dut, name, cases(world)[name], world)
    world = World(config, **shape)
    bench = KVBench(dut, world, salt="good")
    await bench.begin()
    step = random_step(world, rng("good"), [(0, 3), (0, 2)], contiguous=True)
    bench.load_step(step)
    bench.prepare(signal=1)
    while not bench.semaphores.given[0]:
        await bench.cycles(1)
    bench.append_layer(step, 0)
    bench.attend(0)
    bench.check_slots = not bench.on_chip  # (it still holds what other tests wrote)
    await bench.visits(step, 0)
    await bench.idle()
    bench.compare_memory()
    bench.end()
