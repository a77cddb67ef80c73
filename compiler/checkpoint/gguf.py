"""GGUF checkpoints of the ``llama`` architecture: configuration and tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compiler.checkpoint.gguf_file import GgufFile
from compiler.checkpoint.gguf_tokenizer import gguf_tokenizer, special_ids
from compiler.checkpoint.model import Checkpoint, LlamaConfig, RopeFactors, Tensors, tensor_shapes
from compiler.errors import UserError

__all__ = ["load_gguf", "load_gguf_config"]

_MODEL = {"embed": "token_embd", "final_norm": "output_norm", "head": "output"}
_LAYER = {
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
_ROPE_FACTORS = "rope_freqs.weight"
# Keys of the architecture that are read below, or that say nothing about the arithmetic.
_KNOWN_KEYS = {
    "block_count",
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.layer_norm_rms_epsilon",
    "rope.freq_base",
    "rope.dimension_count",
    "vocab_size",
    "tensor_data_layout",
    "attention.causal",
    "attention.sliding_window",
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scaling.original_context_length",
    "rope.scaling.finetuned",
    "rope.scaling.attn_factor",
    "rope.scale_linear",
}
# Why a tensor or key that no plain Llama has is there, by a part of its name.
_FEATURES = {
    "attn_q_norm": "QK-norm",
    "attn_k_norm": "QK-norm",
    "exps": "mixture of experts",
    "expert": "mixture of experts",
    "gate_inp": "mixture of experts",
    "post_": "norms after attention or feed-forward",
    "rope_factors": "LongRoPE",
    "softcap": "logit soft-cap",
    "sliding_window": "sliding window attention",
    "sinks": "attention sinks",
    ".bias": "biases",
    ".scale": "scaled (BitNet) weights",
    "logit_scale": "logit scaling",
    "clamp_kqv": "clamped attention inputs",
}


def load_gguf(path: Path) -> Checkpoint:
    """Checkpoint in a GGUF file. Raises `UserError` for what is damaged or not plain Llama."""
    file = GgufFile(path)
    config = _config(file)
    names = _tensor_names(config)
    _check_tensors(file, config, names)

    def read(name: str) -> NDArray[np.float32]:
        return file.read(names[name])

    tensors = Tensors(config, read, lambda name: f"{path}: tensor '{names[name]}'")
    return Checkpoint(config, tensors, gguf_tokenizer(file, config), path)


def load_gguf_config(path: Path) -> LlamaConfig:
    """Configuration alone; the tensors' table is read, their data is not."""
    return _config(GgufFile(path))


def _feature(name: str) -> str:
    return next((text for part, text in _FEATURES.items() if part in name), "not plain Llama")


class _Keys:
    """Typed access to the metadata of one architecture."""

    def __init__(self, file: GgufFile) -> None:
        self.file = file
        self.prefix = "llama."

    def get(self, key: str, kind: type, default: Any = None) -> Any:
        """Value of ``llama.<key>``; a list of equal values counts as that value."""
        name = self.prefix + key
        value = self.file.metadata.get(name, default)
        if value is None:
            raise UserError(f"{self.file.path}: metadata '{name}' is missing")
        if isinstance(value, list):
            if len(set(value)) != 1:
                raise UserError(f"{self.file.path}: {name} differs from layer to layer")
            value = value[0]
        if kind is float and isinstance(value, int):
            value = float(value)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise UserError(f"{self.file.path}: {name} is {value!r}, a {kind.__name__} is needed")
        return value


