"""The tokenizer and chat template inside a GGUF file -> `TokenizerSpec`.

Source: ``llama-vocab.cpp`` of ggml-org/llama.cpp, whose defaults these are.
"""

from __future__ import annotations

from typing import Any

from compiler.checkpoint.gguf_file import GgufFile
from compiler.checkpoint.model import LlamaConfig
from compiler.checkpoint.tokenizer import (
    BytePairSpec,
    SentencePieceSpec,
    TokenizerSpec,
    TokenType,
)
from compiler.errors import UserError

__all__ = ["gguf_tokenizer", "special_ids"]

# Tokens that end a turn although no metadata says so; llama.cpp goes by their text as well.
_END_TEXTS = {
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<end_of_turn>",
    "<EOT>",
    "</s>",
}


def special_ids(file: GgufFile, vocab: int) -> tuple[int | None, tuple[int, ...]]:
    """Token that starts a sequence, tokens that end one; ids outside the vocabulary are void."""

    def named(name: str) -> list[int]:
        token = file.metadata.get(f"tokenizer.ggml.{name}_token_id")
        return [token] if isinstance(token, int) and 0 <= token < vocab else []

    tokens, types = _token_list(file, "tokens"), _token_list(file, "token_type")
    ends = {
        token
        for token, (text, kind) in enumerate(zip(tokens, types, strict=False))
        if kind == TokenType.CONTROL and text in _END_TEXTS and token < vocab
    }
    bos = named("bos")
    return bos[0] if bos else None, tuple(sorted(ends.union(*map(named, ("eos", "eot", "eom")))))


def _token_list(file: GgufFile, key: str, default: Any = ()) -> tuple[Any, ...]:
    value = file.metadata.get(f"tokenizer.ggml.{key}", default)
    if not isinstance(value, list | tuple):
        raise UserError(f"{file.path}: tokenizer.ggml.{key} is {value!r}, a list is needed")
    return tuple(value)


def gguf_tokenizer(file: GgufFile, config: LlamaConfig) -> TokenizerSpec | None:
    """Tokenizer and chat template inside ``file``, for a model of ``config``; None without one."""

    def get(key: str, default: Any = None) -> Any:
        return file.metadata.get(f"tokenizer.ggml.{key}", default)

    model, tokens = get("model"), _token_list(file, "tokens")
    if model in (None, "none", "no_vocab") or not tokens:
        return None
    if model not in ("gpt2", "llama"):
        raise UserError(
            f"{file.path}: tokenizer model '{model}' is not supported; gpt2 (BPE) and llama "
            "(SentencePiece) are"
        )
    if len(tokens) > config.vocab:
        raise UserError(
            f"{file.path}: the tokenizer has {len(tokens)} tokens, the embedding "
            f"{config.vocab} rows"
        )
    bos, eos = special_ids(file, len(tokens))
    special = {
        f"{name}_token": tokens[token]
        for name, key in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding"))
        if isinstance(token := get(f"{key}_token_id"), int) and 0 <= token < len(tokens)
    }
    common: dict[str, Any] = {
        "vocab": config.vocab,
        "bos_id": bos,
        "eos_ids": eos,
        "add_bos": get("add_bos_token"),
        "chat_template": file.metadata.get("tokenizer.chat_template"),
        "special": special,
        "tokens": tokens,
        "types": _token_list(file, "token_type", [int(TokenType.NORMAL)] * len(tokens)),
    }
    lengths = {"token_type": len(common["types"])}
    spec: TokenizerSpec
    if model == "gpt2":
        if get("merges") is None:
            raise UserError(f"{file.path}: metadata 'tokenizer.ggml.merges' is missing")
        spec = BytePairSpec(**common, merges=_token_list(file, "merges"), pre=get("pre", "default"))
    else:
        scores = _token_list(file, "scores", [0.0] * len(tokens))
        lengths["scores"] = len(scores)
        prefix = get("add_space_prefix", True)
        spec = SentencePieceSpec(**common, scores=scores, space_prefix=prefix)
    for key, found in lengths.items():
        if found != len(tokens):
            raise UserError(
                f"{file.path}: tokenizer.ggml.{key} has {found} entries for {len(tokens)} tokens"
            )
    return spec
