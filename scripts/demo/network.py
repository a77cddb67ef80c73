"""A Llama in PyTorch: the network of the demo model, with Hugging Face's weight names and order."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Llama", "LlamaShape"]

QUERY_CHUNK = 64


@dataclass(frozen=True)
class LlamaShape:
    """Sizes of a Llama; the defaults are the demo model's (931,200 parameters)."""

    dim: int = 128
    layers: int = 5
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 32
    hidden: int = 288
    vocab: int = 1024
    context: int = 512
    rope_theta: float = 10000.0
    rms_eps: float = 1e-5


class RMSNorm(nn.Module):
    def __init__(self, dim: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:  # (..., dim)
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * self.weight


class Attention(nn.Module):
    """Causal grouped-query attention with rotate-half RoPE."""

    def __init__(self, shape: LlamaShape):
        super().__init__()
        self.shape = shape
        self.q_proj = nn.Linear(shape.dim, shape.heads * shape.head_dim, bias=False)
        self.k_proj = nn.Linear(shape.dim, shape.kv_heads * shape.head_dim, bias=False)
        self.v_proj = nn.Linear(shape.dim, shape.kv_heads * shape.head_dim, bias=False)
        self.o_proj = nn.Linear(shape.heads * shape.head_dim, shape.dim, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:  # (batch, time, dim)
        batch, time, _ = x.shape
        size = self.shape.head_dim
        q = self.q_proj(x).view(batch, time, -1, size).transpose(1, 2)  # (batch, heads, time, size)
        k = self.k_proj(x).view(batch, time, -1, size).transpose(1, 2)
        v = self.v_proj(x).view(batch, time, -1, size).transpose(1, 2)
        repeats = self.shape.heads // self.shape.kv_heads
        k = k.repeat_interleave(repeats, dim=1)
        v = v.repeat_interleave(repeats, dim=1)
        out = _causal_attention(_rotate(q, cos, sin), _rotate(k, cos, sin), v)
        return self.o_proj(out.transpose(1, 2).reshape(batch, time, -1))


class MLP(nn.Module):
    """SwiGLU: down(silu(gate(x)) * up(x))."""

    def __init__(self, shape: LlamaShape):
        super().__init__()
        self.gate_proj = nn.Linear(shape.dim, shape.hidden, bias=False)
        self.up_proj = nn.Linear(shape.dim, shape.hidden, bias=False)
        self.down_proj = nn.Linear(shape.hidden, shape.dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, shape: LlamaShape):
        super().__init__()
        self.input_layernorm = RMSNorm(shape.dim, shape.rms_eps)
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = RMSNorm(shape.dim, shape.rms_eps)
        self.mlp = MLP(shape)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x))


class Llama(nn.Module):
    """Tokens (batch, time) -> logits (batch, time, vocab); the head is the embedding."""

    cos: Tensor
    sin: Tensor

    def __init__(self, shape: LlamaShape):
        super().__init__()
        self.shape = shape
        self.embed_tokens = nn.Embedding(shape.vocab, shape.dim)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = RMSNorm(shape.dim, shape.rms_eps)
        cos, sin = _rope_tables(shape)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self._initialise()

    def _initialise(self) -> None:
        nn.init.normal_(self.embed_tokens.weight, std=0.05)
        for name, weight in self.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                nn.init.zeros_(weight)  # a layer begins as the identity
            elif name.endswith("proj.weight"):
                nn.init.normal_(weight, std=weight.shape[1] ** -0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        time = tokens.shape[1]
        cos, sin = self.cos[:time], self.sin[:time]
        x = self.embed_tokens(tokens)
        for layer in self.layers:
            x = layer(x, cos, sin)
        return F.linear(self.norm(x), self.embed_tokens.weight)


def _rope_tables(shape: LlamaShape) -> tuple[Tensor, Tensor]:
    """Cosines and sines, (context, head_dim), the two halves of a head equal."""
    half = torch.arange(0, shape.head_dim, 2, dtype=torch.float64) / shape.head_dim
    angles = torch.outer(
        torch.arange(shape.context, dtype=torch.float64), shape.rope_theta**-half
    ).repeat(1, 2)
    return angles.cos().float(), angles.sin().float()


def _causal_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:  # (batch, heads, time, size)
    """Softmax attention in chunks of queries, so that the masked half is not computed.

    Compiled for a CPU it is four times as fast as `scaled_dot_product_attention` there.
    """
    q = q * q.shape[-1] ** -0.5
    chunks = []
    for start in range(0, q.shape[2], QUERY_CHUNK):
        stop = min(start + QUERY_CHUNK, q.shape[2])
        mask = torch.ones(stop - start, stop, dtype=torch.bool).triu(start + 1)
        scores = q[:, :, start:stop] @ k[:, :, :stop].transpose(2, 3)
        weights = scores.float().masked_fill(mask, float("-inf")).softmax(-1)
        chunks.append(weights.to(v.dtype) @ v[:, :, :stop])
    return torch.cat(chunks, dim=2)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin
