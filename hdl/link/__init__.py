"""The host link: UART, frames, and the master of memory and registers."""

from hdl.link.link import Link

__all__ = ["Link"]
