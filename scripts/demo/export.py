"""Write the demo model as a Hugging Face directory: bfloat16 weights, config and tokenizer."""

import json
import os
from pathlib import Path

import torch
from safetensors.torch import save
from tokenizers import Tokenizer

from scripts.demo.bpe import SEPARATOR, SEPARATOR_ID
from scripts.demo.network import Llama, LlamaShape

__all__ = ["export_model"]


def export_model(network: Llama, tokenizer: Tokenizer, folder: Path) -> int:
    """Write config.json, model.safetensors, tokenizer.json, tokenizer_config.json.

    Returns the bytes written. Each file is replaced whole, so that a reader never sees half of one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        f"model.{name}": weight.detach().to(torch.bfloat16).contiguous()
        for name, weight in network.named_parameters()
    }
    partial = folder / "partial"
    partial.write_bytes(save(weights, metadata={"format": "pt"}))
    os.replace(partial, folder / "model.safetensors")
    tokenizer.save(str(partial), pretty=False)
    os.replace(partial, folder / "tokenizer.json")
    _write_json(folder / "config.json", _config(network.shape))
    _write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": SEPARATOR,
            "eos_token": SEPARATOR,
            "add_bos_token": True,
            "add_eos_token": False,
            "clean_up_tokenization_spaces": False,
            "model_max_length": network.shape.context,
        },
    )
    names = ("model.safetensors", "tokenizer.json", "config.json", "tokenizer_config.json")
    return sum((folder / name).stat().st_size for name in names)


def _config(shape: LlamaShape) -> dict:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": shape.vocab,
        "hidden_size": shape.dim,
        "intermediate_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "max_position_embeddings": shape.context,
        "rms_norm_eps": shape.rms_eps,
        "rope_theta": shape.rope_theta,
        "rope_scaling": None,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "attention_dropout": 0.0,
        "tie_word_embeddings": True,
        "bos_token_id": SEPARATOR_ID,
        "eos_token_id": SEPARATOR_ID,
        "initializer_range": 0.05,
        "pretraining_tp": 1,
        "use_cache": True,
        "torch_dtype": "bfloat16",
    }


def _write_json(path: Path, value: dict) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
