"""Every format gives the same canonical model."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.checkpoint import (
    Checkpoint,
    Llama3RopeScaling,
    LlamaConfig,
    RopeFactors,
    load_checkpoint,
    load_config,
    tensor_shapes,
)
from compiler.checkpoint.gguf_file import GgufFile
from tests.checkpoints import (
    SHARED_MODELS,
    random_tensors,
    small_config,
    write_gguf,
    write_huggingface,
    write_llama2c,
)

FORMATS = [
    "huggingface-F32",
    "huggingface-BF16",
    "huggingface-F16",
    "huggingface-BF16-shards",
    "huggingface-F32-noindex",
    "gguf-F32",
    "gguf-F16",
    "gguf-BF16",
    "llama2c-0",
    "llama2c-1",
]


def write(kind: str, folder: Path, config: LlamaConfig, tensors: Any) -> Path:
    form, option, *rest = kind.split("-")
    if form == "huggingface":
        shards = 3 if rest else 1
        return write_huggingface(folder, config, tensors, option, shards, rest != ["noindex"])
    if form == "gguf":
        return write_gguf(folder / "model.gguf", config, tensors, option)
    return write_llama2c(folder / "model.bin", config, tensors, int(option))


def assert_holds(checkpoint: Checkpoint, config: LlamaConfig, tensors: Any) -> None:
    # GGUF keeps its constants in float32.
    assert checkpoint.config.norm_eps == pytest.approx(config.norm_eps, rel=1e-6)
    assert checkpoint.config.rope_theta == pytest.approx(config.rope_theta, rel=1e-6)
    same = ("dim", "hidden", "layers", "heads", "kv_heads", "head_dim", "vocab", "context", "tied")
    for name in (*same, "bos_id"):
        assert getattr(checkpoint.config, name) == getattr(config, name), name
    assert set(config.eos_ids) <= set(checkpoint.config.eos_ids)
    assert list(checkpoint.tensors) == list(tensor_shapes(config))
    for name, expected in tensors.items():
        found = checkpoint.tensors[name]
        assert found.dtype == np.float32
        assert found.flags.c_contiguous
        np.testing.assert_array_equal(found, expected, err_msg=name)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kind", FORMATS)
def test_formats_agree(kind: str, tied: bool, tmp_path: Path) -> None:
    config = small_config(tied=tied)
    tensors = random_tensors(config)
    path = write(kind, tmp_path, config, tensors)
    assert_holds(load_checkpoint(path), config, tensors)
    assert load_config(path).dim == config.dim
    assert load_checkpoint(str(path)).source == path


@pytest.mark.parametrize("quantization", ["Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"])
def test_quantised_gguf(quantization: str, tmp_path: Path) -> None:
    config = small_config()
    tensors = random_tensors(config)
    loaded = load_checkpoint(write_gguf(tmp_path / "m.gguf", config, tensors, quantization))
    kind = gguf.GGMLQuantizationType[quantization]
    for name, tensor in tensors.items():
        expected = tensor
        if tensor.ndim > 1:
            expected = gguf.dequantize(gguf.quantize(tensor, kind), kind)
            assert 0 < np.abs(expected - tensor).max() < 0.08
        np.testing.assert_array_equal(loaded.tensors[name], expected)


# (type, bytes in a block of 256, bytes in it that are float16 scales)
K_QUANTS = [("Q2_K", 84, (80, 82)), ("Q4_K", 144, (0, 2)), ("Q6_K", 210, (208,))]


@pytest.mark.parametrize(("name", "block_bytes", "scales"), K_QUANTS)
def test_k_quants(name: str, block_bytes: int, scales: tuple[int, ...], tmp_path: Path) -> None:
    # The gguf package reads these but can not write them: random blocks, with scales that are sane.
    random = np.random.default_rng(3)
    blocks = random.integers(0, 256, (8, 2, block_bytes), np.uint8)
    for at in scales:
        blocks[..., at : at + 2] = np.full((8, 2, 1), 0.01, np.float16).view(np.uint8)
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    kind = gguf.GGMLQuantizationType[name]
    writer.add_tensor("t", blocks.reshape(8, -1), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = GgufFile(tmp_path / "m.gguf").read("t")
    assert found.shape == (8, 512)
    assert np.unique(found).size > 30
    # The first block alone gives the first 256 elements.
    np.testing.assert_array_equal(found[0, :256], gguf.dequantize(blocks[0, 0], kind))


@st.composite
def odd_configs(draw: st.DrawFn) -> LlamaConfig:
    kv_heads = draw(st.integers(1, 3))
    return small_config(
        dim=draw(st.integers(1, 50)),
        hidden=draw(st.integers(1, 50)),
        layers=draw(st.integers(1, 3)),
        heads=kv_heads * draw(st.integers(1, 3)),
        kv_heads=kv_heads,
        head_dim=2 * draw(st.integers(1, 9)),
        vocab=draw(st.integers(3, 70)),
        context=draw(st.integers(1, 99)),
        norm_eps=draw(st.sampled_from([1e-6, 1e-5, 0.5])),
        rope_theta=draw(st.sampled_from([100.0, 10000.0, 5e5])),
        tied=draw(st.booleans()),
    )


@settings(max_examples=25, deadline=None)
@given(config=odd_configs(), kind=st.sampled_from(["huggingface-F32", "gguf-F32"]))
def test_odd_dimensions(config: LlamaConfig, kind: str) -> None:
    tensors = random_tensors(config, 1)
    with tempfile.TemporaryDirectory() as folder:
        path = write(kind, Path(folder), config, tensors)
        assert_holds(load_checkpoint(path), config, tensors)


@settings(max_examples=25, deadline=None)
@given(config=odd_configs(), version=st.sampled_from([0, 1]))
def test_odd_dimensions_of_llama2c(config: LlamaConfig, version: int) -> None:
    values = config.__dict__ | {"dim": config.heads * config.head_dim}
    config = LlamaConfig(**(values | {"norm_eps": 1e-5, "rope_theta": 10000.0}))
    tensors = random_tensors(config, 1)
    with tempfile.TemporaryDirectory() as folder:
        path = write_llama2c(Path(folder) / "m.bin", config, tensors, version)
        assert_holds(load_checkpoint(path), config, tensors)


def test_interleaving_keeps_attention(tmp_path: Path) -> None:
    """Rotate-half on the file's rows and pairs on the canonical rows give the same scores."""
    config = small_config(heads=1, kv_heads=1, head_dim=8, rope_theta=100.0)
    tensors = random_tensors(config, 7)
    folder = write_huggingface(tmp_path, config, tensors)
    loaded = load_checkpoint(folder)
    from safetensors.numpy import load_file

    stored = load_file(folder / "model.safetensors")
    half = config.head_dim // 2
    x = np.random.default_rng(0).normal(size=(2, config.dim))
    positions, frequencies = np.array([3, 11]), loaded.config.rope_frequencies()

    def rotate_half(v: Any, position: int) -> Any:  # transformers' apply_rotary_pos_emb
        angle = np.tile(position * frequencies, 2)
        return v * np.cos(angle) + np.concatenate([-v[half:], v[:half]]) * np.sin(angle)

    def rotate_pairs(v: Any, position: int) -> Any:
        turned = (v[0::2] + 1j * v[1::2]) * np.exp(1j * position * frequencies)
        return np.stack([turned.real, turned.imag], -1).ravel()

    layer = "model.layers.0.self_attn."
    query, key = (stored[f"{layer}{n}_proj.weight"] @ v for n, v in zip("qk", x, strict=True))
    expected = rotate_half(query, positions[0]) @ rotate_half(key, positions[1])
    query, key = (loaded.tensors[f"layers.0.w{n}"] @ v for n, v in zip("qk", x, strict=True))
    found = rotate_pairs(query, positions[0]) @ rotate_pairs(key, positions[1])
    assert found == pytest.approx(expected, rel=1e-12)
    assert query @ key != pytest.approx(expected, rel=1e-3)  # the rotation did matter


