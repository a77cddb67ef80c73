"""What each instruction does to the clocks; attention is in ``sim.cycle_model.attention``."""

from collections.abc import Callable

from hdl.config import BLOCK
from hdl.isa import LoadSource, Opcode, RowSelect, Unit
from sim.cycle_model.attention import attend, prepare
from sim.cycle_model.chip import Chip, Operands
from sim.cycle_model.startup import BUS_TO_CLIENT, WORD_FIFO
from sim.cycle_model.vector import strips
from sim.cycle_model.writes import APPEND_PLACES

__all__ = ["HANDLERS"]

_CONSTANT = LoadSource.CONSTANT.value

_LOAD_TO_ASK = 11
"""hdl/memory/row_loader.py: SIZE, SUM, LIMIT, CHECK, LOOKUP, INDEX, MULTIPLY, ADDRESS, FIRST, FIT,
ROOM, beside the multiplication in SIZE and MULTIPLY."""

_LOAD_ROW = 9
"""The same: from a row's last request to the next row's first."""

_LOAD_DONE = 5
"""From a beat at the loader to the end of its word's write."""

_WORD_TO_WRITER = 4
"""hdl/vector/datapath.py: from a word to its arrival in the memory writer."""


def _tape(chip: Chip, v: Operands, offered: float) -> None:
    taken = max(offered, chip.tape_taken)
    granted = chip.granted(taken + 1, v["wait"])
    chip.taken[Unit.TAPE].append(taken)
    chip.tape_taken = taken + 6
    if chip.line.started == float("inf"):
        chip.line.start(granted + 3)
    else:
        chip.line.go_on(chip.tape_told, granted + 3)
    chip.tape_told += v["block_tiles"] * chip.machine.period


