"""Stage numbers of the datapath: cycles after the sequencer's word, for one configuration."""

from amaranth.hdl import Module, Signal
from amaranth.utils import exact_log2

from hdl.config import Config
from hdl.fp import ADD_LATENCY, FUNCTION_LATENCY, MUL_LATENCY
from hdl.multiplier import Multiplier
from hdl.vector.program import PASSES, Pass, Reduce

__all__ = [
    "CEILING_STEPS",
    "ELEMENT_STEPS",
    "KEY_STEPS",
    "NEGATIVE_STEPS",
    "DelayLine",
    "Timing",
]

# Registers between the steps of the helpers in `hdl.fp.convert`
KEY_STEPS = 1
CEILING_STEPS = 3
NEGATIVE_STEPS = 2
ELEMENT_STEPS = 3


class Timing:
    """When a word is where. Stage 0 is the slot that goes to the datapath.

    Attributes
    ----------
    issue
        Cycles from the sequencer's step to the slot.
    rows_before
        Source blocks before a gathered row are known (a word's number in the output list was read
        and multiplied).
    address, fetch, operands
        The memories' addresses stand; their data; operands a and b. Memories are slow: their data
        are in registers for a cycle before operands are selected.
    late
        Addresses of what becomes operand c.
    product, total, result
        Outputs of multiplier, adder and function.
    summands
        Masked results, at the reducer's and quantiser's input.
    block_sum, sum_write
        Sum of a block; the row's running sum is written (last word of the block).
    extreme, extreme_write, scalar_write
        Row's record read for the maximum of a block (last word); written (a head's exponent a
        cycle later); -M of it written.
    exponent_address
        Quantiser: read of a head's exponent (last word).
    quantise_delay
        Quantiser: cycles in which a word waits for its block's scale.
    elements, block
        Quantiser: a word's elements; the whole block stands (last word).
    accumulate
        Least distance of words of one row and two blocks that are summed.
    """

    issue = 1
    rows_before = 1 + Multiplier.latency
    address = rows_before + 1
    fetch = address + 1
    operands = fetch + 2

    def __init__(self, config: Config):
        self._words = config.block_words
        lane_levels, word_levels = exact_log2(config.lanes), exact_log2(config.block_words)
        self.product = self.operands + MUL_LATENCY
        self.late = self.product - (self.operands - self.address)
        self.total = self.product + ADD_LATENCY
        self.result = self.total + FUNCTION_LATENCY
        self.summands = self.result + 2
        self.tree = ADD_LATENCY * (lane_levels + word_levels)
        self.block_sum = self.summands + self.tree
        self.sum_write = self.block_sum + ADD_LATENCY
        self.accumulate = ADD_LATENCY + 3
        # Values, keys, a level of the lanes a cycle, the block's best, its ceiling
        self.extreme = self.result + 1 + KEY_STEPS + 2 + lane_levels + CEILING_STEPS
        self.extreme_write = self.extreme + 1
        self.scalar_write = self.extreme_write + 2 + NEGATIVE_STEPS
        # Largest exponent of a word: four lanes a stage. Then of the block, then the scale.
        self.exponent_stages = (lane_levels + 1) // 2
        self.exponent_address = self.summands + self.exponent_stages
        self.quantise_delay = self.exponent_stages + 1 + config.block_words
        self.elements = self.summands + self.quantise_delay + ELEMENT_STEPS
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
            cycles = max(cycles, self.extreme_write + 3 - self.exponent_address + more)
        elif row.reduce is Reduce.ARGMAX:
            cycles = max(cycles, self.extreme_write + 1 - self.address + more)
        return cycles

    def landing(self, row: Pass) -> int:
        """Cycles from the step to a pass's last word until everything it causes has happened."""
        cycles = self.operands + 1
        # The memory writer's ``idle`` is asked a cycle before, and falls a cycle after the word.
        # (The counter that counts this may be a cycle early: see Dependences.)
        if row.to_memory:
            cycles += 2
        if row.to_temp or row.to_rows or row.to_scalars:
            cycles = self.result + 1
        if row.to_activations or row.to_append:
            cycles = max(cycles, self.block + 1)
        if row.reduce is Reduce.SUM:
            cycles = max(cycles, self.sum_write + 1)
        elif row.reduce is not Reduce.NONE:
            cycles = max(cycles, self.scalar_write + 1)
        return self.issue + cycles

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
        Struct at stage 0.
    name
        Of the submodule.
    valid
        Fields with a reset.
    """

    def __init__(self, m, source, *, name: str = "tags", valid=("valid",)):
        self._m = Module()
        m.submodules[name] = self._m
        self._source = source
        self._valid = valid
        self._chains: dict[str, dict] = {}  # by field: the value at a stage

    def change(self, field: str, stage: int, value) -> None:
        """From ``stage`` on the field is this, delayed."""
        self.at(field, stage - 1)
        self._chains[field][stage] = value

    def at(self, field: str, stage: int):
        """The field at ``stage``."""
        chain = self._chains.setdefault(field, {0: self._source[field]})
        for number in range(len(chain), stage + 1):
            later = Signal.like(
                chain[number - 1],
                name=f"{field}_{number}",
                reset_less=field not in self._valid,
            )
            self._m.d.sync += later.eq(chain[number - 1])
            chain[number] = later
        return chain[stage]
