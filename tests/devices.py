"""Small models on the golden device, for tests of compiler, golden model and runtime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compiler.checkpoint import Checkpoint, LlamaConfig
from compiler.compile import compile_checkpoint
from compiler.image import Image
from hdl.config import PRESETS
from runtime.device import Device, RowRequest
from runtime.golden_chip import GoldenChip
from runtime.pages import Sequence as KVSequence
from tests.checkpoints import in_memory, small_config

__all__ = ["checkpoint", "golden", "image", "logits", "step_bits"]


def checkpoint(seed: int = 0, **changes: Any) -> Checkpoint:
    """A random model whose values stay of order 1 through its layers, as a trained one's do."""
    config: LlamaConfig = small_config(**changes)
    made = in_memory(config, seed)
    tensors = {
        name: tensor if tensor.ndim == 1 else tensor * np.float32(3 / np.sqrt(tensor.shape[1]))
        for name, tensor in made.tensors.items()
    }
    if config.tied:
        tensors["head"] = tensors["embed"]
    return replace(made, tensors=tensors)


def image(model: Checkpoint, preset: str = "edge", **options: Any) -> Image:
    return compile_checkpoint(model, PRESETS[preset], **options)


def golden(model: Checkpoint, preset: str = "edge", **options: Any) -> Device:
    """The model on the golden device; options as of ``compile_checkpoint``."""
    return Device(image(model, preset, **options), GoldenChip)


def logits(
    device: Device, tokens: Sequence[int], chunk: int = 64, sequence: KVSequence | None = None
) -> NDArray[np.float32]:
    """Logits after every token (tokens, vocab), run in chunks of at most ``chunk`` rows."""
    used = sequence or device.open_sequence()
    parts = []
    for start in range(0, len(tokens), size := min(chunk, device.rows)):
        part = list(tokens[start : start + size])
        found = device.step([RowRequest(used, part, len(part))]).logits
        assert found is not None
        parts.append(found)
    if sequence is None:
        device.close_sequence(used)
    return np.concatenate(parts)


def step_bits(device: Device, requests: list[RowRequest]) -> NDArray[np.uint32]:
    """Bit patterns of the logits of one step."""
    found = device.step(requests).logits
    assert found is not None
    return found.view(np.uint32)
