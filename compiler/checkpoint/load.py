"""One door for every checkpoint format."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

from compiler.checkpoint.files import read_head, read_json
from compiler.checkpoint.gguf import load_gguf, load_gguf_config
from compiler.checkpoint.gguf_file import GgufFile
from compiler.checkpoint.gguf_tokenizer import gguf_tokenizer
from compiler.checkpoint.huggingface import load_huggingface, load_huggingface_config
from compiler.checkpoint.huggingface_config import config_from_json
from compiler.checkpoint.huggingface_tokenizer import load_huggingface_tokenizer
from compiler.checkpoint.llama2c import (
    load_llama2c,
    load_llama2c_config,
    load_llama2c_tokenizer,
)
from compiler.checkpoint.model import Checkpoint, LlamaConfig
from compiler.checkpoint.tokenizer import TokenizerSpec
from compiler.errors import UserError

__all__ = ["load_checkpoint", "load_config"]

_PICKLE = b"\x80"


def load_checkpoint(path: str | Path, tokenizer: str | Path | None = None) -> Checkpoint:
    """Model at ``path``: a Hugging Face directory, a GGUF file or a llama2.c ``.bin``.

    Parameters
    ----------
    path : the directory (or a file in it), or the file; the format is found from the content
    tokenizer : tokenizer to take in place of the model's own: a ``tokenizer.json`` or a directory
        with one, a llama2.c ``tokenizer.bin``, or a GGUF

    Raises `UserError` naming what is wrong: no model there, a feature that is not supported, or a
    file that is damaged. Weights are read, and found to be finite, when they are asked for.
    """
    kind, path = _detect(Path(path))
    beside = path.with_name("tokenizer.bin")
    if tokenizer is None and kind == "llama2c" and beside.is_file():
        tokenizer = beside
    if tokenizer is not None and not Path(tokenizer).exists():
        raise UserError(f"{tokenizer}: no such tokenizer file")
    loaders = {"gguf": load_gguf, "huggingface": load_huggingface, "llama2c": load_llama2c}
    checkpoint = loaders[kind](path)
    if tokenizer is None:
        return checkpoint
    return replace(checkpoint, tokenizer=_load_tokenizer(Path(tokenizer), checkpoint.config))


def load_config(path: str | Path) -> LlamaConfig:
    """Configuration of the model at ``path`` without its weights.

    A Hugging Face ``config.json`` (by any name) is enough; of the others the file's head is read.
    """
    path = Path(path)
    if path.is_file() and path.suffix == ".json" and not path.name.endswith(".index.json"):
        return config_from_json(path, read_json(path))
    kind, path = _detect(path)
    loaders = {
        "gguf": load_gguf_config,
        "huggingface": load_huggingface_config,
        "llama2c": load_llama2c_config,
    }
    return loaders[kind](path)


def _detect(path: Path) -> tuple[str, Path]:
    """Format, and the directory or file that holds the model."""
    if not path.exists():
        raise UserError(f"{path}: no such file or directory")
    if path.is_file() and (path.name.endswith((".safetensors", ".index.json", "config.json"))):
        path = path.parent
    if path.is_dir():
        if (path / "config.json").is_file() or (path / "adapter_config.json").is_file():
            return "huggingface", path
        files = sorted(path.glob("*.gguf"))
        if len(files) == 1:
            return "gguf", files[0]
        found = f"{len(files)} GGUF files" if files else "no config.json and no GGUF file"
        raise UserError(f"{path} holds {found}; name the model's file or directory")
    head = read_head(path, 4)
    if head == b"GGUF" or path.suffix == ".gguf":
        return "gguf", path
    if head[:1] == _PICKLE or zipfile.is_zipfile(path):
        raise UserError(
            f"{path} is a PyTorch pickle, which is not read; convert it to safetensors (or, for "
            "llama2.c, export it as .bin)"
        )
    return "llama2c", path


def _load_tokenizer(path: Path, config: LlamaConfig) -> TokenizerSpec:
    if path.is_dir() or path.suffix == ".json":
        spec: TokenizerSpec | None = load_huggingface_tokenizer(path, config)
    elif read_head(path, 4) == b"GGUF":
        spec = gguf_tokenizer(GgufFile(path), config)
    else:
        spec = load_llama2c_tokenizer(path, config)
    if spec is None:
        raise UserError(f"{path} holds no tokenizer")
    return spec
