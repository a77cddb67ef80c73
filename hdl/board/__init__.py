"""A whole board's design: the accelerator with memory and host link."""

from hdl.board.top import LEDS, Board

__all__ = ["LEDS", "Board"]
