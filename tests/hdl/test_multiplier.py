# amaranth: UnusedElaboratable=no

"""The multiplier as plain logic."""

import pytest

from hdl.multiplier import Multiplier
from sim.bench import run


@pytest.mark.parametrize(("a", "b", "signed"), [(8, 8, True), (18, 5, True), (18, 18, False)])
def test_multiplier(a, b, signed):
    run(
        Multiplier(a, b, signed=signed),
        "sim.bench.multiplier",
        name=f"multiplier-{a}-{b}",
        parameters={"signed": signed},
    )


@pytest.mark.parametrize("widths", [(0, 8), (8, 19)])
def test_refuses_widths(widths):
    with pytest.raises(ValueError, match="choose 1 to 18"):
        Multiplier(*widths)
