"""MXINT8 quantiser: words of FP32 to blocks of 32 int8 elements and a scale."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out
from amaranth.utils import ceil_log2

from hdl.config import BLOCK, Config
from hdl.fp import held, quantise_element, quantise_operand, stage
from hdl.vector.slots import word_index_bits
from hdl.vector.timing import ELEMENT_STEPS, DelayLine, Timing

__all__ = ["Quantiser", "quantise_tag"]


def quantise_tag(config: Config) -> data.StructLayout:
    """What goes with a word to be quantised."""
    return data.StructLayout(
        {
            "valid": 1,
            "word": word_index_bits(config),
            "head": 1,  # the exponent is that of the row's head, not the block's
        }
    )


class Quantiser(Component):
    """One word a cycle, the words of a block without a gap; a block every ``32 / lanes`` cycles.

    A block stands ``Timing.block - Timing.summands`` cycles after its last word.

    Members
    -------
    tag, values : In
        Word to be quantised, at stage ``summands``.
    exponent : In(8)
        Exponent field of the largest magnitude of the head, for a block's last word one cycle
        after stage ``Timing.exponent_address``.
    valid : Out(1)
        ``elements`` and ``scale`` are a block; for one cycle.
    non_finite : Out(1)
        A block with a NaN or infinity; for one cycle, not after ``valid``.
    """

    def __init__(self, config: Config):
        self._config = config
        super().__init__(
            {
                "tag": In(quantise_tag(config)),
                "values": In(32).array(config.lanes),
                "exponent": In(8),
                "valid": Out(1),
                "elements": Out(8 * BLOCK),
                "scale": Out(8),
                "non_finite": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config, timing = self._config, Timing(self._config)
        tags = DelayLine(m, self.tag)
        last = config.block_words - 1

        def is_last(stage):
            return tags.at("valid", stage) & (tags.at("word", stage) == last)

        # Largest exponent of a word, then of the block
        exponents = [value[23:31] for value in self.values]
        for s in range(timing.exponent_stages):
            fewer = []
            for i in range(0, len(exponents), 4):
                largest = Signal(8, name=f"exponent_{s}_{i // 4}", reset_less=True)
                with m.If(held(platform, tags.at("valid", s))):
                    m.d.sync += largest.eq(_maximum(exponents[i : i + 4]))
                fewer.append(largest)
            exponents = fewer
        s = timing.exponent_stages
        running = Signal(8, reset_less=True)
        with m.If(held(platform, tags.at("valid", s))):
            m.d.sync += running.eq(
                Mux(tags.at("word", s) == 0, exponents[0], _maximum([exponents[0], running]))
            )
        # The words wait for the scale, which stands until the block's last word has taken it.
        s += 1
        largest = Signal(8)
        top = Signal(8, reset_less=True)  # scale code + 6
        infinite = Signal(reset_less=True)
        m.d.comb += largest.eq(Mux(tags.at("head", s), self.exponent, running))
        with m.If(is_last(s)):
            m.d.sync += [top.eq(Mux(largest > 6, largest, 6)), infinite.eq(largest == 255)]
        m.d.sync += self.non_finite.eq(is_last(s + 1) & infinite)
        m.submodules.waiting = waiting = _Delay(config, timing.quantise_delay)
        start = timing.quantise_delay
        m.d.comb += [waiting.push.eq(self.tag.valid), waiting.pop.eq(tags.at("valid", start - 1))]
        registers = [
            stage(m, held(platform, tags.at("valid", start + step)))
            for step in range(ELEMENT_STEPS)
        ]
        scale = (top - 6)[:8]
        for step, register in enumerate(registers):
            scale = register(scale, f"scale_{step}")
        done = start + ELEMENT_STEPS
        here = Signal(config.block_words)  # the word's elements of the block take theirs
        m.d.sync += here.eq(
            Cat(
                tags.at("valid", done - 1) & (tags.at("word", done - 1) == w)
                for w in range(config.block_words)
            )
        )
        elements = [Signal(8, name=f"element_{i}", reset_less=True) for i in range(BLOCK)]
        for i, value in enumerate(self.values):
            m.d.comb += waiting.i[i].eq(quantise_operand(value))
            element = Signal(8, name=f"quantised_{i}")
            m.d.comb += element.eq(quantise_element(m, waiting.o[i], top, registers))
            for w in range(config.block_words):
                with m.If(here[w]):
                    m.d.sync += elements[w * config.lanes + i].eq(element)
        m.d.comb += self.elements.eq(Cat(elements))
        m.d.sync += self.valid.eq(here[last])
        with m.If(here[last]):
            m.d.sync += self.scale.eq(scale)
        return m


def _maximum(values):
    """Largest of unsigned values, as a balanced tree."""
    if len(values) == 1:
        return values[0]
    half = len(values) // 2
    left, right = _maximum(values[:half]), _maximum(values[half:])
    return Mux(left > right, left, right)


class _Delay(Component):
    """Operands of the lanes (``quantise_operand``), `cycles` later; a ring in small memories.

    Members
    -------
    push : In(1), i : In
        A word.
    pop : In(1)
        The same word's valid, `cycles` - 1 later; ``o`` is it in the next cycle.
    """

    def __init__(self, config: Config, cycles: int):
        self._cycles = cycles
        operand = len(quantise_operand(Signal(32)))
        super().__init__(
            {
                "push": In(1),
                "pop": In(1),
                "i": In(operand).array(config.lanes),
                "o": Out(operand).array(config.lanes),
            }
        )

    def elaborate(self, platform):
        m = Module()
        # Never full, so a word is not read in the cycle in which its place is written.
        bits = ceil_log2(self._cycles + 1)
        newest, oldest = Signal(bits), Signal(bits)
        m.d.sync += [newest.eq(newest + self.push), oldest.eq(oldest + self.pop)]
        for i, (value, out) in enumerate(zip(self.i, self.o, strict=True)):
            m.submodules[f"lane_{i}"] = ring = Memory(
                shape=len(value), depth=1 << bits, init=[], attrs={"no_rw_check": True}
            )
            write, read = ring.write_port(), ring.read_port()
            m.d.comb += [
                write.addr.eq(newest),
                write.en.eq(self.push),
                write.data.eq(value),
                read.addr.eq(oldest),
                read.en.eq(self.pop),
                out.eq(read.data),
            ]
        return m
