"""Frames from bytes: unescaped, checked, and kept until they are executed."""

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hdl.link.crc import CRC_INIT, CRC_RESIDUE, crc32_step
from hdl.link.protocol import BUFFER_BYTES, END, ESC, ESC_END, ESC_ESC, HEADER_BYTES

__all__ = ["FrameReceiver"]

CRC_BYTES = 4
PREFIX_BYTES = 2


class FrameReceiver(wiring.Component):
    """A ring of whole, good frames.

    A frame stands behind the others in the ring, unseen, until its end and CRC have come; then its
    length is written before it and it becomes visible. A frame that is damaged, too short or too
    long for the room that is left is forgotten.

    Parameters
    ----------
    timeout_cycles
        A frame in which no byte comes for so long is forgotten; a power of two.

    Members
    -------
    data : In(8), valid : In(1)
        A byte of the line in each cycle with ``valid``, twelve cycles or more apart.
    error : In(1)
        Pulse: a byte was lost; spoils the frame.
    o_bytes : Out(stream(8))
        Of each frame: the length of its payload (2 bytes), its payload. A byte in three cycles.
    busy : Out(1)
        In a frame.
    dropped : Out(1)
        Pulse: a frame was forgotten.
    """

    def __init__(self, timeout_cycles: int = 1 << 22):
        if timeout_cycles & (timeout_cycles - 1):
            raise ValueError(f"timeout_cycles={timeout_cycles}: choose a power of two")
        self._timeout_cycles = timeout_cycles
        super().__init__(
            {
                "data": In(8),
                "valid": In(1),
                "error": In(1),
                "o_bytes": Out(stream.Signature(8)),
                "busy": Out(1),
                "dropped": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        bits = ceil_log2(BUFFER_BYTES)
        # A byte is only read after its frame has become visible.
        m.submodules.ring = ring = Memory(
            shape=8, depth=BUFFER_BYTES, init=[], attrs={"no_rw_check": 1}
        )
        write, read = ring.write_port(), ring.read_port()
        start, end, taken = Signal(bits + 1), Signal(bits + 1, init=PREFIX_BYTES), Signal(bits + 1)

        # First stage: escapes
        data = Signal(8)
        is_data, is_end, escaped, wrong = Signal(), Signal(), Signal(), Signal()
        m.d.sync += [is_data.eq(0), is_end.eq(0), wrong.eq(self.error)]
        with m.If(self.valid):
            with m.If(self.data == END):
                m.d.sync += [is_end.eq(1), escaped.eq(0), wrong.eq(escaped)]
            with m.Elif(self.data == ESC):
                m.d.sync += [escaped.eq(1), wrong.eq(escaped)]
            with m.Else():
                m.d.sync += [is_data.eq(1), escaped.eq(0), data.eq(self.data)]
                with m.If(escaped):
                    m.d.sync += data.eq(ESC)
                    with m.If(self.data == ESC_END):
                        m.d.sync += data.eq(END)
                    with m.Elif(self.data != ESC_ESC):
                        m.d.sync += wrong.eq(1)

        # Second stage: ring and CRC, that a bit at a time
        crc = Signal(32, init=CRC_INIT)
        length = Signal(bits + 1)
        bad, full, good, late, long_enough = (Signal() for _ in range(5))
        sum_left = Signal(range(9))
        silence = Signal(range(self._timeout_cycles + 1))
        m.d.sync += [
            full.eq((end - taken)[bits]),
            good.eq(crc == CRC_RESIDUE),
            long_enough.eq(length >= HEADER_BYTES + CRC_BYTES),
            silence.eq(silence + 1),
            late.eq(silence[-1]),
            self.dropped.eq(0),
            self.busy.eq((length != 0) | bad | escaped),
        ]
        m.d.comb += [write.addr.eq(end), write.data.eq(data)]

        def forget():
            return [
                end.eq(start + PREFIX_BYTES),
                length.eq(0),
                crc.eq(CRC_INIT),
                bad.eq(0),
            ]

        with m.If(sum_left != 0):
            m.d.sync += [
                crc.eq(crc32_step(crc, data[0])),
                data.eq(data.rotate_right(1)),
                sum_left.eq(sum_left - 1),
            ]
        with m.If(self.valid | self.error):
            m.d.sync += silence.eq(0)
        with m.FSM():
            with m.State("FRAME"):
                with m.If(is_data):
                    m.d.comb += write.en.eq(~full)
                    m.d.sync += [
                        end.eq(end + ~full),
                        length.eq(length + ~full),
                        sum_left.eq(8),
                        bad.eq(bad | full),
                    ]
                with m.If(wrong):
                    m.d.sync += bad.eq(1)
                with m.If(is_end):
                    with m.If(good & long_enough & ~bad & ~wrong):
                        m.d.sync += length.eq(length - CRC_BYTES)
                        m.next = "LOW"
                    with m.Else():
                        # The END before a frame also ends what noise there was.
                        m.d.sync += [*forget(), self.dropped.eq((length != 0) | bad)]
                with m.Elif(late & self.busy):
                    m.d.sync += [*forget(), escaped.eq(0), silence.eq(0), self.dropped.eq(1)]
            with m.State("LOW"):
                m.d.comb += [write.addr.eq(start), write.data.eq(length[:8]), write.en.eq(1)]
                m.next = "HIGH"
            with m.State("HIGH"):
                m.d.comb += [write.addr.eq(start + 1), write.data.eq(length[8:]), write.en.eq(1)]
                m.d.sync += end.eq(start + length + PREFIX_BYTES)
                m.next = "VISIBLE"
            with m.State("VISIBLE"):
                m.d.sync += [start.eq(end), end.eq(end + PREFIX_BYTES)]
                m.d.sync += [length.eq(0), crc.eq(CRC_INIT)]
                m.next = "FRAME"

        # Reading: address, memory, register, and a register where the byte is wanted.
        looked, visible, held = Signal(), Signal(), Signal(8)
        m.d.comb += read.addr.eq(taken)
        # (`visible` is of the byte before in the cycle after `looked`, when `valid` has come.)
        m.d.sync += [
            held.eq(read.data),
            visible.eq(taken != start),
            looked.eq(visible & ~looked & ~self.o_bytes.valid),
            self.o_bytes.valid.eq(looked | (self.o_bytes.valid & ~self.o_bytes.ready)),
        ]
        with m.If(looked):
            m.d.sync += [self.o_bytes.payload.eq(held), taken.eq(taken + 1)]
        return m
