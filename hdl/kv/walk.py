"""The page walk: table entry, bounds, owner, address."""

from amaranth import Const, Module, Mux, Signal
from amaranth.hdl import Assert
from amaranth.lib import data, stream
from amaranth.lib.wiring import Component, In, Out

from hdl.config import Config
from hdl.interfaces import ADDRESS_BITS, model_layout, read_client
from hdl.isa import Fault
from hdl.kv.address import PageAddress
from hdl.kv.lookup import WordLookup
from hdl.kv.records import PAGE_INDEX_BITS, fault_report, walk_request
from hdl.streams import StreamFIFO

__all__ = ["PageWalk"]


class PageWalk(Component):
    """Translate pages of sequences to byte addresses, checking every one.

    A pipeline: table entries are looked up, then owners, with ``2 * page_slots`` lookups of each
    in flight. Results and faults come in order of the requests; nothing follows a fault.

    Members
    -------
    request
        :func:`~hdl.kv.records.walk_request`.
    pages
        Byte address of the page's frame.
    memory
        Single beats of page tables and of the owner table.
    forget
        Pulse while idle, at the start of an instruction: tables are read afresh.
    waiting
        Beats are on their way.
    idle
        Nothing inside; comes a cycle late.
    fault
        KV_PAGE: index past the table (detail: the index) or page >= KV_PAGES (detail: the page);
        address of the table entry. KV_OWNER: another owner (detail: the page); address of the
        owner word. BAD_ADDRESS: the page's address does not fit (see PageAddress).
    """

    def __init__(self, config: Config):
        self._config = config
        super().__init__(
            {
                "model": In(model_layout()),
                "request": In(stream.Signature(walk_request())),
                "pages": Out(stream.Signature(ADDRESS_BITS)),
                "memory": Out(read_client(config)),
                "forget": In(1),
                "waiting": Out(1),
                "idle": Out(1),
                "fault": Out(fault_report()),
            }
        )

    def elaborate(self, platform):
        m = Module()
        depth = 2 * self._config.page_slots
        note = {"address": ADDRESS_BITS, "owner": 32, "bad": 1}
        entry_note = data.StructLayout({**note, "index": PAGE_INDEX_BITS})
        owner_note = data.StructLayout({**note, "page": 32})
        m.submodules.entries = entries = WordLookup(self._config, entry_note, depth)
        m.submodules.owners = owners = WordLookup(self._config, owner_note, depth)
        m.submodules.address = address = PageAddress(self._config)
        m.d.comb += [
            entries.forget.eq(self.forget),
            owners.forget.eq(self.forget),
            address.model.eq(self.model),
        ]

        # 1. Bounds, and the address of the table entry.
        request = self.request.p
        ask = entries.request
        m.d.comb += self.request.ready.eq(~ask.valid)
        entry_address = Signal(ADDRESS_BITS)
        with m.If(ask.ready):
            m.d.sync += ask.valid.eq(0)
        with m.If(self.request.ready):
            bad = request.index >= request.pages
            m.d.sync += [
                ask.valid.eq(self.request.valid),
                entry_address.eq(request.table + (request.index << 2)),
                ask.p.skip.eq(bad),
                ask.p.note.bad.eq(bad),
                ask.p.note.owner.eq(request.owner),
                ask.p.note.index.eq(request.index),
            ]
        m.d.comb += [ask.p.address.eq(entry_address), ask.p.note.address.eq(entry_address)]

        # 2. The entry is a page that exists (compared in one cycle, used in the next), and the
        # address of its owner.
        entry = entries.reply
        own = owners.request
        compared, outside = Signal(), Signal()
        m.d.comb += entry.ready.eq(compared & ~own.valid)
        m.d.sync += [
            compared.eq(entry.valid & ~entry.ready),
            outside.eq(entry.p.word >= self.model.kv_pages),
        ]
        with m.If(own.ready):
            m.d.sync += own.valid.eq(0)
        with m.If(~own.valid):
            note = entry.p.note
            bad = note.bad | outside
            owner_address = self.model.kv_owners + (entry.p.word[:24] << 2)
            m.d.sync += [
                own.valid.eq(compared),
                own.p.skip.eq(bad),
                own.p.address.eq(owner_address),
                own.p.note.address.eq(Mux(bad, note.address, owner_address)),
                own.p.note.bad.eq(bad),
                own.p.note.page.eq(Mux(note.bad, note.index, entry.p.word)),
                own.p.note.owner.eq(note.owner),
            ]

        # 3. The owner is the sequence that asks; compared in one cycle, told in the next.
        answer = owners.reply
        found = Signal.like(answer.p.note)
        checking, stranger, right = Signal(), Signal(), Signal()
        fault = self.fault
        m.d.comb += [
            answer.ready.eq(~checking),
            right.eq(checking & ~found.bad & ~stranger & ~fault.valid),
            address.page.valid.eq(right),
            address.page.payload.eq(found.page[:24]),
        ]
        with m.If(~checking):
            m.d.sync += [
                checking.eq(answer.valid),
                found.eq(answer.p.note),
                stranger.eq(answer.p.word != answer.p.note.owner),
            ]
        with m.Elif(right & address.page.ready):
            m.d.sync += checking.eq(0)
        with m.If(~fault.valid):
            with m.If(address.overflow):
                m.d.sync += [
                    fault.valid.eq(1),
                    fault.cause.eq(Fault.BAD_ADDRESS),
                    fault.detail.eq(0),
                    fault.address.eq(Const(-1, ADDRESS_BITS)),
                ]
            with m.Elif(checking & (found.bad | stranger) & address.page.ready):
                # (page.ready: the page before this one got its address, its fault would be older)
                m.d.sync += [
                    fault.valid.eq(1),
                    fault.cause.eq(Mux(found.bad, Fault.KV_PAGE, Fault.KV_OWNER)),
                    fault.detail.eq(found.page),
                    fault.address.eq(found.address),
                ]
        m.d.comb += [
            self.pages.valid.eq(address.address.valid),
            self.pages.payload.eq(address.address.payload),
            address.address.ready.eq(self.pages.ready),
        ]

        # Memory: owners first (they are older), single beats; `kinds` tells whose beat comes.
        m.submodules.kinds = kinds = StreamFIFO(1, 2 * depth)
        read = self.memory.request
        beat = self.memory.data
        here, arrived = Signal(), Signal(self._config.port_bits)  # a beat, from afar
        chosen = Signal()
        m.d.comb += [
            read.p.beats.eq(1),
            owners.read.ready.eq(~read.valid),
            entries.read.ready.eq(~read.valid & ~owners.read.valid),
            chosen.eq(~read.valid & (owners.read.valid | entries.read.valid)),
            kinds.o.ready.eq(here),
            owners.arrive.eq(here & kinds.o.payload),
            entries.arrive.eq(here & ~kinds.o.payload),
            owners.beat.eq(arrived),
            entries.beat.eq(arrived),
            self.waiting.eq(kinds.o.valid),
        ]
        m.d.sync += [
            kinds.i.valid.eq(chosen),  # (as soon as the request itself)
            kinds.i.payload.eq(owners.read.valid),
            here.eq(beat.valid),
            arrived.eq(beat.payload),
        ]
        with m.If(chosen):
            m.d.sync += [
                read.valid.eq(1),
                read.p.address.eq(
                    Mux(owners.read.valid, owners.read.payload, entries.read.payload)
                ),
            ]
        with m.Elif(read.ready):
            m.d.sync += read.valid.eq(0)
        with m.If(kinds.i.valid):
            m.d.sync += Assert(kinds.i.ready)
        with m.If(here):
            m.d.sync += Assert(kinds.o.valid)

        # Pages inside, for `idle`.
        inside = Signal(range(4 * depth))
        entered = Signal()
        left = Signal()
        m.d.comb += [
            entered.eq(self.request.valid & self.request.ready),
            self.idle.eq(inside == 0),
        ]
        m.d.sync += [
            left.eq(self.pages.valid & self.pages.ready),
            inside.eq(inside + entered - left),
        ]
        return m
