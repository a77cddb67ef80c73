"""Largest values over rows: softmax maximum, exponent of a head, argmax of the logits."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out
from amaranth.utils import exact_log2

from hdl.config import Config
from hdl.fp import ceil_to_int, held, int_to_fp, order_key, share, stage
from hdl.interfaces import TOKEN_BITS
from hdl.vector.program import Reduce
from hdl.vector.slots import row_index_bits, word_index_bits
from hdl.vector.timing import CEILING_STEPS, KEY_STEPS, NEGATIVE_STEPS, DelayLine

__all__ = ["RowExtremes", "extreme_tag"]

MAXIMUM_BITS = 22


def extreme_tag(config: Config) -> data.StructLayout:
    """What goes with a word to be compared."""
    return data.StructLayout(
        {
            "valid": 1,
            "mode": Reduce,
            "word": word_index_bits(config),
            "row": row_index_bits(config),
            "parity": 1,
            "buffer": 1,
            "first": 1,  # the row's record starts with this block
            "final": 1,  # last word of the panel: column numbers go on by 32
        }
    )


class RowExtremes(Component):
    """Running maxima, a record a row.

    MAXIMUM: ceiling of the block's largest value, M = max(M, ceiling): writes M, the shift
    (M - M before, at most 255) and -M as FP32. EXPONENT: of the largest magnitude. ARGMAX: largest
    value and its column, the lowest of equals. One word a cycle; the words of a block without a
    gap; two blocks of one row at least 2 cycles apart.

    Members
    -------
    tag, values, active : In
        Word at stage ``result`` and its lanes that take part.
    token_address : In, token : Out(TOKEN_BITS)
        Read port {row}: column of the argmax.
    exponent_address : In, exponent : Out(8)
        Read port {row}.
    shift_address, shift : In, Out(8), twice
        Read ports {row, buffer}.
    negative : Out
        Write of -M into the row scalars.
    non_finite : Out(1)
        A NaN or infinity takes part in an ARGMAX.
    """

    def __init__(self, config: Config):
        self._config = config
        self._row_bits = bits = row_index_bits(config)
        super().__init__(
            {
                "tag": In(extreme_tag(config)),
                "values": In(32).array(config.lanes),
                "active": In(config.lanes),
                "token_address": In(bits),
                "token": Out(TOKEN_BITS),
                "exponent_address": In(bits),
                "exponent": Out(8),
                "shift_address": In(bits + 1).array(2),
                "shift": Out(8).array(2),
                "negative": Out(data.StructLayout({"enable": 1, "address": bits, "data": 32})),
                "non_finite": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        lanes = self._config.lanes
        tags = DelayLine(m, self.tag)
        whole = self.tag.valid & (self.tag.word == self._config.block_words - 1)
        ends = DelayLine(
            m,
            {"done": whole, "rose": whole & (self.tag.mode == Reduce.MAXIMUM)},
            name="ends",
            valid=("done", "rose"),
        )

        # Results go to many places: a cycle for the way. Then keys: 0 for a lane that takes no part
        # (no value but a negative NaN has it)
        def keep(enable):
            return stage(m, held(platform, enable))

        register = keep(tags.at("valid", 0))
        values = [register(value, f"value_{i}") for i, value in enumerate(self.values)]
        taking = register(self.active, "taking")
        registers = [keep(tags.at("valid", 1 + step)) for step in range(KEY_STEPS)]
        (register,) = registers
        s = 1 + KEY_STEPS
        by_magnitude = Signal()
        m.d.sync += by_magnitude.eq(tags.at("mode", s - 1) == Reduce.EXPONENT)
        keys, bad = [], Signal(lanes)
        for i, value in enumerate(values):
            key = Signal(32, name=f"key_{i}", reset_less=True)
            ordered = order_key(m, value, registers)
            magnitude = register(Mux(value[23:31] == 0, 0, value[:31]), f"magnitude_{i}")
            active = register(taking[i], f"active_{i}")
            with m.If(held(platform, tags.at("valid", s))):
                m.d.sync += key.eq(Mux(active, Mux(by_magnitude, magnitude, ordered), Const(0, 32)))
            m.d.sync += bad[i].eq(taking[i] & (value[23:31] == 255))
            keys.append((key, None))
        compared = Signal()
        m.d.sync += [
            compared.eq(tags.at("valid", 1) & (tags.at("mode", 1) == Reduce.ARGMAX)),
            self.non_finite.eq(compared & bad.any()),
        ]
        s += 1

        def done(stage):
            """The block's last word stands there."""
            return ends.at("done", stage)

        # Lanes: one level a cycle; of equals the left one
        while len(keys) > 1:
            half = []
            for i in range(len(keys) // 2):
                (left, left_index), (right, right_index) = keys[2 * i], keys[2 * i + 1]
                key = Signal(32, name=f"key_{len(keys) // 2}_{i}", reset_less=True)
                greater = Signal(name=f"greater_{len(keys) // 2}_{i}")
                m.d.comb += greater.eq(right > left)
                winner = greater
                if left_index is not None:
                    winner = Cat(Mux(greater, right_index, left_index), greater)
                index = Signal.like(winner, name=f"index_{len(keys) // 2}_{i}", reset_less=True)
                with m.If(held(platform, tags.at("valid", s))):
                    m.d.sync += [key.eq(Mux(greater, right, left)), index.eq(winner)]
                half.append((key, index))
            keys = half
            s += 1
        word_key, word_index = keys[0]

        # Words of a block
        word = tags.at("word", s)
        best = Signal(32, reset_less=True)
        best_column = Signal(5, reset_less=True)
        with m.If(held(platform, tags.at("valid", s)) & ((word == 0) | (word_key > best))):
            m.d.sync += [best.eq(word_key), best_column.eq(Cat(word_index, word))]
        s += 1

        # Its ceiling
        largest = Mux(best[31], best & 0x7FFFFFFF, ~best)  # the key's value
        registers = [keep(done(s + step)) for step in range(CEILING_STEPS)]
        rounded = ceil_to_int(m, largest, registers)
        key, columns = best, best_column
        for step, register in enumerate(registers):
            key, columns = register(key, f"key_{step}"), register(columns, f"columns_{step}")
        s += CEILING_STEPS

        # The row's record: read at ``s``, written a cycle later
        record = data.StructLayout({"key": 32, "value": MAXIMUM_BITS})
        m.submodules.records = records = Memory(shape=record, depth=2 << self._row_bits, init=[])
        read, token, write = records.read_port(), records.read_port(), records.write_port()
        panel = Signal(TOKEN_BITS - exact_log2(32))
        this_panel = Signal.like(panel)
        m.d.comb += [
            read.addr.eq(Cat(tags.at("row", s), tags.at("parity", s))),
            token.addr.eq(self.token_address),
            self.token.eq(token.data.value),
            this_panel.eq(Mux(tags.at("first", s), 0, panel)),
        ]
        register = keep(done(s))
        key_before, key = key, register(key, "key")
        column = register(Cat(columns, this_panel), "column")
        ceiling = register(rounded, "ceiling")
        some_before = share(m, key_before != 0, "some_before")  # a lane takes part
        some = register(some_before, "some")
        # When the record is written, all but the comparison: at once, a larger M, a larger key
        maximum_next = tags.at("mode", s) == Reduce.MAXIMUM
        always, on_rise, on_key = Signal(), Signal(), Signal()
        m.d.sync += [
            always.eq(done(s) & tags.at("first", s)),
            on_rise.eq(done(s) & ~tags.at("first", s) & maximum_next & some_before),
            on_key.eq(done(s) & ~tags.at("first", s) & ~maximum_next),
        ]
        with m.If(done(s)):
            m.d.sync += panel.eq(this_panel + tags.at("final", s))
        s += 1

        first, mode = tags.at("first", s), tags.at("mode", s)
        old = read.data.value.as_signed()
        rise = share(m, ceiling - old, "rise")
        rises = share(m, some & (rise >= 0), "rises")
        takes = share(m, first | rises, "takes")
        larger = share(m, key > read.data.key, "larger")
        m.d.comb += [
            write.addr.eq(Cat(tags.at("row", s), tags.at("parity", s))),
            write.data.key.eq(key),
            write.data.value.eq(Mux(mode == Reduce.MAXIMUM, ceiling, column)),
            write.en.eq(always | (on_rise & (rise >= 0)) | (on_key & larger)),
        ]
        register = keep(ends.at("rose", s))
        maximum = register(Mux(takes, ceiling, old), "maximum")
        rise = register(Mux(~first & rises, rise, 0), "rise")

        # A head's exponent is a cycle later.
        m.submodules.exponents = exponents = Memory(shape=8, depth=1 << self._row_bits, init=[])
        exponent, write = exponents.read_port(), exponents.write_port()
        exponent_next = Signal(8, reset_less=True)
        exponent_writes = Signal()
        m.d.sync += [
            exponent_next.eq(key[23:31]),
            exponent_writes.eq((mode == Reduce.EXPONENT) & (always | (on_key & larger))),
        ]
        s += 1
        m.d.comb += [
            write.addr.eq(tags.at("row", s)),
            write.data.eq(exponent_next),
            write.en.eq(exponent_writes),
            exponent.addr.eq(self.exponent_address),
            self.exponent.eq(exponent.data),
        ]

        def rose(stage):
            return ends.at("rose", stage)

        # The shift; -M, as FP32
        m.submodules.shifts = shifts = Memory(shape=8, depth=2 << self._row_bits, init=[])
        write = shifts.write_port()
        registers = [keep(rose(s + step)) for step in range(NEGATIVE_STEPS + 1)]
        shift = registers[0](Mux(rise[8:] != 0, 255, rise[:8]), "shift")
        m.d.comb += [
            write.addr.eq(Cat(tags.at("row", s + 1), tags.at("buffer", s + 1))),
            write.data.eq(shift),
            write.en.eq(rose(s + 1)),
        ]
        for address, out in zip(self.shift_address, self.shift, strict=True):
            port = shifts.read_port()
            m.d.comb += [port.addr.eq(address), out.eq(port.data)]
        positive = share(m, int_to_fp(m, maximum, registers[:-1]), "positive")
        # Where it is not zero its exponent field is 127 or more.
        sign = ~positive[31] & (positive[29:31] != 0)
        negative = registers[-1](Cat(positive[:31], sign), "negative")
        s += NEGATIVE_STEPS + 1
        m.d.comb += [
            self.negative.enable.eq(rose(s)),
            self.negative.address.eq(tags.at("row", s)),
            self.negative.data.eq(negative),
        ]
        return m
