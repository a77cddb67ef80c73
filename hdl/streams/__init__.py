"""Parts for streams that every unit uses: a FIFO and a register slice."""

from hdl.streams.fifo import StreamFIFO
from hdl.streams.skid import SkidBuffer

__all__ = ["SkidBuffer", "StreamFIFO"]
