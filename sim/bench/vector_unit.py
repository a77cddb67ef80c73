"""Bench of the vector unit: every instruction to the bit, under stalls; faults; cycles."""

import cocotb
from cocotb.triggers import ClockCycles

from hdl.interfaces import visit_layout
from hdl.isa import Fault, Opcode, encode
from hdl.vector.writer import MemoryWriter
from sim.bench import Coverage, Pulses, UnitMonitor, parameters, rng, start
from sim.bench.vector_attention import attend
from sim.bench.vector_program import SIGNAL, Machine, values
from sim.golden import fp32

OPERATIONS = ("norm", "quantise", "add", "rope", "swiglu", "append", "logits", "store")
STEPS = ("no output", "gather", "stored logits", "argmax only", "one row", "all rows")
ATTENTION = (
    "row without participant",
    "shift 255",
    "shift between",
    "batch of one page",
    "several pages",
    "saturated",
    "one batch",
    "several batches",
)
NAN, INFINITY = 0x7FC00000, 0x7F800000


async def machine(dut, salt: str, *, stall: float = 0.0, fault: bool = False, **fields) -> Machine:
    """The unit after reset, in a random configuration, with its memories full."""
    m = Machine(dut, parameters()["config"], rng(salt), stall=stall)
    await start(dut)
    m.monitor = UnitMonitor(dut, expect_fault=fault)
    await m.configure(**fields)
    m.prepare()
    return m


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def each_instruction(dut):
    """Every instruction alone, no stalls, smallest and largest number of rows."""
    m = await machine(dut, "each")
    for rows in (1, m.config.row_capacity):
        await m.configure(rows=rows, output_list=list(range(0, rows, 3)), store_logits=1)
        for name in OPERATIONS:
            getattr(m, f"op_{name}")()
            await m.finish()
    assert m.world.idle


@cocotb.test(timeout_time=40, timeout_unit="ms")
async def random_programs(dut):
    """Random instructions back to back, under random stalls, through many steps."""
    steps, attention = Coverage(*STEPS, "ring full"), Coverage(*ATTENTION)
    m = await machine(dut, "random", stall=0.3)
    rows = m.config.row_capacity
    directed: list[dict] = [
        {"output_list": []},
        {"rows": rows, "output_list": [0, rows - 1], "store_logits": 1},
        {"rows": 1, "output_list": [0], "store_logits": 0},
    ]
    for n in range(parameters()["programs"]):
        await m.configure(**(directed[n] if n < len(directed) else {}))
        names = [*OPERATIONS, "attend"]
        m.draw.shuffle(names)
        for name in names:
            if name == "attend":
                attend(m, attention, most_visits=6)
            else:
                getattr(m, f"op_{name}")()
        await m.finish()
        steps.hit("no output", not m.outputs)
        steps.hit("gather", m.outputs and m.outputs != list(range(len(m.outputs))))
        steps.hit("stored logits", m.outputs and m.step["store_logits"])
        steps.hit("argmax only", m.outputs and not m.step["store_logits"])
        steps.hit("one row", m.step["rows"] == 1)
        steps.hit("all rows", m.step["rows"] == rows)
    steps.hit("ring full", m.world.ring_was_full)
    assert m.world.idle
    steps.assert_complete()
    taken = m.monitor.busy, m.monitor.starved, m.monitor.blocked
    assert all(taken), f"activity {taken}"


