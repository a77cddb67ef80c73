"""The demo model's tokenizer: a byte-level BPE that keeps Python's white space in whole tokens."""

from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

__all__ = ["SEPARATOR", "SEPARATOR_ID", "train_tokenizer"]

SEPARATOR = "<|endoftext|>"
SEPARATOR_ID = 0

# Newlines, indentation, words, digits and punctuation never share a token: a prompt that ends in a
# newline or an open bracket is then cut as the training text was. Words take one leading space.
# `self.` is one in ten of all words, so it may be one token.
PIECES = r"\n+| {2,}| ?self\.| ?[A-Za-z_]+|[0-9]| ?[^\sA-Za-z_0-9]+|\s"


def train_tokenizer(texts: Iterable[str], vocab_size: int = 1024) -> Tokenizer:
    """Train a byte-level BPE; encoding a text puts the separator (id 0) in front of it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[SEPARATOR],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{SEPARATOR} $A",
        special_tokens=[(SEPARATOR, SEPARATOR_ID)],
    )
    return tokenizer
