"""AR and R: read clients on one AXI4 read channel."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hdl.config import Config
from hdl.interfaces import ADDRESS_BITS, READ_WINDOW_BITS, read_client
from hdl.memory.axi import BURST_INCR, CACHE, axi4_signature
from hdl.memory.splitter import CLIENT_BITS, BurstSplitter, one_of

__all__ = ["ReadChannel"]


class ReadChannel(wiring.Component):
    """Arbitrates read clients, issues bursts, routes the beats back.

    Fixed priority in the order of ``clients``, decided once a request. All bursts carry one ID, so
    data comes in order and a FIFO of client numbers routes it. ``rready`` is always high: clients
    have room for what they asked. A beat reaches its client one cycle after ``rvalid``.
    Throughput: a beat every cycle over any mix of clients, as long as bursts have 4 beats or more.
    Latency: 5 cycles from a request to ``arvalid``.

    Parameters
    ----------
    clients
        Names, highest priority first; each is a member ``In(read_client(config))`` with a pulse
        ``<name>_beat`` a beat.

    Members
    -------
    axi : Out(axi4_signature(config))
        Only AR and R are driven here.
    base, limit : In(40)
        Range of legal addresses.
    window : In(READ_WINDOW_BITS)
        While so many beats are asked for and have not come, no further burst is issued: memory
        answers in order, so what is asked for beyond its latency only makes an urgent
        client wait behind it. 0: no limit but ``config.outstanding_reads``.
    abort : In(1)
        Level: take no request, issue nothing more, throw away what still comes.
    hold : In(1)
        Level: take no new request (but for one in its first cycle).
    bad, bad_address, bad_client
        As in :class:`BurstSplitter`.
    error, error_address, error_client
        Pulse: a beat came with an error response; its byte address and client.
    idle : Out(1)
        Nothing in hand or outstanding.
    """

    def __init__(self, config: Config, clients: tuple[str, ...]):
        self.config = config
        self.clients = clients
        super().__init__(
            {
                **{name: In(read_client(config)) for name in clients},
                **{f"{name}_beat": Out(1) for name in clients},
                "axi": Out(axi4_signature(config)),
                "base": In(ADDRESS_BITS),
                "limit": In(ADDRESS_BITS),
                "window": In(READ_WINDOW_BITS),
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
        shift = ceil_log2(config.port_bytes)
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

        # Requests: the first client that asked a cycle ago. (It still does: a request stays until
        # it is taken, and after that the splitter is busy until the choice is a new one.)
        asks = Cat(client.request.valid for client in clients)
        chosen = Signal(len(clients))
        # What is taken in the first cycle of an abort is forgotten; of a hold, served.
        go = ~self.abort & ~self.hold
        m.d.sync += chosen.eq(asks & -asks & go.replicate(len(clients)))
        m.d.comb += [
            splitter.i_request.payload.eq(
                one_of([client.request.payload for client in clients], chosen)
            ),
            splitter.i_request.valid.eq(chosen.any()),
        ]
        for number, client in enumerate(clients):
            m.d.comb += client.request.ready.eq(splitter.i_request.ready & chosen[number])

        # Bursts to AR, each with a note of whose it is.
        route_layout = data.StructLayout({"address": config.address_bits, "client": CLIENT_BITS})
        m.submodules.route = route = SyncFIFO(
            width=route_layout.size, depth=config.outstanding_reads
        )
        burst = splitter.o_burst
        note, head = Signal(route_layout), data.View(route_layout, route.r_data)
        free, open_ = Signal(), Signal(init=1)
        noted = Signal()  # a cycle behind a burst's issue: the splitter still shows it
        m.d.sync += noted.eq(free & burst.valid)
        in_flight = Signal(range(256 * config.outstanding_reads + 1))  # beats
        # (Bursts come three cycles apart: each is in `open_` when the next may go.)
        m.d.sync += [
            in_flight.eq(in_flight + Mux(free & burst.valid, burst.payload.beats, 0) - axi.rvalid),
            open_.eq(route.w_rdy & ((self.window == 0) | (in_flight < self.window))),
        ]
        m.d.comb += [
            free.eq((~axi.arvalid | axi.arready) & open_ & ~self.abort),
            burst.ready.eq(free),
            route.w_en.eq(noted),
            note.address.eq(burst.payload.address),
            note.client.eq(burst.payload.client),
            route.w_data.eq(note),
            axi.arsize.eq(shift),
            axi.arburst.eq(BURST_INCR),
            axi.arcache.eq(CACHE),
        ]
        with m.If(~axi.arvalid | axi.arready):
            m.d.sync += [
                axi.arvalid.eq(free & burst.valid),
                axi.araddr.eq(burst.payload.address),
                axi.arlen.eq(burst.payload.beats - 1),
            ]

        # Beats: to the client at the head of the route, registered once.
        valid, failed = Signal(), Signal()
        beat = Signal(config.port_bits, reset_less=True)
        count = Signal(8)  # beats of the burst before this one
        m.d.comb += [axi.rready.eq(1), route.r_en.eq(axi.rvalid & axi.rlast)]
        m.d.sync += valid.eq(axi.rvalid)
        with m.If(axi.rvalid):
            m.d.sync += [beat.eq(axi.rdata), count.eq(Mux(axi.rlast, 0, count + 1))]
        for number, (name, client) in enumerate(zip(self.clients, clients, strict=True)):
            mine = Signal(name=f"{name}_mine")
            m.d.sync += mine.eq(axi.rvalid & ~self.abort & (head.client == number))
            m.d.comb += [
                client.data.valid.eq(mine & ~self.abort),
                client.data.payload.eq(beat),
                getattr(self, f"{name}_beat").eq(client.data.valid),
            ]

        # A failed beat: where it is, a cycle later its address.
        failed_burst, offset = Signal(route_layout), Signal.like(count)
        m.d.sync += [
            failed.eq(axi.rvalid & axi.rresp[1] & ~self.abort),
            self.error.eq(failed & ~self.abort),
        ]
        with m.If(axi.rvalid & axi.rresp[1]):
            m.d.sync += [failed_burst.eq(head), offset.eq(count)]
        with m.If(failed):
            m.d.sync += [
                self.error_address.eq(failed_burst.address + (offset << shift)),
                self.error_client.eq(failed_burst.client),
            ]
        m.d.comb += self.idle.eq(
            splitter.idle & ~axi.arvalid & ~route.r_rdy & ~valid & ~failed & ~self.error
        )
        return m
