"""The FP32 reference against a forward written out scalar by scalar, itself, and transformers."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.checkpoint import Llama3RopeScaling, load_checkpoint
from compiler.errors import UserError
from runtime.tokenizer import make
from sim.reference import Cache, Reference
from tests.checkpoints import (
    SHARED_MODELS,
    in_memory,
    random_tensors,
    small_config,
    write_huggingface,
)


def scalar_forward(checkpoint: Any, tokens: list[int]) -> list[list[float]]:
    """Llama in Python floats: loops over every element, the whole sequence at every position."""
    c = checkpoint.config
    w = {name: checkpoint.tensors[name].tolist() for name in checkpoint.tensors}

    def product(matrix: list[list[float]], x: list[float]) -> list[float]:
        return [sum(a * b for a, b in zip(row, x, strict=True)) for row in matrix]

    def norm(x: list[float], weight: list[float]) -> list[float]:
        root = math.sqrt(sum(v * v for v in x) / c.dim + c.norm_eps)
        return [v / root * g for v, g in zip(x, weight, strict=True)]

    def rotate(x: list[float], position: int) -> list[float]:
        x = list(x)
        for at in range(0, len(x), 2):
            exponent = (at % c.head_dim) / c.head_dim
            angle = position / c.rope_theta**exponent
            a, b = x[at], x[at + 1]
            x[at] = a * math.cos(angle) - b * math.sin(angle)
            x[at + 1] = a * math.sin(angle) + b * math.cos(angle)
        return x

    states = [list(w["embed"][token]) for token in tokens]
    for layer in range(c.layers):
        p = f"layers.{layer}."
        normed = [norm(x, w[p + "attn_norm"]) for x in states]
        queries = [rotate(product(w[p + "wq"], x), i) for i, x in enumerate(normed)]
        keys = [rotate(product(w[p + "wk"], x), i) for i, x in enumerate(normed)]
        values = [product(w[p + "wv"], x) for x in normed]
        for i, state in enumerate(states):
            mixed = []
            for head in range(c.heads):
                kv = head // (c.heads // c.kv_heads) * c.head_dim
                query = queries[i][head * c.head_dim : (head + 1) * c.head_dim]
                scores = [
                    sum(q * k for q, k in zip(query, key[kv : kv + c.head_dim], strict=True))
                    / math.sqrt(c.head_dim)
                    for key in keys[: i + 1]
                ]
                weights = [math.exp(score) for score in scores]
                for element in range(c.head_dim):
                    total = sum(a * v[kv + element] for a, v in zip(weights, values, strict=False))
                    mixed.append(total / sum(weights))
            for at, add in enumerate(product(w[p + "wo"], mixed)):
                state[at] += add
            x = norm(state, w[p + "ffn_norm"])
            gate, up = product(w[p + "w_gate"], x), product(w[p + "w_up"], x)
            inner = [g / (1 + math.exp(-g)) * u for g, u in zip(gate, up, strict=True)]
            for at, add in enumerate(product(w[p + "w_down"], inner)):
                state[at] += add
    return [product(w["head"], norm(x, w["final_norm"])) for x in states]


@pytest.mark.parametrize("tied", [False, True])
def test_scalar_by_scalar(tied: bool) -> None:
    config = small_config(
        dim=9, hidden=7, heads=4, kv_heads=2, head_dim=6, vocab=13, rope_theta=50.0, tied=tied
    )
    checkpoint = in_memory(config, 4)
    tokens = [3, 12, 3, 0, 7, 7]
    expected = np.array(scalar_forward(checkpoint, tokens))
    found = Reference(checkpoint).forward(tokens)
    assert found.dtype == np.float32
    assert np.abs(expected).max() > 0.5
    np.testing.assert_allclose(found, expected, atol=2e-5)


@settings(max_examples=20, deadline=None)
@given(
    cuts=st.lists(st.integers(1, 39), max_size=4, unique=True),
    kv_heads=st.sampled_from([1, 2, 4]),
    seed=st.integers(0, 9),
)
def test_chunks_equal_the_whole(cuts: list[int], kv_heads: int, seed: int) -> None:
    reference = Reference(in_memory(small_config(kv_heads=kv_heads, context=100), seed))
    tokens = np.random.default_rng(seed).integers(0, 96, 40).tolist()
    whole = reference.forward(tokens)
    cache = reference.cache()
    edges = [0, *sorted(cuts), 40]
    parts = [reference.forward(tokens[a:b], cache) for a, b in pairwise(edges)]
    assert cache.length == 40
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=2e-5)


def test_token_by_token_past_the_first_room() -> None:
    reference = Reference(in_memory(small_config(context=200), 2))
    tokens = np.random.default_rng(2).integers(0, 96, 150).tolist()
    whole = reference.forward(tokens)
    cache = reference.cache()
    for at, token in enumerate(tokens):
        row = reference.forward([token], cache, last_only=True)
        np.testing.assert_allclose(row[0], whole[at], atol=5e-5)
    cache.truncate(30)
    again = reference.forward(tokens[30:], cache)
    np.testing.assert_allclose(again, whole[30:], atol=5e-5)


def test_last_only() -> None:
    reference = Reference(in_memory(small_config(), 1))
    tokens = [5, 6, 7]
    found = reference.forward(tokens, last_only=True)
    np.testing.assert_allclose(found, reference.forward(tokens)[-1:], atol=1e-6)


def test_large_values_do_not_overflow() -> None:
    """SiLU of a very negative number and a huge score are finite, without a warning."""
    config = small_config()
    checkpoint = in_memory(config)
    for name in ("layers.0.w_gate", "layers.0.wq", "layers.0.wk"):
        checkpoint.tensors[name][:] *= 1e4
    assert np.isfinite(Reference(checkpoint).forward([1, 2, 3])).all()


def test_refusals() -> None:
    reference = Reference(in_memory(small_config(context=5)))
    for tokens in ([], [96], [-1], [[1]]):
        with pytest.raises(UserError, match="tokens"):
            reference.forward(tokens)  # type: ignore[arg-type]
    cache = reference.cache()
    reference.forward([1, 2, 3], cache)
    with pytest.raises(UserError, match=r"6 tokens.*5"):
        reference.forward([1, 2, 3], cache)
    assert cache.length == 3
    with pytest.raises(ValueError, match="outside the cache"):
        Cache(1, 1, 2).truncate(1)


def test_shared_model_tells_a_story() -> None:
    folder = SHARED_MODELS / "stories260K"
    if not folder.is_dir():
        pytest.skip("../shared/models/stories260K is not here")
    checkpoint = load_checkpoint(folder / "stories260K.bin", folder / "tok512.bin")
    reference, tokenizer = Reference(checkpoint), make(checkpoint.tokenizer)
    tokens = tokenizer.encode("Once upon a time")
    cache = reference.cache()
    logits = reference.forward(tokens, cache)
    for _ in range(60):
        tokens.append(int(logits[-1].argmax()))
        logits = reference.forward(tokens[-1:], cache)
    # What run.c of llama2.c writes at temperature 0.
    assert tokenizer.decode(tokens).startswith(
        "Once upon a time, there was a little girl named Lily. She loved to play outside in the "
        "park. One day, she saw a big, red ball. She wanted to play with it, but it was too high."
    )


@pytest.mark.parametrize("scaling", [None, Llama3RopeScaling(8.0, 1.0, 4.0, 64)])
def test_transformers(scaling: Llama3RopeScaling | None, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    config = small_config(head_dim=10, rope_scaling=scaling, context=300)
    write_huggingface(tmp_path, config, random_tensors(config, 3))
    model = transformers.LlamaForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    tokens = np.random.default_rng(0).integers(0, 96, 250).tolist()
    with torch.no_grad():
        expected = model(torch.tensor([tokens])).logits[0].numpy()
    found = Reference(load_checkpoint(tmp_path)).forward(tokens)
    np.testing.assert_allclose(found, expected, atol=1e-4)
