"""`TokenizerSpec`, the data of a tokenizer -> `Tokenizer`, the tokenizer."""

from __future__ import annotations

from compiler.checkpoint import BytePairSpec, HuggingFaceSpec, SentencePieceSpec, TokenizerSpec
from compiler.errors import UserError
from runtime.tokenizer.base import Tokenizer
from runtime.tokenizer.byte_pair import BytePairTokenizer
from runtime.tokenizer.huggingface import HuggingFaceTokenizer
from runtime.tokenizer.sentencepiece import SentencePieceTokenizer

__all__ = ["make"]


def make(spec: TokenizerSpec | None) -> Tokenizer:
    """The tokenizer that ``spec`` describes.

    Raises `UserError` where the description is damaged or asks for what is not supported, and for
    None, the spec of a checkpoint without a tokenizer.
    """
    if spec is None:
        raise UserError("this model comes without a tokenizer; give --tokenizer or --prompt-ids")
    if isinstance(spec, HuggingFaceSpec):
        return HuggingFaceTokenizer(spec)
    if isinstance(spec, BytePairSpec):
        return BytePairTokenizer(spec)
    if isinstance(spec, SentencePieceSpec):
        return SentencePieceTokenizer(spec)
    raise TypeError(type(spec).__name__)
