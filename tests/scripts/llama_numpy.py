"""A plain float32 NumPy forward of an exported Llama: the tests' independent opinion."""

import json
from pathlib import Path

import ml_dtypes
import numpy as np

__all__ = ["NumpyLlama"]


class NumpyLlama:
    """Reads a Hugging Face directory with one bfloat16 `model.safetensors`, tied head."""

    def __init__(self, folder: Path):
        self.config = json.loads((folder / "config.json").read_text())
        data = (folder / "model.safetensors").read_bytes()
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        header.pop("__metadata__", None)
        self.weights = {}
        for name, entry in header.items():
            assert entry["dtype"] == "BF16", name
            first, last = (8 + length + offset for offset in entry["data_offsets"])
            array = np.frombuffer(data[first:last], ml_dtypes.bfloat16)
            self.weights[name] = array.reshape(entry["shape"]).astype(np.float32)

    def logits(self, tokens: np.ndarray) -> np.ndarray:
        """Tokens (time,) -> logits (time, vocab)."""
        config, weights = self.config, self.weights
        x = weights["model.embed_tokens.weight"][tokens]
        for number in range(config["num_hidden_layers"]):
            w = {
                name.removeprefix(f"model.layers.{number}."): weight
                for name, weight in weights.items()
                if name.startswith(f"model.layers.{number}.")
            }
            x = x + self._attention(self._norm(x, w["input_layernorm.weight"]), w)
            h = self._norm(x, w["post_attention_layernorm.weight"])
            gate, up = h @ w["mlp.gate_proj.weight"].T, h @ w["mlp.up_proj.weight"].T
            x = x + (gate / (1 + np.exp(-gate)) * up) @ w["mlp.down_proj.weight"].T
        return self._norm(x, weights["model.norm.weight"]) @ weights["model.embed_tokens.weight"].T

    def nats(self, tokens: np.ndarray) -> float:
        """Mean loss of predicting tokens[1:]."""
        logits = self.logits(tokens[:-1])
        logits = logits - logits.max(-1, keepdims=True)
        log_probability = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        return float(-log_probability[np.arange(len(tokens) - 1), tokens[1:]].mean())

    def _norm(self, x: np.ndarray, weight: np.ndarray) -> np.ndarray:
        eps = self.config["rms_norm_eps"]
        return x / np.sqrt(np.mean(x * x, -1, keepdims=True) + eps) * weight

    def _attention(self, x: np.ndarray, w: dict[str, np.ndarray]) -> np.ndarray:
        time, size = len(x), self.config["head_dim"]
        q = self._heads(x @ w["self_attn.q_proj.weight"].T, rotate=True)
        k = self._heads(x @ w["self_attn.k_proj.weight"].T, rotate=True)
        v = self._heads(x @ w["self_attn.v_proj.weight"].T, rotate=False)
        group = self.config["num_attention_heads"] // self.config["num_key_value_heads"]
        scores = q @ np.repeat(k, group, 0).transpose(0, 2, 1) / np.sqrt(size)
        scores = np.where(np.tri(time, dtype=bool), scores, -np.inf)
        p = np.exp(scores - scores.max(-1, keepdims=True))
        out = p / p.sum(-1, keepdims=True) @ np.repeat(v, group, 0)  # (heads, time, size)
        return out.transpose(1, 0, 2).reshape(time, -1) @ w["self_attn.o_proj.weight"].T

    def _heads(self, x: np.ndarray, rotate: bool) -> np.ndarray:
        """(time, heads * size) -> (heads, time, size), with rotate-half RoPE on demand."""
        size = self.config["head_dim"]
        x = x.reshape(len(x), -1, size).transpose(1, 0, 2)
        if not rotate:
            return x
        rates = self.config["rope_theta"] ** (-np.arange(0, size, 2) / size)
        angles = np.outer(np.arange(x.shape[1]), rates)
        cos, sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
        a, b = x[..., : size // 2], x[..., size // 2 :]
        return np.concatenate((a * cos - b * sin, b * cos + a * sin), -1)
