"""Loads the next tile's weights into the array, from the tape or from a page slot."""

from amaranth.hdl import Assert, Cat, Const, Module, Mux, Signal
from amaranth.lib import stream
from amaranth.lib.wiring import Component, In, Out

from hdl.config import BLOCK, Config
from hdl.interfaces import model_layout, read_port
from hdl.matrix.array import load_layout
from hdl.matrix.tile import tile_layout

__all__ = ["WeightLoader"]

ONE = 127
"""E8M0 code of the scale 1."""


class WeightLoader(Component):
    """Brings a tile's beats to the array, one a cycle, and then offers the tile to the feeder.

    While a loaded tile waits in the array's ``next`` weights, nothing is loaded. Loading goes on
    in the very cycle in which the feeder takes that tile (``loaded`` transfers).

    Members
    -------
    tiles : In(stream(tile_layout))
        The payload stands in the cycle after the transfer too.
    tape_elements, tape_scales, page_elements, key_scales
        As in docs/spec.md, section 4. Elements of a block tile are only valid when its scales are.
    load : Out(load_layout)
        A beat for the array, two cycles after it was asked for.
    loaded : Out(stream(tile_layout))
        The tile whose weights have all been asked for; it may be fed from now on.
    coming : Out(tile_layout)
        The tile being loaded, which will be in ``loaded`` next.
    scales : Out(8 * cols)
        E8M0 codes of the columns of the tile in ``loaded``.
    active, waits : Out(1)
        A tile is being loaded; a beat is wanted in this cycle but the tape has none.
    """

    def __init__(self, config: Config):
        self.config = config
        c = config
        address_bits = (c.slot_beats - 1).bit_length() + 4
        super().__init__(
            {
                "model": In(model_layout()),
                "tiles": In(stream.Signature(tile_layout(c))),
                "tape_elements": In(stream.Signature(c.port_bits)),
                "tape_scales": In(stream.Signature(8 * c.cols)),
                "page_elements": Out(read_port(address_bits, c.port_bits)),
                "key_scales": Out(read_port(3, 8 * BLOCK)),
                "load": Out(load_layout(c)),
                "loaded": Out(stream.Signature(tile_layout(c))),
                "coming": Out(tile_layout(c)),
                "scales": Out(8 * c.cols),
                "active": Out(1),
                "waits": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        c = self.config

        # The tile being loaded, and how far it is: beat ``chunk`` of line ``index``. What a beat
        # needs of the tile is taken with it, the rest a cycle later: few listen to the decision
        valid = Signal()
        page = Signal(reset_less=True)
        value = Signal(reset_less=True)
        slot = Signal.like(self.tiles.p.slot, reset_less=True)
        line = Signal(range(c.slot_beats), reset_less=True)  # of a page: where the line starts
        index = Signal(range(max(c.rows, c.cols)))
        chunk = Signal(range(max(c.column_beats, c.row_beats, 2)))
        left = Signal(range(c.tile_beats), reset_less=True)  # beats after this one
        at_last = Signal(reset_less=True)  # none
        # Before the first beat of a block tile from the tape: its scales come along
        wants_scales = Signal(reset_less=True)
        tile = Signal(tile_layout(c), reset_less=True)

        may = Signal()
        beat = Signal()
        last = Signal()
        last_chunk = Signal()
        m.d.comb += [
            may.eq(valid & (~self.loaded.valid | self.loaded.ready)),
            beat.eq(may & (page | self.tape_elements.valid)),
            self.tape_elements.ready.eq(may & ~page),
            self.tape_scales.ready.eq(beat & wants_scales),
            last.eq(beat & at_last),
            last_chunk.eq(chunk == Mux(value, c.row_beats - 1, c.column_beats - 1)),
            self.active.eq(valid),
            self.coming.eq(tile),
            self.waits.eq(may & ~beat),
            self.tiles.ready.eq(~valid | last),
            self.page_elements.address.eq(Cat((line + chunk)[: len(line)], value, slot)),
        ]
        with m.If(beat):
            m.d.sync += [
                wants_scales.eq(0),
                chunk.eq(chunk + 1),
                left.eq(left - 1),
                at_last.eq(left == 1),
            ]
            with m.If(last_chunk):
                m.d.sync += [
                    chunk.eq(0),
                    index.eq(index + 1),
                    line.eq(line + self.model.head_blocks * (BLOCK // c.port_bytes)),
                ]
        with m.If(beat & wants_scales):
            m.d.sync += Assert(self.tape_scales.valid, "elements of a block tile without scales")
        with m.If(self.tiles.ready):
            m.d.sync += [
                valid.eq(self.tiles.valid),
                page.eq(self.tiles.p.page),
                value.eq(self.tiles.p.value),
                slot.eq(self.tiles.p.slot),
                line.eq(self.tiles.p.beat),
                index.eq(0),
                wants_scales.eq(~self.tiles.p.page & (self.tiles.p.reduction == 0)),
                left.eq(c.tile_beats - 1),
                at_last.eq(0),
            ]
        taken = Signal()
        m.d.sync += taken.eq(self.tiles.ready)
        with m.If(taken):
            m.d.sync += tile.eq(self.tiles.p)

        # The loaded tile. Registers are free once it is taken, and follow what is being loaded: the
        # choice of a cycle would be late for so many
        with m.If(self.loaded.ready):
            m.d.sync += self.loaded.valid.eq(0)
        with m.If(last):
            m.d.sync += self.loaded.valid.eq(1)
        with m.If(~self.loaded.valid):
            m.d.sync += self.loaded.p.eq(tile)

        # Its scales: of the tape, a cycle after they came; of a page's keys, as the memory shows
        # them; of its values 1
        tape_scales = Signal(8 * c.cols, reset_less=True)
        scaled, keys, values = (
            Signal(name=name, reset_less=True) for name in ("scaled", "keys", "values")
        )
        group = Signal.like(tile.group, reset_less=True)
        ones = Const(int.from_bytes([ONE] * c.cols, "little"), 8 * c.cols)
        m.d.comb += self.key_scales.address.eq(tile.slot)
        m.d.sync += [
            tape_scales.eq(self.tape_scales.p),
            scaled.eq(beat & wants_scales),
            keys.eq(tile.page & ~tile.value),
            values.eq(tile.page & tile.value),
            group.eq(tile.group),
        ]
        with m.If(~self.loaded.valid & keys):
            m.d.sync += self.scales.eq(self.key_scales.data.word_select(group, 8 * c.cols))
        with m.If(~self.loaded.valid & values):
            m.d.sync += self.scales.eq(ones)
        with m.If(scaled):
            m.d.sync += self.scales.eq(tape_scales)

        # Beats: the memory answers a cycle later; its word goes into a register before the choice
        asked, came = (Signal(load_layout(c), name=name) for name in ("asked", "came"))
        from_page, came_from_page = (
            Signal(name=name, reset_less=True) for name in ("from_page", "came_from_page")
        )
        page_beat = Signal(c.port_bits, reset_less=True)
        m.d.sync += [
            asked.valid.eq(beat),
            asked.by_row.eq(value),
            asked.index.eq(index),
            asked.chunk.eq(chunk),
            asked.elements.eq(self.tape_elements.p),
            from_page.eq(page),
            came.valid.eq(asked.valid),
        ]
        places = ("by_row", "index", "chunk")
        with m.If(asked.valid):
            m.d.sync += [came[place].eq(asked[place]) for place in places]
            m.d.sync += came_from_page.eq(from_page)
            with m.If(from_page):
                m.d.sync += page_beat.eq(self.page_elements.data)
            with m.Else():
                m.d.sync += came.elements.eq(asked.elements)
        m.d.comb += [
            self.load.eq(came),
            self.load.elements.eq(Mux(came_from_page, page_beat, came.elements)),
        ]
        return m
