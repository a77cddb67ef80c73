"""The vector unit: everything between two matrix products, in FP32."""

from amaranth.hdl import Assert, EnableInserter, Module, Mux, Signal
from amaranth.lib import data, stream
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out, connect, flipped
from amaranth.utils import bits_for, exact_log2

from hdl.config import BLOCK, Config
from hdl.fp import held
from hdl.interfaces import (
    ROW_BITS,
    activation_word,
    activity_signature,
    append_payload,
    fault_signature,
    instruction_signature,
    model_layout,
    read_port,
    semaphore_signature,
    step_layout,
    visit_layout,
    write_client,
)
from hdl.isa import Fault
from hdl.vector.datapath import Datapath, write_port
from hdl.vector.sequencer import Sequencer
from hdl.vector.slots import panel_bits, row_index_bits
from hdl.vector.timing import Timing
from hdl.vector.writer import MemoryWriter

__all__ = ["VectorUnit"]

APPEND_PLACES = 16


class VectorUnit(Component):
    """NORM, QUANTISE, ADD, ROPE, SWIGLU, APPEND, LOGITS, STORE and the softmax of ATTEND.

    One word of ``lanes`` FP32 a cycle while a pass runs (``hdl/vector/program.py`` has the passes
    of every instruction); 2 cycles between passes, more where a pass waits for the results of the
    one before (``hdl/vector/timing.py``). Numerics: docs/spec.md, section 1.

    Members
    -------
    instruction, semaphore, fault, activity, model, step
        As every unit's.
    visits : In
        Pages of an ATTEND in order.
    ring_produce, output_produce, weights_release : In(1)
    ring_release, output_release, weights_produce : Out(1)
        Credits with the matrix unit.
    panel_read : Out
        {word, row, panel}, word lowest.
    row_read, constant_read : Out
        Word address: block * block_words + word.
    value_scales : Out
        Scales of V of the page in a slot.
    outputs : Out
        The step's output list.
    row_write, activation_write : Out
        Always accepted.
    append : Out
        Quantised K and V blocks.
    memory : Out
        FP32 and token numbers to memory.

    Faults: ILLEGAL_INSTRUCTION; BAD_OPERAND (a zero count, a head longer than is built, an address
    past its memory; ``detail`` is the row); NON_FINITE. The unit then stops until reset; what is
    in the datapath and in the memory writer still comes out.
    """

    def __init__(self, config: Config):
        self._config = config
        word = config.word_bits
        row_address = bits_for(config.row_blocks * config.block_words - 1)
        constant_address = bits_for(config.constant_blocks * config.block_words - 1)
        panel_address = exact_log2(config.block_words) + row_index_bits(config) + panel_bits(config)
        super().__init__(
            {
                "instruction": In(instruction_signature()),
                "semaphore": Out(semaphore_signature()),
                "fault": Out(fault_signature()),
                "activity": Out(activity_signature()),
                "model": In(model_layout()),
                "step": In(step_layout()),
                "visits": In(stream.Signature(visit_layout(config))),
                "value_scales": Out(read_port(3, 8 * BLOCK)),
                "panel_read": Out(read_port(panel_address, word)),
                "ring_produce": In(1),
                "ring_release": Out(1),
                "weights_produce": Out(1),
                "weights_release": In(1),
                "output_produce": In(1),
                "output_release": Out(1),
                "row_read": Out(read_port(row_address, word)),
                "row_write": Out(write_port(row_address, word)),
                "constant_read": Out(read_port(constant_address, word)),
                "activation_write": Out(
                    write_port(bits_for(config.activation_blocks - 1), activation_word())
                ),
                "append": Out(stream.Signature(append_payload())),
                "memory": Out(write_client(config)),
                "outputs": Out(read_port(6, ROW_BITS)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self._config
        m.submodules.sequencer = sequencer = Sequencer(config, APPEND_PLACES, MemoryWriter.entries)
        m.submodules.writer = writer = MemoryWriter(config)
        datapath = Datapath(config)

        # Nothing moves in the datapath but from a pass's first word to its last effect.
        alive = Signal(range(Timing(config).depth + 1))
        moving = Signal()
        with m.If(sequencer.waking):
            m.d.sync += [alive.eq(Timing(config).depth), moving.eq(1)]
        with m.Elif(moving):
            m.d.sync += [alive.eq(alive - 1), moving.eq(alive != 1)]
        with m.If(sequencer.slot.valid):
            m.d.sync += Assert(moving, "a word for a datapath that stands")
        m.submodules.datapath = EnableInserter(held(platform, moving))(datapath)

        for name in ("instruction", "semaphore", "activity", "visits"):
            connect(m, flipped(getattr(self, name)), getattr(sequencer, name))
        for name in (
            "panel_read",
            "row_read",
            "constant_read",
            "value_scales",
            "outputs",
            "row_write",
            "activation_write",
        ):
            connect(m, flipped(getattr(self, name)), getattr(datapath, name))
        connect(m, flipped(self.memory), writer.memory)
        m.d.comb += [
            sequencer.model.eq(self.model),
            sequencer.step.eq(self.step),
            sequencer.ring_produce.eq(self.ring_produce),
            sequencer.output_produce.eq(self.output_produce),
            sequencer.weights_release.eq(self.weights_release),
            self.ring_release.eq(sequencer.ring_release),
            self.output_release.eq(sequencer.output_release),
            self.weights_produce.eq(datapath.weights_produce),
            datapath.slot.eq(sequencer.slot),
            datapath.model.eq(self.model),
            datapath.stride.eq(sequencer.stride),
            writer.block_base.eq(sequencer.block_base),
            writer.token_base.eq(sequencer.token_base),
            writer.word.eq(datapath.memory_word),
            sequencer.memory_room.eq(writer.room),
            sequencer.memory_idle.eq(writer.idle),
        ]
        for i in range(config.lanes):
            m.d.comb += writer.values[i].eq(datapath.memory_values[i])

        self._append(m, sequencer, datapath)
        self._faults(m, sequencer, datapath)
        return m

    def _append(self, m, sequencer, datapath):
        """FIFO in front of the KV unit; the sequencer has counted the places."""
        block = data.StructLayout(
            {k: shape.shape for k, shape in append_payload() if k not in ("value", "offset")}
        )
        m.submodules.blocks = blocks = Memory(shape=block, depth=APPEND_PLACES, init=[])
        put, get = blocks.write_port(), blocks.read_port(domain="comb")
        source, payload = datapath.append, self.append.payload
        oldest = Signal(block, reset_less=True)
        level = Signal(range(APPEND_PLACES + 1))
        free, shows = ~self.append.valid, Signal()
        m.d.comb += [
            put.en.eq(source.valid),
            put.data.elements.as_value().eq(source.elements),
            put.data.scale.eq(source.scale),
            put.data.row.eq(source.row),
            put.data.head.eq(source.head),
            put.data.block.eq(source.block),
            shows.eq(free & (level != 0)),
            payload.value.eq(sequencer.value),
            payload.offset.eq(sequencer.offset),
            *(
                payload[k].as_value().eq(oldest[k]) if k == "elements" else payload[k].eq(oldest[k])
                for k in block.members
            ),
        ]
        # The block that is shown is in registers that only their own valid lets change.
        with m.If(free):
            m.d.sync += oldest.eq(get.data)
        m.d.sync += [
            level.eq(level + source.valid - shows),
            put.addr.eq(put.addr + source.valid),
            get.addr.eq(get.addr + shows),
            self.append.valid.eq(shows | (self.append.valid & ~self.append.ready)),
            sequencer.append_room.eq(self.append.valid & self.append.ready),
        ]
        with m.If(source.valid):
            m.d.sync += Assert(level != APPEND_PLACES, "append FIFO overflow")

    def _faults(self, m, sequencer, datapath):
        """The first fault stays."""
        fault = self.fault
        found = sequencer.bad_instruction | datapath.bad_operand | datapath.non_finite
        m.d.comb += sequencer.fault.eq(fault.valid)
        # The sequencer may have gone on from the instruction of a word.
        index = Signal.like(sequencer.index, name="word_index")
        with m.If(sequencer.slot.valid):
            m.d.sync += index.eq(sequencer.index)
        rejected = sequencer.bad_instruction & ~datapath.bad_operand
        with m.If(~fault.valid):
            m.d.sync += [
                fault.valid.eq(found),
                fault.cause.eq(
                    Mux(
                        datapath.bad_operand,
                        Fault.BAD_OPERAND,
                        Mux(sequencer.bad_instruction, sequencer.bad_cause, Fault.NON_FINITE),
                    )
                ),
                fault.detail.eq(Mux(datapath.bad_operand, datapath.fault_row, 0)),
                fault.index.eq(Mux(rejected, sequencer.index, index)),
            ]
