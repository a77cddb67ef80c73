"""AW, W and B: write clients on one AXI4 write channel."""

from amaranth.hdl import Assert, Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import ceil_log2

from hdl.config import Config
from hdl.interfaces import ADDRESS_BITS, write_client
from hdl.memory.axi import BURST_INCR, CACHE, axi4_signature
from hdl.memory.splitter import CLIENT_BITS, BurstSplitter, one_of
from hdl.replica import ATTRIBUTE
from hdl.streams import SkidBuffer

__all__ = ["WriteChannel"]

OUTSTANDING = 8


class WriteChannel(wiring.Component):
    """Arbitrates write clients, issues bursts with their data, reports the responses.

    Round robin, decided once a request. Addresses run ahead of data by up to 8 bursts; ``wvalid``
    does not wait for ``awready``. Two beats of each client, and two on their way to the bus, wait
    in register slices, so a client's beats may be taken before its request is; a beat takes two
    cycles to the bus. Every burst announced on AW gets all its beats, after ``abort``
    with strobes of zero. ``done`` of a client pulses when the response of a request's last burst
    has come.

    Parameters
    ----------
    clients
        Names; each is a member ``In(write_client(config))``, with a pulse ``<name>_beat`` a beat.

    Members
    -------
    axi : Out(axi4_signature(config))
        Only AW, W and B are driven here.
    base, limit, abort, hold, bad, bad_address, bad_client, idle
        As in :class:`~hdl.memory.read_channel.ReadChannel`.
    error, error_address, error_client
        Pulse: a burst got an error response; its first byte address and client.
    """

    def __init__(self, config: Config, clients: tuple[str, ...]):
        self.config = config
        self.clients = clients
        super().__init__(
            {
                **{name: In(write_client(config)) for name in clients},
                **{f"{name}_beat": Out(1) for name in clients},
                "axi": Out(axi4_signature(config)),
                "base": In(ADDRESS_BITS),
                "limit": In(ADDRESS_BITS),
                "abort": In(1),
                "hold": In(1),
                "bad": Out(1),
                "bad_address": Out(ADDRESS_BITS),
                "bad_client": Out(CLIENT_BITS),
                "error": Out(1),
                "error_address": Out(ADDRESS_BITS),
                "error_client": Out(CLIENT_BITS),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config, axi = self.config, self.axi
        clients = [getattr(self, name) for name in self.clients]

        m.submodules.splitter = splitter = BurstSplitter(config)
        m.d.comb += [
            splitter.base.eq(self.base),
            splitter.limit.eq(self.limit),
            splitter.clear.eq(self.abort),
            self.bad.eq(splitter.bad),
            self.bad_address.eq(splitter.bad_address),
            self.bad_client.eq(splitter.bad_client),
        ]

        # Requests: the next client in turn of those that asked a cycle ago (see ReadChannel).
        turn = Signal(len(clients), init=1)  # who was served last
        chosen = Signal(len(clients))
        for served in range(len(clients)):
            with m.If(turn[served]):
                for step in range(len(clients), 0, -1):
                    number = (served + step) % len(clients)
                    with m.If(clients[number].request.valid):
                        m.d.sync += chosen.eq(1 << number)
        with m.If(self.abort | self.hold | ~Cat(client.request.valid for client in clients).any()):
            m.d.sync += chosen.eq(0)
        m.d.comb += [
            splitter.i_request.payload.eq(
                one_of([client.request.payload for client in clients], chosen)
            ),
            splitter.i_request.valid.eq(chosen.any()),
        ]
        for number, client in enumerate(clients):
            m.d.comb += client.request.ready.eq(splitter.i_request.ready & chosen[number])
        with m.If(splitter.i_request.valid & splitter.i_request.ready):
            m.d.sync += turn.eq(chosen)

        # Bursts to AW; a note for W (whose, how many beats) and one for B (whose, last, where).
        burst = splitter.o_burst
        send_layout = data.StructLayout({"beats": 9, "one": 1, "owner": len(clients)})
        reply_layout = data.StructLayout(
            {"address": config.address_bits, "client": CLIENT_BITS, "last": 1}
        )
        m.submodules.sends = sends = SyncFIFO(width=send_layout.size, depth=OUTSTANDING)
        m.submodules.replies = replies = SyncFIFO(width=reply_layout.size, depth=OUTSTANDING)
        send, reply = Signal(send_layout), Signal(reply_layout)
        free, issue = Signal(), Signal()
        places = Signal()  # (Bursts come three cycles apart: it counts all of them.)
        noted = Signal()  # a cycle behind `issue`: the splitter still shows the burst
        single = Signal()  # it has one beat
        m.d.sync += [
            places.eq(sends.w_rdy & replies.w_rdy),
            noted.eq(issue),
            single.eq(burst.payload.beats == 1),
        ]
        m.d.comb += [
            free.eq((~axi.awvalid | axi.awready) & places & ~self.abort),
            issue.eq(free & burst.valid),
            burst.ready.eq(free),
            sends.w_en.eq(noted),
            replies.w_en.eq(noted),
            send.beats.eq(burst.payload.beats),
            send.one.eq(single),
            *[bit.eq(burst.payload.client == number) for number, bit in enumerate(send.owner)],
            reply.address.eq(burst.payload.address),
            reply.client.eq(burst.payload.client),
            reply.last.eq(burst.payload.last),
            sends.w_data.eq(send),
            replies.w_data.eq(reply),
            axi.awsize.eq(ceil_log2(config.port_bytes)),
            axi.awburst.eq(BURST_INCR),
            axi.awcache.eq(CACHE),
        ]
        with m.If(~axi.awvalid | axi.awready):
            m.d.sync += [
                axi.awvalid.eq(issue),
                axi.awaddr.eq(burst.payload.address),
                axi.awlen.eq(burst.payload.beats - 1),
            ]

        # Beats of the burst in hand, from its client or, after an abort, from nowhere. Its note and
        # the next one's stand in registers: the end of a burst decides nothing farther away.
        left = Signal(9)  # beats of the burst still to take
        some, one = Signal(), Signal()  # left is not 0; it is 1
        owner = Signal(len(clients))  # one-hot, none where nothing is left or after an abort
        nobody = Signal()  # some, but no owner: a beat every other cycle
        # `owner` again for the wide multiplexer: few listen to the one that decides.
        source = Signal(len(clients), attrs={ATTRIBUTE: 1})
        following, follows = Signal(send_layout), Signal()  # the note behind, if it is here
        room, have, taken, load = Signal(), Signal(), Signal(), Signal()
        beat = Signal(clients[0].data.payload.shape())
        # Clients and pins are far apart: slices on both sides.
        w_layout = data.StructLayout(
            {"data": config.port_bits, "strobe": config.port_bytes, "last": 1}
        )
        m.submodules.w = out = SkidBuffer(w_layout)
        slices = []
        for name, client in zip(self.clients, clients, strict=True):
            m.submodules[f"{name}_data"] = part = SkidBuffer(client.data.payload.shape())
            connect(m, flipped(client.data), part.i)
            m.d.comb += part.clear.eq(self.abort)
            slices.append(part.o)
        m.d.comb += [
            room.eq(out.i.ready),
            out.i.valid.eq(have),
            out.i.payload.data.eq(beat.data),
            out.i.payload.strobe.eq(beat.strobe),
            out.i.payload.last.eq(one),
            axi.wvalid.eq(out.o.valid),
            out.o.ready.eq(axi.wready),
            axi.wdata.eq(out.o.payload.data),
            axi.wstrb.eq(out.o.payload.strobe),
            axi.wlast.eq(out.o.payload.last),
            have.eq((Cat(words.valid for words in slices) & owner).any() | nobody),
            taken.eq(have & room),
            load.eq(~some | (taken & one)),
            sends.r_en.eq(~follows),
        ]
        for number, (name, words) in enumerate(zip(self.clients, slices, strict=True)):
            m.d.comb += [
                words.ready.eq(room & owner[number]),
                getattr(self, f"{name}_beat").eq(room & owner[number] & words.valid),
            ]
            with m.If(source[number]):  # (of nobody 0, strobes and all)
                m.d.comb += beat.eq(words.payload)
        m.d.sync += nobody.eq(some & ~owner.any() & ~taken)
        with m.If(taken):
            m.d.sync += [left.eq(left - 1), one.eq(left == 2)]
        with m.If(load):
            note = data.View(send_layout, Mux(follows, following.as_value(), sends.r_data))
            m.d.sync += [
                some.eq(follows | sends.r_rdy),
                one.eq(note.one),
                left.eq(note.beats),
            ]
            for copy in (owner, source):
                m.d.sync += copy.eq(note.owner & (follows | sends.r_rdy).replicate(len(clients)))
        with m.If(~follows):
            m.d.sync += following.eq(sends.r_data)
        m.d.sync += follows.eq(~load & (follows | sends.r_rdy))

        # (A beat that a client gives in the first cycle of an abort is as good as any before.)
        with m.If(self.abort):
            m.d.sync += [owner.eq(0), source.eq(0)]

        # Responses come in order: one ID.
        valid, failed = Signal(), Signal()
        answered = data.View(reply_layout, replies.r_data)
        m.d.comb += [axi.bready.eq(1), replies.r_en.eq(valid)]
        m.d.sync += [
            valid.eq(axi.bvalid),
            failed.eq(axi.bresp[1]),
            self.error.eq(valid & failed & ~self.abort),
        ]
        with m.If(valid):
            m.d.sync += [
                Assert(replies.r_rdy, "write response without a burst"),
                self.error_address.eq(answered.address),
                self.error_client.eq(answered.client),
            ]
        for number, client in enumerate(clients):
            m.d.comb += client.done.eq(
                valid & answered.last & (answered.client == number) & ~self.abort
            )
        m.d.comb += self.idle.eq(
            splitter.idle
            & ~axi.awvalid
            & ~axi.wvalid
            & ~out.full
            & ~some
            & ~follows
            & ~sends.r_rdy
            & ~replies.r_rdy
            & ~valid
        )
        return m
