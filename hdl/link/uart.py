"""UART, 8 data bits, no parity, one stop bit, at any fraction of the clock."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

__all__ = ["UartReceiver", "UartTransmitter", "phase_step"]

_PHASE_BITS = 16
_FASTEST = 4  # cycles a bit: the three samples of a bit must lie in it


def phase_step(clock_hz: int, baud: int) -> int:
    """What is added to the phase in each cycle; a bit ends where the 16-bit phase overflows.

    ``ValueError`` if a bit has less than 4 cycles or the rate is not met within 1 %.
    """
    if baud * _FASTEST > clock_hz:
        raise ValueError(
            f"{baud} baud at {clock_hz} Hz: a bit needs {_FASTEST} cycles; "
            f"choose at most {clock_hz // _FASTEST} baud"
        )
    step = round(baud * (1 << _PHASE_BITS) / clock_hz)
    if abs(step * clock_hz / (baud << _PHASE_BITS) - 1) > 0.01:
        raise ValueError(
            f"{baud} baud at {clock_hz} Hz is off by more than 1 %: choose a faster one"
        )
    return step


class UartReceiver(wiring.Component):
    """Bytes from a line.

    Every bit is the majority of three samples around its middle, counted from the falling edge of
    the start bit. A start bit that is high in its middle is noise and starts nothing.

    Members
    -------
    rx : In(1)
        The line, asynchronous; idle is high.
    data : Out(8), valid : Out(1)
        A byte, in the one cycle with ``valid``.
    error : Out(1)
        Pulse: the stop bit was low. The byte is dropped, the next begins after the line is high.
    busy : Out(1)
        A byte is under way.
    """

    def __init__(self, clock_hz: int, baud: int):
        self._step = phase_step(clock_hz, baud)
        super().__init__(
            {
                "rx": In(1, init=1),
                "data": Out(8),
                "valid": Out(1),
                "error": Out(1),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        level = Signal(init=1)
        m.submodules.synchroniser = FFSynchronizer(self.rx, level, init=1)
        before = Signal(2, init=0b11)
        m.d.sync += before.eq(Cat(level, before))
        a, b, c = level, before[0], before[1]
        bit = Signal()
        m.d.comb += bit.eq((a & b) | (a & c) | (b & c))

        phase, count = Signal(_PHASE_BITS), Signal(range(10))
        tick = Signal()
        m.d.comb += tick.eq((phase + self._step)[_PHASE_BITS])
        m.d.sync += [phase.eq(phase + self._step), self.valid.eq(0), self.error.eq(0)]

        with m.FSM() as fsm:
            with m.State("IDLE"):
                # The first tick has the samples around the middle of the start bit before it.
                m.d.sync += [phase.eq((1 << _PHASE_BITS - 1) - self._step // 2), count.eq(0)]
                with m.If(~level):
                    m.next = "BITS"
            with m.State("BITS"):
                with m.If(tick):
                    m.d.sync += count.eq(count + 1)
                    with m.If(count == 0):
                        with m.If(bit):
                            m.next = "IDLE"
                    with m.Elif(count == 9):
                        m.d.sync += [self.valid.eq(bit), self.error.eq(~bit)]
                        with m.If(bit):
                            m.next = "IDLE"
                        with m.Else():
                            m.next = "BREAK"
                    with m.Else():
                        m.d.sync += self.data.eq(Cat(self.data[1:], bit))
            with m.State("BREAK"), m.If(level):
                m.next = "IDLE"
        m.d.comb += self.busy.eq(fsm.ongoing("BITS"))
        return m


class UartTransmitter(wiring.Component):
    """Bytes to a line.

    Members
    -------
    i_bytes : In(stream(8))
    tx : Out(1)
        The line; idle is high.
    """

    def __init__(self, clock_hz: int, baud: int):
        self._step = phase_step(clock_hz, baud)
        super().__init__({"i_bytes": In(stream.Signature(8)), "tx": Out(1, init=1)})

    def elaborate(self, platform):
        m = Module()
        shift = Signal(9, init=0x1FF)
        left = Signal(range(11))
        phase = Signal(_PHASE_BITS)
        tick = Signal()
        m.d.comb += [
            tick.eq((phase + self._step)[_PHASE_BITS]),
            self.i_bytes.ready.eq(left == 0),
        ]
        with m.If(left == 0):
            m.d.sync += phase.eq(0)
            with m.If(self.i_bytes.valid):
                m.d.sync += [
                    self.tx.eq(0),
                    shift.eq(Cat(self.i_bytes.payload, 1)),
                    left.eq(10),
                ]
        with m.Else():
            m.d.sync += phase.eq(phase + self._step)
            with m.If(tick):
                m.d.sync += [self.tx.eq(shift[0]), shift.eq(Cat(shift[1:], 1)), left.eq(left - 1)]
        return m
