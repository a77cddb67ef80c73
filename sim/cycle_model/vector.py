"""The vector unit's clock: passes of ``hdl.vector.program`` one after the other.

Every constant is the RTL's own: the passes and their order from ``PASSES``, drain and landing from
``Timing``. What is written here is how the sequencer's states follow each other.
"""

from types import SimpleNamespace
from typing import Any, cast

from hdl.vector.credits import READ_CYCLES
from hdl.vector.program import PASSES, Blocks, Pass
from hdl.vector.timing import Timing
from sim.cycle_model.machine import Machine

__all__ = ["PASS_COSTS", "PassCost", "VectorClock", "pass_costs"]

_STATES = 2
"""hdl/vector/sequencer.py: SETUP and WAIT between a pass's last word and the next one's first;
WAIT alone where the same pass comes again."""

_RELEASE = READ_CYCLES + 1
"""hdl/vector/credits.py: from a pass's last word until the feeder can take the panel's credit."""


class PassCost:
    """A pass with its cycles; plain attributes, read in inner loops."""

    __slots__ = ("after", "drain", "landing", "narrow", "overlap", "paced", "turn")

    def __init__(self, row: Pass, timing: Timing):
        self.drain = max(timing.drain(row) - 2, 0) + 1
        self.landing = timing.landing(row)
        self.narrow = row.narrow
        self.overlap = row.overlap
        self.after = row.after
        self.turn = timing.late - timing.address if row.turn else 0
        self.paced = timing.accumulate if row.paced else 0


PASS_COSTS = dict[str, PassCost]


def pass_costs(machine: Machine) -> tuple[PASS_COSTS, int]:
    """Costs by name, and the cycles from a word's step to where a quantised block stands."""
    shape = SimpleNamespace(lanes=min(machine.lanes, 32), block_words=machine.block_words)
    timing = Timing(cast(Any, shape))
    block = timing.issue + timing.block
    return {name: PassCost(row, timing) for name, row in PASSES.items()}, block


class VectorClock:
    """When the vector unit does what.

    ``wait`` is the earliest cycle of the next pass's WAIT state. Times handed out: a pass's last
    word.
    """

    def __init__(self, machine: Machine):
        self.costs, self.block_stage = pass_costs(machine)
        self._words = machine.block_words
        # hdl/vector/sequencer.py: an ADD of so many rows or panels may be followed at once
        landing = self.costs["ADD"].landing
        self.chain_rows = 1 << (-(-landing // machine.block_words) - 1).bit_length()
        self._share = machine.blocks_a_word
        self.wait = 0.0
        self.idle = 0.0  # from here on an instruction can be taken
        self.drain = 0.0
        self.landed = 0.0
        self.busy = 0.0
        self.starved = 0.0
        self.blocked = 0.0
        self._before = ""  # the pass before, of the same instruction

    def words(self, rows: int, blocks: int, narrow: bool = False) -> int:
        """Cycles of a pass."""
        if narrow:
            return rows
        return -(-rows // self._share) * blocks * self._words

    def take(self, offered: float) -> float:
        """Take an instruction that is offered from ``offered`` on; cycle of its DECODE."""
        decode = max(offered, self.idle) + 1
        # What lands from here on is the new instruction's time.
        self.busy -= max(0, self.landed - decode)
        return decode

    def begin(self, decode: float, granted: float, *, chained: bool = False) -> None:
        """DECODE has its semaphores at ``granted``; ``chained``: it does not wait until the last
        words of the instruction before have landed.
        """
        landed = decode if chained else max(decode, self.landed)
        granted = max(landed, granted)
        self.busy += landed - decode + 2
        self.starved += granted - landed
        self.wait = granted + 2
        self._before = ""

    def run(
        self, name: str, rows: int, blocks: int, panels: float = 0.0, full: float = 0.0
    ) -> float:
        """One pass: ``panels`` when what it reads is there, ``full`` when there is room.

        Returns the cycle of its last word.
        """
        cost = self.costs[name]
        at = self.wait
        if name == self._before:  # no SETUP
            at -= 1
            self.busy -= 1
        self._before = name
        if panels > at:
            self.starved += panels - at
            at = panels
        if full > at:
            self.blocked += full - at
            at = full
        if cost.after and self.drain > at:
            self.busy += self.drain - at
            at = self.drain
        words = self.words(rows, blocks, cost.narrow)
        if cost.paced and words < blocks * cost.paced:
            words = (blocks - 1) * cost.paced + words // blocks
        last = at + words
        self.drain = (at + 1 if cost.overlap else last) + cost.drain
        if last + cost.landing > self.landed:
            self.landed = last + cost.landing
        self.wait = last + _STATES
        self.busy += words + _STATES
        return last

    def stall(self, name: str, last: float) -> float:
        """The pass just run could not end before ``last``: words waited for room."""
        late = last - (self.wait - _STATES)
        if late > 0:
            cost = self.costs[name]
            self.blocked += late
            self.wait += late
            self.landed = max(self.landed, last + cost.landing)
            self.drain += 0 if cost.overlap else late
        return max(last, self.wait - _STATES)

    def finish(self, away: float = 0.0, *, chains: bool = False) -> float:
        """FINISH: the cycle in which the instruction's semaphores are given. ``chains``: the next
        instruction may be taken while the last words land.
        """
        entered = self.wait - _STATES + 1
        self.busy -= 1
        landed = entered if chains else max(entered + 1, self.landed)  # two cycles there
        self.busy += landed - entered
        end = max(landed, away)
        self.blocked += end - landed
        self.idle = end + 1
        self.busy += max(0, self.landed - self.idle)  # lands in IDLE
        return end

    @staticmethod
    def ring_release(last: float) -> float:
        """When the feeder may take the panel that a pass with this last word gave back."""
        return last + _RELEASE


def strips(items: int, head_blocks: int) -> list[int]:
    """Blocks of each turn of NORM's loop (``Blocks.STRIP``)."""
    assert PASSES["NORM_SCALE"].blocks is Blocks.STRIP
    return [min(head_blocks, items - i) for i in range(0, items, head_blocks)]
