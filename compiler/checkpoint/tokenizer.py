"""What a tokenizer is made of, as plain data: `runtime.tokenizer.make` builds the tokenizer.

The compiler reads and carries these without being able to tokenize.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import IntEnum
from typing import Any

__all__ = [
    "BytePairSpec",
    "HuggingFaceSpec",
    "SentencePieceSpec",
    "TokenType",
    "TokenizerSpec",
    "tokenizer_from_json",
    "tokenizer_to_json",
]


class TokenType(IntEnum):
    """Kinds of token, numbered as in GGUF's ``tokenizer.ggml.token_type``."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True, kw_only=True)
class TokenizerSpec:
    """What every tokenizer has.

    Parameters
    ----------
    vocab : ids the model has rows for; no id at or above it may be produced
    bos_id : token that starts a sequence, if any
    eos_ids : tokens at which generation stops
    add_bos : whether a prompt starts with ``bos_id``; None where the definition itself says
    chat_template : Jinja template of a chat, if any
    special : texts that the template sees by name: "bos_token", "eos_token", ...
    """

    vocab: int
    bos_id: int | None = None
    eos_ids: tuple[int, ...] = ()
    add_bos: bool | None = None
    chat_template: str | None = None
    special: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class HuggingFaceSpec(TokenizerSpec):
    """``definition`` is the text of a ``tokenizer.json``."""

    definition: str


@dataclass(frozen=True, kw_only=True)
class BytePairSpec(TokenizerSpec):
    """Byte-level byte-pair encoding, as in GGUF's ``gpt2`` vocabularies.

    ``tokens`` in GPT-2's printable-byte alphabet; ``merges`` are "left right", best first; ``pre``
    names how text is split into words first ("smollm", "llama-bpe", "gpt-2", "qwen2", ...).
    """

    tokens: tuple[str, ...]
    types: tuple[int, ...]
    merges: tuple[str, ...]
    pre: str


@dataclass(frozen=True, kw_only=True)
class SentencePieceSpec(TokenizerSpec):
    """SentencePiece BPE: the adjacent pair whose merged piece has the best score is merged.

    ``tokens`` write a space as ``space``; bytes are the pieces "<0x00>" to "<0xFF>". With
    ``space_prefix`` a text is tokenized with a space before it. With ``bytes_first`` a character
    without a piece becomes its bytes before any merge (llama2.c), else after (llama.cpp).
    """

    tokens: tuple[str, ...]
    scores: tuple[float, ...]
    types: tuple[int, ...]
    space: str = "\u2581"
    space_prefix: bool = True
    bytes_first: bool = False


_KINDS: dict[str, Any] = {
    "huggingface": HuggingFaceSpec,
    "byte-pair": BytePairSpec,
    "sentencepiece": SentencePieceSpec,
}


def tokenizer_to_json(spec: TokenizerSpec) -> str:
    """Text from which `tokenizer_from_json` makes an equal spec, for carrying it in an image."""
    kind = next(name for name, kind in _KINDS.items() if kind is type(spec))
    return json.dumps({"kind": kind} | asdict(spec), ensure_ascii=False)


def tokenizer_from_json(text: str) -> TokenizerSpec:
    """The inverse of `tokenizer_to_json`."""
    values: dict[str, Any] = json.loads(text)
    kind = _KINDS[values.pop("kind")]
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
