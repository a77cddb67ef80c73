"""Feeds activation rows to the array, a row a cycle, once everything a tile needs is there."""

from amaranth.hdl import Assert, Cat, Module, Mux, Signal
from amaranth.lib import stream
from amaranth.lib.wiring import Component, In, Out

from hdl.config import Config
from hdl.interfaces import (
    ROW_BITS,
    activation_word,
    model_layout,
    read_port,
    semaphore_signature,
)
from hdl.isa import SEMAPHORES, Cause
from hdl.matrix.array import row_layout
from hdl.matrix.tile import row_tag_layout, tile_layout
from hdl.replica import ATTRIBUTE

__all__ = ["ActivationFeeder", "Credits"]


class Credits(Component):
    """A count of free things; ``taken`` may be high only while ``some`` is.

    Parameters
    ----------
    init
        Count after reset.
    limit
        Highest count possible; more is a broken protocol and stops a simulation.

    Members
    -------
    given, taken : In(1)
        One more, one less, from the next cycle on.
    some : Out(1)
        The count is not zero; a register.
    """

    def __init__(self, init: int, limit: int):
        self.init = init
        self.limit = limit
        super().__init__({"given": In(1), "taken": In(1), "some": Out(1)})

    def elaborate(self, platform):
        m = Module()
        count = Signal(range(self.limit + 1), init=self.init)
        some = Signal(init=self.init != 0)
        m.d.comb += self.some.eq(some)
        with m.If(self.given & ~self.taken):
            m.d.sync += [
                Assert(count != self.limit, "more credits given back than taken"),
                count.eq(count + 1),
                some.eq(1),
            ]
        with m.Elif(self.taken & ~self.given):
            m.d.sync += [count.eq(count - 1), some.eq(count != 1)]
        with m.If(self.taken):
            m.d.sync += Assert(self.some, "took a credit that is not there")
        return m


