"""Text to token ids and back: Hugging Face, GGUF and llama2.c tokenizers behind one interface."""

from runtime.tokenizer.base import TextStream, Tokenizer
from runtime.tokenizer.make import make

__all__ = ["TextStream", "Tokenizer", "make"]
