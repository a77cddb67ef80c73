"""Checkpoint to image: tables, sizes, and what is refused before any work is done."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from compiler.checkpoint import Checkpoint, Llama3RopeScaling, load_checkpoint
from compiler.compile import compile_checkpoint, layer_matrices, rope_table
from compiler.errors import UserError
from compiler.layout import Layout
from compiler.rotate import rotated
from compiler.tape import pack_matrix, unpack_matrix
from hdl.config import PRESETS
from sim.golden import mx
from tests.checkpoints import SHARED_MODELS, small_config
from tests.devices import checkpoint, golden, image, logits


def floats(section: np.ndarray, blocks: int) -> np.ndarray:
    return section.view("<f4").reshape(-1, 32 * blocks)


def test_tables_hold_the_checkpoint() -> None:
    base = checkpoint(dim=40, hidden=50, heads=6, kv_heads=2, head_dim=34, vocab=77)
    made = image(base, context=50, rotate=False)
    embedding = floats(made.sections["embedding"], 2)
    np.testing.assert_array_equal(embedding[:, :40], base.tensors["embed"])
    assert not embedding[:, 40:].any()
    norms = floats(made.sections["norms"], 2)
    names = [f"layers.{i}.{n}_norm" for i in range(2) for n in ("attn", "ffn")] + ["final_norm"]
    np.testing.assert_array_equal(norms[:, :40], [base.tensors[n] for n in names])
    assert not norms[:, 40:].any()
    assert made.sections["rope"].view("<f4").shape == (50 * 2 * 64,)


def test_a_model_with_a_head_is_rotated_first() -> None:
    base = checkpoint(dim=40, heads=6, kv_heads=2, head_dim=34)

    def sections(model: Checkpoint, **options: Any) -> dict[str, str]:
        return image(model, **options).manifest["sha256"]

    assert sections(base) == sections(rotated(base), rotate=False)
    assert sections(base) != sections(base, rotate=False)
    assert sections(base, with_head=False) == sections(base, with_head=False, rotate=False)


@pytest.mark.parametrize(
    "changes",
    [
        {"rope_theta": 500000.0},
        {"rope_scaling": Llama3RopeScaling(8.0, 1.0, 4.0, 32)},
    ],
)
def test_rope_rows_turn_pairs_by_their_angles(changes: dict[str, Any]) -> None:
    model = small_config(head_dim=34, **changes)
    table = rope_table(Layout(PRESETS["edge"], model), 60)
    assert table.shape == (60, 2, 64)
    x = np.random.default_rng(0).standard_normal(34)
    for position in (0, 1, 59):
        cos, sin = table[position, 0, :34], table[position, 1, :34]
        swapped = x.reshape(-1, 2)[:, ::-1].reshape(-1)
        turned = (x[0::2] + 1j * x[1::2]) * np.exp(1j * position * model.rope_frequencies())
        found = x * cos + swapped * sin
        np.testing.assert_allclose(found[0::2] + 1j * found[1::2], turned, atol=1e-6)
    assert not table[:, :, 34:].any()


def test_the_tape_holds_every_matrix_once_in_the_order_of_use() -> None:
    base = checkpoint(dim=40, hidden=50, heads=6, kv_heads=2, head_dim=34, vocab=77)
    layout = Layout(PRESETS["ulx3s"], base.config)
    made = image(base, "ulx3s", rotate=False)
    tape, at = made.sections["tape"], 0
    t = base.tensors

    def next_matrix(outputs: int, inputs: int) -> np.ndarray:
        nonlocal at
        size = pack_matrix(layout.config, np.zeros((outputs, inputs), np.float32)).size
        part, at = tape[at : at + size], at + size
        elements, scales = unpack_matrix(layout.config, part, -(-outputs // 32), -(-inputs // 32))
        values = elements * np.exp2(scales.astype(np.float64) - 127)[:, :, None]
        return values.reshape(len(values), -1)

    def rounded(weight: np.ndarray) -> np.ndarray:
        padded = np.zeros((len(weight), -(-weight.shape[1] // 32) * 32), np.float32)
        padded[:, : weight.shape[1]] = weight
        elements, scales, _ = mx.quantise(padded)
        values = (
            elements.reshape(*scales.shape, 32) * np.exp2(scales.astype(float) - 127)[..., None]
        )
        return values.reshape(padded.shape)

    for layer in range(2):
        name = f"layers.{layer}."
        for matrix, heads in (("wk", 2), ("wv", 2), ("wq", 6)):
            found = next_matrix(heads * 64, 40).reshape(heads, 64, 64)
            expected = rounded(t[name + matrix]).reshape(heads, 34, 64)
            np.testing.assert_array_equal(found[:, :34], expected)
            assert not found[:, 34:].any()
        found = next_matrix(40, 6 * 64).reshape(64, 6, 64)
        expected = np.stack([rounded(w) for w in t[name + "wo"].reshape(40, 6, 34).swapaxes(0, 1)])
        np.testing.assert_array_equal(found[:40], expected.swapaxes(0, 1))
        both = next_matrix(2 * 64, 40).reshape(2, 2, 32, 64)  # panels of gate and up in turn
        for i, matrix in enumerate(("w_gate", "w_up")):
            np.testing.assert_array_equal(
                both[:, i].reshape(64, 64)[:50], rounded(t[name + matrix])
            )
        np.testing.assert_array_equal(next_matrix(40, 50)[:40], rounded(t[name + "w_down"]))
    np.testing.assert_array_equal(next_matrix(77, 40)[:77], rounded(t["head"]))
    assert at == tape.size


def test_layers_come_padded_to_blocks() -> None:
    base = checkpoint(dim=40, hidden=50, heads=6, kv_heads=2, head_dim=34)
    layout = Layout(PRESETS["edge"], base.config)
    shapes = [m.shape for m in layer_matrices(base, layout, 1)]
    assert shapes == [(128, 40), (128, 40), (384, 40), (40, 384), (128, 40), (40, 50)]


@pytest.mark.parametrize("elements", [1, 40 * 32, 40 * 64])
def test_a_large_head_is_packed_in_pieces(elements: int, monkeypatch: pytest.MonkeyPatch) -> None:
    base = checkpoint(layers=1, dim=40, vocab=200)
    whole = image(base)
    monkeypatch.setattr("compiler.compile._HEAD_PIECE", elements)
    assert image(base).manifest["sha256"] == whole.manifest["sha256"]


def test_progress_reaches_the_end() -> None:
    said: list[tuple[str, float]] = []
    compile_checkpoint(
        checkpoint(), PRESETS["edge"], progress=lambda text, share: said.append((text, share))
    )
    shares = [share for _, share in said]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"context": 65}, "context 65: the model takes 1 to 64 tokens"),
        ({"context": 0}, "context 0: the model takes 1 to 64 tokens"),
        ({"context": -3}, "context -3"),
        ({"sequences": 0}, "sequences 0: give at least 1"),
        ({"kv_pages": 0}, "a KV cache of 0 pages"),
        ({"kv_pages": 1 << 24}, "a KV cache of 16777216 pages"),
        ({"kv_pages": 1 << 22}, "MiB, preset tiny addresses 4096 MiB: shorten the context"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, int], text: str) -> None:
    with pytest.raises(UserError, match=text):
        image(checkpoint(), "tiny", **options)


def test_a_model_that_does_not_fit_is_refused_before_its_weights_are_read() -> None:
    class Unread(dict):
        def __getitem__(self, name: str) -> None:
            raise AssertionError(f"{name} was read")

    base = checkpoint()
    for changes, text in (
        ({"head_dim": 96}, "head_dim 96"),
        ({"heads": 36, "kv_heads": 4}, "9 query heads"),
        ({"dim": 4096}, "row memory|constant memory"),
        ({"context": 1 << 28, "kv_heads": 1, "layers": 400}, "MiB, preset tiny addresses"),
    ):
        config = small_config(**changes)
        with pytest.raises(UserError, match=text):
            image(Checkpoint(config, Unread(), None, base.source), "tiny")


def test_a_context_longer_than_the_chip_counts_is_refused() -> None:
    base = checkpoint(layers=1)
    config = small_config(context=1 << 22, layers=1)
    with pytest.raises(UserError, match="takes 1 to 1048575 tokens on this chip"):
        image(Checkpoint(config, base.tensors, None, base.source), context=1 << 20)


@pytest.mark.parametrize("context", [1, 31, 32, 33, 64])
def test_a_sequence_may_fill_the_context_and_no_more(context: int) -> None:
    device = golden(checkpoint(), context=context)
    text = [3] * context
    sequence = device.open_sequence()
    assert len(logits(device, text, sequence=sequence)) == context
    with pytest.raises(UserError, match=f"compiled for {context}"):
        logits(device, [3], sequence=sequence)
    assert sequence.length == context


@pytest.mark.skipif(not (SHARED_MODELS / "stories260K").is_dir(), reason="no stories260K")
def test_a_real_checkpoint_compiles_for_every_preset() -> None:
    base = load_checkpoint(SHARED_MODELS / "stories260K" / "stories260K.bin")
    found = [logits(golden(base, preset, context=32), [1, 403, 407, 261]) for preset in PRESETS]
    assert all(np.array_equal(found[0], other) for other in found[1:])


def test_a_cache_on_chip_holds_what_was_built() -> None:
    base = checkpoint()
    page = Layout(PRESETS["tiny"], base.config).kv_page_bytes
    config = dataclasses.replace(PRESETS["tiny"], kv_on_chip_bytes=2 * page)
    assert compile_checkpoint(base, config, context=64).memory.kv_pages == 2
    with pytest.raises(UserError, match=f"3 pages takes {3 * page} bytes, preset tiny has"):
        compile_checkpoint(base, config, kv_pages=3)