class ActivationFeeder(Component):
    """Takes loaded tiles and reads their activation rows.

    A tile starts as soon as the one before has read its last row, if its semaphores, its panel of
    the ring, its P buffer and its output panels were there a cycle ago. A tile without rows is
    dropped.

    Members
    -------
    loaded : In(stream(tile_layout)), scales : In
        From the loader. ``loaded`` transfers in the cycle that reads the tile's first row.
    coming : In(tile_layout)
        The tile that will be in ``loaded`` next, at least a cycle ahead; read while none is there.
    wait : In(stream(8))
        Semaphore masks, one before each tile that ``opens``.
    semaphore, activations, ring_release, weights_produce, weights_release, output_release,
    slot_release
        As in docs/spec.md.
    row : Out(row_layout)
        For the array, three cycles after the read. ``tag``, ``scale`` and ``shift`` are of that
        row, ``tile_scales`` (held until the next tile) of its tile.
    reads, blocked, active : Out(1)
        A row is read in this cycle; a loaded tile waits for something; at work.
    cause, finished : Out
        What the loaded tile waits for; an instruction's last row is read in this cycle.
    """

    def __init__(self, config: Config):
        self.config = config
        c = config
        super().__init__(
            {
                "model": In(model_layout()),
                "loaded": In(stream.Signature(tile_layout(c))),
                "coming": In(tile_layout(c)),
                "scales": In(8 * c.cols),
                "wait": In(stream.Signature(SEMAPHORES)),
                "semaphore": Out(semaphore_signature()),
                "activations": Out(
                    read_port((c.activation_blocks - 1).bit_length(), activation_word())
                ),
                "ring_release": In(1),
                "weights_produce": In(1),
                "weights_release": Out(1),
                "output_release": In(1),
                "slot_release": Out(1),
                "row": Out(row_layout(c)),
                "tag": Out(row_tag_layout(c)),
                "scale": Out(8),
                "shift": Out(8),
                "tile_scales": Out(8 * c.cols),
                "reads": Out(1),
                "blocked": Out(1),
                "cause": Out(Cause),
                "finished": Out(1),
                "active": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        c = self.config
        tile = self.loaded.p
        m.submodules.grants = grants = Credits(0, 7)
        m.submodules.ring = ring = Credits(c.panel_ring, c.panel_ring)
        m.submodules.weights = weights = Credits(0, 2)
        m.submodules.outputs = outputs = Credits(2, 2)
        self._semaphores(m, grants)

        # The tile being fed, from its second row on
        active = Signal()
        read = Signal()  # the memory answers
        held = Signal()  # its word is in a register
        current = Signal(tile_layout(c), reset_less=True)
        left = Signal(ROW_BITS, reset_less=True)  # rows not read
        at_last = Signal(reset_less=True)  # one
        number = Signal(range(max(c.row_capacity, 2)), reset_less=True)
        head = Signal(7, reset_less=True)
        address = Signal(20, reset_less=True)
        base = Signal(20, reset_less=True)  # address of the present token row's first head
        ring_panel = Signal(range(c.panel_ring), init=c.panel_ring - 1)  # the last one taken
        panel = Signal(range(c.panels), reset_less=True)

        # Of the loaded tile, a cycle ago, as `permitted`: it has rows, it has more than one
        some_rows, more_rows = (
            Signal(name=name, reset_less=True) for name in ("some_rows", "more_rows")
        )
        takes_panel = tile.panel_first & some_rows
        start = Signal()
        # What the tile needs was there in the cycle before: nobody but this tile takes it
        # since. And no tile is being fed: all in one register, and in one for the loader alone
        permitted, ready = (
            Signal(name=name, attrs={ATTRIBUTE: 1}) for name in ("permitted", "ready")
        )
        asks = Signal(tile_layout(c))
        m.d.comb += asks.eq(Mux(self.loaded.valid, tile, self.coming))
        lacks = [  # in the order in which a cause is named
            (Cause.SEMAPHORE, asks.opens & ~grants.some),
            (Cause.PANEL, asks.panel_first & (asks.rows != 0) & ~ring.some),
            (Cause.WEIGHTS, asks.weights_first & ~weights.some),
            (Cause.OUTPUT, asks.batch_first & ~outputs.some),
        ]
        goes_on = Signal()  # a tile will be fed in the next cycle
        m.d.comb += self.loaded.ready.eq(ready)
        for copy in (permitted, ready):
            m.d.sync += copy.eq(~Cat(lack for _, lack in lacks).any() & ~goes_on)
        m.d.sync += [some_rows.eq(asks.rows != 0), more_rows.eq(asks.rows > 1)]
        for cause, lack in reversed(lacks):
            with m.If(lack):
                m.d.sync += self.cause.eq(cause)
        m.d.comb += [
            start.eq(self.loaded.valid & permitted),
            grants.taken.eq(start & tile.opens),
            ring.taken.eq(start & takes_panel),
            ring.given.eq(self.ring_release),
            weights.taken.eq(start & tile.weights_first),
            weights.given.eq(self.weights_produce),
            outputs.taken.eq(start & tile.batch_first),
            outputs.given.eq(self.output_release),
            self.blocked.eq(self.loaded.valid & ~active & ~permitted),
            self.active.eq(active | self.loaded.valid | read | held),
        ]

        # The row read in this cycle
        now = Signal(tile_layout(c))
        now_left = Signal(ROW_BITS)
        now_address = Signal(20)
        now_base = Signal(20)
        now_head = Signal(7)
        now_panel = Signal(range(c.panels))
        next_ring_panel = Mux(ring_panel == c.panel_ring - 1, 0, ring_panel + 1)
        last = Signal()
        with m.If(active):
            m.d.comb += [
                now.eq(current),
                now_left.eq(left),
                now_address.eq(address),
                now_base.eq(base),
                now_head.eq(head),
                now_panel.eq(panel),
            ]
        with m.Else():
            m.d.comb += [
                now.eq(tile),
                now_left.eq(tile.rows),
                now_address.eq(tile.address),
                now_base.eq(tile.address),
                now_panel.eq(
                    Mux(
                        tile.output,
                        c.panel_ring + tile.panel,
                        Mux(tile.panel_first, next_ring_panel, ring_panel),
                    )
                ),
            ]
        m.d.comb += [
            self.reads.eq(active | start & some_rows),
            self.activations.address.eq(now_address),
            last.eq(Mux(active, at_last, ~more_rows)),
        ]
        with m.If(start):
            m.d.sync += [
                current.eq(tile),
                panel.eq(now_panel),
                self.tile_scales.eq(self.scales),
            ]
            with m.If(takes_panel):
                m.d.sync += ring_panel.eq(next_ring_panel)
        m.d.comb += goes_on.eq(Mux(active, ~at_last, start & more_rows))
        m.d.sync += active.eq(goes_on)
        last_head = Signal(7, reset_less=True)
        m.d.sync += last_head.eq(self.model.head_group - 1)  # of the step: constant
        with m.If(self.reads):
            wraps = ~now.query | (now_head == last_head)
            down = now_base + now.stride
            m.d.sync += [
                left.eq(now_left - 1),
                at_last.eq(now_left == 2),
                number.eq(Mux(active, number + 1, 1)),
                head.eq(Mux(wraps, 0, now_head + 1)),
                base.eq(Mux(wraps, down, now_base)),
                address.eq(Mux(wraps, down, now_address + self.model.head_blocks)),
            ]

        # The tile's end
        ends = Signal()
        m.d.comb += [
            ends.eq(Mux(active, at_last, start & ~more_rows)),
            self.finished.eq(ends & now.closes),
        ]
        m.d.sync += [
            self.semaphore.signal.eq(Mux(ends, now.signal, 0)),
            self.weights_release.eq(ends & now.weights_last),
            self.slot_release.eq(start & tile.weights_last),  # all of it is loaded
        ]

        # One cycle later the memory answers; its word goes into a register, and one cycle more
        # the row stands before the array
        tag = Signal(row_tag_layout(c), reset_less=True)
        held_tag = Signal.like(tag, reset_less=True)
        reduction = Signal(range(max(c.passes, 2)), reset_less=True)
        held_reduction = Signal.like(reduction, reset_less=True)
        word = Signal(activation_word(), reset_less=True)
        rescales = Signal(reset_less=True)  # elsewhere than in P the shift has no meaning
        m.d.sync += [
            read.eq(self.reads),
            held.eq(read),
            self.row.valid.eq(held),
            self.row.swap.eq(held & held_tag.swap),
        ]
        with m.If(self.reads):
            m.d.sync += [
                reduction.eq(now.reduction),
                tag.swap.eq(~active),
                tag.open.eq(now.reduction == 0),
                tag.close.eq(now.reduction == c.passes - 1),
                tag.first.eq(now.first),
                tag.group.eq(now.group),
                tag.row.eq(Mux(active, number, 0)),
                tag.panel.eq(now_panel),
                tag.ring_done.eq(last & now.panel_last),
                tag.output_done.eq(last & now.batch_last),
            ]
        with m.If(read):
            m.d.sync += [
                word.eq(self.activations.data),
                held_tag.eq(tag),
                held_reduction.eq(reduction),
                rescales.eq(tag.panel >= c.panel_ring),
            ]
        with m.If(held):
            elements = word.elements.as_value().word_select(held_reduction, 8 * c.rows)
            m.d.sync += [
                self.row.elements.eq(elements),
                self.tag.eq(held_tag),
                self.scale.eq(word.scale),
                self.shift.eq(Mux(rescales, word.shift, 0)),
            ]
        return m

    def _semaphores(self, m, grants):
        """Asks for the semaphores of instructions in their order, ahead of their first tiles."""
        pending = Signal()
        with m.If(self.semaphore.wait_valid & self.semaphore.wait_ready):
            m.d.sync += pending.eq(0)
        with m.If(self.wait.valid & self.wait.ready):
            m.d.sync += [pending.eq(1), self.semaphore.wait_mask.eq(self.wait.p)]
        m.d.comb += [
            self.semaphore.wait_valid.eq(pending),
            self.wait.ready.eq(~pending),
            grants.given.eq(pending & self.semaphore.wait_ready),
        ]
