"""A ``tokenizer.json`` run by the ``tokenizers`` library."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tokenizers import Tokenizer as Library

from compiler.checkpoint import HuggingFaceSpec
from compiler.errors import UserError
from runtime.tokenizer.base import TextStream, Tokenizer

__all__ = ["HuggingFaceTokenizer"]

_INCOMPLETE = "\ufffd"
_MOST_HELD = 16  # tokens kept back for an incomplete character; none is longer


class HuggingFaceTokenizer(Tokenizer):
    """See `Tokenizer`. Normaliser, pre-tokenizer, model and decoder are the definition's own."""

    def __init__(self, spec: HuggingFaceSpec) -> None:
        super().__init__(spec)
        try:
            self._library = Library.from_str(spec.definition)
        except Exception as error:  # the library raises no class of its own
            message = " ".join(str(error).split())
            raise UserError(f"tokenizer.json is damaged or not supported: {message}") from error
        # A definition saved while training or batching would cut or pad a prompt.
        self._library.no_truncation()
        self._library.no_padding()
        self._start = self._find_start()

    def decode(self, tokens: Sequence[int]) -> str:
        return self._library.decode(list(tokens), skip_special_tokens=True)

    def stream(self, context: Sequence[int] = ()) -> TextStream:
        return _DifferenceStream(self.decode, context)

    def _prefix(self) -> list[int]:
        return self._start

    def _encode(self, text: str) -> list[int]:
        return self._library.encode(text, add_special_tokens=False).ids

    def _find_start(self) -> list[int]:
        """Tokens that a sequence starts with: by the spec, else by the post-processor."""
        if self.spec.add_bos is not None:
            return [self.spec.bos_id] if self.spec.add_bos and self.spec.bos_id is not None else []
        plain = self._encode("a")
        framed = self._library.encode("a", add_special_tokens=True).ids
        for start in range(len(framed) - len(plain) + 1):
            if framed[start : start + len(plain)] == plain:
                return framed[:start]
        return []


class _DifferenceStream(TextStream):
    """What a decoder of whole lists adds with each token.

    A decoder may depend on a token's neighbours, so each is decoded together with those of the
    text given out last; held back while the text ends in an incomplete character.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], context: Sequence[int]) -> None:
        self._decode = decode
        start = len(context)
        while start and not decode(context[start:]):
            start -= 1
        self._shown = list(context[start:])
        self._held: list[int] = []

    def push(self, token: int) -> str:
        self._held.append(token)
        text = self._added()
        if not text or (text.endswith(_INCOMPLETE) and len(self._held) < _MOST_HELD):
            return ""
        self._shown, self._held = self._held, []
        return text

    def finish(self) -> str:
        text = self._added()
        self._shown, self._held = [], []
        return text

    def _added(self) -> str:
        shown = self._decode(self._shown)
        return self._decode(self._shown + self._held)[len(shown) :]
