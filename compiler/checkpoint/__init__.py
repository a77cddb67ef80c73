"""Checkpoints as people have them -> one canonical FP32 Llama."""

from compiler.checkpoint.load import load_checkpoint, load_config
from compiler.checkpoint.model import (
    Checkpoint,
    Llama3RopeScaling,
    LlamaConfig,
    RopeFactors,
    Tensors,
    tensor_shapes,
)
from compiler.checkpoint.tokenizer import (
    BytePairSpec,
    HuggingFaceSpec,
    SentencePieceSpec,
    TokenizerSpec,
    TokenType,
    tokenizer_from_json,
    tokenizer_to_json,
)

__all__ = [
    "BytePairSpec",
    "Checkpoint",
    "HuggingFaceSpec",
    "Llama3RopeScaling",
    "LlamaConfig",
    "RopeFactors",
    "SentencePieceSpec",
    "Tensors",
    "TokenType",
    "TokenizerSpec",
    "load_checkpoint",
    "load_config",
    "tensor_shapes",
    "tokenizer_from_json",
    "tokenizer_to_json",
]
