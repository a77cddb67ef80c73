# amaranth: UnusedElaboratable=no
"""Tape reader: contents, reservation and rate."""

import dataclasses

import pytest

from hdl.config import PRESETS
from hdl.memory import TapeReader
from sim.bench import run


@pytest.mark.parametrize("preset", ["tiny", "ulx3s", "edge"])
def test_tape_reader(preset):
    config = PRESETS[preset]
    run(
        TapeReader(config),
        "sim.bench.memory_tape",
        name=f"tape_reader-{preset}",
        parameters={"config": config},
    )


def test_fifo_too_small():
    config = dataclasses.replace(PRESETS["edge"], rows=32, cols=32, port_bytes=4, tape_beats=256)
    with pytest.raises(ValueError, match=r"tape_beats=256 .* choose 512 or more"):
        TapeReader(config)
