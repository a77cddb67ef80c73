"""Writes small random checkpoints in every format that the compiler reads."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gguf
import ml_dtypes
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from compiler.checkpoint import (
    Checkpoint,
    Llama3RopeScaling,
    LlamaConfig,
    RopeFactors,
    tensor_shapes,
)

__all__ = [
    "SHARED_MODELS",
    "in_memory",
    "random_tensors",
    "small_config",
    "write_gguf",
    "write_huggingface",
    "write_llama2c",
    "write_tokenizer_bin",
]

SHARED_MODELS = Path(__file__).resolve().parents[1] / ".." / "shared" / "models"
Arrays = Mapping[str, NDArray[np.float32]]

_DTYPES: dict[str, Any] = {"F32": np.float32, "BF16": ml_dtypes.bfloat16, "F16": np.float16}
_HF_LAYER = {
    "attn_norm": "input_layernorm",
    "wq": "self_attn.q_proj",
    "wk": "self_attn.k_proj",
    "wv": "self_attn.v_proj",
    "wo": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "w_gate": "mlp.gate_proj",
    "w_up": "mlp.up_proj",
    "w_down": "mlp.down_proj",
}
_GGUF_LAYER = {
    "attn_norm": "attn_norm",
    "wq": "attn_q",
    "wk": "attn_k",
    "wv": "attn_v",
    "wo": "attn_output",
    "ffn_norm": "ffn_norm",
    "w_gate": "ffn_gate",
    "w_up": "ffn_up",
    "w_down": "ffn_down",
}


def small_config(**changes: Any) -> LlamaConfig:
    """A model every format can hold: head_dim = dim / heads, llama2.c's constants."""
    values: dict[str, Any] = {
        "dim": 32,
        "hidden": 64,
        "layers": 2,
        "heads": 4,
        "kv_heads": 2,
        "head_dim": 8,
        "vocab": 96,
        "context": 64,
        "norm_eps": 1e-5,
        "bos_id": 1,
        "eos_ids": (2,),
    }
    return LlamaConfig(**(values | changes))


