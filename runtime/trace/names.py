"""Words for the states and causes of ``hdl.isa.Cause`` and ``hdl.trace.State``."""

from hdl.isa import Cause, Unit
from hdl.trace import State

__all__ = ["parse_state", "state_key", "state_name"]

_TEXT = {
    Cause.NONE: "nothing",
    Cause.PIPELINE: "its own pipeline",
    Cause.SEMAPHORE: "a semaphore",
    Cause.MEMORY: "memory",
    Cause.PORT: "the memory port",
    Cause.FIFO: "room in the FIFO",
    Cause.TAPE: "the tape",
    Cause.PAGE: "a page",
    Cause.VISIT: "a page visit",
    Cause.PANEL: "a panel",
    Cause.WEIGHTS: "a P buffer",
    Cause.OUTPUT: "output panels",
    Cause.SLOT: "a free page slot",
    Cause.APPEND: "appends",
    Cause.WRITE: "writes",
    Cause.WALK: "page tables",
    Cause.DESCRIPTOR: "the descriptor",
    Cause.PROGRAM: "the program",
    Cause.QUEUE: "room in a queue",
    Cause.DRAIN: "units to come to rest",
}
_UNIT_TEXT = {
    (Unit.MATRIX, Cause.PANEL): "a free panel",
    (Unit.MATRIX, Cause.WEIGHTS): "P",
    (Unit.MATRIX, Cause.OUTPUT): "free output panels",
    (Unit.VECTOR, Cause.WEIGHTS): "a free P buffer",
    (Unit.VECTOR, Cause.APPEND): "room for an append",
    (Unit.KV, Cause.VISIT): "a unit to take its page",
    (Unit.KV, Cause.MEMORY): "a page from memory",
    (Unit.KV, Cause.WRITE): "appended rows to be written",
    (Unit.LOAD, Cause.WRITE): "the write port of row memory",
}


def state_name(unit: Unit, state: State, cause: Cause) -> str:
    """ "busy", "idle", or what is waited for."""
    if state in (State.IDLE, State.BUSY):
        return state.name.lower()
    return f"waits for {_UNIT_TEXT.get((unit, cause), _TEXT[cause])}"


def state_key(state: State, cause: Cause) -> str:
    """For files: "busy", "starved:tape"."""
    name = state.name.lower()
    return name if cause is Cause.NONE else f"{name}:{cause.name.lower()}"


def parse_state(key: str) -> tuple[State, Cause]:
    """The inverse of :func:`state_key`; ``KeyError`` for what is none."""
    state, _, cause = key.partition(":")
    return State[state.upper()], Cause[cause.upper()] if cause else Cause.NONE
