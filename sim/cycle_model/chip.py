"""The chip in one step: its units' clocks, and what goes between them."""

from collections import deque
from collections.abc import Callable, Sequence

from hdl.isa import ModelRegister, Opcode, Unit
from sim.cycle_model.kv import KVClock, Segment, batches_of, visit_starts, walk_beats
from sim.cycle_model.line import ReadLine
from sim.cycle_model.machine import Machine
from sim.cycle_model.matrix import SEQUENCER_CYCLES, MatrixClock
from sim.cycle_model.steady import Steady
from sim.cycle_model.vector import VectorClock
from sim.cycle_model.writes import MEMORY_PLACES, WriteCosts

__all__ = ["GRANT", "LOAD_JOBS", "SEMAPHORE", "Chip", "Instruction", "Operands"]

SEMAPHORE = 3
"""hdl/control/semaphores.py: from a give to the answer of one who waits."""

ASKED = 2
"""The same: from a request to its answer where the semaphores are there."""

GRANT = 1
"""hdl/matrix/feeder.py: from a semaphore there to a tile that may be fed."""

LOAD_JOBS = 2
"""hdl/memory/row_loader.py: LOADs that may be under way."""

Operands = dict[str, int]
Instruction = tuple[Opcode, Operands]


class Chip:
    """Clocks of a step, credits and semaphores, and what is counted.

    Parameters
    ----------
    machine
    code
        The program, decoded.
    segments
        (first position, rows, outputs) of each sequence.
    store
        Logits go to memory.

    Attributes
    ----------
    line, matrix, vector, kv
        Clocks of the read channel and the units.
    semaphores
        Times at which each was given, not taken yet.
    taken
        By unit: when the last instructions were taken, as many as its queue holds.
    credits, panels
        Times at which ring panels became free, and could be read.
    jobs
        MATMULs whose panels are not all made: [tiles a panel, panels left, rows, offered (-1:
        begun), semaphores there].
    batches
        Of every ATTEND.
    written
        Last response to the vector unit's writes.
    """

    def __init__(
        self, machine: Machine, code: Sequence[Instruction], segments: list[Segment], store: bool
    ):
        self.machine = machine
        self.segments = segments
        self.rows = sum(s[1] for s in segments)
        self.outputs = sum(s[2] for s in segments)
        self.store = store
        registers = dict.fromkeys(ModelRegister, 0)
        tape_tiles = 0
        tapes = {v["block_tiles"] for op, v in code if op is Opcode.TAPE}
        for op, v in code:
            if op is Opcode.SET:
                registers[ModelRegister(v["register"])] = v["value"]
            elif op is Opcode.MATMUL:
                tape_tiles += -(-v["panels"] // machine.wide_panels) * self.tiles(v["blocks"])
        self.head_blocks = max(1, registers[ModelRegister.HEAD_BLOCKS])
        self.kv_heads = registers[ModelRegister.KV_HEADS]
        self.page_bits = max(1, registers[ModelRegister.KV_PAGES]).bit_length()
        self.batches = batches_of(
            segments,
            max(1, self.kv_heads),
            max(1, registers[ModelRegister.HEAD_GROUP]),
            max(1, registers[ModelRegister.BATCH_ROWS]),
            machine.visit_pages,
        )
        self.walk_beats = walk_beats(machine.port_bytes, segments, self.batches)

        self.line = ReadLine(machine, tape_tiles * machine.period)
        self.writes = WriteCosts(machine)
        self.matrix = MatrixClock(machine, self.line, tapes.pop() if len(tapes) == 1 else 0)
        self.vector = VectorClock(machine)
        starts = visit_starts(
            segments,
            self.batches,
            max(1, self.kv_heads),
            machine.visit_pages,
            registers[ModelRegister.KV_PAGE_BYTES],
            int(machine.page_beats(self.head_blocks) * machine.port_bytes),
        )
        starts += registers[ModelRegister.KV_BASE]
        self.kv = KVClock(machine, self.line, self.writes, self.head_blocks, starts)
        self.semaphores: list[deque[float]] = [deque() for _ in range(8)]
        self.taken = {u: deque([0.0] * machine.queue_depth) for u in Unit}
        self.credits = deque([0.0] * machine.panel_ring)
        self.panels: deque[float] = deque()
        self.jobs: deque[list[float]] = deque()

        self.last_add: tuple[int, int] | None = None  # of the instruction before, if it is an ADD
        self.tape_taken = 0.0
        self.tape_told = 0.0  # beats of the TAPEs so far
        self.load_idle = 0.0
        self.load_done = 0.0
        self.load_jobs = deque([0.0] * (LOAD_JOBS - 1))  # ends of earlier LOADs
        self.load_active = 0.0
        self.load_blocked = 0.0
        self.passed = 0.0  # the last visit went to matrix and vector unit
        self.written = 0.0
        # Beats and blocks
        self.row_beats = 0.0
        self.kv_beats = 0.0
        self.written_blocks = 0
        self.written_tokens = 0
        self.append_blocks = 0
        self.append_heads = 0

    def tiles(self, blocks: int) -> int:
        """Block tiles that make a panel (or as many as the array is wide)."""
        return -(-blocks // self.machine.deep_blocks) * self.machine.column_groups

    def wait(self, mask: int) -> float:
        """Take semaphores: the cycle from which all are there."""
        at = 0.0
        for i in range(8):
            if mask >> i & 1:
                at = max(at, self.semaphores[i].popleft() + SEMAPHORE)
        return at

    def granted(self, asked: float, mask: int) -> float:
        """When a unit that asks at ``asked`` has its semaphores."""
        return max(asked + ASKED, self.wait(mask)) if mask else asked

    def signal(self, mask: int, at: float) -> None:
        """Give semaphores."""
        for i in range(8):
            if mask >> i & 1:
                self.semaphores[i].append(at)

    def open(self, offered: float) -> float:
        """The sequencer takes an instruction: when its first tile can be in the loader."""
        matrix = self.matrix
        turn = max(matrix.rows, self.machine.tile_beats)
        taken = max(offered, matrix.fed - turn + 1)
        self.taken[Unit.MATRIX].append(taken)
        return taken + SEQUENCER_CYCLES

    def make(self) -> None:
        """The next panel (or as many as the array is wide)."""
        job = self.jobs[0]
        tiles, left, rows, offered, granted = job
        gate = 0.0
        matrix = self.matrix
        if offered >= 0:
            matrix.loader = max(matrix.loader, self.open(offered))
            gate = max(matrix.loader, granted + GRANT)
            job[3] = -1.0
        count = int(min(left, self.machine.wide_panels))
        if rows:
            for _ in range(count):
                gate = max(gate, self.credits.popleft())
        ready = matrix.tape(int(tiles), int(rows), gate)
        if rows:
            self.panels.extend([ready] * count)
        job[1] -= count
        if not job[1]:
            self.jobs.popleft()

    def panel(self) -> float:
        """When the next panel can be read."""
        while not self.panels:
            self.make()
        return self.panels.popleft()

    def repeat(self, items: int, panels: int, item: Callable[[], None]) -> None:
        """Equal items of so many panels each, one after the other."""
        vector, matrix, line = self.vector, self.matrix, self.line
        wide = self.machine.wide_panels
        turn = max(1, wide // panels)  # items until panels and array stand alike again
        done = 0

        def key(base: float) -> tuple[float, ...]:
            return line.ahead_of(matrix.beats, base)

        def move(cycles: float, turns: int) -> None:
            matrix.skip(cycles, matrix.beats - at)
            line.move(cycles, matrix.beats - at)
            self.jobs[0][1] -= turns * turn * panels

        steady = Steady(
            [(vector, a) for a in ("wait", "drain", "landed")]
            + [(matrix, a) for a in ("fed", "loader")]
            + [(self, "written")],
            [self.credits, self.panels, self.writes.issues],
            [(vector, a) for a in ("busy", "starved", "blocked")]
            + [(matrix, a) for a in ("starved", "blocked", "feed_rows", "beats")]
            + [(self, "written_blocks"), (line, "blocked")],
            key,
            move,
        )
        while done < items:
            item()
            done += 1
            if done % turn or line.waits or len(self.jobs) != 1:
                continue
            at = matrix.beats
            job_left = int(self.jobs[0][1]) // (turn * panels)
            left = min((items - done) // turn, job_left) - 1
            done += turn * steady.skip(done // turn, left)

    def write_blocks(self, first: float, count: int, pace: float) -> tuple[float, float]:
        """Blocks of the memory writer, offered from ``first`` on: last claim, last done."""
        beats = self.writes.block_beats
        cost = self.writes.pace(beats, waiting=True)
        run = self.writes.run(first, count, beats, waiting=True)
        done = max(run.last, first + (count - 1) * pace) + cost
        claim = run.at(count - 1 - MEMORY_PLACES) + cost if count > MEMORY_PLACES else first
        self.written = done - cost + run.answered - run.last
        self.written_blocks += count
        return claim, done
