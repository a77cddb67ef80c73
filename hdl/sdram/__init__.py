"""Controller of the board's SDRAM behind an AXI4 port."""

from hdl.sdram.pins import AUTO_OR_ALL, BANKS, Command, cell_address, sdram_signature
from hdl.sdram.port import SdramPort
from hdl.sdram.timing import SdramTiming

__all__ = [
    "AUTO_OR_ALL",
    "BANKS",
    "Command",
    "SdramPort",
    "SdramTiming",
    "cell_address",
    "sdram_signature",
]
