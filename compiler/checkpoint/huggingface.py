"""Hugging Face directories: ``config.json``, ``*.safetensors``, and the tokenizer's files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from compiler.checkpoint.files import read_head, read_json
from compiler.checkpoint.huggingface_config import config_from_json
from compiler.checkpoint.huggingface_tokenizer import load_huggingface_tokenizer
from compiler.checkpoint.model import Checkpoint, LlamaConfig, Tensors, tensor_shapes
from compiler.errors import UserError

__all__ = ["load_huggingface", "load_huggingface_config"]

_MODEL = {
    "embed": "model.embed_tokens.weight",
    "final_norm": "model.norm.weight",
    "head": "lm_head.weight",
}
_LAYER = {
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
# Importing ml_dtypes is what teaches NumPy, and so safetensors, the name "bfloat16".
assert np.dtype(ml_dtypes.bfloat16).name == "bfloat16"
_DTYPES = ("F32", "BF16", "F16")
_SINGLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_SHARD = re.compile(r"(.*-)(\d{5})-of-(\d{5})\.safetensors")
# Why a tensor that no plain Llama has is there, by a part of its name.
_FEATURES = {
    "q_norm": "QK-norm",
    "k_norm": "QK-norm",
    "expert": "mixture of experts",
    "mlp.gate.": "mixture of experts",
    "_proj.bias": "biases",
    "head.bias": "biases",
    "norm.bias": "LayerNorm biases",
    "lora_": "LoRA adapters",
    "feedforward_layernorm": "norms after attention or feed-forward",
    "qweight": "quantised weights",
    "weight_scale": "quantised weights",
    "weight_packed": "quantised weights",
    "sinks": "attention sinks",
}


def load_huggingface(path: Path) -> Checkpoint:
    """Checkpoint in a directory. Raises `UserError` for what is damaged or not plain Llama."""
    config_path = path / "config.json"
    config = load_huggingface_config(path)
    files = _tensor_files(path)
    names = _tensor_names(config)
    _check_tensors(config_path, config, names, files)

    def read(name: str) -> NDArray[np.float32]:
        source = names[name]
        tensor = _read(files[source], source)
        if name.endswith(".wq"):
            return _interleave(tensor, config.heads)
        return _interleave(tensor, config.kv_heads) if name.endswith(".wk") else tensor

    def place(name: str) -> str:
        return f"{files[names[name]]}: tensor '{names[name]}'"

    if config.tied and _MODEL["head"] in files:
        _check_tied(files)
    tokenizer = load_huggingface_tokenizer(path, config)
    return Checkpoint(config, Tensors(config, read, place), tokenizer, path)


def load_huggingface_config(path: Path) -> LlamaConfig:
    """Configuration of a directory from its ``config.json`` (and ``generation_config.json``)."""
    if not (path / "config.json").is_file() and (path / "adapter_config.json").is_file():
        raise UserError(f"{path} is a LoRA adapter, not a model; merge it into its base model")
    generation = path / "generation_config.json"
    return config_from_json(
        path / "config.json",
        read_json(path / "config.json"),
        read_json(generation) if generation.is_file() else {},
    )


def _interleave(matrix: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Rows of rotate-half heads (i turns with i + head_dim / 2) as pairs 2i, 2i + 1."""
    rows, dim = matrix.shape
    halves = matrix.reshape(heads, 2, rows // heads // 2, dim)
    return halves.swapaxes(1, 2).reshape(rows, dim)


def _read(path: Path, name: str) -> NDArray[np.float32]:
    with safe_open(path, "np") as file:
        return file.get_tensor(name).astype(np.float32)


def _check_tied(files: dict[str, Path]) -> None:
    head, embed = (_read(files[_MODEL[name]], _MODEL[name]) for name in ("head", "embed"))
    if not np.array_equal(head, embed):
        raise UserError(
            f"{files[_MODEL['head']]}: tensor 'lm_head.weight' differs from the embedding although "
            "config.json says tie_word_embeddings; set it to false, or remove the tensor"
        )


def _weight_files(path: Path) -> list[Path]:
    """Files of the weights, all of them there."""
    if (path / _SINGLE).is_file():
        return [path / _SINGLE]
    if (path / _INDEX).is_file():
        index = read_json(path / _INDEX).get("weight_map")
        if not isinstance(index, dict) or not all(isinstance(v, str) for v in index.values()):
            raise UserError(f"{path / _INDEX} has no 'weight_map' of tensor names to file names")
        names = sorted(set(index.values()))
        for name in names:
            if Path(name).name != name:
                raise UserError(f"{path / _INDEX} names a file outside its directory: {name!r}")
    else:
        # Mistral's own copy of the same weights goes by other names.
        names = sorted(
            file.name
            for file in path.glob("*.safetensors")
            if not file.name.startswith("consolidated")
        )
        for match in filter(None, map(_SHARD.fullmatch, list(names))):
            stem, _, last = match.groups()
            names += [f"{stem}{i:05}-of-{last}.safetensors" for i in range(1, int(last) + 1)]
    if not names:
        found = [file.name for file in path.glob("*.bin")] + [f.name for f in path.glob("*.pt*")]
        hint = f"; {found[0]} is a pickle, save it as safetensors" if found else ""
        raise UserError(f"{path} has a config.json but no *.safetensors file{hint}")
    for name in names:
        if not (path / name).is_file():
            raise UserError(f"{path / name}: this shard of the weights is missing")
    return [path / name for name in sorted(set(names))]


def _tensor_files(path: Path) -> dict[str, Path]:
    """Tensor name -> file that holds it."""
    files: dict[str, Path] = {}
    for file in _weight_files(path):
        read_head(file, 1)
        try:
            with safe_open(file, "np") as tensors:
                names = list(tensors.keys())
        except (SafetensorError, OSError) as error:
            raise UserError(f"{file} is truncated or damaged: {error}") from error
        for name in names:
            if name in files:
                raise UserError(f"tensor '{name}' is in both {files[name]} and {file}")
            files[name] = file
    return files


def _tensor_names(config: LlamaConfig) -> dict[str, str]:
    """Canonical name -> name in the files."""
    names = dict(_MODEL)
    for layer in range(config.layers):
        for name, stem in _LAYER.items():
            names[f"layers.{layer}.{name}"] = f"model.layers.{layer}.{stem}.weight"
    if config.tied:
        del names["head"]
    return names


def _check_tensors(
    config_path: Path, config: LlamaConfig, names: dict[str, str], files: dict[str, Path]
) -> None:
    known = {*names.values(), _MODEL["head"]}
    for name, file in files.items():
        # Old checkpoints carry RoPE's frequencies, which follow from config.json.
        if name not in known and not name.endswith("rotary_emb.inv_freq"):
            feature = next((v for k, v in _FEATURES.items() if k in name), "not plain Llama")
            raise UserError(f"{file}: {feature} (tensor '{name}') is not supported")
    shapes = tensor_shapes(config)
    for name in names.values():
        if name not in files:
            raise UserError(f"{config_path.parent}: tensor '{name}' is missing from the weights")
    for file in set(files.values()):
        with safe_open(file, "np") as tensors:
            for canonical, name in names.items():
                if files[name] != file:
                    continue
                found: Any = tensors.get_slice(name)
                if (shape := tuple(found.get_shape())) != shapes[canonical]:
                    raise UserError(
                        f"{file}: tensor '{name}' has shape {shape}, {config_path.name} says "
                        f"{shapes[canonical]}"
                    )
                if (dtype := found.get_dtype()) not in _DTYPES:
                    raise UserError(
                        f"{file}: tensor '{name}' is {dtype}; float32, bfloat16 and float16 are "
                        "supported"
                    )
