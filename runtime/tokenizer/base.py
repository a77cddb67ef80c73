"""What every tokenizer does, and the decoding that those made of bytes share."""

from __future__ import annotations

import codecs
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from compiler.checkpoint import TokenizerSpec
from compiler.errors import UserError
from runtime.tokenizer.chat import render

__all__ = ["ByteTokenizer", "TextStream", "Tokenizer"]


class TextStream(ABC):
    """Text of a growing list of tokens, given out as soon as it is certain.

    What `push` and the last `finish` return, joined, is what `Tokenizer.decode` makes of all tokens
    at once.
    """

    @abstractmethod
    def push(self, token: int) -> str:
        """New text that ``token`` completes; "" while a character is incomplete."""

    @abstractmethod
    def finish(self) -> str:
        """What is left, an incomplete character as U+FFFD. The stream then starts afresh."""


class Tokenizer(ABC):
    """A tokenizer.

    Members
    -------
    spec : what it was made from
    bos_id, eos_ids, vocab : as in the spec
    """

    def __init__(self, spec: TokenizerSpec) -> None:
        self.spec = spec
        self.bos_id = spec.bos_id
        self.eos_ids = spec.eos_ids
        self.vocab = spec.vocab

    def encode(self, text: str, bos: bool = True) -> list[int]:
        """Tokens of ``text``; special tokens written out in it count as such.

        Parameters
        ----------
        bos : start with what the model wants at the start of a sequence: its BOS token where it
            was trained with one, nothing otherwise

        Raises `UserError` where the text is not Unicode, or a token is none of the model's.
        """
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise UserError(f"the text is not valid UTF-8, at character {error.start}") from error
        tokens = [*(self._prefix() if bos else []), *self._encode(text)]
        if tokens and max(tokens) >= self.vocab:
            raise UserError(
                f"the tokenizer gives token {max(tokens)}, the model has {self.vocab}; "
                "it is another model's tokenizer"
            )
        return tokens

    def render_chat(
        self, messages: Sequence[Mapping[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """Text of a chat, by the model's template (see `chat`)."""
        if not self.spec.chat_template:
            raise UserError("this model has no chat template; prompt it without --chat")
        return render(self.spec.chat_template, messages, self.spec.special, add_generation_prompt)

    def chat(
        self, messages: Sequence[Mapping[str, str]], add_generation_prompt: bool = True
    ) -> list[int]:
        """Tokens of a chat, ready for the answer.

        Parameters
        ----------
        messages : {"role": "user" | "assistant" | "system", "content": text} in order
        add_generation_prompt : end with the opening of the assistant's turn

        Raises `UserError` where the model has no template, or its template refuses the messages.
        """
        return self.encode(self.render_chat(messages, add_generation_prompt), bos=False)

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of ``tokens``: control tokens are left out, bytes that are no UTF-8 are U+FFFD."""
        stream = self.stream()
        return "".join([*map(stream.push, tokens), stream.finish()])

    @abstractmethod
    def stream(self, context: Sequence[int] = ()) -> TextStream:
        """Decoder of tokens that come one by one.

        Parameters
        ----------
        context : tokens that stand before them (the prompt); their text is not given out, but the
            space at the start of a text is only dropped where they hold none
        """

    @abstractmethod
    def _prefix(self) -> list[int]:
        """Tokens at the start of a sequence."""

    @abstractmethod
    def _encode(self, text: str) -> list[int]:
        """Tokens of valid Unicode."""


class ByteTokenizer(Tokenizer):
    """A tokenizer whose tokens each stand for bytes.

    Parameters
    ----------
    pieces : bytes of each token; none for those that are not text
    drop_space : whether encoding puts a space before a text, which decoding takes away again
    """

    def __init__(self, spec: TokenizerSpec, pieces: list[bytes], drop_space: bool = False) -> None:
        super().__init__(spec)
        # An embedding may have more rows than the tokenizer has tokens: padding, without text.
        self._pieces = pieces + [b""] * (spec.vocab - len(pieces))
        self._drop_space = drop_space

    def stream(self, context: Sequence[int] = ()) -> TextStream:
        started = any(self._pieces[token] for token in context)
        return _ByteStream(self._pieces, self._drop_space and not started)


class _ByteStream(TextStream):
    def __init__(self, pieces: list[bytes], drop_space: bool) -> None:
        self._pieces = pieces
        self._drop_space = drop_space
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        if not 0 <= token < len(self._pieces):
            raise UserError(f"token {token} is outside the vocabulary of {len(self._pieces)}")
        piece = self._pieces[token]
        if piece and self._drop_space:
            self._drop_space = False
            piece = piece.removeprefix(b" ")
        return self._decoder.decode(piece)

    def finish(self) -> str:
        rest = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return rest
