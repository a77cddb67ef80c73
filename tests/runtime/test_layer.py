"""One layer alone: the same numbers as in a whole model, and that a wrong bit shows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from compiler.checkpoint import Checkpoint
from compiler.errors import UserError
from hdl.config import PRESETS
from hdl.isa import Counter
from runtime.chip import Progress
from runtime.device import Device, RowRequest
from runtime.golden_chip import GoldenChip
from runtime.layer import LayerShape, random_layer, run_layer
from tests.devices import image

SHAPE = LayerShape(dim=72, hidden=100, heads=4, kv_heads=2, head_dim=34)
RNG = np.random.default_rng


def test_a_layer_alone_does_what_it_does_in_a_model() -> None:
    """Rows that are embeddings, through the layer, then final norm and head: a whole model."""
    base = random_layer(SHAPE, 64, RNG(1))
    config = replace(base.config, vocab=40)
    rng = RNG(2)
    embed = rng.standard_normal((40, 72), np.float32)
    whole = {**base.tensors, "embed": embed, "head": rng.standard_normal((40, 72), np.float32)}
    tokens = [int(t) for t in rng.integers(0, 40, 50)]
    device = Device(image(Checkpoint(config, whole, None, Path("m")), rotate=False), GoldenChip)
    device.step([RowRequest(device.open_sequence(), tokens)])
    chip = device.chip
    assert isinstance(chip, GoldenChip)
    expected = chip._machine.rows[: 50 * 3].reshape(50, 96)

    alone = Device(image(base, with_head=False), GoldenChip)
    rows = np.zeros((50, 96), np.float32)
    rows[:, :72] = embed[tokens]
    at = alone.map.rows_in
    alone.memory[at : at + rows.nbytes] = rows.view(np.uint8).reshape(-1)
    alone.step([RowRequest(alone.open_sequence(), [0] * 50, outputs=0)], logits=False)
    at = alone.map.rows_out
    found = alone.memory[at : at + rows.nbytes].view("<f4").reshape(50, 96)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("preset", "sequences", "chunk", "context"),
    [("edge", 5, 1, 100), ("edge", 1, 40, 31), ("tiny", 1, 8, 0), ("edge", 3, 2, 64)],
)
def test_figures(preset: str, sequences: int, chunk: int, context: int) -> None:
    found = run_layer(
        PRESETS[preset],
        GoldenChip,
        SHAPE,
        context=context,
        sequences=sequences,
        chunk=chunk,
        rng=RNG(0),
    )
    assert found["bit_exact"] is True
    assert found["rows"] == sequences * chunk
    assert found["phase"] == ("decode" if chunk == 1 else "prefill")
    weights = 72 * 34 * (4 + 2 + 2 + 4) + 3 * 72 * 100
    seen = sequences * sum(context + i + 1 for i in range(chunk))
    assert found["useful_macs"] == sequences * chunk * weights + 2 * 4 * 34 * seen
    json.dumps(found)


class WrongBit(GoldenChip):
    """A chip that gets one bit wrong: in the rows out, or in the KV cache."""

    at = 0

    def run(
        self, program: int, descriptor: int, progress: Progress | None = None
    ) -> dict[Counter, int]:
        super().run(program, descriptor)
        self.memory[self.at] ^= 1
        return dict.fromkeys(Counter, 0) | {Counter.CYCLES: 1000}


def test_several_layers() -> None:
    found = [
        run_layer(
            PRESETS["edge"],
            GoldenChip,
            SHAPE,
            context=40,
            sequences=2,
            chunk=1,
            rng=RNG(0),
            layers=layers,
        )
        for layers in (1, 3)
    ]
    assert found[1]["bit_exact"] is True
    assert found[1]["useful_macs"] == 3 * found[0]["useful_macs"]


@pytest.mark.parametrize(("place", "offset"), [("rows_out", 5), ("kv_base", 5), ("kv_base", -5)])
def test_a_wrong_bit_is_seen(place: str, offset: int) -> None:
    made = image(random_layer(SHAPE, 11, RNG(0)), kv_pages=1, with_head=False)
    # From the end: in the scales of the last half of the last page.
    half = 32 * 64 + 32
    base = getattr(made.memory, place) + (4 * half if offset < 0 else 0)

    class Wrong(WrongBit):
        at = base + offset

    found = run_layer(PRESETS["edge"], Wrong, SHAPE, context=10, sequences=1, chunk=1, rng=RNG(0))
    assert found["bit_exact"] is False
    assert found["cycles"] == 1000


@pytest.mark.parametrize(
    ("preset", "sequences", "chunk", "text"),
    [
        ("edge", 65, 1, "65 rows: preset edge takes 1 to 64 rows"),
        ("tiny", 1, 9, "9 rows: preset tiny takes 1 to 8 rows"),
        ("edge", 0, 1, "KV cache of 0 pages"),
    ],
)
def test_too_many_rows_are_refused(preset: str, sequences: int, chunk: int, text: str) -> None:
    with pytest.raises(UserError, match=text):
        run_layer(
            PRESETS[preset],
            GoldenChip,
            SHAPE,
            context=8,
            sequences=sequences,
            chunk=chunk,
            rng=RNG(0),
        )