@cocotb.test(timeout_time=40, timeout_unit="ms")
async def random_attention(dut):
    """Batches of every size over several pages, with and without stalls."""
    cover = Coverage(*ATTENTION)
    m = await machine(dut, "attention", stall=0.3)
    rows = m.config.row_capacity
    await m.configure(rows=1, kv_heads=1)
    attend(m, cover, position=0)
    attend(m, cover, position=40, abyss=True)
    await m.finish()
    await m.configure(rows=rows, kv_heads=2, head_group=2 if rows > 4 else 1)
    attend(m, cover, position=30)
    await m.finish()
    for n in range(parameters()["attentions"]):
        await m.configure(rows=[rows, 1, m.draw.randint(1, rows)][n % 3])
        attend(m, cover, most_visits=12)
        attend(m, cover, most_visits=5)
        await m.finish()
    assert m.world.idle
    cover.assert_complete()


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(value=[0, 1])
async def append_held(dut, value):
    """The KV unit takes nothing for a long time: every place fills, nothing is lost."""
    m = await machine(dut, "held")
    await m.configure(
        rows=m.config.row_capacity, kv_heads=3, head_blocks=min(2, m.config.head_blocks)
    )
    m.append.hold = True
    m.op_append(value)
    await ClockCycles(dut.clk, 1200)
    blocked = m.monitor.blocked
    assert blocked > 500, f"blocked {blocked} cycles"
    m.append.hold = False
    await m.finish()


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def add_chains(dut):
    """ADDs that follow each other while the last one lands: every word sees the one before it."""
    m = await machine(dut, "chains")
    m.world.rewrites = True
    c = m.config
    for rows in (1, 2, c.row_capacity // 2, c.row_capacity):
        await m.configure(rows=rows)
        for panels in (1, 2, 3, 16, 17, 33):
            if rows * panels <= c.row_blocks:
                m.op_add(panels, links=6)
                m.op_store()
        await m.finish()
    await m.configure(rows=c.row_capacity)
    n = c.row_capacity * c.block_words
    few, many = [await _cycles(m, "add", 2, links=links) for links in (20, 40)]
    slope = (many - few) / 20
    print(f"cycles {c.name}: chained add {slope} an instruction of {2 * n} words")


# Faults -------------------------------------------------------------------------------------------
def _zero_counts(m):
    common = {"destination": 0, "source": 0, "rows": 0}
    yield encode(Opcode.NORM, blocks=0, weights=0, **common)
    yield encode(Opcode.QUANTISE, blocks=0, **common)
    yield encode(Opcode.ADD, destination=0, panels=0)
    yield encode(Opcode.ROPE, destination=0, panels=0, tables=0)
    yield encode(Opcode.SWIGLU, destination=0, pairs=0)
    yield encode(Opcode.LOGITS, panels=0)
    yield encode(Opcode.STORE, source=0, blocks=0, address=0)


def _ranges(m):
    """(word, panels it takes); row r, block b at base + r * blocks + b passes the end by one."""
    c, rows = m.config, m.step["rows"]
    base = {"destination": 0, "source": 0, "rows": 0, "blocks": 2}
    yield encode(Opcode.QUANTISE, **{**base, "source": c.row_blocks - 2 * rows + 1}), 0
    yield encode(Opcode.QUANTISE, **{**base, "destination": c.activation_blocks - 2 * rows + 1}), 0
    yield encode(Opcode.NORM, weights=c.constant_blocks - 1, **base), 0
    yield encode(Opcode.ADD, destination=c.row_blocks - 2 * rows + 1, panels=2), 2
    n = 2 * m.model["head_blocks"] * rows
    yield (
        encode(
            Opcode.ROPE,
            destination=0,
            panels=m.model["head_blocks"],
            tables=c.constant_blocks - n + 1,
        ),
        m.model["head_blocks"],
    )
    yield encode(Opcode.STORE, source=c.row_blocks - 1, blocks=rows + 1, address=0x10000), 0


async def _fails(m, word: int, cause: Fault, panels=()) -> None:
    """A good instruction, then this one: its fault, with its index; nothing after it."""
    m.instructions.index = m.draw.randint(0, 1000)
    m.op_quantise()
    await m.finish()
    for panel in panels:
        m.world.script.append(("ring", panel))
    index = m.instructions.issue(word | SIGNAL << 16)
    m.instructions.issue(encode(Opcode.STORE, signal=1, source=0, blocks=1, address=0x10000))
    for _ in range(100):
        await ClockCycles(m.dut.clk, 20)
        if m.monitor.fault:
            break
    fault = m.monitor.fault
    assert fault, "no fault"
    assert (Fault(fault["cause"]), fault["index"]) == (cause, index), fault
    written, signals = m.memory.beats, m.world.signals
    busy = m.monitor.busy
    await ClockCycles(m.dut.clk, 400)
    queued = MemoryWriter.entries * 128 // m.config.port_bytes
    assert m.memory.beats - written <= queued, "went on writing after a fault"
    assert m.world.signals == signals, "signal after a fault"
    assert m.monitor.busy - busy <= 1, "busy after a fault"
    assert m.instructions.pending == 1, "took an instruction after a fault"


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(case=range(7))
async def fault_zero_count(dut, case):
    """A count of zero."""
    m = await machine(dut, "zero", fault=True)
    await _fails(m, list(_zero_counts(m))[case], Fault.BAD_OPERAND)


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(case=range(6))
async def fault_range(dut, case):
    """An address one past its memory."""
    m = await machine(dut, "range", fault=True, rows=3)
    word, panels = list(_ranges(m))[case]
    data = [fp32.bits(values(m.draw, (3, 32), "plain")) for _ in range(panels)]
    await _fails(m, word, Fault.BAD_OPERAND, data)


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(
    field=[("head_blocks", 0), ("head_blocks", 15), ("kv_heads", 0), ("whole", 0), ("group", 0)]
)
async def fault_model(dut, field):
    """Model registers that don't fit: head length, no head, half a head, no group."""
    name, value = field
    m = await machine(dut, "model", fault=True, rows=2)
    panels = []
    if name == "whole":
        await m.configure(rows=2, head_blocks=2)  # at every preset
        word = encode(Opcode.ROPE, destination=0, panels=3, tables=0)
        panels = [fp32.bits(values(m.draw, (2, 32), "plain")) for _ in range(3)]
    elif name == "group":
        await m.configure(rows=2, head_group=0)
        word = encode(Opcode.ATTEND, queries=0, output=0, weights=0, offset=0)
    else:
        await m.configure(rows=2, **{name: value})
        word = encode(Opcode.APPEND, offset=0, value=1, tables=0)
    await _fails(m, word, Fault.BAD_OPERAND, panels)


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(opcode=[0, 0x30, 0x50, 0xFF])
async def fault_opcode(dut, opcode):
    """Not a vector instruction."""
    m = await machine(dut, "opcode", fault=True)
    await _fails(m, opcode, Fault.ILLEGAL_INSTRUCTION)


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(
    case=["quantise", "norm", "rope", "swiglu", "key", "value", "logits", "attend"],
    bits=[NAN, INFINITY, 0xFF800000],
)
async def fault_non_finite(dut, case, bits):
    """A NaN or an infinity at the last place of the last row."""
    m = await machine(dut, "finite", fault=True, rows=3, output_list=[0, 2], head_blocks=1)
    rows = 3

    def panels(n, rows=rows):
        data = [fp32.bits(values(m.draw, (rows, 32), "plain")) for _ in range(n)]
        data[-1][-1, -1] = bits
        return data

    row = {"source": 5, "destination": 7, "blocks": 2, "rows": 0}
    heads = m.model["kv_heads"]
    data = []
    if case in ("quantise", "norm"):
        m.set_rows(5, values(m.draw, (2 * rows, 32), "plain"))
        m.world.rows[5 + 2 * rows - 1, 31] = m.expected_rows[5 + 2 * rows - 1, 31] = bits
        word = encode(Opcode.QUANTISE, **row)
        if case == "norm":
            word = encode(Opcode.NORM, weights=0, **row)
    elif case == "rope":
        word, data = encode(Opcode.ROPE, destination=0, panels=2, tables=0), panels(2)
    elif case == "swiglu":
        word, data = encode(Opcode.SWIGLU, destination=0, pairs=1), panels(2)
    elif case in ("key", "value"):
        word = encode(Opcode.APPEND, offset=0, value=int(case == "value"), tables=0)
        data = panels(heads)
    elif case == "logits":
        word, data = encode(Opcode.LOGITS, panels=2), panels(2, 2)
    else:
        await m.configure(rows=rows, head_group=1)
        visit = dict.fromkeys(visit_layout(m.config).members, 0)
        visit |= {"first": 1, "last": 1, "end": 1, "rows": rows, "query_rows": rows}
        m.visits.send({**visit, "position": 31 - (rows - 1)})
        word = encode(Opcode.ATTEND, queries=0, output=64, weights=0, offset=0)
        data = panels(1)
        if bits == 0xFF800000:  # exp2 of -infinity is 0; then the value's scale is the culprit
            m.world.value_scales[0] = 255
    await _fails(m, word, Fault.NON_FINITE, data)


# Cycles -------------------------------------------------------------------------------------------
async def _cycles(m, operation, *arguments, **options) -> int:
    """From the instruction offered to its signal."""
    getattr(m, f"op_{operation}")(*arguments, **options)
    before = m.world.cycle
    await m.finish()
    return m.world.cycle - before


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def cycles(dut):
    """One word a cycle while a pass runs, and few cycles between passes."""
    m = await machine(dut, "cycles")
    c = m.config
    gap = 2  # between passes; 1 between rounds of one pass
    await m.configure(rows=c.row_capacity, head_blocks=1, kv_heads=1)
    n = c.row_capacity * c.block_words
    for name, passes in (("add", 1), ("rope", 2), ("swiglu", 4)):
        few, many = await _cycles(m, name, 2), await _cycles(m, name, 4)
        slope = (many - few) / 2
        print(f"cycles {c.name}: {name} {slope} a panel of {n} words")
        expected = passes * (n + gap) if passes > 1 else n + 1
        assert slope == expected, f"{name}: {slope} cycles a panel of {n} words"
    blocks = min(c.row_blocks // c.row_capacity, 8)
    taken = await _cycles(m, "norm", 0, blocks)
    strips = -(-blocks // c.head_blocks)
    print(f"cycles {c.name}: norm {taken}, {blocks} blocks of {c.row_capacity} rows")
    assert taken <= 3 * n * blocks + c.row_capacity + 2 * gap * strips + 160

    # Softmax: from panel to panel of one batch
    releases = Pulses(dut, "ring_release")
    await m.configure(rows=c.row_capacity, head_blocks=1, kv_heads=1, head_group=1)
    assert m.model["batch_rows"] == c.row_capacity
    attend(m, Coverage(*ATTENTION), most_visits=1, position=6 * 32)
    await releases.reach(2)
    before = m.world.cycle
    await releases.reach(5)
    page = (m.world.cycle - before) / 3
    print(f"cycles {c.name}: softmax {page} a page of {c.row_capacity} query rows")
    assert page <= 2 * n + 60
    await m.finish()

    # Decode: latency of one row
    await m.configure(
        rows=1, head_blocks=1, kv_heads=1, head_group=1, output_list=[0], store_logits=0
    )
    w = c.block_words
    for name, arguments, most in (
        ("quantise", (), 6 * w + 60),
        ("add", (1,), w + 45),
        ("rope", (1,), 2 * w + 70),
        ("swiglu", (1,), 4 * w + 120),
        ("append", (0,), 3 * w + 110),
        ("norm", (0, 8), 8 * 3 * max(w, 8) + 200),
        ("logits", (), 5 * w + 100),
    ):
        taken = await _cycles(m, name, *arguments)
        print(f"cycles {c.name}: {name} {arguments} of one row {taken}")
        assert taken <= most, f"{name}: {taken} cycles"
