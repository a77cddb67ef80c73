"""Random models for tests, by seed."""

from pathlib import Path

import numpy as np

from compiler.checkpoint.model import Checkpoint, LlamaConfig, tensor_shapes

__all__ = ["random_checkpoint"]


def random_checkpoint(seed: int, **shape) -> Checkpoint:
    """A Llama with random weights.

    ``shape`` are fields of ``LlamaConfig``; what is not given is small: dim 32, hidden 48, one
    layer, two heads, one KV head, head_dim 16, vocabulary 50, context 96.
    """
    fields = {
        "dim": 32,
        "hidden": 48,
        "layers": 1,
        "heads": 2,
        "kv_heads": 1,
        "head_dim": 16,
        "vocab": 50,
        "context": 96,
        "norm_eps": 1e-5,
    } | shape
    config = LlamaConfig(**fields)
    rng = np.random.default_rng(seed)
    tensors = {}
    for name, size in tensor_shapes(config).items():
        scale = 0.1 if name.endswith("norm") else size[-1] ** -0.5
        values = rng.standard_normal(size, np.float32) * np.float32(scale)
        tensors[name] = values + np.float32(1) if name.endswith("norm") else values
    if config.tied:
        tensors["head"] = tensors["embed"]
    return Checkpoint(config, tensors, None, Path(f"random model {seed}"))
