"""Carries out requests and answers them."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.config import Config
from hdl.link.access import access_signature
from hdl.link.crc import CRC_INIT, crc32_step
from hdl.link.protocol import (
    EVENT_DONE,
    HEADER_BYTES,
    INFO_WORDS,
    REPLY,
    Info,
    Operation,
    Status,
    info_words,
)
from hdl.link.receiver import PREFIX_BYTES
from hdl.link.transmitter import payload_byte

__all__ = ["Executor"]


class Executor(wiring.Component):
    """One request after the other, in order; each gets one reply.

    Writes are answered when the bus has answered. WRITE_REGISTERS with the sequence number of the
    one before it is a repetition: it gets the same answer again and changes nothing.

    Parameters
    ----------
    config, clock_hz, memory_bytes
        What INFO says.

    Members
    -------
    i_bytes : In(stream(8))
        Requests, as ``FrameReceiver.o_bytes``.
    o_payload : Out(stream(payload_byte()))
        Replies and events.
    access : Out(access_signature())
    irq : In(1)
        Its rising edge is told by an event, between replies.
    busy : Out(1)
        A request is being carried out or answered.
    """

    def __init__(self, config: Config, *, clock_hz: int, memory_bytes: int):
        self._info = info_words(config, clock_hz, memory_bytes)
        super().__init__(
            {
                "i_bytes": In(stream.Signature(8)),
                "o_payload": Out(stream.Signature(payload_byte())),
                "access": Out(access_signature()),
                "irq": In(1),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        i, o, access = self.i_bytes, self.o_payload, self.access

        irq, event = Signal(), Signal()
        m.d.sync += irq.eq(self.irq)
        with m.If(self.irq & ~irq):
            m.d.sync += event.eq(1)

        head = Signal(8 * (PREFIX_BYTES + HEADER_BYTES))
        length, code, sequence = head[:16], head[16:24], head[24:32]
        count, start = head[32:48], head[48:]
        operation = Signal(Operation)
        kind, answer = Signal(8), Signal(8)  # first bytes of the reply or event
        status = Signal(Status)
        bad, repeated = Signal(), Signal()
        unread = Signal(16)  # bytes of the request still to be taken
        left = Signal(16)  # words to do
        address, word = Signal(32), Signal(32)
        step = Signal(4)
        crc = Signal(32)
        last_sequence, last_status = Signal(8), Signal(Status)

        def is_any(*operations):
            return Cat(operation == wanted for wanted in operations).any()

        pairs = Signal()
        fetches, replies_words, writes = Signal(), Signal(), Signal()
        m.d.comb += [
            pairs.eq(operation == Operation.WRITE_REGISTERS),
            fetches.eq(is_any(Operation.WRITE_MEMORY, Operation.WRITE_REGISTERS)),
            writes.eq(fetches | (operation == Operation.FILL_MEMORY)),
            replies_words.eq(
                is_any(Operation.INFO, Operation.READ_MEMORY, Operation.READ_REGISTERS)
            ),
            access.registers.eq(pairs | (operation == Operation.READ_REGISTERS)),
            access.write.eq(writes),
            access.address.eq(address),
            access.data.eq(Mux(operation == Operation.FILL_MEMORY, 0, word)),
        ]
        info = Array(
            Const(w, 32) if n != Info.SEQUENCE.value else last_sequence
            for n, w in enumerate(self._info)
        )

        def take():
            """Takes a byte of the request; the caller tests ``i.valid``."""
            m.d.comb += i.ready.eq(1)
            m.d.sync += [unread.eq(unread - 1), step.eq(step + 1)]

        def put(value, following, last=0):
            m.d.comb += [o.valid.eq(1), o.payload.data.eq(value), o.payload.last.eq(last)]
            with m.If(o.ready):
                m.next = following

        with m.FSM() as fsm:
            with m.State("IDLE"):
                m.d.sync += step.eq(0)
                with m.If(event):
                    m.d.sync += [event.eq(0), kind.eq(EVENT_DONE), answer.eq(0)]
                    m.d.sync += [operation.eq(Operation.NONE), status.eq(Status.OK)]
                    m.next = "KIND"
                with m.Elif(i.valid):
                    m.next = "HEAD"
            with m.State("HEAD"), m.If(i.valid):
                take()
                m.d.sync += head.eq(Cat(head[8:], i.payload))
                with m.If(step == PREFIX_BYTES + HEADER_BYTES - 1):
                    m.next = "MEASURE"
            with m.State("MEASURE"):
                m.d.sync += [
                    operation.eq(code),
                    unread.eq(length - HEADER_BYTES),
                    kind.eq(code | REPLY),
                    answer.eq(sequence),
                    left.eq(count),
                    address.eq(start),
                    repeated.eq(sequence == last_sequence),
                    bad.eq((code == 0) | (code > max(w.value for w in Operation))),
                ]
                m.next = "CHECK"
            with m.State("CHECK"):
                # Data are four bytes a word, eight a pair, or none.
                data = Mux(fetches, Mux(pairs, left << 3, left << 2), 0)
                m.d.sync += bad.eq(bad | (unread != data) | start[:2].any())
                m.next = "BEGIN"
            with m.State("BEGIN"):
                m.d.sync += [step.eq(0), status.eq(Status.OK), crc.eq(CRC_INIT)]
                with m.If(bad):
                    m.d.sync += status.eq(Status.BAD_REQUEST)
                    m.next = "DRAIN"
                with m.Elif(pairs & repeated):
                    m.d.sync += status.eq(last_status)
                    m.next = "DRAIN"
                with m.Elif(replies_words):
                    m.next = "KIND"
                with m.Else():
                    m.next = "WORD"
                with m.If(operation == Operation.INFO):
                    m.d.sync += left.eq(INFO_WORDS)

            with m.State("DRAIN"):
                with m.If(unread == 0):
                    m.d.sync += operation.eq(Operation.NONE)
                    m.next = "KIND"
                with m.Elif(i.valid):
                    take()

            # Words
            with m.State("WORD"):
                m.d.sync += step.eq(0)
                with m.If(left == 0):
                    m.next = "FINISH"
                with m.Elif(operation == Operation.INFO):
                    m.d.sync += word.eq(info[INFO_WORDS - left])
                    m.next = "SEND"
                with m.Elif(fetches):
                    m.next = "FETCH"
                with m.Else():
                    m.next = "ACCESS"
            with m.State("FETCH"), m.If(i.valid):
                take()
                m.d.sync += word.eq(Cat(word[8:], i.payload))
                with m.If(pairs):
                    m.d.sync += address.eq(Cat(address[8:], word[:8]))
                with m.If(step == Mux(pairs, 7, 3)):
                    m.next = "ACCESS"
            with m.State("ACCESS"):
                m.d.comb += access.valid.eq(1)
                m.d.sync += step.eq(0)
                with m.If(access.done):
                    m.d.sync += address.eq(address + 4)
                    with m.If(access.error):
                        m.d.sync += status.eq(Status.BUS_ERROR)
                    with m.If(~writes):
                        m.d.sync += word.eq(access.read_data)
                    with m.If(replies_words):
                        m.next = "SEND"
                    with m.Elif(operation == Operation.CHECK_MEMORY):
                        m.next = "SUM"
                    with m.Else():
                        m.next = "NEXT"
            with m.State("SUM"):
                m.d.sync += [
                    crc.eq(crc32_step(crc, word[:8])),
                    word.eq(word[8:]),
                    step.eq(step + 1),
                ]
                with m.If(step == 3):
                    m.next = "NEXT"
            with m.State("NEXT"):
                m.d.sync += left.eq(left - 1)
                m.next = "WORD"
            with m.State("SEND"):
                put(word[:8], "SENT")
            with m.State("SENT"):
                m.d.sync += [word.eq(word[8:]), step.eq(step + 1)]
                m.next = "SEND"
                with m.If(step == 3):
                    m.next = "NEXT"
                    with m.If(operation == Operation.CHECK_MEMORY):
                        m.next = "STATUS"

            with m.State("FINISH"):
                m.next = "KIND"
                with m.If(replies_words):
                    m.next = "STATUS"
                with m.If(pairs):
                    m.d.sync += [last_sequence.eq(answer), last_status.eq(status)]
            with m.State("KIND"):
                put(kind, "SEQUENCE")
            with m.State("SEQUENCE"):
                m.d.sync += [step.eq(0), word.eq(~crc)]
                put(answer, "STATUS")
                with m.If(o.ready):
                    with m.If(replies_words):
                        m.next = "WORD"
                    with m.Elif(operation == Operation.CHECK_MEMORY):
                        m.next = "SEND"
            with m.State("STATUS"):
                put(status, "IDLE", last=1)
        m.d.comb += self.busy.eq(~fsm.ongoing("IDLE"))
        return m
