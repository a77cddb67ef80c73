"""Weight-stationary systolic array of int8 multipliers with double-buffered weights."""

from amaranth.hdl import Const, Module, Signal, signed
from amaranth.lib import data
from amaranth.lib.wiring import Component, In, Out

from hdl.config import Config

__all__ = ["SUM_BITS", "SystolicArray", "load_layout", "row_layout"]

SUM_BITS = 20
"""A sum of 32 products of int8: at most 2**19 in magnitude (-128 * -128 * 32), signed."""


def load_layout(config: Config) -> data.StructLayout:
    """A beat of weights for the ``next`` registers.

    By column: element i of chunk c goes to row ``c * port_bytes + i`` of column ``index``. By row:
    to column ``c * port_bytes + i`` of row ``index``.
    """
    return data.StructLayout(
        {
            "valid": 1,
            "by_row": 1,
            "index": range(max(config.rows, config.cols)),
            "chunk": range(max(config.column_beats, config.row_beats, 2)),
            "elements": config.port_bits,
        }
    )


def row_layout(config: Config) -> data.StructLayout:
    """A row of activations (``rows`` int8, element 0 lowest); ``swap`` with the first of a tile."""
    return data.StructLayout({"valid": 1, "swap": 1, "elements": 8 * config.rows})


class SystolicArray(Component):
    """``rows`` x ``cols`` multipliers; a row of activations gives the sums of all columns.

    Clusters of ``row_group`` x ``col_group`` multipliers add into their columns' partial sums
    combinationally; registers stand between clusters. Cluster (g, h) works on a row g + h cycles
    after cluster (0, 0), and whatever comes with a row or a load beat is skewed alike inside, so
    that a user sees whole rows, whole beats and whole words of sums.

    Weights are double buffered. A row with ``swap`` makes the loaded weights current, for itself
    and the rows after it. A tile's beats may come from the cycle of the previous tile's swap on,
    ``index`` ascending; its swap at the earliest in the cycle after its last beat. So tiles follow
    each other without a bubble every max(rows fed, tile_beats) cycles, in any mix of directions.

    Parameters
    ----------
    config
        ``rows``, ``cols``, ``row_group``, ``col_group``, ``port_bytes``.

    Attributes
    ----------
    latency
        Cycles from a row to its sums.

    Members
    -------
    load : In(load_layout)
        At most a beat a cycle.
    row : In(row_layout)
        At most a row a cycle.
    sums : Out(cols of signed 20 bits)
        ``latency`` cycles after its row; otherwise without meaning.
    """

    def __init__(self, config: Config):
        self.config = config
        self.row_clusters = config.rows // config.row_group
        self.col_clusters = config.cols // config.col_group
        self.latency = self.row_clusters + self.col_clusters
        super().__init__(
            {
                "load": In(load_layout(config)),
                "row": In(row_layout(config)),
                "sums": Out(data.ArrayLayout(signed(SUM_BITS), config.cols)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        next_weights, weights = self._weights(m)
        # valid[d]: a row came d cycles ago; cluster (g, h) multiplies where valid[g + h + 1]
        valid, swap = [self.row.valid], [self.row.valid & self.row.swap]
        for d in range(1, self.latency):
            valid.append(Signal(name=f"valid_{d}"))
            m.d.sync += valid[d].eq(valid[d - 1])
            if d < self.latency - 1:
                swap.append(Signal(name=f"swap_{d}"))
                m.d.sync += swap[d].eq(swap[d - 1])
        self._swap(m, next_weights, weights, swap)
        self._load(m, next_weights)
        self._multiply(m, weights, valid)
        return m

    def _weights(self, m):
        """Registers by [row][col], next and current."""
        c = self.config
        return [
            [
                [Signal(signed(8), name=f"{kind}_{k}_{j}", reset_less=True) for j in range(c.cols)]
                for k in range(c.rows)
            ]
            for kind in ("next", "weight")
        ]

    def _cluster(self, g: int, h: int):
        c = self.config
        return [
            (k, j)
            for j in range(h * c.col_group, (h + 1) * c.col_group)
            for k in range(g * c.row_group, (g + 1) * c.row_group)
        ]

    def _swap(self, m, next_weights, weights, swap):
        for d in range(self.row_clusters + self.col_clusters - 1):
            with m.If(swap[d]):
                for g in range(self.row_clusters):
                    if 0 <= (h := d - g) < self.col_clusters:
                        for k, j in self._cluster(g, h):
                            m.d.sync += weights[k][j].eq(next_weights[k][j])

    def _load(self, m, next_weights):
        """Beats by column go down, one row cluster a cycle; beats by row go right alike."""
        c = self.config
        width = c.port_bytes

        def chain(name, clusters, group, by_row, lines):
            """Skewed copies; ``lines(i)``: the positions of cluster i along the beat."""
            valid = self.load.valid & (self.load.by_row if by_row else ~self.load.by_row)
            index, chunk = self.load.index, self.load.chunk
            elements = [self.load.elements.word_select(i, 8) for i in range(width)]
            for i in range(clusters):
                yield i, valid, index, chunk, elements
                if i + 1 == clusters:
                    break
                needed = {p % width for later in range(i + 1, clusters) for p in lines(later)}
                last = (valid, index, chunk, elements)
                valid = Signal(name=f"{name}_valid_{i + 1}")
                index = Signal.like(index, name=f"{name}_index_{i + 1}", reset_less=True)
                chunk = Signal.like(chunk, name=f"{name}_chunk_{i + 1}", reset_less=True)
                elements = [
                    Signal(8, name=f"{name}_element_{i + 1}_{p}", reset_less=True)
                    if p in needed
                    else Const(0, 8)
                    for p in range(width)
                ]
                m.d.sync += valid.eq(last[0])
                with m.If(last[0]):
                    m.d.sync += [index.eq(last[1]), chunk.eq(last[2])]
                    m.d.sync += [elements[p].eq(last[3][p]) for p in sorted(needed)]

        def rows_of(g):
            return range(g * c.row_group, (g + 1) * c.row_group)

        def cols_of(h):
            return range(h * c.col_group, (h + 1) * c.col_group)

        for g, valid, index, chunk, elements in chain(
            "down", self.row_clusters, c.row_group, False, rows_of
        ):
            for part in sorted({k // width for k in rows_of(g)}):
                here = valid if c.column_beats == 1 else valid & (chunk == part)
                with m.If(here), m.Switch(index):
                    for j in range(c.cols):
                        with m.Case(j):
                            for k in rows_of(g):
                                if k // width == part:
                                    m.d.sync += next_weights[k][j].eq(elements[k % width])
        for h, valid, index, chunk, elements in chain(
            "right", self.col_clusters, c.col_group, True, cols_of
        ):
            for part in sorted({j // width for j in cols_of(h)}):
                here = valid if c.row_beats == 1 else valid & (chunk == part)
                with m.If(here), m.Switch(index):
                    for k in range(c.rows):
                        with m.Case(k):
                            for j in cols_of(h):
                                if j // width == part:
                                    m.d.sync += next_weights[k][j].eq(elements[j % width])

    def _multiply(self, m, weights, valid):
        c = self.config
        sums = [Const(0, signed(SUM_BITS))] * c.cols
        for g in range(self.row_clusters):
            rows = range(g * c.row_group, (g + 1) * c.row_group)
            across = [self.row.elements.word_select(k, 8).as_signed() for k in rows]
            for d in range(g + 1):  # skew; the first register is cluster (0, 0)'s
                across = self._stage(m, valid[d], across, f"skew_{g}_{d}")
            for h in range(self.col_clusters):
                enable = valid[g + h + 1]
                with m.If(enable):
                    for j in range(h * c.col_group, (h + 1) * c.col_group):
                        terms = [a * weights[k][j] for a, k in zip(across, rows, strict=True)]
                        total = Signal(signed(SUM_BITS), name=f"sum_{g}_{j}", reset_less=True)
                        m.d.sync += total.eq(sums[j] + _tree(terms))
                        sums[j] = total
                if h + 1 < self.col_clusters:
                    across = self._stage(m, enable, across, f"row_{g}_{h + 1}")
        for h in range(self.col_clusters):
            cols = range(h * c.col_group, (h + 1) * c.col_group)
            word = [sums[j] for j in cols]
            for d in range(self.row_clusters + h + 1, self.latency):
                word = self._stage(m, valid[d], word, f"deskew_{h}_{d}")
            m.d.comb += [self.sums[j].eq(s) for j, s in zip(cols, word, strict=True)]

    @staticmethod
    def _stage(m, enable, values, name):
        """Registers of values, loaded where ``enable``."""
        copies = [Signal.like(v, name=f"{name}_{i}", reset_less=True) for i, v in enumerate(values)]
        with m.If(enable):
            m.d.sync += [r.eq(v) for r, v in zip(copies, values, strict=True)]
        return copies


def _tree(terms):
    """Sum of values as a balanced tree."""
    while len(terms) > 1:
        pairs = [a + b for a, b in zip(terms[::2], terms[1::2], strict=False)]
        terms = pairs + terms[len(pairs) * 2 :]
    return terms[0]
