"""Primitives of the ECP5 against what they stand for."""

import dataclasses

import pytest
from amaranth.hdl import Fragment

from fpga.ecp5 import BLOCK_MODEL, MultiplierBlocks
from hdl.config import PRESETS
from hdl.matrix import SystolicArray
from hdl.multiplier import Multiplier
from sim.bench import run


class MappedMultiplier(Multiplier):
    """A multiplier as the ECP5 platform builds it."""

    def elaborate(self, platform):
        return super().elaborate(MultiplierBlocks())


class MappedArray(SystolicArray):
    """The array as the ECP5 platform builds it."""

    def elaborate(self, platform):
        return Fragment.get(super().elaborate(MultiplierBlocks()), MultiplierBlocks())


@pytest.mark.parametrize(("a", "b", "signed"), [(8, 8, True), (18, 5, True), (18, 18, False)])
def test_multiplier(a, b, signed):
    run(
        MappedMultiplier(a, b, signed=signed),
        "sim.bench.multiplier",
        name=f"ecp5-multiplier-{a}-{b}",
        parameters={"signed": signed},
        models=BLOCK_MODEL.read_text(),
    )


def test_array():
    config = dataclasses.replace(PRESETS["tiny"], row_group=2)
    run(
        MappedArray(config),
        "sim.bench.array_tiles",
        name="ecp5-array",
        parameters={"config": config, "tiles": 40},
        models=BLOCK_MODEL.read_text(),
    )
