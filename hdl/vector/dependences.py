"""What a word or a pass of the vector unit has to wait for: results on their way, and places."""

from amaranth.hdl import Module, Signal
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
        The pass that runs, or is about to.
    begin : In(1)
        Pulse before the first word of a pass, with or after the last word of the one before.
    step, block_start, word_start : In(1)
        A word is sent; the present word is the first of a block (of all rows), of a row.
    to_memory : In(1)
        The pass's words go to the memory writer.
    append_room, memory_room : In(1)
        Pulses: a place is free again.
    wait_pass : Out(1)
        The pass needs results of the one before it that are not there.
    wait_pace : Out(1)
        The next block comes too close behind the last one.
    place : Out(1)
        The present word has a place where it goes to.
    landed : Out(1)
        Everything that the words caused has happened, in the datapath.
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
                "to_memory": In(1),
                "append_room": In(1),
                "memory_room": In(1),
                "wait_pass": Out(1),
                "wait_pace": Out(1),
                "place": Out(1),
                "landed": Out(1),
                "appended": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        now, timing = self.now, Timing(self._config)
        turn_cycles = timing.late - timing.address - 1
        drain, landing = Signal.like(now.drain), Signal.like(now.landing)
        turn = Signal(range(turn_cycles + 1))
        pace = Signal(range(timing.accumulate + 1))
        started = Signal()  # the pass has sent a word
        for counter in (drain, landing, turn, pace):
            with m.If(counter != 0):
                m.d.sync += counter.eq(counter - 1)
        with m.If(self.step):
            m.d.sync += [started.eq(1), turn.eq(turn_cycles)]
            with m.If(self.block_start):
                m.d.sync += pace.eq(timing.accumulate - 1)
            with m.If(~now.overlap | ~started):
                m.d.sync += drain.eq(now.drain)
            with m.If(now.landing > landing):
                m.d.sync += landing.eq(now.landing)
        with m.If(self.begin):  # perhaps in the cycle of the last pass's last word
            m.d.sync += started.eq(0)

        appends = Signal(range(self._append_places + 1), init=self._append_places)
        writes = Signal(range(self._memory_places + 1), init=self._memory_places)
        to_append = now.control.to_append
        claim = self.step & self.word_start
        m.d.sync += [
            appends.eq(appends + self.append_room - (claim & to_append)),
            writes.eq(writes + self.memory_room - (claim & self.to_memory)),
        ]
        m.d.comb += [
            self.wait_pass.eq((now.after & (drain != 0)) | (now.turn & (turn != 0))),
            self.wait_pace.eq(now.paced & self.block_start & (pace != 0)),
            self.place.eq(
                ((~to_append | (appends != 0)) & (~self.to_memory | (writes != 0)))
                | ~self.word_start
            ),
            self.landed.eq(landing == 0),
            self.appended.eq(appends == self._append_places),
        ]
        return m
