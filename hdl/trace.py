"""What a simulated chip shows of itself in every cycle, for timelines.

Only ``Accelerator(config, trace=True)`` has the port; the Verilog of a chip to be built has none.
"""

from amaranth.lib import data
from amaranth.lib.wiring import Out, Signature

from hdl.enums import Enum
from hdl.interfaces import INDEX_BITS
from hdl.isa import Cause, Counter, Unit

__all__ = ["BEATS", "State", "trace_signature", "trace_word"]


class State(Enum, shape=2):
    """What a unit does in a cycle: the three counters of every unit, or nothing."""

    IDLE = 0
    BUSY = 1
    STARVED = 2
    BLOCKED = 3


BEATS = {
    "tape": Counter.READ_TAPE_BEATS,
    "kv": Counter.READ_KV_BEATS,
    "program": Counter.READ_PROGRAM_BEATS,
    "rows": Counter.READ_ROW_BEATS,
    "walk": Counter.READ_WALK_BEATS,
    "kv_write": Counter.WRITE_KV_BEATS,
    "rows_write": Counter.WRITE_ROW_BEATS,
    "fed": Counter.FEED_ROWS,
}
"""Events of ``trace_word().beats`` from bit 0 on, and the counter that counts each: memory beats by
cause, and rows fed to the array."""


def trace_word() -> data.StructLayout:
    """One cycle in 64 bits.

    ``running``: doorbell to done, the cycles that the counters count. ``units``, by ``Unit``:
    ``state`` is what the unit's counters count; ``cause`` says why it is starved or blocked (NONE
    otherwise); ``taken``: it takes an instruction (the index is in the same cycle's ``index``);
    ``finished``: its oldest instruction is complete with this cycle. The control unit has no
    counters of its own; it takes each instruction as it hands it out.
    """
    unit = data.StructLayout({"state": State, "cause": Cause, "taken": 1, "finished": 1})
    layout = data.StructLayout(
        {"units": data.ArrayLayout(unit, len(Unit)), "beats": len(BEATS), "running": 1}
    )
    assert layout.size <= 64
    return layout


def trace_signature() -> Signature:
    """``word``: :func:`trace_word`; ``index``: of the instruction that each unit takes."""
    return Signature(
        {
            "word": Out(trace_word()),
            "index": Out(data.ArrayLayout(INDEX_BITS, len(Unit))),
        }
    )
