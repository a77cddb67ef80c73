"""Cycles of what happens once a step, and of the controller: measured off the RTL named beside.

Everything is counted from the first cycle that the chip counts, the one behind the doorbell.
"""

from hdl.control.dispatch import READ_AHEAD_WORDS
from hdl.isa import DESCRIPTOR_HEADER_WORDS, DESCRIPTOR_READ_BEATS, DESCRIPTOR_SEGMENT_WORDS

__all__ = [
    "BUS_TO_CLIENT",
    "DISPATCH_TO_UNIT",
    "HEAD_POLLED_CYCLES",
    "HEAD_POLL_CYCLES",
    "LAST_WORD_TO_GOOD",
    "PROGRAM_CHUNK_WORDS",
    "QUIET_TO_DONE",
    "READER_START_TO_REQUEST",
    "REQUEST_TO_BUS",
    "ROOM_TO_REQUEST",
    "SPLITTER_CYCLES",
    "START",
    "WORD_FIFO",
    "descriptor_beats",
    "descriptor_counted",
    "descriptor_good",
]

START = 1
"""hdl/control/controller.py: the START state."""

READER_START_TO_REQUEST = 3
"""hdl/control/words.py: ``start``, the registers behind it, the size, the request's register."""

REQUEST_TO_BUS = 5
"""hdl/memory/splitter.py and read_channel.py: chosen, taken, placed, sized, on AR (latency counts
from there)."""

SPLITTER_CYCLES = 4
"""hdl/memory/splitter.py: cycles a request of one burst."""

ROOM_TO_REQUEST = 3
"""hdl/memory/tape_reader.py: from a tile in the loader, a cycle after it left the FIFO, to the
request that it leaves room for."""

BUS_TO_CLIENT = 1
"""hdl/memory/read_channel.py: a beat is registered once."""

WORD_FIFO = 2
"""``SyncFIFOBuffered``: from write to readable."""

PROGRAM_CHUNK_WORDS = READ_AHEAD_WORDS // 2
"""hdl/control/dispatch.py: instructions asked for at a time, half of what is read ahead. The first
two of these are on chip before the step."""

DISPATCH_TO_UNIT = 3
"""hdl/control/dispatch.py: a register and a ``SyncFIFOBuffered`` queue."""

HEAD_POLL_CYCLES = 26
HEAD_POLLED_CYCLES = 4005
"""runtime/rtl_chip.py: the first step of a program rings so many cycles behind the first word of
its head, or so many behind its request where that has not come."""

QUIET_TO_DONE = 11
"""hdl/control/controller.py: two registers, eight quiet cycles, and the cycle that ends."""

LAST_WORD_TO_GOOD = 6
"""hdl/control/descriptor.py: three cycles between segments and rows, two behind the outputs, one to
check."""

GOOD_TO_DISPATCH = 1
"""hdl/control/dispatch.py: a register."""

_FIRST_WORD = READER_START_TO_REQUEST + REQUEST_TO_BUS + BUS_TO_CLIENT + WORD_FIFO + 1
"""From a reader's start to its first word, beside the latency."""


def descriptor_beats(port_bytes: int, rows: int, outputs: int, segments: int) -> int:
    """Beats of a step's descriptor that are read."""
    words = DESCRIPTOR_HEADER_WORDS + DESCRIPTOR_SEGMENT_WORDS * segments + rows + outputs
    return max(DESCRIPTOR_READ_BEATS, -(-4 * words // port_bytes))


def descriptor_counted(latency: float) -> float:
    """The number of rows stands (hdl/control/descriptor.py)."""
    counted = START + _FIRST_WORD + latency + DESCRIPTOR_HEADER_WORDS + 2
    return counted + GOOD_TO_DISPATCH


def descriptor_good(
    port_bytes: int, latency: float, rows: int, outputs: int, segments: int
) -> float:
    """The tables are whole: everything goes out. A cycle a word."""
    first = descriptor_counted(latency)
    words = DESCRIPTOR_SEGMENT_WORDS * segments + rows + outputs
    good = first + words + LAST_WORD_TO_GOOD
    more = DESCRIPTOR_HEADER_WORDS + words - DESCRIPTOR_READ_BEATS * max(1, port_bytes // 4)
    if more > 0:  # a second read, asked for when the header is in
        good = max(good, first + _FIRST_WORD + latency + more + 2)
    return good