def llama3_frequencies(theta: float, head_dim: int, scaling: Llama3RopeScaling) -> list[float]:
    """The branches of meta-llama's ``apply_scaling``, one frequency at a time."""
    result = []
    for i in range(head_dim // 2):
        frequency = theta ** (-2 * i / head_dim)
        wavelength = 2 * np.pi / frequency
        if wavelength < scaling.original_context / scaling.high_freq_factor:
            result.append(frequency)
        elif wavelength > scaling.original_context / scaling.low_freq_factor:
            result.append(frequency / scaling.factor)
        else:
            smooth = (scaling.original_context / wavelength - scaling.low_freq_factor) / (
                scaling.high_freq_factor - scaling.low_freq_factor
            )
            result.append((1 - smooth) * frequency / scaling.factor + smooth * frequency)
    return result


def test_llama3_rope_scaling(tmp_path: Path) -> None:
    scaling = Llama3RopeScaling(8.0, 1.0, 4.0, 8192)
    config = small_config(rope_theta=5e5, rope_scaling=scaling, heads=1, kv_heads=1, head_dim=64)
    expected = llama3_frequencies(5e5, 64, scaling)
    path = write_huggingface(tmp_path, config, random_tensors(config))
    found = load_config(path).rope_frequencies()
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    plain = small_config(rope_theta=5e5, heads=1, kv_heads=1, head_dim=64).rope_frequencies()
    ratios = plain / found
    assert ratios[0] == 1
    assert ratios[-1] == pytest.approx(8)
    assert np.any((ratios > 1.01) & (ratios < 7.9))


def test_rope_factors_of_gguf(tmp_path: Path) -> None:
    factors = RopeFactors((1.0, 1.5, 4.0, 8.0))
    config = small_config(rope_scaling=factors)
    loaded = load_checkpoint(write_gguf(tmp_path / "m.gguf", config, random_tensors(config)))
    plain = small_config().rope_frequencies()
    np.testing.assert_allclose(loaded.config.rope_frequencies(), plain / factors.factors)


def test_transformers_5_keeps_rope_in_one_object(tmp_path: Path) -> None:
    config = small_config()
    parameters = {"rope_theta": 123.0, "rope_type": "default"}
    changes: dict[str, Any] = {"rope_parameters": parameters, "rope_theta": None}
    write_huggingface(tmp_path, config, random_tensors(config), changes=changes)
    assert load_config(tmp_path).rope_theta == 123.0


def test_config_alone(tmp_path: Path) -> None:
    config = small_config()
    write_huggingface(tmp_path, config, random_tensors(config))
    (tmp_path / "model.safetensors").unlink()
    assert load_config(tmp_path) == config
    assert load_config((tmp_path / "config.json").rename(tmp_path / "llama-9b.json")) == config


def test_end_tokens_of_generation_config(tmp_path: Path) -> None:
    config = small_config()
    write_huggingface(tmp_path, config, random_tensors(config))
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [7, 2, 999]}))
    assert load_checkpoint(tmp_path).config.eos_ids == (2, 7)


