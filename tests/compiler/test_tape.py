"""Matrices on the tape: order of the bytes, padding, and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.layout import blocks_of
from compiler.tape import block_tiles, pack_matrix, pad_heads_in, pad_heads_out, unpack_matrix
from hdl.config import PRESETS
from sim.golden import mx


@settings(max_examples=60, deadline=None)
@given(
    preset=st.sampled_from(list(PRESETS)),
    outputs=st.integers(1, 100),
    inputs=st.integers(1, 100),
    seed=st.integers(0, 1 << 32),
)
def test_unpack_gives_the_quantised_matrix(
    preset: str, outputs: int, inputs: int, seed: int
) -> None:
    config = PRESETS[preset]
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((outputs, inputs), np.float32)
    weight *= np.exp2(rng.integers(-20, 20, (outputs, 1))).astype(np.float32)
    tape = pack_matrix(config, weight)
    assert tape.dtype == np.uint8
    tile_bytes = config.block_tile_beats * config.port_bytes
    assert tape.size == block_tiles(config, outputs, inputs) * tile_bytes
    panels, blocks = blocks_of(outputs), blocks_of(inputs)
    elements, scales = unpack_matrix(config, tape, panels, blocks)
    padded = np.zeros((32 * panels, 32 * blocks), np.float32)
    padded[:outputs, :inputs] = weight
    expected = mx.quantise(padded)
    np.testing.assert_array_equal(elements.reshape(padded.shape), expected.elements)
    np.testing.assert_array_equal(scales, expected.scales)


def by_hand(weight: np.ndarray, rows: int, cols: int) -> list[int]:
    """The tape's bytes, spelled out from docs/spec.md, section 2. Sizes are multiples of 32."""
    outputs, inputs = weight.shape
    tape = []
    for panel in range(0, outputs, 32):
        for block in range(0, inputs, 32):
            for group in range(panel, panel + 32, cols):
                for j in range(group, group + cols):  # scales
                    largest = max(abs(float(v)) for v in weight[j, block : block + 32])
                    tape.append(int(np.floor(np.log2(largest))) - 6 + 127)
                for part in range(block, block + 32, rows):  # elements by column
                    for j in range(group, group + cols):
                        scale = 2.0 ** (tape_scale(weight[j, block : block + 32]))
                        tape += [round(float(v) / scale) & 0xFF for v in weight[j, part:][:rows]]
    return tape


def tape_scale(block: np.ndarray) -> int:
    return int(np.floor(np.log2(np.abs(block).max()))) - 6


@pytest.mark.parametrize("preset", PRESETS)
def test_bytes_stand_where_the_specification_says(preset: str) -> None:
    config = PRESETS[preset]
    rng = np.random.default_rng(5)
    # Whole numbers up to 127, at least one above 63 in a block: nothing is rounded.
    weight = rng.integers(-127, 128, (64, 96)).astype(np.float32)
    weight[:, ::32] = 100
    weight *= np.exp2(rng.integers(-3, 4, (64, 1))).astype(np.float32)
    assert pack_matrix(config, weight).tolist() == by_hand(weight, config.rows, config.cols)


def test_first_bytes_of_a_small_case() -> None:
    """Preset tiny, 4 x 4: four scales, then the first four inputs of output 0, of output 1, ..."""
    weight = np.zeros((32, 32), np.float32)
    weight[:, 0] = 64  # element 64 at scale 1, code 127
    weight[1, :4] = [2, -2, 4, 1]  # largest 4: scale 2**-4, code 123
    tape = pack_matrix(PRESETS["tiny"], weight).tolist()
    assert tape[:4] == [127, 123, 127, 127]
    assert tape[4:12] == [64, 0, 0, 0, 32, 256 - 32, 64, 16]
    assert tape[12:20] == [64, 0, 0, 0, 64, 0, 0, 0]
    assert tape[20:132] == [0] * 112  # the other seven passes
    assert tape[132:136] == [127] * 4  # next column group: outputs 4 .. 7


def test_heads_are_padded_behind_each_head() -> None:
    weight = np.arange(6 * 4, dtype=np.float32).reshape(6, 4) + 1  # 2 heads of 3, 4 inputs
    out = pad_heads_out(weight, heads=2, head_blocks=1)
    assert out.shape == (64, 4)
    np.testing.assert_array_equal(out[:3], weight[:3])
    np.testing.assert_array_equal(out[32:35], weight[3:])
    assert not out[3:32].any()
    assert not out[35:].any()
    np.testing.assert_array_equal(pad_heads_in(weight.T, 2, 1), out.T)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused(bad: float) -> None:
    weight = np.ones((32, 32), np.float32)
    weight[3, 4] = bad
    with pytest.raises(ValueError, match="NaN or infinity"):
        pack_matrix(PRESETS["tiny"], weight)
