"""MXINT8 quantiser: words of FP32 to blocks of 32 int8 elements and a scale."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data
from amaranth.lib.wiring import Component, In, Out

from hdl.config import BLOCK, Config
from hdl.fp import quantise_element, scale_code
from hdl.vector.slots import word_index_bits
from hdl.vector.timing import DelayLine, Timing

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
        for stage in range(timing.exponent_stages):
            fewer = []
            for i in range(0, len(exponents), 4):
                largest = Signal(8, name=f"exponent_{stage}_{i // 4}", reset_less=True)
                with m.If(tags.at("valid", stage)):
                    m.d.sync += largest.eq(_maximum(exponents[i : i + 4]))
                fewer.append(largest)
            exponents = fewer
        stage = timing.exponent_stages
        running = Signal(8, reset_less=True)
        so_far = Signal(8)
        m.d.comb += so_far.eq(
            Mux(tags.at("word", stage) == 0, exponents[0], _maximum([exponents[0], running]))
        )
        largest = Signal(8)
        code = Signal(8, reset_less=True)
        infinite = Signal(reset_less=True)
        with m.If(tags.at("valid", stage)):
            m.d.sync += running.eq(so_far)
        # The words wait for the scale, which stands until the block's last word has its elements.
        m.d.comb += largest.eq(Mux(tags.at("head", stage), self.exponent, so_far))
        scale = scale_code(m, Cat(Const(0, 23), largest))
        with m.If(is_last(stage)):
            m.d.sync += [code.eq(scale), infinite.eq(largest == 255)]
        m.d.comb += self.non_finite.eq(is_last(stage + 1) & infinite)
        stage = timing.quantise_delay
        elements = [Signal(8, name=f"element_{i}", reset_less=True) for i in range(BLOCK)]
        for i, value in enumerate(self.values):
            for cycle in range(stage):
                later = Signal(32, name=f"value_{i}_{cycle + 1}", reset_less=True)
                with m.If(tags.at("valid", cycle)):
                    m.d.sync += later.eq(value)
                value = later
            element = Signal(8, name=f"quantised_{i}")
            m.d.comb += element.eq(quantise_element(m, value, code))
            for w in range(config.block_words):
                with m.If(tags.at("valid", stage) & (tags.at("word", stage) == w)):
                    m.d.sync += elements[w * config.lanes + i].eq(element)
        m.d.comb += self.elements.eq(Cat(elements))
        m.d.sync += self.valid.eq(is_last(stage))
        with m.If(is_last(stage)):
            m.d.sync += self.scale.eq(code)
        return m


def _maximum(values):
    """Largest of unsigned values, as a balanced tree."""
    if len(values) == 1:
        return values[0]
    half = len(values) // 2
    left, right = _maximum(values[:half]), _maximum(values[half:])
    return Mux(left > right, left, right)
