"""What the model says of a step, under the names of the chip's counters."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from hdl.config import Config
from hdl.isa import Counter
from sim.cycle_model.kv import Segment
from sim.cycle_model.machine import Machine
from sim.cycle_model.step import StepModel
from sim.verilated.library import MemoryTiming

__all__ = ["Prediction", "predict", "predict_step", "unit_states"]

_END = 0x01


class _Image(Protocol):
    sections: dict[str, np.ndarray]


class _Program(Protocol):
    words: list[int]


@dataclass(frozen=True)
class Prediction:
    """Figures of one step.

    Attributes
    ----------
    cycles
        Doorbell to done.
    bytes
        By cause, as ``runtime.metrics``: tape, kv, program, rows, walk, kv_write, rows_write.
    units
        Cycles busy, starved, blocked and idle of tape, load, matrix, vector and kv.
    array_fed
        Cycles in which a row entered the array.
    macs_fed
        Multiplications of those rows, padding included.
    port_busy
        Cycles with a read beat.
    """

    cycles: int
    bytes: dict[str, int]
    units: dict[str, dict[str, int]]
    array_fed: int
    macs_fed: int
    port_busy: int

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)

    def counters(self, port_bytes: int) -> dict[Counter, int]:
        """The same as a chip's counters (``INSTRUCTIONS`` is left out)."""
        beats = {
            Counter.READ_TAPE_BEATS: "tape",
            Counter.READ_KV_BEATS: "kv",
            Counter.READ_PROGRAM_BEATS: "program",
            Counter.READ_ROW_BEATS: "rows",
            Counter.READ_WALK_BEATS: "walk",
            Counter.WRITE_KV_BEATS: "kv_write",
            Counter.WRITE_ROW_BEATS: "rows_write",
        }
        result = {c: self.bytes[name] // port_bytes for c, name in beats.items()}
        for unit, states in self.units.items():
            for state in ("busy", "starved", "blocked"):
                result[Counter[f"{unit}_{state}".upper()]] = states[state]
        result[Counter.CYCLES] = self.cycles
        result[Counter.FEED_ROWS] = self.array_fed
        result[Counter.PORT_BUSY] = self.port_busy
        return result


def unit_states(cycles: int, busy: float, starved: float, blocked: float) -> dict[str, int]:
    """Cycles by state, idle the rest; never more than there are."""
    states, left = {}, cycles
    for name, value in (("busy", busy), ("blocked", blocked), ("starved", starved)):
        states[name] = max(0, min(round(value), left))
        left -= states[name]
    return {**{name: states[name] for name in ("busy", "starved", "blocked")}, "idle": left}


def predict_step(
    machine: Machine,
    words: Sequence[int],
    segments: Sequence[Segment],
    *,
    store_logits: bool = True,
    first: bool = False,
) -> Prediction:
    """Run a program's step through the model.

    Parameters
    ----------
    words
        Instruction words, END last.
    segments
        (first position, rows, outputs) of each sequence.
    first
        The first step of a program: its head is still being read (see ``startup.py``).
    """
    model = StepModel(machine, words, segments, store_logits=store_logits, first=first)
    cycles = round(model.run())
    port = machine.port_bytes
    beats = model.beats()
    units = {name: unit_states(cycles, *found) for name, found in model.activity().items()}
    reads = ("tape", "kv", "program", "rows", "walk")
    return Prediction(
        cycles=cycles,
        bytes={name: round(count * port) for name, count in beats.items()},
        units=units,
        array_fed=round(model.chip.matrix.feed_rows),
        macs_fed=round(model.chip.matrix.feed_rows * machine.rows * machine.cols),
        port_busy=round(sum(beats[name] for name in reads)),
    )


def predict(
    program: "_Image | _Program | bytes | Sequence[int]",
    config: Config,
    segments: Sequence[Segment],
    timing: MemoryTiming | None = None,
    *,
    store_logits: bool = True,
    first: bool = True,
) -> Prediction:
    """What the chip's counters will say of a step.

    Parameters
    ----------
    program
        A compiled image, a ``compiler.program.Program``, its bytes, or its instruction words.
    config
        Of the chip.
    segments
        (first position, rows, outputs) of each sequence of the step.
    timing
        Of the memory; 60 cycles and a beat a cycle by default. Random stalls are not modelled.
    store_logits
        The step asks for logits.
    first
        It is the program's first step, as in every `bench`: the chip reads a program's head between
        steps, and the first step finds it on its way.

    Raises
    ------
    ValueError
        For a program without END.
    """
    timing = timing or MemoryTiming()
    machine = Machine.of(
        config,
        latency=timing.latency,
        bandwidth=timing.beats_per_cycle,
        outstanding_reads=timing.outstanding_reads,
    )
    words = _words(program)
    return predict_step(machine, words, segments, store_logits=store_logits, first=first)


def _words(program: "_Image | _Program | bytes | Sequence[int]") -> Sequence[int]:
    if isinstance(program, bytes):
        raw = program
    elif hasattr(program, "sections"):
        raw = program.sections["program"].tobytes()
    else:
        return program.words if hasattr(program, "words") else program
    words = [int.from_bytes(raw[i : i + 16], "little") for i in range(0, len(raw), 16)]
    ends = [i for i, word in enumerate(words) if word & 0xFF == _END]
    if not ends:
        raise ValueError("the program has no END")
    return words[: ends[0] + 1]