def _config(file: GgufFile) -> LlamaConfig:
    metadata, path = file.metadata, file.path
    architecture = metadata.get("general.architecture")
    if architecture != "llama":
        raise UserError(
            f"{path}: architecture '{architecture}' is not supported; llama is the one that is"
        )
    if metadata.get("split.count", 1) > 1:
        raise UserError(f"{path} is one part of a split GGUF; merge it with 'llama-gguf-split'")
    keys = _Keys(file)
    heads = keys.get("attention.head_count", int)
    dim = keys.get("embedding_length", int)
    derived = dim // heads if heads > 0 else 0
    head_dim = keys.get("attention.key_length", int, derived)
    if "llama.attention.key_length" not in metadata and heads > 0 and dim % heads:
        raise UserError(
            f"{path}: no attention.key_length, and {heads} heads do not divide a width of {dim}"
        )
    _refuse_features(keys, head_dim)
    embed = file.tensors.get("token_embd.weight")
    if embed is None:
        raise UserError(f"{path}: tensor 'token_embd.weight' is missing")
    vocab = embed.shape[0]
    if keys.get("vocab_size", int, vocab) != vocab:
        raise UserError(
            f"{path}: tensor 'token_embd.weight' has {vocab} rows, llama.vocab_size is "
            f"{metadata['llama.vocab_size']}"
        )
    scaling = None
    if _ROPE_FACTORS in file.tensors:
        scaling = RopeFactors(tuple(file.read(_ROPE_FACTORS).ravel().tolist()))
    bos, eos = special_ids(file, vocab)
    try:
        return LlamaConfig(
            dim=dim,
            hidden=keys.get("feed_forward_length", int),
            layers=keys.get("block_count", int),
            heads=heads,
            kv_heads=keys.get("attention.head_count_kv", int, heads),
            head_dim=head_dim,
            vocab=vocab,
            context=keys.get("context_length", int),
            norm_eps=keys.get("attention.layer_norm_rms_epsilon", float),
            rope_theta=keys.get("rope.freq_base", float, 10000.0),
            rope_scaling=scaling,
            tied="output.weight" not in file.tensors,
            bos_id=bos,
            eos_ids=eos,
        )
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _refuse_features(keys: _Keys, head_dim: int) -> None:
    metadata, path = keys.file.metadata, keys.file.path
    for name in metadata:
        key = name.removeprefix(keys.prefix)
        if key != name and key not in _KNOWN_KEYS and metadata[name]:
            raise UserError(
                f"{path}: {_feature(name)} ({name} = {metadata[name]!r}) is not supported"
            )
    value_length = keys.get("attention.value_length", int, head_dim)
    if value_length != head_dim:
        raise UserError(
            f"{path}: values of {value_length} elements a head beside keys of {head_dim} are not "
            "supported"
        )
    rotated = keys.get("rope.dimension_count", int, head_dim)
    if rotated != head_dim:
        raise UserError(
            f"{path}: partial rotary embedding ({rotated} of {head_dim} elements a head) is not "
            "supported"
        )
    window = keys.get("attention.sliding_window", int, 0)
    if 0 < window < keys.get("context_length", int):
        raise UserError(f"{path}: sliding window attention ({window} tokens) is not supported")
    if not keys.get("attention.causal", bool, True):
        raise UserError(f"{path}: attention that is not causal is not supported")
    scaling = keys.get("rope.scaling.type", str, "none")
    factors = [keys.get(key, float, 1.0) for key in ("rope.scaling.factor", "rope.scale_linear")]
    if scaling != "none" and (scaling != "linear" or factors[0] not in (0.0, 1.0)):
        raise UserError(f"{path}: RoPE scaling of type '{scaling}' is not supported")
    if factors[1] not in (0.0, 1.0):
        raise UserError(f"{path}: RoPE scaling of type 'linear' is not supported")


def _tensor_names(config: LlamaConfig) -> dict[str, str]:
    """Canonical name -> name in the file."""
    names = {name: f"{stem}.weight" for name, stem in _MODEL.items()}
    for layer in range(config.layers):
        for name, stem in _LAYER.items():
            names[f"layers.{layer}.{name}"] = f"blk.{layer}.{stem}.weight"
    if config.tied:
        del names["head"]
    return names


def _check_tensors(file: GgufFile, config: LlamaConfig, names: dict[str, str]) -> None:
    shapes = tensor_shapes(config)
    for canonical, name in names.items():
        tensor = file.tensors.get(name)
        if tensor is None:
            raise UserError(f"{file.path}: tensor '{name}' is missing")
        if tensor.shape != shapes[canonical]:
            raise UserError(
                f"{file.path}: tensor '{name}' has shape {tensor.shape}, its metadata says "
                f"{shapes[canonical]}"
            )
    known = {*names.values(), _ROPE_FACTORS}
    for name in file.tensors:
        # attn_rot_embd is a RoPE table that old converters copied; nothing reads it.
        if name not in known and "attn_rot_embd" not in name:
            raise UserError(f"{file.path}: {_feature(name)} (tensor '{name}') is not supported")
