"""``config.json`` of a Hugging Face model -> `LlamaConfig`, or a refusal naming the feature."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from compiler.checkpoint.model import Llama3RopeScaling, LlamaConfig
from compiler.errors import UserError

__all__ = ["config_from_json"]

_MODEL_TYPES = {"llama": "LlamaForCausalLM", "mistral": "MistralForCausalLM"}
_CONTEXTS = {"llama": 2048, "mistral": 4096 * 32}  # transformers' defaults
# Keys that change the arithmetic: (feature, values at which it is off).
_FEATURES: dict[str, tuple[str, tuple[Any, ...]]] = {
    "attention_bias": ("attention biases", (False,)),
    "qkv_bias": ("attention biases", (False,)),
    "mlp_bias": ("feed-forward biases", (False,)),
    "use_bias": ("biases", (False,)),
    "use_qk_norm": ("QK-norm", (False,)),
    "qk_norm": ("QK-norm", (False,)),
    "qk_layernorm": ("QK-norm", (False,)),
    "quantization_config": ("quantised weights (quantization_config)", ()),
    "num_experts": ("mixture of experts", (0, 1)),
    "num_local_experts": ("mixture of experts", (0, 1)),
    "n_routed_experts": ("mixture of experts", (0,)),
    "partial_rotary_factor": ("partial rotary embedding", (1,)),
    "rotary_pct": ("partial rotary embedding", (1,)),
    "no_rope_layers": ("layers without RoPE", ([],)),
    "attn_logit_softcapping": ("logit soft-cap", (0,)),
    "final_logit_softcapping": ("logit soft-cap", (0,)),
    "logit_scale": ("logit scaling", (1,)),
    "logits_scaling": ("logit scaling", (1,)),
    "embedding_multiplier": ("embedding scaling", (1,)),
    "residual_multiplier": ("residual scaling", (1,)),
    "attention_multiplier": ("attention scaling", ()),
    "query_pre_attn_scalar": ("attention scaling", ()),
    "clip_qkv": ("clamped attention inputs", ()),
    "attention_chunk_size": ("chunked attention", ()),
    "alibi": ("ALiBi", (False,)),
    "parallel_attn": ("parallel attention and feed-forward", (False,)),
    "is_encoder_decoder": ("encoder-decoder models", (False,)),
}
_SILU = ("silu", "swish")


def config_from_json(
    path: Path, config: dict[str, Any], generation: dict[str, Any] | None = None
) -> LlamaConfig:
    """Configuration of a model.

    Parameters
    ----------
    path : name for messages
    config : content of ``config.json``, as transformers 4 or 5 writes it
    generation : content of ``generation_config.json``, for further end tokens

    Raises `UserError` naming the feature, or the key that is missing or wrong.
    """
    model_type = _model_type(path, config)
    _refuse_features(path, config)
    read = _Reader(path, config)
    heads, dim = read.integer("num_attention_heads"), read.integer("hidden_size")
    if config.get("head_dim") is None:
        if heads < 1 or dim % heads:
            raise UserError(
                f"{path}: num_attention_heads {heads} does not divide hidden_size {dim}, and there "
                "is no head_dim"
            )
        head_dim = dim // heads
    else:
        head_dim = read.integer("head_dim")
    context = read.integer("max_position_embeddings", _CONTEXTS[model_type])
    _refuse_window(path, config, context)
    theta, scaling = _rope(path, config)
    vocab = read.integer("vocab_size")
    try:
        return LlamaConfig(
            dim=dim,
            hidden=read.integer("intermediate_size"),
            layers=read.integer("num_hidden_layers"),
            heads=heads,
            kv_heads=read.integer("num_key_value_heads", heads if model_type == "llama" else 8),
            head_dim=head_dim,
            vocab=vocab,
            context=context,
            norm_eps=read.number("rms_norm_eps", 1e-6),
            rope_theta=theta,
            rope_scaling=scaling,
            tied=bool(config.get("tie_word_embeddings", False)),
            bos_id=next(iter(_tokens(config.get("bos_token_id"), vocab)), None),
            eos_ids=tuple(
                sorted(
                    _tokens(config.get("eos_token_id"), vocab)
                    | _tokens((generation or {}).get("eos_token_id"), vocab)
                )
            ),
        )
    except UserError as error:
        message = str(error)
        raise UserError(
            message if message.startswith(str(path)) else f"{path}: {message}"
        ) from None


class _Reader:
    """Numbers of a ``config.json``, with the key in every message."""

    def __init__(self, path: Path, config: dict[str, Any]) -> None:
        self.path, self.config = path, config

    def number(self, key: str, default: float | None = None) -> float:
        value = self.config.get(key)
        if value is None:
            value = default
        if value is None:
            raise UserError(f"{self.path}: '{key}' is missing")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UserError(f"{self.path}: '{key}' is {value!r}; a number is needed")
        return float(value)

    def integer(self, key: str, default: int | None = None) -> int:
        value = self.number(key, default)
        if not math.isfinite(value) or value != int(value):
            raise UserError(f"{self.path}: '{key}' is {value!r}; a whole number is needed")
        return int(value)


def _model_type(path: Path, config: dict[str, Any]) -> str:
    model_type = config.get("model_type")
    architectures = config.get("architectures") or []
    if not isinstance(architectures, list):
        raise UserError(f"{path}: 'architectures' is {architectures!r}; a list is needed")
    if model_type is None:
        known = {name: kind for kind, name in _MODEL_TYPES.items()}
        model_type = next((known[a] for a in architectures if a in known), None)
    if model_type not in _MODEL_TYPES:
        name = model_type or ", ".join(map(str, architectures)) or "not named"
        raise UserError(
            f"{path}: architecture '{name}' is not supported; "
            f"{' and '.join(_MODEL_TYPES)} models are"
        )
    if architectures and _MODEL_TYPES[model_type] not in architectures:
        raise UserError(
            f"{path}: '{architectures[0]}' is not supported; a language model "
            f"({_MODEL_TYPES[model_type]}) is needed"
        )
    return model_type


def _refuse_features(path: Path, config: dict[str, Any]) -> None:
    for key, (feature, off) in _FEATURES.items():
        value = config.get(key)
        if value is not None and value not in off:
            raise UserError(f"{path}: {feature} ({key} = {value!r}) is not supported")
    for key in ("hidden_act", "hidden_activation"):
        if (activation := config.get(key) or "silu") not in _SILU:
            raise UserError(f"{path}: activation '{activation}' is not supported; SiLU is")


def _refuse_window(path: Path, config: dict[str, Any], context: int) -> None:
    window = _Reader(path, config).integer("sliding_window", context)
    if config.get("use_sliding_window", True) and window < context:
        raise UserError(f"{path}: sliding window attention ({window} tokens) is not supported")
    for kind in set(config.get("layer_types") or []) - {"full_attention"}:
        raise UserError(f"{path}: layers of type '{kind}' are not supported; full attention is")


def _rope(path: Path, config: dict[str, Any]) -> tuple[float, Llama3RopeScaling | None]:
    # transformers 5 keeps the base and the scaling together, 4 apart.
    scaling = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(scaling, dict):
        raise UserError(f"{path}: rope_scaling is {scaling!r}; an object is needed")
    read = _Reader(path, scaling)
    theta = read.number("rope_theta", _Reader(path, config).number("rope_theta", 10000.0))
    partial = read.number("partial_rotary_factor", 1.0)
    if partial != 1:
        raise UserError(f"{path}: partial rotary embedding ({partial}) is not supported")
    kind = scaling.get("rope_type", scaling.get("type"))
    if kind == "default" or not set(scaling) - {"rope_theta", "partial_rotary_factor"}:
        return theta, None
    if kind != "llama3":
        raise UserError(f"{path}: rope_scaling of type '{kind}' is not supported; llama3 is")
    return theta, Llama3RopeScaling(
        factor=read.number("factor"),
        low_freq_factor=read.number("low_freq_factor"),
        high_freq_factor=read.number("high_freq_factor"),
        original_context=read.integer("original_max_position_embeddings"),
    )


def _tokens(value: Any, vocab: int) -> set[int]:
    """Token ids in a number, a list or null; those outside the vocabulary can never occur."""
    values = value if isinstance(value, list) else [value]
    return {v for v in values if isinstance(v, int) and 0 <= v < vocab}
