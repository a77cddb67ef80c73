"""The matrix unit: wiring of sequencer, loader, feeder, array and accumulators."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream
from amaranth.lib.wiring import Component, In, Out, connect, flipped

from hdl.config import BLOCK, Config
from hdl.interfaces import (
    activation_word,
    activity_signature,
    fault_signature,
    instruction_signature,
    model_layout,
    read_port,
    semaphore_signature,
    step_layout,
    visit_layout,
)
from hdl.isa import Cause
from hdl.matrix.accumulator import BlockAccumulator
from hdl.matrix.array import SystolicArray
from hdl.matrix.feeder import ActivationFeeder
from hdl.matrix.loader import WeightLoader
from hdl.matrix.sequencer import TileSequencer

__all__ = ["MatrixUnit"]


class MatrixUnit(Component):
    """Executes MATMUL and the products of ATTEND.

    Weights of the next tile are loaded while a tile is fed, across instructions too. With R rows a
    tile takes max(R, tile_beats) cycles if weights, panels and activations are there.

    Members
    -------
    As in docs/spec.md, sections 3 and 4. ``activity``: busy while rows are read or beats arrive,
    starved while the tape or the next page has not come, blocked while a loaded tile waits for a
    panel, a P buffer, output panels or semaphores; finished when an instruction's last row is read.
    """

    def __init__(self, config: Config):
        c = self.config = config
        self.sequencer = TileSequencer(c)
        self.loader = WeightLoader(c)
        self.feeder = ActivationFeeder(c)
        self.array = SystolicArray(c)
        self.accumulator = BlockAccumulator(c, self.array.latency)
        super().__init__(
            {
                "instruction": In(instruction_signature()),
                "semaphore": Out(semaphore_signature()),
                "fault": Out(fault_signature()),
                "activity": Out(activity_signature()),
                "model": In(model_layout()),
                "step": In(step_layout()),
                "tape_elements": In(stream.Signature(c.port_bits)),
                "tape_scales": In(stream.Signature(8 * c.cols)),
                "visits": In(stream.Signature(visit_layout(c))),
                "page_elements": Out(
                    read_port(len(self.loader.page_elements.address), c.port_bits)
                ),
                "key_scales": Out(read_port(3, 8 * BLOCK)),
                "activations": Out(
                    read_port(len(self.feeder.activations.address), activation_word())
                ),
                "panel_read": In(read_port(len(self.accumulator.panel_read.address), c.word_bits)),
                "ring_produce": Out(1),
                "ring_release": In(1),
                "weights_produce": In(1),
                "weights_release": Out(1),
                "output_produce": Out(1),
                "output_release": In(1),
                "slot_release": Out(1),
                "fed": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.sequencer = sequencer = self.sequencer
        m.submodules.loader = loader = self.loader
        m.submodules.feeder = feeder = self.feeder
        m.submodules.array = array = self.array
        m.submodules.accumulator = accumulator = self.accumulator

        connect(m, flipped(self.instruction), sequencer.instruction)
        connect(m, flipped(self.visits), sequencer.visits)
        connect(m, flipped(self.fault), sequencer.fault)
        connect(m, sequencer.tiles, loader.tiles)
        connect(m, sequencer.wait, feeder.wait)
        for port in ("tape_elements", "tape_scales", "page_elements", "key_scales"):
            connect(m, flipped(getattr(self, port)), getattr(loader, port))
        connect(m, loader.loaded, feeder.loaded)
        connect(m, flipped(self.semaphore), feeder.semaphore)
        connect(m, flipped(self.activations), feeder.activations)
        connect(m, flipped(self.panel_read), accumulator.panel_read)
        m.d.comb += [
            sequencer.model.eq(self.model),
            sequencer.step.eq(self.step),
            loader.model.eq(self.model),
            feeder.model.eq(self.model),
            feeder.coming.eq(loader.coming),
            feeder.scales.eq(loader.scales),
            array.load.eq(loader.load),
            array.row.eq(feeder.row),
            accumulator.row_valid.eq(feeder.row.valid),
            accumulator.row_swap.eq(feeder.row.swap),
            accumulator.tag.eq(feeder.tag),
            accumulator.scale.eq(feeder.scale),
            accumulator.shift.eq(feeder.shift),
            accumulator.tile_scales.eq(feeder.tile_scales),
            accumulator.sums.eq(array.sums),
            self.fed.eq(feeder.row.valid),
        ]
        for port in ("ring_release", "weights_produce", "output_release"):
            m.d.comb += getattr(feeder, port).eq(getattr(self, port))
        for port in ("weights_release", "slot_release"):
            m.d.comb += getattr(self, port).eq(getattr(feeder, port))
        for port in ("ring_produce", "output_produce"):
            m.d.comb += getattr(self, port).eq(getattr(accumulator, port))

        at_work = Signal()
        starved = Signal()
        m.d.comb += [
            at_work.eq(
                sequencer.active
                | loader.active
                | feeder.active
                | feeder.row.valid
                | accumulator.active
            ),
            starved.eq(
                ~feeder.reads & ~feeder.blocked & (loader.waits | sequencer.waits & ~loader.active)
            ),
            self.activity.blocked.eq(feeder.blocked),
            self.activity.starved.eq(starved),
            self.activity.busy.eq(at_work & ~feeder.blocked & ~starved),
            self.activity.cause.eq(
                Mux(feeder.blocked, feeder.cause, Mux(loader.waits, Cause.TAPE, Cause.PAGE))
            ),
            self.activity.finished.eq(feeder.finished),
        ]
        return m
