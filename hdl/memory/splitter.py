"""Requests of any length and place into legal AXI4 bursts."""

from functools import reduce
from operator import or_

from amaranth.hdl import Assert, Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hdl.config import Config
from hdl.interfaces import ADDRESS_BITS
from hdl.memory.axi import PAGE_BYTES

__all__ = ["BurstSplitter", "burst_layout", "one_of", "routed_request"]

CLIENT_BITS = 3


def routed_request() -> data.StructLayout:
    """A client's request with the client's number."""
    return data.StructLayout({"address": ADDRESS_BITS, "beats": 9, "client": CLIENT_BITS})


def burst_layout(config: Config) -> data.StructLayout:
    """One burst: legal for AXI4 as it is. ``last``: of its request."""
    return data.StructLayout(
        {"address": config.address_bits, "beats": 9, "client": CLIENT_BITS, "last": 1}
    )


class BurstSplitter(wiring.Component):
    """Checks a request against the memory window and cuts it into bursts.

    A burst has ``config.burst_beats`` beats at most and does not cross 4 KiB. A request is finished
    before the next is taken: one cycle to take it, then three a burst.

    Members
    -------
    i_request : In(stream(routed_request()))
        Requests, 1 .. 256 beats.
    o_burst : Out(stream(burst_layout(config)))
        Bursts in order.
    base, limit : In(40)
        The window of legal byte addresses [base, limit).
    clear : In(1)
        Drop the request in hand (``o_burst.valid`` may fall).
    bad : Out(1)
        The request in hand is outside the window or not aligned. It gives no burst, and nothing
        goes on until ``clear``.
    bad_address, bad_client : Out
        Of that request.
    idle : Out(1)
        Nothing in hand.
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__(
            {
                "i_request": In(stream.Signature(routed_request())),
                "o_burst": Out(stream.Signature(burst_layout(config))),
                "base": In(ADDRESS_BITS),
                "limit": In(ADDRESS_BITS),
                "clear": In(1),
                "bad": Out(1),
                "bad_address": Out(ADDRESS_BITS),
                "bad_client": Out(CLIENT_BITS),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self.config
        shift = ceil_log2(config.port_bytes)
        page_beats = PAGE_BYTES // config.port_bytes

        busy, placed, sized = Signal(), Signal(), Signal()
        fresh = Signal()  # the first cycle of `sized`
        address = Signal(ADDRESS_BITS)  # of the burst; `request` is what comes behind it then
        request = Signal(routed_request())
        end = Signal(ADDRESS_BITS + 1)
        wrong = Signal(3)
        most = Signal(range(config.burst_beats + 1))  # that fit in a burst from here
        beats = Signal.like(most)
        last = Signal()
        taken = Signal()

        # Beats to the next 4 KiB boundary, 1 .. page_beats.
        place = request.address[shift : ceil_log2(PAGE_BYTES)]
        near = place > page_beats - config.burst_beats  # fewer than a burst's
        m.d.comb += [
            self.i_request.ready.eq(~busy),
            self.idle.eq(~busy),
            self.bad.eq(sized & wrong.any()),
            self.bad_address.eq(address),
            self.bad_client.eq(request.client),
            self.o_burst.valid.eq(sized & ~wrong.any()),
            self.o_burst.payload.address.eq(address),
            self.o_burst.payload.beats.eq(beats),
            self.o_burst.payload.client.eq(request.client),
            self.o_burst.payload.last.eq(last),
            taken.eq(self.o_burst.valid & self.o_burst.ready),
        ]

        m.d.sync += fresh.eq(0)
        with m.If(fresh):
            m.d.sync += [
                request.address.eq(request.address + (beats << shift)),
                request.beats.eq(request.beats - beats),
            ]
        with m.If(~busy):
            m.d.sync += [request.eq(self.i_request.payload), busy.eq(self.i_request.valid)]
            with m.If(self.i_request.valid):
                m.d.sync += [
                    Assert(self.i_request.payload.beats != 0),
                    Assert(self.i_request.payload.beats <= 256),
                ]
        with m.Elif(~placed):
            m.d.sync += [
                most.eq(Mux(near, page_beats - place, config.burst_beats)),
                end.eq(request.address + (request.beats << shift)),
                # (Of a later burst the same as of the first.)
                wrong[0].eq((request.address < self.base) | request.address[:shift].any()),
                placed.eq(1),
            ]
        with m.Elif(~sized):
            m.d.sync += [
                fresh.eq(1),
                address.eq(request.address),
                beats.eq(Mux(request.beats < most, request.beats, most)),
                last.eq(request.beats <= most),
                wrong[1:].eq(Cat(end > self.limit, end > 1 << config.address_bits)),
                sized.eq(1),
            ]
        with m.Elif(taken):
            m.d.sync += [placed.eq(0), sized.eq(0), busy.eq(~last)]
        with m.If(self.clear):
            m.d.sync += [busy.eq(0), placed.eq(0), sized.eq(0)]
        return m


def one_of(requests, chosen):
    """The request of the client whose bit is set in ``chosen``, as a ``routed_request()``."""
    terms = []
    for number, request in enumerate(requests):
        whole = Cat(request.address, request.beats, Const(number, CLIENT_BITS))
        terms.append(whole & chosen[number].replicate(len(whole)))
    while len(terms) > 1:
        terms = [reduce(or_, terms[i : i + 2]) for i in range(0, len(terms), 2)]
    return routed_request()(terms[0])
