"""SentencePiece BPE by scores: GGUF's ``llama`` vocabularies and llama2.c's ``tokenizer.bin``.

The ``tokenizers`` library can not do this exactly: it ranks pairs, here the merged piece has the
score, so among equals the leftmost pair goes first whatever its parts.
Source: ``llm_tokenizer_spm`` of ggml-org/llama.cpp, ``encode`` in ``run.c`` of karpathy/llama2.c.
"""

from __future__ import annotations

import heapq
import re

from compiler.checkpoint import SentencePieceSpec, TokenType
from compiler.errors import UserError
from runtime.tokenizer.base import ByteTokenizer

__all__ = ["SentencePieceTokenizer"]

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class SentencePieceTokenizer(ByteTokenizer):
    """See `Tokenizer`. Merging is O(n log n) in the length of the text."""

    def __init__(self, spec: SentencePieceSpec) -> None:
        self._tokens: dict[str, int] = {}
        self._bytes: dict[int, int] = {}
        self._unknown: list[int] = []
        special, pieces = [], []
        for token, (text, kind) in enumerate(zip(spec.tokens, spec.types, strict=True)):
            match = _BYTE.fullmatch(text)
            if kind == TokenType.BYTE and match:
                self._bytes[int(match[1], 16)] = token
                pieces.append(bytes.fromhex(match[1]))
            elif kind == TokenType.NORMAL:
                pieces.append(text.replace(spec.space, " ").encode())
            else:
                pieces.append(text.encode() if kind == TokenType.USER_DEFINED else b"")
            if kind in (TokenType.CONTROL, TokenType.USER_DEFINED, TokenType.UNKNOWN) and text:
                special.append(text)
            if kind == TokenType.UNKNOWN:
                self._unknown.append(token)
            self._tokens.setdefault(text, token)
        super().__init__(spec, pieces, spec.space_prefix)
        add_bos = spec.add_bos is not False
        if add_bos and spec.bos_id is None:
            raise UserError("the tokenizer starts a text with BOS, but names no such token")
        self._start = [spec.bos_id] if add_bos and spec.bos_id is not None else []
        self._text = spec.tokens
        self._scores = spec.scores
        self._space, self._space_prefix = spec.space, spec.space_prefix
        self._bytes_first = spec.bytes_first
        # llama2.c has no special tokens in a text; elsewhere the longest goes first.
        special = [] if spec.bytes_first else sorted(special, key=len, reverse=True)
        never = r"(?!)"
        self._special = re.compile("(" + ("|".join(map(re.escape, special)) or never) + ")")

    def _prefix(self) -> list[int]:
        return self._start

    def _encode(self, text: str) -> list[int]:
        tokens: list[int] = []
        # Parts alternate: text, special token, text, ... Each text has its space before it.
        for index, part in enumerate(self._special.split(text)):
            if index % 2:
                tokens.append(self._tokens[part])
            elif part:
                tokens += self._merge((" " if self._space_prefix else "") + part)
        return tokens

    def _merge(self, text: str) -> list[int]:
        symbols = self._symbols(text.replace(" ", self._space))
        following = [*range(1, len(symbols)), -1]
        previous = list(range(-1, len(symbols) - 1))
        candidates: list[tuple[float, int, int, str]] = []

        def consider(left: int, right: int) -> None:
            if left >= 0 and right >= 0:
                merged = symbols[left] + symbols[right]
                token = self._tokens.get(merged)
                if token is not None:
                    heapq.heappush(candidates, (-self._scores[token], left, right, merged))

        for left in range(len(symbols) - 1):
            consider(left, left + 1)
        while candidates:
            _, left, right, merged = heapq.heappop(candidates)
            # Either symbol may have been merged since; the candidate is then void, and its texts
            # are no longer these two: a pair that makes the same text again comes after it.
            if symbols[left] + symbols[right] != merged:
                continue
            symbols[left], symbols[right] = merged, ""
            following[left] = following[right]
            if following[right] >= 0:
                previous[following[right]] = left
            consider(previous[left], left)
            consider(left, following[left])
        return [token for symbol in symbols if symbol for token in self._ids(symbol)]

    def _symbols(self, text: str) -> list[str]:
        if not self._bytes_first:
            return list(text)
        symbols = []
        for char in text:
            ids = self._ids(char)
            symbols += [char] if ids == [self._tokens.get(char)] else [self._text[i] for i in ids]
        return symbols

    def _ids(self, symbol: str) -> list[int]:
        """The symbol's token, else those of its bytes, else the unknown token."""
        if symbol in self._tokens:
            return [self._tokens[symbol]]
        found = [self._bytes.get(byte) for byte in symbol.encode()]
        tokens = [token for token in found if token is not None]
        return tokens if len(tokens) == len(found) else self._unknown[:1]
