"""One step as it was recorded: instructions, states and beats, from the simulator's log."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hdl.isa import (
    DESCRIPTOR_HEADER_WORDS,
    DESCRIPTOR_SEGMENT_WORDS,
    TABLE,
    Opcode,
    Unit,
    decode,
)
from hdl.trace import BEATS

__all__ = ["Instruction", "TracedStep", "describe", "read_program", "traced_step"]

_STEP, _STATE, _TAKEN, _FINISHED, _BEATS = range(5)


@dataclass(frozen=True)
class Instruction:
    """An instruction on one of its units; cycles from the step's first.

    Attributes
    ----------
    dispatched, taken : when the control unit handed it out, and the unit took it
    start, end : from when it was the unit's oldest to one past its last cycle
    complete : False where the step ended before it did (END, and after a fault)
    """

    unit: Unit
    index: int
    opcode: Opcode
    operands: dict[str, int]
    dispatched: int
    taken: int
    start: int
    end: int
    complete: bool


@dataclass(frozen=True)
class TracedStep:
    """A recorded step.

    Attributes
    ----------
    name : "prefill", "decode", ... and its rows
    cycles : as the counter CYCLES
    instructions : by unit, in order
    states : ``RECORD`` of the simulator: segments (``cycle``, ``length``) of a unit with ``count``
        cycles of a state and cause; several records make a segment of mixed states
    beats : int64 (bins, 2 + len(BEATS)): a bin's first cycle, its cycles, and its counts as
        ``hdl.trace.BEATS``; bins without any are left out
    """

    name: str
    cycles: int
    instructions: list[Instruction]
    states: np.ndarray
    beats: np.ndarray


def read_program(memory: np.ndarray, address: int) -> list[int]:
    """The words of a program in memory, END included."""
    words = []
    while True:
        words.append(int.from_bytes(memory[address : address + 16].tobytes(), "little"))
        address += 16
        if words[-1] & 0xFF == Opcode.END.value or address + 16 > memory.size:
            return words


def describe(memory: np.ndarray, descriptor: int, program: Sequence[int]) -> str:
    """What kind of step it is, from its descriptor and program."""
    used = {word & 0xFF for word in program}
    header = memory[descriptor : descriptor + 4 * DESCRIPTOR_HEADER_WORDS].view("<u4")
    rows, count = (int(v) for v in header[1:3])
    text = f"{rows} row{'s' if rows > 1 else ''}"
    if Opcode.ATTEND.value not in used:
        kind = "product" if Opcode.MATMUL.value in used else "store"
        return f"{'load' if Opcode.LOAD.value in used else kind}, {text}"
    at, size = descriptor + 4 * DESCRIPTOR_HEADER_WORDS, 4 * DESCRIPTOR_SEGMENT_WORDS
    if not 0 < count <= rows or at + size * count > memory.size:
        return "bad descriptor"
    segments = memory[at : at + size * count].view("<u4").reshape(-1, DESCRIPTOR_SEGMENT_WORDS)
    decodes = (segments[:, 0] == 1) & (segments[:, 1] > 0)
    kind = "decode" if decodes.all() else "mixed" if decodes.any() else "prefill"
    position = f" at position {segments[0, 1]}" if count == 1 else f" of {count} sequences"
    return f"{kind}, {text}{position}"


def traced_step(log: np.ndarray, program: Sequence[int], name: str) -> TracedStep:
    """A step from the simulator's log of it (``sim.verilated.library.RECORD``).

    Parameters
    ----------
    log : ends with the record of the step's end
    program : its instruction words
    """
    cycles = int(log["length"][-1])
    assert log["kind"][-1] == _STEP
    taken = log[log["kind"] == _TAKEN]
    finished = log[log["kind"] == _FINISHED]
    control = taken[taken["unit"] == Unit.CONTROL.value]
    dispatched = dict(zip(control["index"].tolist(), control["cycle"].tolist(), strict=True))
    instructions = []
    for unit in Unit:
        mine = taken[taken["unit"] == unit.value]
        ends = (finished["cycle"][finished["unit"] == unit.value] + 1).tolist()
        before = 0
        for number, (index, at) in enumerate(
            zip(mine["index"].tolist(), mine["cycle"].tolist(), strict=True)
        ):
            complete = number < len(ends)
            start, end = max(at, before), ends[number] if complete else cycles
            before = end
            opcode, operands = decode(program[index])
            # The control unit hands out every instruction; its own are those with no queue.
            if unit in TABLE[opcode].units:
                instructions.append(
                    Instruction(
                        unit, index, opcode, operands, dispatched[index], at, start, end, complete
                    )
                )
    beats = log[log["kind"] == _BEATS]
    starts, first, where = np.unique(beats["cycle"], return_index=True, return_inverse=True)
    bins = np.zeros((len(starts), 2 + len(BEATS)), np.int64)
    bins[:, 0], bins[:, 1] = starts, beats["length"][first]
    bins[where, 2 + beats["unit"].astype(int)] = beats["count"]
    states = log[log["kind"] == _STATE]
    return TracedStep(name, cycles, instructions, states, bins)
