"""A board and the chips around it, as one design for a simulator."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect

from hdl.board import Board
from hdl.config import Config
from hdl.sdram import SdramTiming
from sim.board.sdram_chip import SdramChip

__all__ = ["BoardSystem"]


class BoardSystem(wiring.Component):
    """:class:`hdl.board.Board` with its SDRAM chip, which checks the rules of its data sheet.

    Parameters
    ----------
    config, timing, baud
        As of ``Board``.

    Members
    -------
    uart_rx : In(1), uart_tx : Out(1), leds : Out(8)
    """

    def __init__(self, config: Config, *, timing: SdramTiming, baud: int):
        self._board = Board(config, timing=timing, baud=baud)
        super().__init__({"uart_rx": In(1, init=1), "uart_tx": Out(1, init=1), "leds": Out(8)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.board = board = self._board
        m.submodules.chip = chip = SdramChip(board.timing)
        connect(m, board.sdram, chip.pins)
        m.d.comb += [
            board.uart_rx.eq(self.uart_rx),
            self.uart_tx.eq(board.uart_tx),
            self.leds.eq(board.leds),
        ]
        return m
