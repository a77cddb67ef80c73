"""Row loader, and the memories it fills."""

import pytest

from hdl.config import PRESETS
from hdl.interfaces import activation_word
from hdl.memory import ActivationMemory, ConstantMemory, RowLoader, RowMemory
from sim.bench import run


@pytest.mark.parametrize("preset", ["tiny", "edge"])
def test_row_loader(preset):
    config = PRESETS[preset]
    run(
        RowLoader(config),
        "sim.bench.memory_rows",
        name=f"row_loader-{preset}",
        parameters={"config": config},
    )


@pytest.mark.parametrize("preset", ["tiny", "edge"])
@pytest.mark.parametrize("memory", [RowMemory, ConstantMemory, ActivationMemory])
def test_memories(preset, memory):
    config = PRESETS[preset]
    blocks = {
        RowMemory: config.row_blocks * config.block_words,
        ConstantMemory: config.constant_blocks * config.block_words,
        ActivationMemory: config.activation_blocks,
    }[memory]
    width = activation_word().size if memory is ActivationMemory else config.word_bits
    run(
        memory(config),
        "sim.bench.memory_arrays",
        name=f"{memory.__name__}-{preset}",
        parameters={
            "depth": blocks,
            "width": width,
            "load": memory is not ActivationMemory,
            "write": memory is not ConstantMemory,
            "write_stages": 2 if memory is RowMemory else 0,
            "load_stages": 1,
        },
    )