def test_mistral_without_window(tmp_path: Path) -> None:
    config = small_config()
    changes = {
        "model_type": "mistral",
        "architectures": ["MistralForCausalLM"],
        "sliding_window": None,
    }
    tensors = random_tensors(config)
    write_huggingface(tmp_path, config, tensors, changes=changes)
    assert_holds(load_checkpoint(tmp_path), config, tensors)


def test_tied_with_a_copy_of_the_head(tmp_path: Path) -> None:
    config = small_config(tied=True)
    tensors = random_tensors(config)
    extra: dict[str, Any] = {
        "lm_head.weight": tensors["embed"],
        "model.layers.0.rotary_emb.inv_freq": np.ones(4),
    }
    write_huggingface(tmp_path, config, tensors, extra=extra)
    assert_holds(load_checkpoint(tmp_path), config, tensors)


def test_a_file_stands_for_its_directory(tmp_path: Path) -> None:
    config = small_config()
    write_huggingface(tmp_path / "hf", config, random_tensors(config))
    assert load_checkpoint(tmp_path / "hf" / "model.safetensors").source == tmp_path / "hf"
    assert load_checkpoint(tmp_path / "hf" / "config.json").source == tmp_path / "hf"
    (tmp_path / "gguf").mkdir()
    file = write_gguf(tmp_path / "gguf" / "m.gguf", config, random_tensors(config))
    assert load_checkpoint(tmp_path / "gguf").source == file


def test_parameters() -> None:
    tied, separate = small_config(tied=True), small_config()
    assert separate.parameters == sum(t.size for t in random_tensors(separate).values())
    assert separate.parameters - tied.parameters == tied.vocab * tied.dim


def test_shared_model() -> None:
    folder = SHARED_MODELS / "stories260K"
    if not folder.is_dir():
        pytest.skip("../shared/models/stories260K is not here")
    checkpoint = load_checkpoint(folder / "stories260K.bin", folder / "tok512.bin")
    config = checkpoint.config
    assert (config.dim, config.hidden, config.layers, config.heads) == (64, 172, 5, 8)
    assert (config.kv_heads, config.vocab, config.context, config.tied) == (4, 512, 512, True)
    assert 0.01 < np.abs(checkpoint.tensors["layers.4.w_down"]).mean() < 1
