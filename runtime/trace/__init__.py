"""Timelines of what the chip did: recorded from the RTL, as files for Perfetto, read again."""

from runtime.trace.chrome import TraceWriter
from runtime.trace.names import state_name
from runtime.trace.reader import STATE, Timeline, read_trace
from runtime.trace.step import Instruction, TracedStep, traced_step

__all__ = [
    "STATE",
    "Instruction",
    "Timeline",
    "TraceWriter",
    "TracedStep",
    "read_trace",
    "state_name",
    "traced_step",
]
