"""A toy unit with every kind of port, for the test of the bench infrastructure."""

from amaranth.hdl import Assert, Module, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out, Signature

from hdl.config import PRESETS
from hdl.interfaces import (
    activity_signature,
    fault_signature,
    instruction_signature,
    read_client,
    read_port,
    semaphore_signature,
    write_client,
)

ITEM = data.StructLayout({"tag": 8, "pair": data.ArrayLayout(signed(4), 2)})
CONFIG = PRESETS["tiny"]
BEATS = 16


class Loopback(wiring.Component):
    """Three toys: a FIFO from ``i_items`` to ``o_items``; ``go`` copies ``table`` to ``copy``; an
    instruction copies 64 bytes of memory 2 KiB up.
    """

    def __init__(self):
        super().__init__(
            {
                "i_items": In(stream.Signature(ITEM)),
                "o_items": Out(stream.Signature(ITEM)),
                "go": In(1),
                "table": Out(read_port(4, 16)),
                "copy": Out(Signature({"enable": Out(1), "address": Out(4), "data": Out(16)})),
                "wrapped": Out(1),
                "instruction": In(instruction_signature()),
                "semaphore": Out(semaphore_signature()),
                "fault": Out(fault_signature()),
                "activity": Out(activity_signature()),
                "memory": Out(read_client(CONFIG)),
                "store": Out(write_client(CONFIG)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.fifo = fifo = SyncFIFOBuffered(width=ITEM.size, depth=8)
        m.d.comb += [
            fifo.w_data.eq(self.i_items.payload),
            fifo.w_en.eq(self.i_items.valid),
            self.i_items.ready.eq(fifo.w_rdy),
            self.o_items.payload.eq(fifo.r_data),
            self.o_items.valid.eq(fifo.r_rdy),
            fifo.r_en.eq(self.o_items.ready),
        ]
        with m.If(self.i_items.valid):
            m.d.sync += Assert(self.i_items.payload.tag != 0xFF, "tag 255 is forbidden")

        running = Signal()
        m.d.sync += [
            self.copy.address.eq(self.table.address),
            self.copy.enable.eq(running),
            self.wrapped.eq(running & (self.table.address == 15)),
        ]
        m.d.comb += self.copy.data.eq(self.table.data)
        with m.If(running):
            m.d.sync += self.table.address.eq(self.table.address + 1)
            with m.If(self.table.address == 15):
                m.d.sync += running.eq(0)
        with m.Elif(self.go):
            m.d.sync += running.eq(1)

        m.submodules.beats = beats = SyncFIFOBuffered(width=CONFIG.port_bits, depth=BEATS + 1)
        word = Signal.like(self.instruction.payload)
        address = Signal(40, init=0x1000)
        asked, left = Signal(2), Signal(5)
        m.d.comb += [
            beats.w_data.eq(self.memory.data.payload),
            beats.w_en.eq(self.memory.data.valid),
            self.memory.request.payload.address.eq(address),
            self.memory.request.payload.beats.eq(BEATS),
            self.store.request.payload.address.eq(address + 0x800),
            self.store.request.payload.beats.eq(BEATS),
            self.store.data.payload.data.eq(beats.r_data),
            self.store.data.payload.strobe.eq(~0),
            self.semaphore.wait_mask.eq(word.word),
        ]
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.instruction.ready.eq(1)
                with m.If(self.instruction.valid):
                    m.d.sync += word.eq(self.instruction.payload)
                    m.next = "WAIT"
            with m.State("WAIT"):
                m.d.comb += [self.activity.blocked.eq(1), self.semaphore.wait_valid.eq(1)]
                with m.If(self.semaphore.wait_ready):
                    m.d.sync += [asked.eq(0), left.eq(BEATS)]
                    m.next = "COPY"
            with m.State("COPY"):
                m.d.comb += [
                    self.activity.busy.eq(1),
                    self.memory.request.valid.eq(~asked[0]),
                    self.store.request.valid.eq(~asked[1]),
                    self.store.data.valid.eq(beats.r_rdy),
                    beats.r_en.eq(self.store.data.ready),
                ]
                m.d.sync += asked.eq(
                    asked | self.memory.request.ready | (self.store.request.ready << 1)
                )
                with m.If(self.store.data.valid & self.store.data.ready):
                    m.d.sync += left.eq(left - 1)
                with m.If(self.store.done):
                    m.d.sync += [Assert(left == 0), address.eq(address + 4 * BEATS)]
                    m.next = "IDLE"
        return m
