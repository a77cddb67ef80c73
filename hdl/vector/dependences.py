"""What a word or a pass of the vector unit has to wait for: results on their way, and places."""

from amaranth.hdl import Const, Module, Mux, Signal
from amaranth.lib.wiring import Component, In, Out

from hdl.config import Config
from hdl.vector.program import pass_layout
from hdl.vector.timing import Timing

__all__ = ["Dependences"]


class Dependences(Component):
    """Counters of cycles since words were sent, and of places for blocks.

    Parameters
    ----------
    append_places, memory_places
        Blocks that the append FIFO and the memory writer hold.

    Members
    -------
    now : In(pass_layout)
        The pass that runs, or is about to; two cycles before its first word.
    begin : In(1)
        Pulse before the first word of a pass, with or after the last word of the one before.
    step, block_start, word_start : In(1)
        A word is sent; the present word is the first of a block (of all rows), of a row.
    block_starts, word_starts : In(1)
        The word of the next cycle is.
    to_memory : In(1)
        The pass's words go to the memory writer; two cycles before the first of them.
    append_room, memory_room : In(1)
        Pulses: a place is free again.
    wait_pass : Out(1)
        The pass needs results of the one before it that are not there.
    go : Out(1)
        A word may be sent in the next cycle: it has a place, and a block does not come too close
        behind the last one.
    place : Out(1)
        The present word has a place where it goes to.
    landed, lands : Out(1)
        Everything that the words caused has happened, in the datapath; it will have in the next
        cycle (not to be asked in the cycle of a step).
    appended : Out(1)
        Every place of the append FIFO is free.
    """

    def __init__(self, config: Config, append_places: int, memory_places: int):
        self._config = config
        self._append_places = append_places
        self._memory_places = memory_places
        super().__init__(
            {
                "now": In(pass_layout()),
                "begin": In(1),
                "step": In(1),
                "block_start": In(1),
                "word_start": In(1),
                "block_starts": In(1),
                "word_starts": In(1),
                "to_memory": In(1),
                "append_room": In(1),
                "memory_room": In(1),
                "wait_pass": Out(1),
                "go": Out(1),
                "place": Out(1),
                "landed": Out(1, init=1),
                "lands": Out(1, init=1),
                "appended": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        now, timing = self.now, Timing(self._config)

        # What is asked of a counter is a register too: whether it will be 0.
        def count_down(name, most, start, first):
            """A counter that `start` sets to `first`: it, and whether it is 0."""
            counter = Signal(range(most + 1), name=name)
            gone = Signal(name=f"{name}_gone", init=1)
            with m.If(start):
                m.d.sync += [counter.eq(first), gone.eq(first == 0)]
            with m.Elif(~gone):
                m.d.sync += [counter.eq(counter - 1), gone.eq(counter == 1)]
            return counter, gone

        started = Signal()  # the pass has sent a word
        with m.If(self.step):
            m.d.sync += started.eq(1)
        with m.If(self.begin):  # perhaps in the cycle of the last pass's last word
            m.d.sync += started.eq(0)
        most = (1 << len(now.drain)) - 1
        _, drained = count_down("drain", most, self.step & (~now.overlap | ~started), now.drain)
        landing = Signal.like(now.landing)
        longer = Signal()
        # (Of words that follow each other every second one counts: a cycle early, at most.)
        m.d.comb += longer.eq(now.landing > landing)
        with m.If(self.step & longer):
            m.d.sync += [landing.eq(now.landing), self.lands.eq(0)]
        with m.Elif(~self.lands):
            m.d.sync += [landing.eq(landing - 1), self.lands.eq(landing == 1)]
        m.d.sync += self.landed.eq(self.lands & ~self.step)
        cycles = timing.late - timing.address - 1
        _, turned = count_down("turn", cycles, self.step, Const(cycles))
        cycles = timing.accumulate - 1
        pace, _ = count_down("pace", cycles, self.step & self.block_start, Const(cycles))
        pace_ends = ~now.paced | Mux(self.step & self.block_start, cycles == 0, pace <= 1)

        claim = self.step & self.word_start

        def places(name, count, room, taken):
            """Free places: how many, and whether there will be one."""
            free = Signal(range(count + 1), name=name, init=count)
            m.d.sync += free.eq(free + room - (claim & taken))
            return free, Mux(claim & taken, room | (free > 1), room | (free != 0))

        to_append = now.control.to_append
        appends, append_some = places("appends", self._append_places, self.append_room, to_append)
        _, write_some = places("writes", self._memory_places, self.memory_room, self.to_memory)
        place = Signal(init=1)  # for a row's first word
        has_place = Signal()
        m.d.sync += place.eq(has_place)
        m.d.comb += [
            has_place.eq((~to_append | append_some) & (~self.to_memory | write_some)),
            self.go.eq((~self.word_starts | has_place) & (~self.block_starts | pace_ends)),
            self.wait_pass.eq((now.after & ~drained) | (now.turn & ~turned)),
            self.place.eq(place | ~self.word_start),
            self.appended.eq(appends == self._append_places),
        ]
        return m
