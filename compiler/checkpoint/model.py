"""The canonical Llama checkpoint: its shape, its tensors, and where it came from."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compiler.checkpoint.tokenizer import TokenizerSpec
from compiler.errors import UserError

__all__ = [
    "Checkpoint",
    "Llama3RopeScaling",
    "LlamaConfig",
    "RopeFactors",
    "Tensors",
    "tensor_shapes",
]

_MAX_LAYERS = 4096  # a damaged header must not make tables of a thousand million tensors


@dataclass(frozen=True)
class Llama3RopeScaling:
    """Llama 3's context extension: slow RoPE frequencies divided by ``factor``, fast ones kept.

    Wavelengths above ``original_context / low_freq_factor`` tokens are stretched, those below
    ``original_context / high_freq_factor`` are kept, and the band between is interpolated.
    Source: ``apply_scaling`` of meta-llama/llama-models.
    """

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_context: int

    def __post_init__(self) -> None:
        for name in ("factor", "low_freq_factor", "high_freq_factor", "original_context"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise UserError(f"rope_scaling: {name} is {value}; it must be a positive number")
        if self.high_freq_factor <= self.low_freq_factor:
            raise UserError(
                f"rope_scaling: high_freq_factor {self.high_freq_factor} must be larger than "
                f"low_freq_factor {self.low_freq_factor}"
            )

    def apply(self, frequencies: NDArray[np.float64]) -> NDArray[np.float64]:
        """Scaled frequencies, radians a position, same shape."""
        turns = self.original_context * frequencies / (2 * math.pi)
        keep = (turns - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor)
        keep = np.clip(keep, 0.0, 1.0)
        return frequencies * (keep + (1 - keep) / self.factor)


@dataclass(frozen=True)
class RopeFactors:
    """One divisor for each RoPE frequency, as GGUF files carry them (``rope_freqs.weight``)."""

    factors: tuple[float, ...]

    def __post_init__(self) -> None:
        if not all(math.isfinite(factor) and factor > 0 for factor in self.factors):
            raise UserError("rope_freqs: every factor must be a positive number")

    def apply(self, frequencies: NDArray[np.float64]) -> NDArray[np.float64]:
        """Scaled frequencies, radians a position, same shape."""
        return frequencies / np.array(self.factors, np.float64)


@dataclass(frozen=True)
class LlamaConfig:
    """The shape and constants of a Llama model.

    Parameters
    ----------
    dim, hidden : width of the residual stream and of the feed-forward layer
    layers, heads, kv_heads, head_dim : ``kv_heads`` divides ``heads``; ``head_dim`` is even
    vocab : rows of the embedding and of the head
    context : most positions in a sequence, tokens
    norm_eps : added to the mean square in RMSNorm
    rope_theta, rope_scaling : RoPE base, and what changes its frequencies
    tied : the head is the embedding
    bos_id, eos_ids : token that starts a sequence, tokens that end one

    Any invalid combination raises `UserError`.
    """

    dim: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    context: int
    norm_eps: float
    rope_theta: float = 10000.0
    rope_scaling: Llama3RopeScaling | RopeFactors | None = None
    tied: bool = False
    bos_id: int | None = None
    eos_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        names = ("dim", "hidden", "layers", "heads", "kv_heads", "head_dim", "vocab", "context")
        for name in names:
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise UserError(f"{name} is {value!r}; it must be a whole number of at least 1")
        if self.layers > _MAX_LAYERS:
            raise UserError(f"layers is {self.layers}; at most {_MAX_LAYERS} are supported")
        if self.heads % self.kv_heads:
            raise UserError(
                f"{self.heads} attention heads can not share {self.kv_heads} KV heads; "
                "the second must divide the first"
            )
        if self.head_dim % 2:
            raise UserError(
                f"odd head_dim {self.head_dim} is not supported: RoPE rotates pairs of elements"
            )
        for name in ("norm_eps", "rope_theta"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise UserError(f"{name} is {value}; it must be a positive number")
        if isinstance(self.rope_scaling, RopeFactors):
            found = len(self.rope_scaling.factors)
            if found != self.head_dim // 2:
                raise UserError(
                    f"rope_freqs holds {found} factors, head_dim {self.head_dim} needs "
                    f"{self.head_dim // 2}"
                )
        for token in (*self.eos_ids, *([] if self.bos_id is None else [self.bos_id])):
            if not 0 <= token < self.vocab:
                raise UserError(f"token {token} is outside the vocabulary of {self.vocab}")

    @property
    def parameters(self) -> int:
        """Weights of the model; a tied head counts once."""
        shapes = tensor_shapes(self)
        if self.tied:
            del shapes["head"]
        return sum(math.prod(shape) for shape in shapes.values())

    def rope_frequencies(self) -> NDArray[np.float64]:
        """Rotation of each pair, radians a position, scaling included: (head_dim / 2,).

        Elements 2i and 2i + 1 of a head turn by ``position * frequencies[i]``.
        """
        exponents = np.arange(0, self.head_dim, 2, dtype=np.float64) / self.head_dim
        frequencies = self.rope_theta**-exponents
        return self.rope_scaling.apply(frequencies) if self.rope_scaling else frequencies


def tensor_shapes(config: LlamaConfig) -> dict[str, tuple[int, ...]]:
    """Canonical tensor names and shapes, in the order of the model. Matrices are [out][in]."""
    query, kv = config.heads * config.head_dim, config.kv_heads * config.head_dim
    shapes: dict[str, tuple[int, ...]] = {"embed": (config.vocab, config.dim)}
    for layer in range(config.layers):
        shapes |= {
            f"layers.{layer}.attn_norm": (config.dim,),
            f"layers.{layer}.wq": (query, config.dim),
            f"layers.{layer}.wk": (kv, config.dim),
            f"layers.{layer}.wv": (kv, config.dim),
            f"layers.{layer}.wo": (config.dim, query),
            f"layers.{layer}.ffn_norm": (config.dim,),
            f"layers.{layer}.w_gate": (config.hidden, config.dim),
            f"layers.{layer}.w_up": (config.hidden, config.dim),
            f"layers.{layer}.w_down": (config.dim, config.hidden),
        }
    return shapes | {"final_norm": (config.dim,), "head": (config.vocab, config.dim)}


class Tensors(Mapping[str, NDArray[np.float32]]):
    """The tensors of a checkpoint by canonical name, read from the file at every access.

    Values are C-contiguous float32 arrays of the shapes of `tensor_shapes`. Nothing is kept, so a
    model larger than memory can be walked once; who needs a tensor twice keeps it.

    Parameters
    ----------
    config : gives names and shapes; with ``tied``, "head" reads "embed"
    read : canonical name -> array of that shape; never asked for the head of a tied model
    place : canonical name -> "file: tensor 'name'", for messages

    Reading raises `UserError` when a tensor can not be read or holds a NaN or an infinity.
    """

    def __init__(
        self,
        config: LlamaConfig,
        read: Callable[[str], NDArray[np.float32]],
        place: Callable[[str], str],
    ) -> None:
        self.shapes = tensor_shapes(config)
        self._tied = config.tied
        self._read = read
        self._place = place

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        shape = self.shapes[name]
        if name == "head" and self._tied:
            name = "embed"
        try:
            tensor = np.ascontiguousarray(self._read(name), np.float32)
        except OSError as error:
            raise UserError(f"{self._place(name)} can not be read: {error}") from error
        assert tensor.shape == shape, (name, tensor.shape, shape)  # the loaders checked it
        if not np.isfinite(tensor).all():
            raise UserError(f"{self._place(name)} holds NaN or infinite weights; the file is bad")
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A model as the rest of the compiler sees it, whatever file it came from.

    ``tensors`` maps the names of `tensor_shapes` to float32 arrays, read lazily (see `Tensors`).
    RoPE is in its interleaved form: elements 2i and 2i + 1 of a head rotate together.
    ``tokenizer`` is data only (`runtime.tokenizer.make` builds one), None when there is none.
    """

    config: LlamaConfig
    tensors: Mapping[str, NDArray[np.float32]]
    tokenizer: TokenizerSpec | None
    source: Path
