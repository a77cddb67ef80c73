"""Weight-stationary systolic array of int8 multipliers with double-buffered weights."""

from amaranth.hdl import Cat, Const, Module, Signal, signed
from amaranth.lib import data
from amaranth.lib.wiring import Component, In, Out

from hdl.config import Config
from hdl.multiplier import MultiplierRow

__all__ = [
    "SUM_BITS",
    "SystolicArray",
    "adder_stages",
    "array_latency",
    "load_layout",
    "row_layout",
]

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
    """A row of activations (``rows`` int8, element 0 lowest).

    ``swap``: with the first of a tile, low where no row is valid.
    """
    return data.StructLayout({"valid": 1, "swap": 1, "elements": 8 * config.rows})


def adder_stages(config) -> list[int]:
    """Adders in a row in each stage between a cluster's products and its sums.

    The one that adds the sums of the cluster above is among them. Takes whatever has the fields of
    a `Config` that say the array's shape.
    """
    levels = (config.row_group - 1).bit_length() + (config.rows > config.row_group)
    stages = [config.adder_levels] * (levels // config.adder_levels)
    if rest := levels % config.adder_levels:
        stages.insert(0, rest)  # the way out of the multipliers is the longest
    return stages


def array_latency(config) -> int:
    """Cycles from a row of activations to its sums; ``config`` as in `adder_stages`."""
    clusters = config.rows // config.row_group + config.cols // config.col_group
    return 1 + MultiplierRow.latency + len(adder_stages(config)) + clusters - 2


class SystolicArray(Component):
    """``rows`` x ``cols`` multipliers; a row of activations gives the sums of all columns.

    Clusters of ``row_group`` x ``col_group`` multipliers (`hdl.multiplier`) work in step: products,
    then a tree of adders with a register after every ``adder_levels`` of them; its last stage adds
    the partial sums of the cluster above. Cluster (g, h) works on a row g + h cycles after cluster
    (0, 0), and whatever comes with a row or a load beat is skewed alike inside, so that a user sees
    whole rows, whole beats and whole words of sums. One cluster of all rows needs no skew and the
    fewest adders; small clusters have short wires.

    Weights are double buffered. A row with ``swap`` makes the loaded weights current, for itself
    and the rows after it. A tile's beats may come from the cycle before the previous tile's swap
    on, ``index`` ascending; its swap at the earliest two cycles after its last beat. So tiles
    follow each other without a bubble every max(rows fed, tile_beats) cycles, in any mix of
    directions.

    Parameters
    ----------
    config
        ``rows``, ``cols``, ``row_group``, ``col_group``, ``adder_levels``, ``port_bytes``.

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
        self.stages = adder_stages(config)
        self.latency = array_latency(config)
        super().__init__(
            {
                "load": In(load_layout(config)),
                "row": In(row_layout(config)),
                "sums": Out(data.ArrayLayout(signed(SUM_BITS), config.cols)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        c = self.config
        # valid[d]: a row came d cycles ago. At g + h it enters a register before cluster (g, h), a
        # cycle later the multipliers
        valid, swap = [self.row.valid], [self.row.swap]
        for d in range(1, self.latency):
            valid.append(Signal(name=f"valid_{d}"))
            m.d.sync += valid[d].eq(valid[d - 1])
        for d in range(1, self.row_clusters + self.col_clusters):
            swap.append(Signal(name=f"swap_{d}"))
            m.d.sync += swap[d].eq(swap[d - 1])
        next_weights, weights = [
            [
                [Signal(signed(8), name=f"{kind}_{k}_{j}", reset_less=True) for j in range(c.cols)]
                for k in range(c.rows)
            ]
            for kind in ("next", "weight")
        ]
        self._load(m, next_weights)
        self._swap(m, next_weights, weights, swap)
        products = self._multiply(m, weights, valid, swap)
        self._add(m, products, valid)
        return m

    def _load(self, m, next_weights):
        """Beats by column go down, one row cluster a cycle; beats by row go right alike.

        A weight's enable is a register's bit, for speed: of the lines' chunks one is selected.
        """
        c = self.config
        width = c.port_bytes
        beat = [Signal(8, name=f"element_{p}", reset_less=True) for p in range(width)]
        with m.If(self.load.valid):
            m.d.sync += [e.eq(self.load.elements.word_select(p, 8)) for p, e in enumerate(beat)]

        def chain(name, clusters, group, by_row, beats):
            """Of each cluster: its lines, a selected chunk for each as bit
            ``index * beats + chunk``, the chunk's elements."""
            valid = self.load.valid & (self.load.by_row if by_row else ~self.load.by_row)
            index, chunk = self.load.index, self.load.chunk
            elements = beat
            for i in range(clusters):
                lines = range(i * group, (i + 1) * group)
                count = beats * (c.rows if by_row else c.cols)
                place = Cat(chunk[: (beats - 1).bit_length()], index)
                selected = Signal(count, name=f"{name}_selected_{i}")
                m.d.sync += selected.eq(valid << place[: (count - 1).bit_length()])
                yield lines, selected, elements
                if i + 1 == clusters:
                    break
                last = (valid, index, chunk, elements)
                valid = Signal(name=f"{name}_valid_{i + 1}")
                index = Signal.like(index, name=f"{name}_index_{i + 1}", reset_less=True)
                chunk = Signal.like(chunk, name=f"{name}_chunk_{i + 1}", reset_less=True)
                needed = sorted({p % width for p in range((i + 1) * group, clusters * group)})
                elements = [Const(0, 8)] * width
                for p in needed:
                    elements[p] = Signal(8, name=f"{name}_element_{i + 1}_{p}", reset_less=True)
                m.d.sync += valid.eq(last[0])
                with m.If(last[0]):
                    m.d.sync += [index.eq(last[1]), chunk.eq(last[2])]
                # A cycle behind: they are registers in the first cluster already
                with m.If(selected.any()):
                    m.d.sync += [elements[p].eq(last[3][p]) for p in needed]

        for rows, selected, elements in chain(
            "down", self.row_clusters, c.row_group, False, c.column_beats
        ):
            for j in range(c.cols):
                for part in sorted({k // width for k in rows}):
                    with m.If(selected[j * c.column_beats + part]):
                        m.d.sync += [
                            next_weights[k][j].eq(elements[k % width])
                            for k in rows
                            if k // width == part
                        ]
        for cols, selected, elements in chain(
            "right", self.col_clusters, c.col_group, True, c.row_beats
        ):
            for k in range(c.rows):
                for part in sorted({j // width for j in cols}):
                    with m.If(selected[k * c.row_beats + part]):
                        m.d.sync += [
                            next_weights[k][j].eq(elements[j % width])
                            for j in cols
                            if j // width == part
                        ]

    def _swap(self, m, next_weights, weights, swap):
        c = self.config
        for d in range(self.row_clusters + self.col_clusters - 1):
            with m.If(swap[d]):
                for g in range(self.row_clusters):
                    if 0 <= (h := d - g) < self.col_clusters:
                        for k in range(g * c.row_group, (g + 1) * c.row_group):
                            for j in range(h * c.col_group, (h + 1) * c.col_group):
                                m.d.sync += weights[k][j].eq(next_weights[k][j])

    def _multiply(self, m, weights, valid, swap):
        """The products by [row][col], each at its cluster's time."""
        c = self.config
        products = [[Signal()] * c.cols for _ in range(c.rows)]
        for g in range(self.row_clusters):
            rows = range(g * c.row_group, (g + 1) * c.row_group)
            across = [self.row.elements.word_select(k, 8).as_signed() for k in rows]
            for d in range(g + 1):  # skew; the first register is cluster (0, 0)'s
                across = self._stage(m, valid[d], across, f"skew_{g}_{d}")
            for h in range(self.col_clusters):
                cols = range(h * c.col_group, (h + 1) * c.col_group)
                for activation, k in zip(across, rows, strict=True):
                    row = MultiplierRow(8, 8, c.col_group)
                    m.submodules[f"row_{k}_{h}"] = row
                    m.d.comb += [
                        row.a.eq(activation),
                        row.enable_a.eq(valid[g + h + 1]),
                        row.enable_b.eq(swap[g + h + 1]),
                        row.enable_p.eq(valid[g + h + 2]),
                    ]
                    for b, p, j in zip(row.b, row.p, cols, strict=True):
                        m.d.comb += b.eq(weights[k][j])
                        products[k][j] = p
                if h + 1 < self.col_clusters:
                    across = self._stage(m, valid[g + h + 1], across, f"row_{g}_{h + 1}")
        return products

    def _add(self, m, products, valid):
        """Sums by column, at the time of the last column."""
        c = self.config
        for h in range(self.col_clusters):
            cols = range(h * c.col_group, (h + 1) * c.col_group)
            word = [None] * len(cols)
            for g in range(self.row_clusters):
                rows = range(g * c.row_group, (g + 1) * c.row_group)
                terms = [[products[k][j] for k in rows] for j in cols]
                for s, levels in enumerate(self.stages):
                    last = s + 1 == len(self.stages)
                    if last and g:  # one level is that of the partial sums
                        levels -= 1
                    elif last and self.row_clusters > 1:
                        levels = (len(terms[0]) - 1).bit_length()
                    width = 1 << levels
                    grouped = [
                        [_tree(column[i : i + width]) for i in range(0, len(column), width)]
                        for column in terms
                    ]
                    if last:
                        grouped = [
                            [sums[0] if above is None else above + sums[0]]
                            for above, sums in zip(word, grouped, strict=True)
                        ]
                    enable = valid[g + h + 1 + MultiplierRow.latency + s]
                    terms = [
                        self._stage(m, enable, sums, f"sum_{g}_{j}_{s}")
                        for j, sums in zip(cols, grouped, strict=True)
                    ]
                word = [sums[0] for sums in terms]
            for d in range(self.latency - self.col_clusters + 1 + h, self.latency):
                word = self._stage(m, valid[d], word, f"deskew_{h}_{d}")
            m.d.comb += [self.sums[j].eq(s) for j, s in zip(cols, word, strict=True)]

    @staticmethod
    def _stage(m, enable, values, name):
        """Registers of values, loaded where ``enable``."""
        copies = []
        for i, v in enumerate(values):
            shape = signed(min(len(v), SUM_BITS))  # no more: a sum of 32 products fits
            copies.append(Signal(shape, name=f"{name}_{i}", reset_less=True))
        with m.If(enable):
            m.d.sync += [r.eq(v) for r, v in zip(copies, values, strict=True)]
        return copies


def _tree(terms):
    """Sum of values as a balanced tree."""
    while len(terms) > 1:
        pairs = [a + b for a, b in zip(terms[::2], terms[1::2], strict=False)]
        terms = pairs + terms[len(pairs) * 2 :]
    return terms[0]
