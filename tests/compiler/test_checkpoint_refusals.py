"""What can not run, and what is damaged, is refused in one line that names it."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from compiler.checkpoint import Llama3RopeScaling, RopeFactors, load_checkpoint, load_config
from compiler.errors import UserError
from tests.checkpoints import (
    random_tensors,
    small_config,
    write_gguf,
    write_huggingface,
    write_llama2c,
)

CONFIG = small_config()
TENSORS = random_tensors(CONFIG)


def refusal(action: Callable[[], Any]) -> str:
    with pytest.raises(UserError) as caught:
        action()
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "gemma2", "architectures": ["Gemma2ForCausalLM"]}, ["gemma2"]),
        ({"model_type": None, "architectures": ["GPT2LMHeadModel"]}, ["GPT2LMHeadModel"]),
        ({"architectures": ["LlamaForSequenceClassification"]}, ["SequenceClassification"]),
        ({"architectures": "LlamaForCausalLM"}, ["architectures", "list"]),
        ({"attention_bias": True}, ["attention biases", "attention_bias"]),
        ({"mlp_bias": True}, ["feed-forward biases", "mlp_bias"]),
        ({"use_qk_norm": True}, ["QK-norm"]),
        ({"hidden_act": "gelu"}, ["activation 'gelu'"]),
        ({"sliding_window": 32}, ["sliding window", "32"]),
        ({"layer_types": ["full_attention", "chunked_attention"]}, ["chunked_attention"]),
        ({"num_local_experts": 8}, ["mixture of experts"]),
        ({"quantization_config": {"quant_method": "gptq"}}, ["quantization_config"]),
        ({"partial_rotary_factor": 0.5}, ["partial rotary"]),
        ({"final_logit_softcapping": 30.0}, ["soft-cap"]),
        ({"logit_scale": 0.25}, ["logit scaling"]),
        ({"residual_multiplier": 0.22}, ["residual scaling"]),
        ({"no_rope_layers": [1, 0]}, ["without RoPE"]),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, ["rope_scaling", "'linear'"]),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, ["rope_scaling", "'yarn'"]),
        ({"rope_scaling": {"factor": 2.0}}, ["rope_scaling", "None"]),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, ["low_freq_factor", "missing"]),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, ["partial rotary"]),
        ({"head_dim": 7, "num_attention_heads": 4}, ["odd head_dim 7"]),
        ({"num_attention_heads": 5}, ["5", "32"]),
        ({"num_key_value_heads": 3}, ["4 attention heads", "3 KV heads"]),
        ({"hidden_size": None}, ["'hidden_size' is missing"]),
        ({"vocab_size": "many"}, ["'vocab_size'", "'many'"]),
        ({"num_hidden_layers": 0}, ["layers is 0"]),
        ({"num_hidden_layers": 2_000_000_000}, ["layers is 2000000000"]),
        ({"intermediate_size": 1.5}, ["intermediate_size", "1.5"]),
        ({"rms_norm_eps": -1.0}, ["norm_eps"]),
    ],
)
def test_config_json(changes: dict[str, Any], words: list[str], tmp_path: Path) -> None:
    write_huggingface(tmp_path, CONFIG, TENSORS, changes=changes)
    for load in (load_checkpoint, load_config):
        message = refusal(partial(load, tmp_path))
        assert "config.json" in message
        for word in words:
            assert word in message


@pytest.mark.parametrize(
    "changes",
    [
        {"attention_bias": None, "mlp_bias": None, "rope_scaling": None, "hidden_act": "swish"},
        {"sliding_window": CONFIG.context, "num_experts": 0, "partial_rotary_factor": 1.0},
        {"sliding_window": 4, "use_sliding_window": False, "layer_types": ["full_attention"] * 2},
        {"rope_scaling": {"rope_type": "default"}, "architectures": None, "pretraining_tp": 1},
    ],
)
def test_features_that_are_off(changes: dict[str, Any], tmp_path: Path) -> None:
    write_huggingface(tmp_path, CONFIG, TENSORS, changes=changes)
    assert load_checkpoint(tmp_path).config == CONFIG


@pytest.mark.parametrize(
    ("name", "feature"),
    [
        ("model.layers.0.self_attn.q_proj.bias", "biases"),
        ("model.layers.1.self_attn.q_norm.weight", "QK-norm"),
        ("model.layers.0.mlp.experts.0.w1.weight", "mixture of experts"),
        ("model.layers.0.post_feedforward_layernorm.weight", "norms after"),
        ("model.layers.2.input_layernorm.weight", "not plain Llama"),
    ],
)
def test_unknown_tensor(name: str, feature: str, tmp_path: Path) -> None:
    write_huggingface(tmp_path, CONFIG, TENSORS, extra={name: np.ones(4, np.float32)})
    message = refusal(lambda: load_checkpoint(tmp_path))
    assert feature in message
    assert name in message
    assert "model.safetensors" in message


def rewrite(folder: Path, **changes: Any) -> None:
    """Change tensors of a safetensors file, by the end of their names; None removes one."""
    path = folder / "model.safetensors"
    tensors: dict[str, Any] = load_file(path)
    for end, value in changes.items():
        name = next(n for n in tensors if n.endswith(end.replace("__", ".")))
        if value is None:
            del tensors[name]
        else:
            tensors[name] = value
    save_file(tensors, path)


def test_huggingface_tensors(tmp_path: Path) -> None:
    write_huggingface(tmp_path, CONFIG, TENSORS)
    rewrite(tmp_path, k_proj__weight=np.zeros((8, 32), np.float32))
    message = refusal(lambda: load_checkpoint(tmp_path))
    assert "model.safetensors: tensor 'model.layers.0.self_attn.k_proj.weight'" in message
    assert "(8, 32)" in message
    assert "(16, 32)" in message
    rewrite(tmp_path, k_proj__weight=np.zeros((16, 32), np.int8))
    assert "I8" in refusal(lambda: load_checkpoint(tmp_path))
    rewrite(tmp_path, norm__weight=None)
    assert "norm.weight' is missing" in refusal(lambda: load_checkpoint(tmp_path))


def test_tied_with_another_head(tmp_path: Path) -> None:
    write_huggingface(tmp_path, CONFIG, TENSORS, changes={"tie_word_embeddings": True})
    message = refusal(lambda: load_checkpoint(tmp_path))
    assert "lm_head.weight" in message
    assert "tie_word_embeddings" in message


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("form", ["huggingface", "gguf", "llama2c"])
def test_weights_that_are_not_finite(form: str, bad: float, tmp_path: Path) -> None:
    tensors = {name: tensor.copy() for name, tensor in TENSORS.items()}
    tensors["layers.1.w_up"][3, 5] = bad
    if form == "huggingface":
        path = write_huggingface(tmp_path, CONFIG, tensors, "BF16")
        name = "model.layers.1.mlp.up_proj.weight"
    elif form == "gguf":
        path = write_gguf(tmp_path / "m.gguf", CONFIG, tensors, "F16")
        name = "blk.1.ffn_up.weight"
    else:
        path = write_llama2c(tmp_path / "m.bin", CONFIG, tensors)
        name = "layers.1.w_up"
    checkpoint = load_checkpoint(path)
    assert checkpoint.tensors["layers.1.w_gate"].any()
    message = refusal(lambda: checkpoint.tensors["layers.1.w_up"])
    assert "NaN or infinite" in message
    assert f"tensor '{name}'" in message


@pytest.mark.parametrize("keep", [0, 4, 40, 2000, -1])
def test_truncated_safetensors(keep: int, tmp_path: Path) -> None:
    write_huggingface(tmp_path, CONFIG, TENSORS)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    message = refusal(lambda: load_checkpoint(tmp_path))
    assert "model.safetensors is truncated or damaged" in message


@pytest.mark.parametrize("index", [True, False])
def test_missing_shard(index: bool, tmp_path: Path) -> None:
    write_huggingface(tmp_path, CONFIG, TENSORS, shards=3, index=index)
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    message = refusal(lambda: load_checkpoint(tmp_path))
    assert "model-00002-of-00003.safetensors: this shard of the weights is missing" in message


def test_index_files(tmp_path: Path) -> None:
    write_huggingface(tmp_path, CONFIG, TENSORS, shards=2)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"a": "../b.safetensors"}}')
    assert "outside its directory" in refusal(lambda: load_checkpoint(tmp_path))
    index.write_text('{"weight_map": 3}')
    assert "weight_map" in refusal(lambda: load_checkpoint(tmp_path))


def test_tensor_in_two_files(tmp_path: Path) -> None:
    write_huggingface(tmp_path, CONFIG, TENSORS)
    (tmp_path / "model.safetensors").rename(tmp_path / "a.safetensors")
    (tmp_path / "b.safetensors").write_bytes((tmp_path / "a.safetensors").read_bytes())
    assert "is in both" in refusal(lambda: load_checkpoint(tmp_path))


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"hidden_size": }', "\ud800", "[" * 100_000])
def test_bad_config_json(text: str, tmp_path: Path) -> None:
    write_huggingface(tmp_path, CONFIG, TENSORS)
    (tmp_path / "config.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    message = refusal(lambda: load_checkpoint(tmp_path))
    assert "config.json" in message
    assert "JSON" in message


def test_directories_that_are_no_model(tmp_path: Path) -> None:
    assert "no config.json" in refusal(lambda: load_checkpoint(tmp_path))
    assert "no such file" in refusal(lambda: load_checkpoint(tmp_path / "nothing"))
    (tmp_path / "adapter_config.json").write_text("{}")
    assert "LoRA" in refusal(lambda: load_checkpoint(tmp_path))
    write_huggingface(tmp_path, CONFIG, TENSORS)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    message = refusal(lambda: load_checkpoint(tmp_path))
    assert "no *.safetensors" in message
    assert "pytorch_model.bin" in message


def test_files_that_only_look_like_one(tmp_path: Path) -> None:
    path = tmp_path / "m.bin"
    path.write_bytes(b"\x80\x02}q\x00.")
    assert "pickle" in refusal(lambda: load_checkpoint(path))
    for name in ("m.gguf", "m.bin"):
        pointer = tmp_path / name
        pointer.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
        assert "git lfs pull" in refusal(partial(load_checkpoint, pointer))
    (tmp_path / "other.gguf").write_bytes(b"")
    assert "2 GGUF files" in refusal(lambda: load_checkpoint(tmp_path))


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"llama.attention.sliding_window": 16}, ["sliding window", "16"]),
        ({"llama.expert_count": 8}, ["mixture of experts", "llama.expert_count"]),
        ({"llama.rope.scaling.type": "yarn"}, ["RoPE scaling", "'yarn'"]),
        ({"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0}, ["'linear'"]),
        ({"llama.rope.scale_linear": 2.0}, ["'linear'"]),
        ({"llama.attn_logit_softcapping": 50.0}, ["soft-cap"]),
        ({"llama.logit_scale": 0.5}, ["logit scaling"]),
        ({"llama.new_feature": True}, ["not plain Llama", "llama.new_feature"]),
        ({"llama.attention.causal": False}, ["causal"]),
        ({"llama.vocab_size": 97}, ["96 rows", "97"]),
        ({"split.count": 2}, ["split"]),
        ({"tokenizer.ggml.model": "bert", "tokenizer.ggml.tokens": ["a"]}, ["'bert'"]),
        ({"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.tokens": ["a"]}, ["merges", "missing"]),
        (
            {"tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": ["a"] * 97},
            ["97 tokens", "96 rows"],
        ),
        (
            {
                "tokenizer.ggml.model": "llama",
                "tokenizer.ggml.tokens": ["a", "b"],
                "tokenizer.ggml.scores": [1.0],
            },
            ["scores", "1 entries for 2 tokens"],
        ),
    ],
)
def test_gguf_metadata(metadata: dict[str, Any], words: list[str], tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", CONFIG, TENSORS, metadata=metadata)
    message = refusal(lambda: load_checkpoint(path))
    for word in ("m.gguf", *words):
        assert word in message


def test_gguf_metadata_that_is_off(tmp_path: Path) -> None:
    metadata = {
        "llama.expert_count": 0,
        "llama.rope.scaling.type": "none",
        "llama.attention.sliding_window": 64,
        "llama.vocab_size": 96,
        "llama.new_feature": False,
    }
    path = write_gguf(tmp_path / "m.gguf", CONFIG, TENSORS, metadata=metadata)
    assert load_checkpoint(path).config.dim == CONFIG.dim


def test_gguf_values_and_partial_rotary(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", CONFIG, TENSORS)
    data = path.read_bytes()
    for key, words in (
        (b"llama.rope.dimension_count", ["partial rotary", "4 of 8"]),
        (b"llama.attention.value_length", ["values of 4", "keys of 8"]),
    ):
        at = data.index(key) + len(key) + 4  # after the type
        path.write_bytes(data[:at] + struct.pack("<I", 4) + data[at + 4 :])
        message = refusal(lambda: load_checkpoint(path))
        for word in words:
            assert word in message


@pytest.mark.parametrize("architecture", ["qwen2", "gemma", "phi3"])
def test_gguf_architecture(architecture: str, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", CONFIG, TENSORS, architecture=architecture)
    assert f"'{architecture}'" in refusal(lambda: load_checkpoint(path))


@pytest.mark.parametrize(
    ("name", "feature"),
    [
        ("blk.0.attn_q.bias", "biases"),
        ("blk.0.attn_q_norm.weight", "QK-norm"),
        ("blk.0.ffn_gate_inp.weight", "mixture of experts"),
        ("rope_factors_long.weight", "LongRoPE"),
    ],
)
def test_gguf_tensor_of_a_feature(name: str, feature: str, tmp_path: Path) -> None:
    extra = {name: np.ones(32, np.float32)}
    path = write_gguf(tmp_path / "m.gguf", CONFIG, TENSORS, extra=extra)
    message = refusal(lambda: load_checkpoint(path))
    assert feature in message
    assert name in message


def test_gguf_tensors(tmp_path: Path) -> None:
    tensors = {**TENSORS, "layers.0.wo": np.zeros((32, 31), np.float32)}
    path = write_gguf(tmp_path / "m.gguf", CONFIG, tensors)
    message = refusal(lambda: load_checkpoint(path))
    for word in ("'blk.0.attn_output.weight'", "(32, 31)", "(32, 32)"):
        assert word in message
    config = small_config(layers=3)
    path = write_gguf(tmp_path / "n.gguf", config, random_tensors(config))
    data = path.read_bytes().replace(b"blk.2.ffn_up.weight", b"blk.2.ffn_xx.weight")
    path.write_bytes(data)
    assert "'blk.2.ffn_up.weight' is missing" in refusal(lambda: load_checkpoint(path))
    config = small_config(rope_scaling=RopeFactors((1.0, 1.0, 1.0, 1.0)))
    path = write_gguf(tmp_path / "o.gguf", config, TENSORS)
    path.write_bytes(path.read_bytes().replace(b"rope_freqs.weight", b"rope_freqs.w_ight"))
    assert "rope_freqs.w_ight" in refusal(lambda: load_checkpoint(path))


def test_truncated_gguf(tmp_path: Path) -> None:
    """Cut anywhere, a file is refused, and says that it is cut."""
    path = write_gguf(tmp_path / "m.gguf", CONFIG, TENSORS)
    data = path.read_bytes()
    table = data.index(b"output_norm.weight")
    cuts = [1, 3, 5, 20, *range(24, table, 53), table + 7, len(data) // 2, len(data) - 1]
    for cut in cuts:
        path.write_bytes(data[:cut])
        message = refusal(lambda: load_checkpoint(path))
        assert "truncated" in message or (cut < 4 and "not a GGUF" in message), (cut, message)
    assert "tensor 'output.weight' ends at byte" in message


def test_gguf_headers(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", CONFIG, TENSORS)
    data = path.read_bytes()
    for head, word in (
        (b"GGUF" + struct.pack("<I", 1), "version 1"),
        (b"GGUF" + struct.pack(">I", 3), "big-endian"),
        (b"tjgg" + struct.pack("<I", 3), "before GGUF"),
        (b"ABCD" + struct.pack("<I", 3), "not a GGUF"),
    ):
        path.write_bytes(head + data[8:])
        assert word in refusal(lambda: load_checkpoint(path))
    path.write_bytes(data[:8] + struct.pack("<Q", 1 << 60) + data[16:])
    assert "damaged" in refusal(lambda: load_checkpoint(path))


@pytest.mark.parametrize("version", [0, 1])
def test_llama2c_size(version: int, tmp_path: Path) -> None:
    path = write_llama2c(tmp_path / "m.bin", CONFIG, TENSORS, version)
    data = path.read_bytes()
    for size in (3, 27, 200, len(data) - 4, len(data) + 4):
        path.write_bytes(data[:size] + bytes(max(0, size - len(data))))
        message = refusal(lambda: load_checkpoint(path))
        assert "m.bin" in message
        if size > 256:
            assert f"needs {len(data)} bytes, it has {size}" in message


@pytest.mark.parametrize(
    ("field", "value", "word"),
    [(0, 0, "dim is 0"), (3, 5, "5 heads"), (4, 3, "KV heads"), (2, 1 << 30, "layers"),
     (6, -1, "context is -1"), (0, 36, "bytes")],
)  # fmt: skip
def test_llama2c_header(field: int, value: int, word: str, tmp_path: Path) -> None:
    path = write_llama2c(tmp_path / "m.bin", CONFIG, TENSORS)
    data = bytearray(path.read_bytes())
    struct.pack_into("<i", data, 4 * field, value)
    path.write_bytes(data)
    assert word in refusal(lambda: load_checkpoint(path))


@pytest.mark.parametrize(("version", "word"), [(2, "int8"), (9, "unknown version 9")])
def test_llama2c_versions(version: int, word: str, tmp_path: Path) -> None:
    path = write_llama2c(tmp_path / "m.bin", CONFIG, TENSORS, version)
    assert word in refusal(lambda: load_checkpoint(path))


def test_configurations() -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"heads": 4, "kv_heads": 3}, "KV heads"),
        ({"head_dim": 5}, "odd head_dim 5"),
        ({"rope_theta": float("inf")}, "rope_theta"),
        ({"eos_ids": (96,)}, "token 96"),
        ({"rope_scaling": RopeFactors((1.0,))}, "1 factors"),
    ]
    for changes, word in cases:
        assert word in refusal(partial(small_config, **changes))
    assert "low_freq" in refusal(lambda: Llama3RopeScaling(8.0, 4.0, 4.0, 8192))
    assert "factor" in refusal(lambda: RopeFactors((0.0,)))


def test_float8_is_refused(tmp_path: Path) -> None:
    tensors = {k: v.astype(ml_dtypes.float8_e4m3fn) for k, v in TENSORS.items()}
    write_huggingface(tmp_path, CONFIG, TENSORS)
    rewrite(tmp_path, o_proj__weight=tensors["layers.0.wo"])
    assert "F8_E4M3" in refusal(lambda: load_checkpoint(tmp_path))


def test_json_of_shared_config_is_checked_too(tmp_path: Path) -> None:
    path = tmp_path / "big.json"
    path.write_text(json.dumps({"model_type": "mixtral"}))
    assert "mixtral" in refusal(lambda: load_config(path))


@pytest.mark.parametrize("form", ["gguf", "llama2c", "model.safetensors", "config.json"])
def test_any_damage_is_refused_or_harmless(form: str, tmp_path: Path) -> None:
    """Bytes changed at random never end in another exception than UserError."""
    if form == "gguf":
        metadata = {"tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": ["<unk>", "a", "b"]}
        file = model = write_gguf(tmp_path / "m.gguf", CONFIG, TENSORS, metadata=metadata)
    elif form == "llama2c":
        file = model = write_llama2c(tmp_path / "m.bin", CONFIG, TENSORS)
    else:
        model = write_huggingface(tmp_path, CONFIG, TENSORS)
        file = model / form
    data = file.read_bytes()
    head = {"gguf": 3500, "llama2c": 40}.get(form, 2600)
    random = np.random.default_rng(6)
    refused = []
    for _ in range(150):
        damaged = bytearray(data)
        for at in random.integers(0, min(head, len(data)), random.integers(1, 4)):
            damaged[at] = random.integers(256)
        file.write_bytes(damaged)
        try:
            checkpoint = load_checkpoint(model)
            assert checkpoint.tensors["embed"].shape == (checkpoint.config.vocab, 32)
        except UserError as error:
            refused.append(str(error))
    assert len(refused) > 50
    assert not [message for message in refused if "\n" in message]