def random_tensors(config: LlamaConfig, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Weights that float32, bfloat16 and float16 all hold exactly."""
    random = np.random.default_rng(seed)
    tensors: dict[str, Any] = {}
    for name, shape in tensor_shapes(config).items():
        values = random.integers(-127, 128, shape).astype(np.float32) / 256
        values = values + 1 if len(shape) == 1 else values
        tensors[name] = values.astype(ml_dtypes.bfloat16).astype(np.float32)
    if config.tied:
        tensors["head"] = tensors["embed"]
    return tensors


def in_memory(config: LlamaConfig, seed: int = 0) -> Checkpoint:
    """A random checkpoint without a file."""
    return Checkpoint(config, random_tensors(config, seed), None, Path("memory"))


def write_huggingface(
    folder: Path,
    config: LlamaConfig,
    tensors: Arrays,
    dtype: str = "F32",
    shards: int = 1,
    index: bool = True,
    changes: Mapping[str, Any] | None = None,
    extra: Mapping[str, NDArray[Any]] | None = None,
) -> Path:
    """A Hugging Face directory. ``changes`` go into config.json, ``extra`` beside the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": config.dim,
        "intermediate_size": config.hidden,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "vocab_size": config.vocab,
        "max_position_embeddings": config.context,
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,
        "rope_scaling": None,
        "tie_word_embeddings": config.tied,
        "bos_token_id": config.bos_id,
        "eos_token_id": list(config.eos_ids),
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
    }
    if config.head_dim * config.heads != config.dim:
        content["head_dim"] = config.head_dim
    if isinstance(scaling := config.rope_scaling, Llama3RopeScaling):
        content["rope_scaling"] = {
            "rope_type": "llama3",
            "factor": scaling.factor,
            "low_freq_factor": scaling.low_freq_factor,
            "high_freq_factor": scaling.high_freq_factor,
            "original_max_position_embeddings": scaling.original_context,
        }
    (folder / "config.json").write_text(json.dumps(content | dict(changes or {})))

    named = {"model.embed_tokens.weight": tensors["embed"]}
    for layer in range(config.layers):
        for name, stem in _HF_LAYER.items():
            tensor = tensors[f"layers.{layer}.{name}"]
            if name in ("wq", "wk"):  # pairs (2i, 2i + 1) -> (i, i + head_dim / 2)
                heads = config.heads if name == "wq" else config.kv_heads
                pairs = tensor.reshape(heads, config.head_dim // 2, 2, config.dim)
                tensor = pairs.swapaxes(1, 2).reshape(tensor.shape)
            named[f"model.layers.{layer}.{stem}.weight"] = tensor
    named["model.norm.weight"] = tensors["final_norm"]
    if not config.tied:
        named["lm_head.weight"] = tensors["head"]
    stored = {k: np.ascontiguousarray(v).astype(_DTYPES[dtype]) for k, v in named.items()}
    stored |= dict(extra or {})
    if shards == 1:
        save_file(stored, folder / "model.safetensors")
        return folder
    names = list(stored)
    weight_map: dict[str, str] = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        part = names[shard::shards]
        save_file({name: stored[name] for name in part}, folder / file)
        weight_map |= dict.fromkeys(part, file)
    if index:
        text = json.dumps({"metadata": {}, "weight_map": weight_map})
        (folder / "model.safetensors.index.json").write_text(text)
    return folder


def write_gguf(
    path: Path,
    config: LlamaConfig,
    tensors: Arrays,
    quantization: str = "F32",
    metadata: Mapping[str, Any] | None = None,
    extra: Mapping[str, NDArray[Any]] | None = None,
    architecture: str = "llama",
) -> Path:
    """A GGUF file. ``metadata`` values are str, bool, int, float or lists."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(config.context)
    writer.add_embedding_length(config.dim)
    writer.add_block_count(config.layers)
    writer.add_feed_forward_length(config.hidden)
    writer.add_head_count(config.heads)
    writer.add_head_count_kv(config.kv_heads)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    if config.bos_id is not None:
        writer.add_bos_token_id(config.bos_id)
    for token in config.eos_ids[:1]:
        writer.add_eos_token_id(token)
    for key, value in (metadata or {}).items():
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        else:
            writer.add_array(key, value)
    named = {"token_embd": tensors["embed"], "output_norm": tensors["final_norm"]}
    for layer in range(config.layers):
        for name, stem in _GGUF_LAYER.items():
            named[f"blk.{layer}.{stem}"] = tensors[f"layers.{layer}.{name}"]
    if not config.tied:
        named["output"] = tensors["head"]
    kind = gguf.GGMLQuantizationType[quantization]
    for name, tensor in named.items():
        used = kind if tensor.ndim > 1 else gguf.GGMLQuantizationType.F32
        data = gguf.quantize(np.ascontiguousarray(tensor), used)
        writer.add_tensor(f"{name}.weight", data, raw_dtype=used)
    if isinstance(config.rope_scaling, RopeFactors):
        factors = np.array(config.rope_scaling.factors, np.float32)
        writer.add_tensor("rope_freqs.weight", factors)
    for name, tensor in (extra or {}).items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_llama2c(path: Path, config: LlamaConfig, tensors: Arrays, version: int = 0) -> Path:
    """A llama2.c checkpoint, legacy (version 0) or version 1."""
    vocab = config.vocab if config.tied or version else -config.vocab
    header = struct.pack(
        "<7i",
        config.dim,
        config.hidden,
        config.layers,
        config.heads,
        config.kv_heads,
        vocab,
        config.context,
    )

    def every(name: str) -> list[NDArray[np.float32]]:
        return [tensors[f"layers.{layer}.{name}"] for layer in range(config.layers)]

    matrices = [every(name) for name in ("wq", "wk", "wv", "wo")]
    feed_forward = [every(name) for name in ("w_gate", "w_down", "w_up")]
    norms = every("attn_norm"), every("ffn_norm"), [tensors["final_norm"]]
    head = [] if config.tied else [[tensors["head"]]]
    if version:
        header = struct.pack("<Ii", 0x616B3432, version) + header + bytes([config.tied])
        header += bytes(256 - len(header))
        parts = [*norms, [tensors["embed"]], *matrices, *feed_forward, *head]
    else:
        # run.c skips the RoPE tables, so that what they hold must not matter.
        rope = [np.full((config.context, config.head_dim), np.nan, np.float32)]
        parts = [[tensors["embed"]], norms[0], *matrices, norms[1], *feed_forward, norms[2], rope]
        parts += head
    body = b"".join(np.asarray(a, "<f4").tobytes() for part in parts for a in part)
    path.write_bytes(header + body)
    return path


def write_tokenizer_bin(path: Path, tokens: Sequence[str], scores: Sequence[float]) -> Path:
    """A llama2.c tokenizer.bin."""
    encoded = [token.encode() for token in tokens]
    data = struct.pack("<i", max(map(len, encoded)))
    for token, score in zip(encoded, scores, strict=True):
        data += struct.pack("<fi", score, len(token)) + token
    path.write_bytes(data)
    return path
