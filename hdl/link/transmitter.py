"""Bytes from frames: CRC, escapes, delimiters."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.link.crc import CRC_INIT, crc32_step
from hdl.link.protocol import END, ESC, ESC_END, ESC_ESC

__all__ = ["FrameTransmitter", "payload_byte"]

CRC_BYTES = 4


def payload_byte() -> data.StructLayout:
    """A byte of a payload; ``last``: of its frame."""
    return data.StructLayout({"data": 8, "last": 1})


class FrameTransmitter(wiring.Component):
    """Puts a payload on the line as a frame. A byte takes eleven cycles or more.

    Members
    -------
    i_payload : In(stream(payload_byte()))
        May pause anywhere.
    o_bytes : Out(stream(8))
    """

    def __init__(self):
        super().__init__(
            {
                "i_payload": In(stream.Signature(payload_byte())),
                "o_bytes": Out(stream.Signature(8)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        i, o = self.i_payload, self.o_bytes
        byte, crc = Signal(8), Signal(32, init=CRC_INIT)
        first, tail, ended = Signal(init=1), Signal(range(CRC_BYTES + 1)), Signal()
        special, bit = Signal(), Signal(3)
        m.d.comb += special.eq((byte == END) | (byte == ESC))

        def send(value, following):
            m.d.comb += [o.payload.eq(value), o.valid.eq(1)]
            with m.If(o.ready):
                m.next = following

        with m.FSM():
            with m.State("TAKE"):
                with m.If(ended):
                    with m.If(tail == CRC_BYTES):
                        m.next = "END"
                    with m.Else():
                        m.d.sync += [byte.eq(~crc[:8]), crc.eq(crc[8:]), tail.eq(tail + 1)]
                        m.next = "SEND"
                with m.Elif(i.valid):
                    with m.If(first):
                        m.next = "BEGIN"
                    with m.Else():
                        m.d.comb += i.ready.eq(1)
                        m.d.sync += [byte.eq(i.payload.data), ended.eq(i.payload.last)]
                        m.next = "SUM"
            with m.State("BEGIN"):
                m.d.sync += first.eq(0)
                send(END, "TAKE")
            with m.State("SUM"):
                # A bit at a time: the line is slower still.
                m.d.sync += [
                    crc.eq(crc32_step(crc, byte[0])),
                    byte.eq(byte.rotate_right(1)),
                    bit.eq(bit + 1),
                ]
                with m.If(bit == 7):
                    m.next = "SEND"
            with m.State("SEND"):
                with m.If(special):
                    send(ESC, "ESCAPED")
                with m.Else():
                    send(byte, "TAKE")
            with m.State("ESCAPED"):
                send(Mux(byte == END, ESC_END, ESC_ESC), "TAKE")
            with m.State("END"):
                m.d.sync += [first.eq(1), ended.eq(0), tail.eq(0), crc.eq(CRC_INIT)]
                send(END, "TAKE")
        return m
