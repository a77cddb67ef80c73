"""Everything between the sequencer's words and their results: fixed latencies, no stall."""

from amaranth.hdl import Assert, Cat, Module, Mux, Signal, signed
from amaranth.lib import data
from amaranth.lib.wiring import Component, In, Out, Signature
from amaranth.utils import bits_for, exact_log2

from hdl.config import BLOCK, Config
from hdl.interfaces import (
    ROW_BITS,
    activation_word,
    model_layout,
    read_port,
)
from hdl.multiplier import Multiplier
from hdl.vector.extremes import RowExtremes
from hdl.vector.lanes import Lanes
from hdl.vector.operands import OperandFetch
from hdl.vector.program import Addend, Factor, Reduce, Source
from hdl.vector.quantise import Quantiser
from hdl.vector.reduce import RowSums
from hdl.vector.slots import (
    PARTICIPANT_BITS,
    panel_bits,
    row_index_bits,
    slot_layout,
)
from hdl.vector.timing import DelayLine, Timing
from hdl.vector.writer import memory_word

__all__ = ["Datapath", "write_port"]


def write_port(address_bits: int, shape) -> Signature:
    """A memory's write port, always accepted; read from the next cycle on."""
    return Signature({"enable": Out(1), "address": Out(address_bits), "data": Out(shape)})


