"""Stage numbers of the datapath: cycles after the sequencer's word, for one configuration."""

from amaranth.hdl import Module, Signal
from amaranth.utils import exact_log2

from hdl.config import Config
from hdl.fp import ADD_LATENCY, FUNCTION_LATENCY, MUL_LATENCY
from hdl.vector.program import PASSES, Pass, Reduce

__all__ = ["DelayLine", "Timing"]


class Timing:
    """When a word is where.

    Attributes
    ----------
    address, fetch, operands
        The memories' addresses stand; their data; operands a and b.
    late
        Addresses of what becomes operand c.
    product, total, result
        Outputs of multiplier, adder and function.
    summands
        Masked results, at the reducer's and quantiser's input.
    block_sum, sum_write
        Sum of a block; the row's running sum is written (last word of the block).
    extreme, extreme_write, scalar_write
        Maximum of a block (last word); its row's record is written; what follows from it.
    exponent_address, block_exponent
        Quantiser: read of a head's exponent, the block's exponent (last word).
    elements, block
        Quantiser: a word becomes elements; the whole block stands (last word).
    accumulate
        Least distance of words of one row and two blocks that are summed.
    """

    address = 2
    fetch = 3
    operands = 4

    def __init__(self, config: Config):
        self._words = config.block_words
        lane_levels, word_levels = exact_log2(config.lanes), exact_log2(config.block_words)
        self.product = self.operands + MUL_LATENCY
        self.late = self.product - 2
        self.total = self.product + ADD_LATENCY
        self.result = self.total + FUNCTION_LATENCY
        self.summands = self.result + 1
        self.tree = ADD_LATENCY * (lane_levels + word_levels)
        self.block_sum = self.summands + self.tree
        self.sum_write = self.block_sum + ADD_LATENCY
        self.accumulate = ADD_LATENCY + 3
        self.extreme = self.result + 2 + lane_levels
        self.extreme_write = self.extreme + 1
        self.scalar_write = self.extreme + 2
        # Largest exponent of a word: four lanes a stage.
        self.exponent_stages = (lane_levels + 1) // 2
        self.exponent_address = self.summands + self.exponent_stages - 1
        self.block_exponent = self.summands + self.exponent_stages + 1
        self.quantise_delay = self.exponent_stages + config.block_words
        self.elements = self.summands + self.quantise_delay
        self.block = self.elements + 1

    def drain(self, row: Pass) -> int:
        """Cycles from a pass's word to the first word of a pass that needs its result.

        With ``overlap`` counted from its first word, else from its last.
        """
        more = self._words - 1 if row.overlap and not row.narrow else 0
        cycles = 0
        if row.to_temp or row.to_scalars:
            cycles = self.result + 1 - self.address
        if row.reduce is Reduce.SUM:
            cycles = max(cycles, self.sum_write + 1 - self.address + more)
        elif row.reduce is Reduce.MAXIMUM:
            cycles = max(cycles, self.scalar_write + 1 - self.late + more)
        elif row.reduce is Reduce.EXPONENT:
            cycles = max(cycles, self.extreme_write + 2 - self.exponent_address + more)
        elif row.reduce is Reduce.ARGMAX:
            cycles = max(cycles, self.extreme_write + 1 - self.address + more)
        return cycles

    def landing(self, row: Pass) -> int:
        """Cycles from a pass's last word until everything it causes has happened."""
        cycles = self.operands + 1
        if row.to_temp or row.to_rows or row.to_scalars:
            cycles = self.result + 1
        if row.to_activations or row.to_append:
            cycles = max(cycles, self.block + 1)
        if row.reduce is Reduce.SUM:
            cycles = max(cycles, self.sum_write + 1)
        elif row.reduce is not Reduce.NONE:
            cycles = max(cycles, self.scalar_write + 1)
        return cycles

    @property
    def depth(self) -> int:
        """Cycles in which a word may still cause anything."""
        return max(self.landing(row) for row in PASSES.values()) + 1


class DelayLine:
    """Fields of a struct, delayed as far as somebody asks: ``at("row", 3)``.

    Parameters
    ----------
    m
        Module that gets the registers, in a submodule of the line's own: a delay may be asked for
        inside an ``m.If``.
    source
        Struct at stage ``start``.
    name
        Of the submodule.
    valid
        Fields with a reset.
    """

    def __init__(self, m, source, *, start: int = 0, name: str = "tags", valid=("valid",)):
        self._m = Module()
        m.submodules[name] = self._m
        self._source = source
        self._start = start
        self._valid = valid
        self._chains: dict[str, list] = {}

    def at(self, field: str, stage: int):
        """The field at ``stage``. The source stands at stage ``start``."""
        if field not in self._chains:
            self._chains[field] = [self._source[field]]
        chain = self._chains[field]
        if stage < self._start:
            raise ValueError(f"{field}: stage {stage} is before {self._start}")
        while len(chain) <= stage - self._start:
            number = self._start + len(chain)
            later = Signal.like(
                chain[-1],
                name=f"{field}_{number}",
                reset_less=field not in self._valid,
            )
            self._m.d.sync += later.eq(chain[-1])
            chain.append(later)
        return chain[stage - self._start]
