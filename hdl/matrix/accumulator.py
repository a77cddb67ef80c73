"""Block-scale accumulators: integer block sums to FP32, added into panel memory."""

from amaranth.hdl import Assert, Cat, Module, Mux, Signal, signed
from amaranth.lib import data
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from hdl.config import Config
from hdl.fp import BlockTerm, FpAdd, scale_down
from hdl.interfaces import read_port
from hdl.matrix.array import SUM_BITS
from hdl.matrix.tile import row_tag_layout

__all__ = ["BlockAccumulator"]

ATTRIBUTES = {"no_rw_check": 1}
"""Of a memory: no word is read while it is written, as assertions here see to, or the panels' rule
(docs/spec.md, section 3). So block RAM needs no bypass."""


class BlockAccumulator(Component):
    """A lane for each column of the array: block term, rescaling, FP32 add into the panel's word.

    Parameters
    ----------
    config
    array_latency
        Cycles from a row (and its tag) to its sums.

    Attributes
    ----------
    latency
        Cycles from a row to the write of its panel word.

    Members
    -------
    row_valid, tag, scale, shift : In
        A row enters the array in this cycle: its place, the E8M0 scale of its block, and for the
        values of attention the shift of what the panel holds.
    tile_scales : In(8 * cols)
        Scales of the columns, with each row that has ``tag.swap``.
    sums : In(cols of signed 20 bits)
        From the array.
    panel_read : In(read_port)
        The vector unit's read port, docs/spec.md.
    ring_produce, output_produce : Out(1)
        The last word of a ring panel, of a set of output panels, is written in this cycle.
    active : Out(1)
        Rows are on their way.

    Raises
    ------
    ValueError
        The array's tiles are too short for the pipeline: a word would be read before it is written.
    """

    def __init__(self, config: Config, array_latency: int):
        c = self.config = config
        # Stages, counted from the row: block sum there, panel word asked for, term there, written
        self.sum_stage = array_latency + (c.passes > 1)
        self.term_stage = self.sum_stage + BlockTerm.latency
        self.read_stage = self.term_stage - 3
        self.latency = self.term_stage + FpAdd.latency
        period = c.column_groups * c.passes * c.tile_beats
        if period <= self.latency - self.read_stage:
            raise ValueError(
                f"config {c.name!r}: a panel word comes again after {period} cycles, its "
                f"update takes {self.latency - self.read_stage + 1}; choose a larger array or a "
                "narrower port"
            )
        if c.tile_beats < 3:
            raise ValueError(f"config {c.name!r}: an array tile needs at least 3 beats")
        self.row_bits = (c.row_capacity - 1).bit_length()
        self.panel_bits = (c.panels - 1).bit_length()
        word_bits = (c.block_words - 1).bit_length()
        super().__init__(
            {
                "row_valid": In(1),
                "row_swap": In(1),
                "tag": In(row_tag_layout(c)),
                "scale": In(8),
                "shift": In(8),
                "tile_scales": In(8 * c.cols),
                "sums": In(data.ArrayLayout(signed(SUM_BITS), c.cols)),
                "panel_read": In(
                    read_port(word_bits + self.row_bits + self.panel_bits, c.word_bits)
                ),
                "ring_produce": Out(1),
                "output_produce": Out(1),
                "active": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        c = self.config

        # The tag's way beside the array; stage 0 is the row's cycle
        valid, tag = [self.row_valid], [self.tag]
        scale, shift = [self.scale], [self.shift]
        for s in range(1, self.latency + 1):
            valid.append(Signal(name=f"valid_{s}"))
            tag.append(Signal(row_tag_layout(c), name=f"tag_{s}", reset_less=True))
            m.d.sync += valid[s].eq(valid[s - 1])
            with m.If(valid[s - 1]):
                m.d.sync += tag[s].eq(tag[s - 1])
                if s <= self.sum_stage:
                    scale.append(Signal(8, name=f"scale_{s}", reset_less=True))
                    m.d.sync += scale[s].eq(scale[s - 1])
                if s <= self.read_stage + 2:
                    shift.append(Signal(8, name=f"shift_{s}", reset_less=True))
                    m.d.sync += shift[s].eq(shift[s - 1])
        m.d.sync += self.active.eq(Cat(valid).any())

        codes = self._tile_scales(m)
        block_sums = self._block_sums(m, valid, tag)

        # Panel memory
        group_bits = (c.column_groups - 1).bit_length()
        word_address = [Cat(t.group[:group_bits], t.row[: self.row_bits], t.panel) for t in tag]
        written = [self.row_valid & self.tag.close]
        for s in range(1, self.latency + 1):
            written.append(Signal(name=f"written_{s}"))
            m.d.sync += written[s].eq(written[s - 1])
        m.submodules.panels = panels = Memory(
            shape=32 * c.cols,
            depth=c.panels << (len(word_address[0]) - self.panel_bits),
            init=[],
            attrs=ATTRIBUTES,
        )
        write, own, other = panels.write_port(), panels.read_port(), panels.read_port()
        m.d.comb += [
            own.addr.eq(word_address[self.read_stage]),
            own.en.eq(written[self.read_stage]),
            write.addr.eq(word_address[self.latency]),
            write.en.eq(written[self.latency]),
        ]
        before = self.latency - 1
        m.d.sync += [
            self.ring_produce.eq(written[before] & tag[before].ring_done),
            self.output_produce.eq(written[before] & tag[before].output_done),
        ]
        for s in range(self.read_stage + 1, self.latency + 1):
            same = word_address[s] == word_address[self.read_stage]
            with m.If(written[self.read_stage] & written[s]):
                m.d.sync += Assert(~same, "panel word read before its last update is written")
        self._read(m, other)

        # Lanes
        old_stage = self.read_stage + 2
        old_word = Signal(32 * c.cols, reset_less=True)  # as it comes from the memory
        with m.If(written[old_stage - 1]):
            m.d.sync += old_word.eq(own.data)
        for j in range(c.cols):
            term, add = BlockTerm(), FpAdd()
            m.submodules[f"term_{j}"] = term
            m.submodules[f"add_{j}"] = add
            old = Signal(32, name=f"old_{j}", reset_less=True)
            scaled = scale_down(m, old_word.word_select(j, 32), shift[old_stage])
            with m.If(written[old_stage]):
                m.d.sync += old.eq(Mux(tag[old_stage].first, 0, scaled))
            m.d.comb += [
                term.enable.eq(Cat(written[self.sum_stage : self.term_stage])),
                add.enable.eq(Cat(written[self.term_stage : self.latency])),
                term.sum.eq(block_sums[j]),
                term.scale_a.eq(scale[self.sum_stage]),
                term.scale_b.eq(codes.word_select(j, 8)),
                add.a.eq(old),
                add.b.eq(term.o),
                write.data.word_select(j, 32).eq(add.o),
            ]
        return m

    def _tile_scales(self, m):
        """The scales that belong to the block sums: kept from the tile's first row on."""
        c = self.config
        reads = self.sum_stage - 1  # a cycle ahead
        # Tiles begin at least tile_beats cycles apart
        depth = max(1, -(-(reads - 1) // c.tile_beats))
        kept = [Signal(8 * c.cols, name=f"kept_{i}", reset_less=True) for i in range(depth)]
        arrives, leaves = (
            Signal(range(max(depth, 2)), name=name) for name in ("scales_arrive", "scales_leave")
        )
        codes = Signal(8 * c.cols, reset_less=True)
        swap = [self.row_swap]
        for s in range(1, reads + 1):
            swap.append(Signal(name=f"swap_{s}"))
            m.d.sync += swap[s].eq(swap[s - 1])
        with m.If(swap[0]):
            with m.Switch(arrives):
                for i in range(depth):
                    with m.Case(i):
                        m.d.sync += kept[i].eq(self.tile_scales)
            m.d.sync += arrives.eq(Mux(arrives == depth - 1, 0, arrives + 1))
        with m.If(swap[reads]):
            with m.Switch(leaves):
                for i in range(depth):
                    with m.Case(i):
                        m.d.sync += codes.eq(kept[i])
            m.d.sync += leaves.eq(Mux(leaves == depth - 1, 0, leaves + 1))
        return codes

    def _block_sums(self, m, valid, tag):
        """Sums over the passes of a block: registers, or the array's own if one pass is all."""
        c = self.config
        if c.passes == 1:
            return self.sums
        s = self.sum_stage
        sums = [
            Signal(signed(SUM_BITS), name=f"block_sum_{j}", reset_less=True) for j in range(c.cols)
        ]
        m.submodules.passes = memory = Memory(
            shape=SUM_BITS * c.cols, depth=1 << len(tag[0].row), init=[], attrs=ATTRIBUTES
        )
        write, read = memory.write_port(), memory.read_port()
        m.d.comb += [
            read.addr.eq(tag[s - 2].row),
            read.en.eq(valid[s - 2] & ~tag[s - 2].open),
            write.addr.eq(tag[s].row),
            write.en.eq(valid[s] & ~tag[s].close),
            write.data.eq(Cat(sums)),
        ]
        with m.If(read.en & write.en):
            m.d.sync += Assert(read.addr != write.addr, "block sum read while it is written")
        with m.If(valid[s - 1]):
            for j, total in enumerate(sums):
                before = read.data.word_select(j, SUM_BITS).as_signed()
                m.d.sync += total.eq(self.sums[j] + Mux(tag[s - 1].open, 0, before))
        return sums

    def _read(self, m, port):
        """The vector unit's port: a word of ``lanes`` values is a slice of a panel word."""
        c = self.config
        slices = c.cols // c.lanes
        slice_bits = (slices - 1).bit_length()
        address = self.panel_read.address
        m.d.comb += port.addr.eq(address[slice_bits:])
        if slices == 1:
            m.d.comb += self.panel_read.data.eq(port.data)
            return
        which = Signal(slice_bits, reset_less=True)
        m.d.sync += which.eq(address[:slice_bits])
        m.d.comb += self.panel_read.data.eq(port.data.word_select(which, c.word_bits))