def _load(chip: Chip, v: Operands, offered: float) -> None:
    taken = max(offered, chip.load_idle)
    chip.taken[Unit.LOAD].append(taken)
    chip.load_jobs.append(chip.load_done)
    granted = chip.granted(max(taken + 1, chip.load_jobs.popleft()), v["wait"])
    chip.load_blocked += max(0.0, granted - max(taken + 1, chip.load_done))
    rows = 1 if v["source"] == _CONSTANT else chip.rows
    row_beats = v["blocks"] * 4 * BLOCK / chip.machine.port_bytes
    burst = chip.machine.burst_beats
    multiply = -(-v["blocks"].bit_length() // 2)  # two bits a cycle
    ask = granted + _LOAD_TO_ASK + 2 * multiply
    ends: list[float] = []
    sizes: list[float] = []
    room = 2.0 * burst
    freed = 0
    for row in range(rows):
        if row:
            ask += _LOAD_ROW + multiply - 4
        left = row_beats
        while left > 0:
            size = min(left, burst)
            while room < size:
                need = min(size - room, sizes[freed])
                sizes[freed] -= need
                ask = max(ask, ends[freed] - sizes[freed] * chip.line.beat + 2)
                room += need
                freed += not sizes[freed]
            end = chip.line.request(ask, size) + BUS_TO_CLIENT + _LOAD_DONE
            ends.append(end)
            sizes.append(size)
            room -= size
            left -= size
            ask = chip.line.accepted + 4
    chip.row_beats += rows * row_beats
    chip.load_idle = ask
    chip.load_active += max(0.0, ends[-1] - max(taken, chip.load_done))
    chip.load_done = ends[-1]
    chip.signal(v["signal"], ends[-1])


def _matmul(chip: Chip, v: Operands, offered: float) -> None:
    rows = chip.outputs if v["rows"] == RowSelect.OUTPUT.value else chip.rows
    chip.jobs.append([chip.tiles(v["blocks"]), v["panels"], rows, offered, chip.wait(v["wait"])])


def _begin(chip: Chip, v: Operands, offered: float, *, chained: bool = False) -> None:
    decode_at = chip.vector.take(offered)
    chip.taken[Unit.VECTOR].append(decode_at - 1)
    chip.vector.begin(decode_at, chip.wait(v["wait"]), chained=chained)
    chip.last_add = None


def _finish(chip: Chip, v: Operands, away: float = 0.0) -> None:
    chip.signal(v["signal"], chip.vector.finish(away))


def _norm(chip: Chip, v: Operands, offered: float) -> None:
    _begin(chip, v, offered)
    rows = chip.outputs if v["rows"] == RowSelect.OUTPUT.value else chip.rows
    if rows:
        run = chip.vector.run
        run("NORM_SQUARE", rows, v["blocks"])
        run("NORM_ROOT", rows, 1)
        for blocks in strips(v["blocks"], chip.machine.head_blocks):
            run("NORM_SCALE", rows, blocks)
            run("NORM_WEIGH", rows, blocks)
    _finish(chip, v)


def _quantise(chip: Chip, v: Operands, offered: float) -> None:
    _begin(chip, v, offered)
    rows = chip.outputs if v["rows"] == RowSelect.OUTPUT.value else chip.rows
    if rows:
        chip.vector.run("QUANTISE", rows, v["blocks"])
    _finish(chip, v)


def _add(chip: Chip, v: Operands, offered: float) -> None:
    add = (v["destination"], v["panels"])
    _begin(chip, v, offered, chained=add == chip.last_add)
    chip.last_add = add
    vector, credits, rows = chip.vector, chip.credits, chip.rows

    def item() -> None:
        credits.append(vector.run("ADD", rows, 1, chip.panel()) + 4)

    chip.repeat(v["panels"], 1, item)
    chains = not v["signal"] and max(chip.rows, v["panels"]) >= chip.vector.chain_rows
    chip.signal(v["signal"], chip.vector.finish(chains=chains))


def _rope(chip: Chip, v: Operands, offered: float) -> None:
    _begin(chip, v, offered)
    vector, credits, rows = chip.vector, chip.credits, chip.rows

    def item() -> None:
        vector.run("ROPE_COS", rows, 1, chip.panel())
        credits.append(vector.run("ROPE_SIN", rows, 1) + 4)

    chip.repeat(v["panels"], 1, item)
    _finish(chip, v)


def _swiglu(chip: Chip, v: Operands, offered: float) -> None:
    _begin(chip, v, offered)
    vector, credits, rows = chip.vector, chip.credits, chip.rows

    def item() -> None:
        vector.run("SWIGLU_EXP", rows, 1, chip.panel())
        vector.run("SWIGLU_RECIPROCAL", rows, 1)
        vector.run("SWIGLU_GATE", rows, 1)
        last = vector.run("SWIGLU_UP", rows, 1, chip.panel())
        credits.append(last + 4)
        credits.append(last + 5)

    chip.repeat(v["pairs"], 2, item)
    _finish(chip, v)


def _append(chip: Chip, v: Operands, offered: float) -> None:
    _begin(chip, v, offered)
    vector, credits, rows = chip.vector, chip.credits, chip.rows
    blocks = rows * chip.head_blocks
    pace = vector.words(rows, chip.head_blocks) / blocks
    away = 0.0
    for _ in range(chip.kv_heads):
        for _ in range(chip.head_blocks):
            if v["value"]:
                last = vector.run("VALUE_COPY", rows, 1, chip.panel())
            else:
                vector.run("KEY_COS", rows, 1, chip.panel())
                last = vector.run("KEY_SIN", rows, 1)
            credits.append(last + 4)
        first = max(vector.wait, vector.drain) + 1
        vector.run("APPEND_OUT", rows, chip.head_blocks)
        claim, away = chip.kv.append(first + vector.block_stage + WORD_FIFO, blocks, pace, rows)
        if blocks > APPEND_PLACES:
            vector.stall("APPEND_OUT", claim)
    chip.append_blocks += chip.kv_heads * blocks
    chip.append_heads += chip.kv_heads * rows
    _finish(chip, v, away + 1)
    if v["value"]:
        # The layer is appended: pages come from now on, ahead of what the array does next
        chip.kv.begin(max(offered + 3, chip.kv.idle), chip.batches, chip.page_bits, v["offset"])


def _logits(chip: Chip, v: Operands, offered: float) -> None:
    _begin(chip, v, offered)
    vector, credits, rows = chip.vector, chip.credits, chip.outputs
    if not rows:
        _finish(chip, v)
        return
    pace = vector.words(rows, 1) / rows

    def item() -> None:
        last = vector.run("LOGITS", rows, 1, chip.panel())
        if chip.store:
            first = last - vector.words(rows, 1) + 1 + _WORD_TO_WRITER
            claim, _ = chip.write_blocks(first, rows, pace)
            last = vector.stall("LOGITS", claim)
        credits.append(last + 4)

    chip.repeat(v["panels"], 1, item)
    last = vector.run("TOKENS", rows, 1)
    start = last - rows + 1 + _WORD_TO_WRITER
    chip.written = chip.writes.run(start, rows, 1, waiting=True).answered
    chip.written_tokens += rows
    _finish(chip, v, chip.written + 1)


def _store(chip: Chip, v: Operands, offered: float) -> None:
    _begin(chip, v, offered)
    vector, rows = chip.vector, chip.rows
    last = vector.run("STORE", rows, v["blocks"])
    words = vector.words(rows, v["blocks"])
    count = rows * v["blocks"]
    claim, _ = chip.write_blocks(last - words + 1 + _WORD_TO_WRITER, count, words / count)
    vector.stall("STORE", claim)
    _finish(chip, v, chip.written + 1)


def _nothing(chip: Chip, v: Operands, offered: float) -> None:
    """SET and END cost their dispatch only."""


HANDLERS: dict[Opcode, Callable[[Chip, Operands, float], None]] = {
    Opcode.SET: _nothing,
    Opcode.END: _nothing,
    Opcode.TAPE: _tape,
    Opcode.LOAD: _load,
    Opcode.MATMUL: _matmul,
    Opcode.NORM: _norm,
    Opcode.QUANTISE: _quantise,
    Opcode.ADD: _add,
    Opcode.ROPE: _rope,
    Opcode.SWIGLU: _swiglu,
    Opcode.APPEND: _append,
    Opcode.LOGITS: _logits,
    Opcode.STORE: _store,
    Opcode.PREPARE: prepare,
    Opcode.ATTEND: attend,
}
"""By opcode: (chip, operands, cycle in which the unit's queue offers it)."""