class Datapath(Component):
    """Words in, results out; stages as in :class:`Timing`.

    Members
    -------
    slot : In
        A word (stage 0).
    model : In
        Constants of the model.
    stride : In
        Where source rows are those of the output list (``source`` is of row 0): blocks between
        rows; else 0. In the cycle after ``slot``.
    panel_read, row_read, constant_read, value_scales, outputs : Out
        Read ports, as the unit's.
    row_write, activation_write : Out
        As the unit's.
    append : Out
        A quantised block for the KV unit, ``valid`` for one cycle.
    memory_word, memory_values : Out
        For the memory writer.
    weights_produce : Out(1)
        The last P word is being written.
    bad_operand, non_finite : Out(1)
        Pulses: an address is past its memory (the word is dropped), a NaN or infinity.
    fault_row : Out
        The row, with ``bad_operand``.
    """

    def __init__(self, config: Config):
        self._config = config
        word = config.word_bits
        word_bits = exact_log2(config.block_words)
        row_bits = row_index_bits(config)
        self._row_address = bits_for(config.row_blocks * config.block_words - 1)
        self._constant_address = bits_for(config.constant_blocks * config.block_words - 1)
        self._activation_address = bits_for(config.activation_blocks - 1)
        super().__init__(
            {
                "slot": In(slot_layout(config)),
                "model": In(model_layout()),
                "stride": In(12),
                "panel_read": Out(read_port(word_bits + row_bits + panel_bits(config), word)),
                "row_read": Out(read_port(self._row_address, word)),
                "constant_read": Out(read_port(self._constant_address, word)),
                "value_scales": Out(read_port(3, 8 * BLOCK)),
                "outputs": Out(read_port(6, ROW_BITS)),
                "row_write": Out(write_port(self._row_address, word)),
                "activation_write": Out(write_port(self._activation_address, activation_word())),
                "append": Out(
                    data.StructLayout(
                        {
                            "valid": 1,
                            "elements": 8 * BLOCK,
                            "scale": 8,
                            "row": row_bits,
                            "head": 8,
                            "block": 4,
                        }
                    )
                ),
                "memory_word": Out(memory_word(config)),
                "memory_values": Out(32).array(config.lanes),
                "weights_produce": Out(1),
                "bad_operand": Out(1),
                "non_finite": Out(1),
                "fault_row": Out(ROW_BITS),
            }
        )

    def elaborate(self, platform):
        m = Module()
        timing = Timing(self._config)
        tag, control = self._addresses(m, timing)
        self._fetch(m, timing, tag, control)
        self._reductions(m, timing, tag, control)
        self._sinks(m, timing, tag, control)
        return m

    def _addresses(self, m, timing):
        """Gather, check of the addresses. Gives the word's delay lines.

        A source is what it should be from stage ``address`` on, ``valid`` a stage later.
        """
        config = self._config
        address = timing.address
        tag = DelayLine(m, self.slot, name="tags")
        control = DelayLine(m, self.slot.control, name="control_", valid=())

        m.submodules.rows_before = before = Multiplier(ROW_BITS, len(self.stride), signed=False)
        source = Signal.like(self.slot.source, reset_less=True)
        m.d.comb += [
            self.outputs.address.eq(self.slot.row),
            before.a.eq(self.outputs.data),
            before.b.eq(self.stride),
        ]
        m.d.sync += source.eq(tag.at("source", timing.rows_before) + before.p)
        tag.change("source", address, source)

        # A word that goes past a memory is dropped two stages later.
        previous = address - 1
        rows_used, constants_used, block_used = Signal(), Signal(), Signal()
        m.d.sync += [
            rows_used.eq(
                (control.at("source", previous) == Source.ROWS)
                | (control.at("addend", previous) == Addend.ROWS)
                | control.at("to_rows", previous)
            ),
            constants_used.eq(control.at("factor", previous) == Factor.CONSTANTS),
            block_used.eq(control.at("to_activations", previous)),
        ]
        constant, destination = tag.at("constant", address), tag.at("destination", address)
        past = Signal(3)
        valid = Signal()
        m.d.sync += [
            past.eq(
                Cat(
                    rows_used & (source >= config.row_blocks),
                    constants_used & (constant >= config.constant_blocks),
                    block_used & (destination >= config.activation_blocks),
                )
            ),
            valid.eq(tag.at("valid", address + 1) & ~past.any()),
            self.bad_operand.eq(tag.at("valid", address + 1) & past.any()),
            self.fault_row.eq(tag.at("row", address + 1)),
        ]
        tag.change("valid", address + 2, valid)
        return tag, control

    def _address(self, tag, stage, *fields):
        """Address {word, fields}, word lowest."""
        word = tag.at("word", stage)[: exact_log2(self._config.block_words)]
        return Cat(word, *(tag.at(field, stage) for field in fields))

    def _fetch(self, m, timing, tag, control):
        """Memories to lanes."""
        config = self._config
        m.submodules.operands = operands = OperandFetch(config)
        m.submodules.lanes = lanes = Lanes(config)
        address, late, fetch = timing.address, timing.late, timing.fetch
        late_fetch = late + timing.fetch - address

        def block_address(field, stage):
            return self._address(tag, stage, field)

        def temp_address(stage):
            return self._address(tag, stage, "row", "block")

        # Row memory, temp and scalars are read at one of two stages: a pass needs at most one
        # of each, and the sequencer keeps passes that would meet apart.
        late_rows, late_temp, late_scalar = Signal(), Signal(), Signal()
        addend = control.at("addend", late - 1)
        m.d.sync += [
            late_signal.eq(tag.at("valid", late - 1) & (addend == which))
            for late_signal, which in (
                (late_rows, Addend.ROWS),
                (late_temp, Addend.TEMP),
                (late_scalar, Addend.SCALAR),
            )
        ]
        m.d.comb += [
            self.panel_read.address.eq(self._address(tag, address, "row", "panel")),
            self.row_read.address.eq(
                Mux(late_rows, block_address("source", late), block_address("source", address))
            ),
            self.constant_read.address.eq(block_address("constant", address)),
            operands.temp_address.eq(Mux(late_temp, temp_address(late), temp_address(address))),
            operands.temp_enable.eq(late_temp | (control.at("source", address) == Source.TEMP)),
            operands.scalar_address.eq(
                Mux(late_scalar, tag.at("row", late), tag.at("row", address))
            ),
            operands.model.eq(self.model),
            operands.panel.eq(self.panel_read.data),
            operands.rows.eq(self.row_read.data),
            operands.constants.eq(self.constant_read.data),
            operands.source.eq(control.at("source", fetch - 1)),
            operands.factor.eq(control.at("factor", fetch - 1)),
            operands.factor_value.eq(control.at("factor_value", fetch - 1)),
            operands.addend.eq(control.at("addend", late_fetch - 1)),
            operands.addend_value.eq(control.at("addend_value", late_fetch - 1)),
            lanes.function.eq(control.at("function", timing.total)),
            lanes.enable.eq(
                Cat(tag.at("valid", s) for s in range(timing.operands, timing.result + 2))
            ),
        ]
        for i in range(config.lanes):
            m.d.comb += [
                lanes.a[i].eq(operands.a[i]),
                lanes.b[i].eq(operands.b[i]),
                lanes.c[i].eq(operands.c[i]),
                operands.temp_data[i].eq(lanes.result[i]),
                self.memory_values[i].eq(operands.a[i]),
            ]

        reads_temp = late_temp | (
            tag.at("valid", address) & (control.at("source", address) == Source.TEMP)
        )
        written = operands.temp_write
        with m.If(reads_temp & written.enable):
            m.d.sync += Assert(
                operands.temp_address != written.address, "temp read while it is written"
            )

        # Lanes that take part, and the value scales of their tokens, a cycle ahead of the result
        ahead = timing.result - 1
        active = Signal(config.lanes)
        word = tag.at("word", ahead)
        left = Signal(signed(PARTICIPANT_BITS + 1), reset_less=True)  # from the word's column 0 on
        before = tag.at("word", ahead - 1) << exact_log2(config.lanes)
        m.d.sync += left.eq(tag.at("participants", ahead - 1) - before)
        for i in range(config.lanes):
            m.d.sync += active[i].eq(left > i)
        m.d.comb += [
            lanes.active.eq(active),
            lanes.rescale.eq(control.at("attention", timing.result)),
            self.value_scales.address.eq(tag.at("slot", ahead - 1)),
        ]
        for i in range(config.lanes):
            m.d.sync += lanes.scales[i].eq(
                self.value_scales.data.word_select(word, 8 * config.lanes).word_select(i, 8)
            )
        self._operands, self._lanes = operands, lanes

    def _reductions(self, m, timing, tag, control):
        """Sums and extremes, and who reads them."""
        config = self._config
        operands, lanes = self._operands, self._lanes
        m.submodules.sums = self._sums = sums = RowSums(config)
        m.submodules.extremes = self._extremes = extremes = RowExtremes(config)
        address, result, summands = timing.address, timing.result, timing.summands
        scalar_sink = tag.at("valid", result) & control.at("to_scalars", result)
        m.d.comb += [
            sums.tag.valid.eq(
                tag.at("valid", summands) & (control.at("reduce", summands) == Reduce.SUM)
            ),
            *(
                sums.tag[k].eq(tag.at(k, summands))
                for k in ("word", "row", "parity", "buffer", "first")
            ),
            sums.tag.attention.eq(control.at("attention", summands)),
            sums.read_address.eq(Cat(tag.at("row", address), tag.at("parity", address))),
            operands.total.eq(sums.read_data),
            extremes.tag.valid.eq(
                tag.at("valid", result)
                & (control.at("reduce", result) != Reduce.NONE)
                & (control.at("reduce", result) != Reduce.SUM)
            ),
            *(
                extremes.tag[k].eq(tag.at(k, result))
                for k in ("word", "row", "parity", "buffer", "first", "final")
            ),
            extremes.tag.mode.eq(control.at("reduce", result)),
            extremes.active.eq(lanes.active),
            extremes.token_address.eq(tag.at("row", address)),
            operands.token.eq(extremes.token),
            extremes.shift_address[0].eq(sums.shift_address),
            sums.shift.eq(extremes.shift[0]),
            # -M of a row, or the function's result on its one word
            operands.scalar_write.enable.eq(extremes.negative.enable | scalar_sink),
            operands.scalar_write.address.eq(
                Mux(scalar_sink, tag.at("row", result), extremes.negative.address)
            ),
            operands.scalar_write.data.eq(
                Mux(scalar_sink, lanes.result[0], extremes.negative.data)
            ),
        ]
        for i in range(config.lanes):
            m.d.comb += [
                sums.values[i].eq(lanes.summands[i]),
                extremes.values[i].eq(lanes.result[i]),
            ]

    def _sinks(self, m, timing, tag, control):
        """Where results go."""
        config = self._config
        operands, lanes, extremes = self._operands, self._lanes, self._extremes
        m.submodules.quantiser = quantiser = Quantiser(config)
        operand, result, summands = timing.operands, timing.result, timing.summands
        block = timing.block
        to_block = control.at("to_append", summands) | control.at("to_activations", summands)
        m.d.comb += [
            # FP32 as it is read
            self.memory_word.valid.eq(tag.at("valid", operand) & control.at("to_memory", operand)),
            self.memory_word.token.eq(control.at("source", operand) == Source.TOKEN),
            *(self.memory_word[k].eq(tag.at(k, operand)) for k in ("word", "row", "destination")),
            # FP32 results
            operands.temp_write.enable.eq(tag.at("valid", result) & control.at("to_temp", result)),
            operands.temp_write.address.eq(self._address(tag, result, "row", "block")),
            self.row_write.enable.eq(tag.at("valid", result) & control.at("to_rows", result)),
            self.row_write.address.eq(self._address(tag, result, "destination")),
            self.row_write.data.eq(Cat(lanes.result)),
            # Blocks
            quantiser.tag.valid.eq(tag.at("valid", summands) & to_block),
            quantiser.tag.word.eq(tag.at("word", summands)),
            quantiser.tag.head.eq(control.at("to_append", summands)),
            extremes.exponent_address.eq(tag.at("row", timing.exponent_address)),
            quantiser.exponent.eq(extremes.exponent),
            extremes.shift_address[1].eq(
                Cat(tag.at("row", block - 1), tag.at("buffer", block - 1))
            ),
            self.activation_write.enable.eq(quantiser.valid & control.at("to_activations", block)),
            self.activation_write.address.eq(tag.at("destination", block)),
            self.activation_write.data.elements.as_value().eq(quantiser.elements),
            self.activation_write.data.scale.eq(quantiser.scale),
            self.activation_write.data.shift.eq(
                Mux(control.at("attention", block), extremes.shift[1], 0)
            ),
            self.append.valid.eq(quantiser.valid & control.at("to_append", block)),
            self.append.elements.eq(quantiser.elements),
            self.append.scale.eq(quantiser.scale),
            self.append.row.eq(tag.at("row", block)),
            self.append.head.eq(tag.at("head", block)),
            self.append.block.eq(tag.at("block", block)),
            self.weights_produce.eq(
                quantiser.valid & control.at("attention", block) & tag.at("final", block)
            ),
            self.non_finite.eq(quantiser.non_finite | extremes.non_finite),
        ]
        for i in range(config.lanes):
            m.d.comb += quantiser.values[i].eq(lanes.weighted[i])
