"""The host's side of the board's link (docs/link.md)."""

from runtime.link.client import BoardInfo, LinkClient, LinkStats
from runtime.link.port import DEFAULT_BAUD, Port, SerialPort

__all__ = ["DEFAULT_BAUD", "BoardInfo", "LinkClient", "LinkStats", "Port", "SerialPort"]
