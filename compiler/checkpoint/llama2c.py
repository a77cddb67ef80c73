"""llama2.c checkpoints: the legacy float32 ``.bin`` (version 0), version 1, and ``tokenizer.bin``.

Source: ``export.py``, ``tokenizer.py`` and ``run.c`` of karpathy/llama2.c. All are little-endian.
RMSNorm's epsilon (1e-5) and RoPE's base (10000) are constants of that program, not of the file.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compiler.checkpoint.files import read_head
from compiler.checkpoint.model import Checkpoint, LlamaConfig, Tensors, tensor_shapes
from compiler.checkpoint.tokenizer import SentencePieceSpec, TokenType
from compiler.errors import UserError

__all__ = ["load_llama2c", "load_llama2c_config", "load_llama2c_tokenizer"]

_MAGIC = 0x616B3432  # "ak42", since version 1
_HEADER_BYTES = {0: 28, 1: 256}
_NORM_EPS, _ROPE_THETA = 1e-5, 10000.0
_UNKNOWN, _BOS, _EOS, _FIRST_BYTE = 0, 1, 2, 3  # SentencePiece's first ids; 256 bytes follow
# Tensors in file order, "*" once for each layer; "rope" stands for the two tables of version 0,
# which run.c skips too and computes instead.
_ORDER = {
    0: "embed *attn_norm *wq *wk *wv *wo *ffn_norm *w_gate *w_down *w_up final_norm rope head",
    1: "*attn_norm *ffn_norm final_norm embed *wq *wk *wv *wo *w_gate *w_down *w_up head",
}


@dataclass(frozen=True)
class _Layout:
    version: int
    config: LlamaConfig
    offsets: dict[str, int]  # canonical name -> byte in the file
    size_bytes: int


def load_llama2c(path: Path) -> Checkpoint:
    """Checkpoint in a llama2.c file, without a tokenizer: that is in a file of its own.

    Raises `UserError` when the header makes no sense or the file is not of the size it implies.
    """
    layout = _layout(path)
    found = path.stat().st_size
    if found != layout.size_bytes:
        c = layout.config
        what = "truncated" if found < layout.size_bytes else "damaged"
        raise UserError(
            f"{path} is {what} or no llama2.c checkpoint: its header (dim {c.dim}, hidden "
            f"{c.hidden}, {c.layers} layers, {c.heads}/{c.kv_heads} heads, vocabulary {c.vocab}, "
            f"context {c.context}) needs {layout.size_bytes} bytes, it has {found}"
        )
    shapes = tensor_shapes(layout.config)

    def read(name: str) -> NDArray[np.float32]:
        shape = shapes[name]
        count, offset = math.prod(shape), layout.offsets[name]
        return np.fromfile(path, "<f4", count, offset=offset).reshape(shape)

    tensors = Tensors(layout.config, read, lambda name: f"{path}: tensor '{name}'")
    return Checkpoint(layout.config, tensors, None, path)


def load_llama2c_config(path: Path) -> LlamaConfig:
    """Configuration in the header; the rest of the file is not looked at."""
    return _layout(path).config


def load_llama2c_tokenizer(path: Path, config: LlamaConfig) -> SentencePieceSpec:
    """Tokenizer in a ``tokenizer.bin``, for a model of ``config``."""
    read_head(path, 0)
    data = path.read_bytes()
    tokens: list[str] = []
    scores: list[float] = []
    at = 4  # after the longest token's length
    while at < len(data):
        if at + 8 > len(data):
            raise UserError(f"{path} is truncated in token {len(tokens)}")
        score, size = struct.unpack_from("<fi", data, at)
        at += 8 + size
        if size < 0 or at > len(data):
            raise UserError(f"{path} is truncated or no tokenizer.bin: bad token {len(tokens)}")
        try:
            tokens.append(data[at - size : at].decode("utf-8"))
        except UnicodeDecodeError as error:
            raise UserError(f"{path}: token {len(tokens)} is not UTF-8") from error
        scores.append(score)
    if len(tokens) != config.vocab:
        raise UserError(
            f"{path} has {len(tokens)} tokens, the model's vocabulary {config.vocab}; "
            "it is another model's tokenizer"
        )
    types = [int(TokenType.NORMAL)] * len(tokens)
    types[:_FIRST_BYTE] = [TokenType.UNKNOWN, TokenType.CONTROL, TokenType.CONTROL][: len(tokens)]
    for byte in range(256):
        token = _FIRST_BYTE + byte
        if token < len(tokens) and tokens[token] == f"<0x{byte:02X}>":
            types[token] = TokenType.BYTE
    return SentencePieceSpec(
        vocab=config.vocab,
        bos_id=config.bos_id,
        eos_ids=config.eos_ids,
        add_bos=True,
        tokens=tuple(tokens),
        scores=tuple(scores),
        types=tuple(map(int, types)),
        space=" ",
        bytes_first=True,
    )


def _layout(path: Path) -> _Layout:
    head = read_head(path, 256)
    version, fields_at, tied = 0, 0, True
    if len(head) >= 8 and struct.unpack_from("<I", head)[0] == _MAGIC:
        version, fields_at = struct.unpack_from("<i", head, 4)[0], 8
        if version == 2:
            raise UserError(
                f"{path} is a llama2.c checkpoint of version 2 (int8), which is not supported; "
                "export it with --version 0 or 1"
            )
        if version != 1:
            raise UserError(f"{path} is a llama2.c checkpoint of unknown version {version}")
    if len(head) < _HEADER_BYTES[version]:
        raise UserError(f"{path} is truncated or no llama2.c checkpoint: it ends in its header")
    dim, hidden, layers, heads, kv_heads, vocab, context = struct.unpack_from(
        "<7i", head, fields_at
    )
    if version == 1:
        tied = bool(head[36])
    elif vocab < 0:
        vocab, tied = -vocab, False
    if heads > 0 and dim % heads:
        raise UserError(
            f"{path} is no llama2.c checkpoint, or damaged: {heads} heads do not divide {dim}"
        )
    special = [token for token in (_BOS, _EOS) if token < vocab]
    try:
        config = LlamaConfig(
            dim=dim,
            hidden=hidden,
            layers=layers,
            heads=heads,
            kv_heads=kv_heads,
            head_dim=dim // heads if heads else 0,
            vocab=vocab,
            context=context,
            norm_eps=_NORM_EPS,
            rope_theta=_ROPE_THETA,
            tied=tied,
            bos_id=_BOS if _BOS in special else None,
            eos_ids=tuple(special),  # run.c ends a text at BOS, the separator of its training data
        )
    except UserError as error:
        raise UserError(f"{path} is no llama2.c checkpoint, or damaged: {error}") from None
    return _Layout(version, config, *_offsets(version, config))


def _offsets(version: int, config: LlamaConfig) -> tuple[dict[str, int], int]:
    shapes = tensor_shapes(config)
    offsets, at = {}, _HEADER_BYTES[version]
    for entry in _ORDER[version].split():
        if entry == "rope":
            at += 4 * config.context * config.head_dim
        elif entry.startswith("*"):
            for layer in range(config.layers):
                name = f"layers.{layer}.{entry[1:]}"
                offsets[name] = at
                at += 4 * math.prod(shapes[name])
        elif entry != "head" or not config.tied:
            offsets[entry] = at
            at += 4 * math.prod(shapes[entry])
    return offsets, at
