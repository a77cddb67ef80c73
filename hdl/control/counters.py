"""Performance counters: one event bit each, 48 bits wide."""

from amaranth.hdl import Array, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hdl.isa import Counter

__all__ = ["Counters"]

_BITS = 48
_PLACES = 1 << ceil_log2(len(Counter))
_EXACT = (Counter.CYCLES, Counter.ARRAY_FIRST, Counter.ARRAY_LAST)  # registers of their own
_TURN = 4  # cycles for one of them
_GROUP = 8
_DRAIN = (
    _TURN * (_PLACES + 4) + 6
)  # cycles after the last event until the memory's answers have all


class Counters(wiring.Component):
    """Counts the cycles in which each event bit is set while ``enable`` is.

    Events are registered once and counted in a few bits each; one counter every four cycles, in
    turn, is added to its 48 bits in a memory. ARRAY_FIRST and ARRAY_LAST take the value of CYCLES
    at their first and last event instead.

    Members
    -------
    events : In(len(Counter))
        Bit ``Counter.X.value``.
    enable, clear : In(1)
    index : In(7)
        Counter number and, in bit 0, which half.
    data : Out(32)
        The half, two cycles later (high half: 16 bits). While ``enable`` is set it may lag behind
        the events by a turn.
    settled : Out(1)
        Reads may rely on it: cleared counters read as zero, stopped ones have all their events.
    """

    def __init__(self):
        super().__init__(
            {
                "events": In(len(Counter)),
                "enable": In(1),
                "clear": In(1),
                "index": In(7),
                "data": Out(32),
                "settled": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        events = Signal.like(self.events)
        with m.If(self.enable | events.any()):
            m.d.sync += events.eq(self.events & self.enable.replicate(len(Counter)))

        # Those that need the exact time
        cycles, first, last = Signal(_BITS), Signal(_BITS), Signal(_BITS)
        begun = Signal()
        with m.If(events[Counter.CYCLES.value]):
            m.d.sync += cycles.eq(cycles + 1)
        with m.If(events[Counter.ARRAY_FIRST.value]):
            m.d.sync += [begun.eq(1), last.eq(cycles)]
            with m.If(~begun):
                m.d.sync += first.eq(cycles)

        # Turn: which one is added to the memory. First the few bits of the groups' members, in the
        # next turn, which is four cycles, the one group's and the sum before it, then both added.
        turn = Signal(range(_PLACES))
        turn_add, turn_write = Signal.like(turn), Signal.like(turn)
        phase, tick = Signal(range(_TURN)), Signal()
        m.d.sync += [phase.eq(phase + 1), tick.eq(phase == 0)]
        few_bits = ceil_log2(_PLACES * _TURN) + 1
        fews = []
        for counter in Counter:
            few = Signal(few_bits, name=f"few_{counter.name.lower()}")
            if counter not in _EXACT:
                mine = tick & (turn == counter.value)
                with m.If(self.clear):
                    m.d.sync += few.eq(0)
                with m.Elif(mine):
                    m.d.sync += few.eq(events[counter.value])
                with m.Elif(events[counter.value]):
                    m.d.sync += few.eq(few + 1)
            fews.append(few)
        fews += [Signal(few_bits, name=f"none{i}") for i in range(len(Counter), _PLACES)]
        groups = [fews[i : i + _GROUP] for i in range(0, _PLACES, _GROUP)]
        parts = [Signal(few_bits, name=f"part_{i}") for i in range(len(groups))]
        add = Signal(few_bits)
        before, total = Signal(_BITS), Signal(_BITS)
        fresh = Signal(range(_PLACES + 1), init=_PLACES)  # places that hold the step before
        memory = Memory(shape=_BITS, depth=_PLACES, init=[], attrs={"no_rw_check": 1})
        m.submodules.memory = memory
        old, write = memory.read_port(domain="comb"), memory.write_port()
        read = memory.read_port()
        with m.If(tick):
            m.d.sync += [
                turn.eq(turn + 1),
                turn_add.eq(turn),
                turn_write.eq(turn_add),
                *(
                    part.eq(Array(group)[turn % _GROUP])
                    for part, group in zip(parts, groups, strict=True)
                ),
                total.eq(before + add),
            ]
        m.d.sync += [
            add.eq(Array(parts)[turn_add // _GROUP]),
            before.eq(Mux(fresh != 0, 0, old.data)),
        ]
        with m.If(self.clear):
            m.d.sync += [add.eq(0), before.eq(0), *(part.eq(0) for part in parts)]
        m.d.comb += [
            old.addr.eq(turn_add),
            write.addr.eq(turn_write),
            write.data.eq(total),
            write.en.eq(tick),
            read.addr.eq(self.index[1:]),
        ]
        with m.If(self.clear):
            m.d.sync += [cycles.eq(0), first.eq(0), last.eq(0), begun.eq(0), fresh.eq(_PLACES)]
        with m.Elif(tick & (fresh != 0)):
            m.d.sync += fresh.eq(fresh - 1)

        drain, was_enabled = Signal(range(_DRAIN + 1)), Signal()
        m.d.sync += [was_enabled.eq(self.enable), self.settled.eq(drain == 0)]
        with m.If(self.clear | (was_enabled & ~self.enable)):
            m.d.sync += [drain.eq(_DRAIN), self.settled.eq(0)]
        with m.Elif(drain != 0):
            m.d.sync += drain.eq(drain - 1)

        # Read
        half, chosen = Signal(), Signal(range(_PLACES))
        value = Signal(_BITS)
        m.d.sync += [half.eq(self.index[0]), chosen.eq(self.index[1:])]
        m.d.comb += value.eq(read.data)
        for counter, exact in zip(_EXACT, (cycles, first, last), strict=True):
            with m.If(chosen == counter.value):
                m.d.comb += value.eq(exact)
        m.d.sync += self.data.eq(Mux(half, value[32:], value[:32]))
        return m
