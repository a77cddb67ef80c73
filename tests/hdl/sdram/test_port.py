"""SDRAM port on its chip, and the rules of the chip."""

import pytest

from hdl.config import PRESETS
from hdl.sdram import SdramTiming
from sim.bench import run
from sim.board import SdramSystem

SMALL = {"row_bits": 9, "powerup_ns": 1000.0}


@pytest.mark.parametrize("preset", ["tiny", "edge"])
def test_sdram_port(preset):
    config = PRESETS[preset]
    text = run(
        SdramSystem(config, SdramTiming(**SMALL)),
        "sim.bench.sdram_port",
        name=f"sdram_port-{preset}",
        parameters={"config": config, "timing": SMALL},
    )
    print(
        *[line[line.index("bandwidth") :] for line in text.splitlines() if "width " in line],
        sep="\n",
    )
