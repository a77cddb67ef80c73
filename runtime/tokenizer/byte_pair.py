"""Byte-level byte-pair encoding from a GGUF's vocabulary, run by the ``tokenizers`` library.

Source: the pre-tokenizers are those of the ``tokenizer.json`` files that the names stand for, as
``llama-vocab.cpp`` of ggml-org/llama.cpp cites them.
"""

from __future__ import annotations

from dataclasses import dataclass

from tokenizers import AddedToken, Regex
from tokenizers import Tokenizer as Library
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split

from compiler.checkpoint import BytePairSpec, TokenType
from compiler.errors import UserError
from runtime.tokenizer.base import ByteTokenizer

__all__ = ["BytePairTokenizer"]

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_DIGITS_OF = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}"
    r"| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_LLAMA3 = _DIGITS_OF.format(digits=r"\p{N}{1,3}")
_QWEN2 = _DIGITS_OF.format(digits=r"\p{N}")
_TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_DIGIT = r"\p{N}"


@dataclass(frozen=True)
class _Words:
    """How text is cut into words: patterns one after another.

    ``whole`` takes a word that is a token as it is, without merges; ``bos`` is the default.
    """

    patterns: tuple[str, ...]
    whole: bool = False
    bos: bool = False


_PRE_TOKENIZERS = {
    **dict.fromkeys(("gpt-2", "phi-2", "mpt", "olmo", "exaone4", "gigachat"), _Words((_GPT2,))),
    **dict.fromkeys(
        ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"),
        _Words((_DIGIT, _GPT2)),
    ),
    **dict.fromkeys(
        ("llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral"),
        _Words((_LLAMA3,), whole=True, bos=True),
    ),
    **dict.fromkeys(("dbrx", "smaug-bpe", "chatglm-bpe", "glm4"), _Words((_LLAMA3,))),
    **dict.fromkeys(
        ("qwen2", "stablelm2", "deepseek-r1-qwen", "megrez", "hunyuan"), _Words((_QWEN2,))
    ),
    "tekken": _Words((_TEKKEN,), whole=True, bos=True),
}


class BytePairTokenizer(ByteTokenizer):
    """See `Tokenizer`. Raises `UserError` for a pre-tokenizer that is not known, by its name."""

    def __init__(self, spec: BytePairSpec) -> None:
        words = _PRE_TOKENIZERS.get(spec.pre)
        if words is None:
            raise UserError(
                f"pre-tokenizer '{spec.pre}' is not supported; give another --tokenizer. Known: "
                + ", ".join(_PRE_TOKENIZERS)
            )
        bytes_of = {char: bytes([byte]) for byte, char in enumerate(_alphabet())}
        pieces = []
        for text, kind in zip(spec.tokens, spec.types, strict=True):
            if kind == TokenType.NORMAL:
                pieces.append(b"".join(bytes_of.get(c) or c.encode() for c in text))
            else:
                pieces.append(text.encode() if kind == TokenType.USER_DEFINED else b"")
        super().__init__(spec, pieces)
        add_bos = words.bos if spec.add_bos is None else spec.add_bos
        self._start = [spec.bos_id] if add_bos and spec.bos_id is not None else []
        self._library = _library(spec, words)

    def _prefix(self) -> list[int]:
        return self._start

    def _encode(self, text: str) -> list[int]:
        return self._library.encode(text, add_special_tokens=False).ids


def _library(spec: BytePairSpec, words: _Words) -> Library:
    vocab = {text: token for token, text in enumerate(spec.tokens)}
    if len(vocab) != len(spec.tokens):
        raise UserError("the tokenizer is damaged: a token is in its vocabulary twice")
    merges = []
    for merge in spec.merges:
        left, _, right = merge[1:].partition(" ")  # a token may itself start with a space
        merges.append((merge[:1] + left, right))
    try:
        library = Library(BPE(vocab, merges, ignore_merges=words.whole))
    except Exception as error:  # the library raises no class of its own
        raise UserError(f"the tokenizer is damaged: {error}") from error
    library.pre_tokenizer = Sequence(
        [
            *(Split(Regex(pattern), "isolated") for pattern in words.patterns),
            ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    library.add_tokens(
        [
            AddedToken(text, normalized=False, special=kind != TokenType.USER_DEFINED)
            for text, kind in zip(spec.tokens, spec.types, strict=True)
            if text and kind in (TokenType.CONTROL, TokenType.UNKNOWN, TokenType.USER_DEFINED)
        ]
    )
    return library


def _alphabet() -> list[str]:
    """GPT-2's printable character for each byte: itself, or one from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]
