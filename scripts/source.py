"""What is run: a model that is compiled first, or an image that has been."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from compiler.checkpoint import TokenizerSpec
from compiler.errors import UserError
from compiler.image import Image, read_image
from hdl.config import Config
from scripts.devices import compiled, load_model

__all__ = ["Source", "from_image", "from_model"]


@dataclass(frozen=True)
class Source:
    """What a command needs to know of a model before it has an image of it.

    Attributes
    ----------
    context : most positions in a sequence
    image : gives the image, for a configuration, a context and a number of sequences
    """

    name: str
    tokenizer: TokenizerSpec | None
    vocab: int
    context: int
    eos_ids: frozenset[int]
    image: Callable[[Config, int, int], Image]


def from_model(model: str, tokenizer: Path | None) -> Source:
    """A checkpoint by name or path."""
    checkpoint = load_model(model, str(tokenizer) if tokenizer else None)
    c = checkpoint.config

    def image(config: Config, context: int, sequences: int) -> Image:
        return compiled(checkpoint, config, context=context, sequences=sequences)

    return Source(model, checkpoint.tokenizer, c.vocab, c.context, frozenset(c.eos_ids), image)


def from_image(path: Path, tokenizer: Path | None) -> Source:
    """A compiled model; its configuration, context and KV cache are what they are."""
    if tokenizer:
        raise UserError(f"--tokenizer {tokenizer}: an image has its own; give it to `compile`")
    image = read_image(path)
    m = image.manifest["model"]
    return Source(
        str(path),
        image.tokenizer,
        m["vocab"],
        image.memory.context,
        frozenset(m["eos_ids"]),
        lambda config, context, sequences: image,
    )
