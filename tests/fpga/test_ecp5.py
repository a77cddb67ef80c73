"""Primitives of the ECP5 against what they stand for."""

import pytest

from fpga.ecp5 import BLOCK_MODEL, MultiplierBlocks
from hdl.multiplier import Multiplier
from sim.bench import run


class Mapped(Multiplier):
    """A multiplier as the ECP5 platform builds it."""

    def elaborate(self, platform):
        return super().elaborate(MultiplierBlocks())


@pytest.mark.parametrize(("a", "b", "signed"), [(8, 8, True), (18, 5, True), (18, 18, False)])
def test_multiplier(a, b, signed):
    run(
        Mapped(a, b, signed=signed),
        "sim.bench.multiplier",
        name=f"ecp5-multiplier-{a}-{b}",
        parameters={"signed": signed},
        models=BLOCK_MODEL.read_text(),
    )
