"""What passes from the requests to the scheduler: a piece of a burst that lies in one row."""

from amaranth.lib import data

from hdl.sdram.timing import SdramTiming

__all__ = ["segment", "segment_bits", "tag"]


def tag() -> data.StructLayout:
    """What a response has to carry: AXI id, AXI response, last beat of its burst."""
    return data.StructLayout({"id": 1, "resp": 2, "last": 1})


def segment_bits(timing: SdramTiming) -> int:
    """Bits of a segment's length: up to 64 words, so that refresh need not wait for longer."""
    return min(timing.column_bits - 1, 6)


def segment(timing: SdramTiming) -> data.StructLayout:
    """A run of 32-bit words in one row, in an aligned block of 64; ``count`` is words - 1.

    ``tag.last``: the burst ends with it. ``tag.resp`` not OKAY: nothing is stored or shown.
    """
    bits = timing.column_bits - 1
    return data.StructLayout(
        {
            "bank": 2,
            "row": timing.row_bits,
            "word": bits,
            "count": segment_bits(timing),
            "write": 1,
            "tag": tag(),
        }
    )
