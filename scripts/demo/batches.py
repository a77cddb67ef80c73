"""Token streams for the demo model: shuffled training batches and held-out windows."""

import re
from collections.abc import Iterable
from functools import cached_property

import numpy as np
from tokenizers import Tokenizer

from scripts.demo.bpe import SEPARATOR_ID

__all__ = ["HeldOut", "TrainingBatches"]

# A top-level statement after a blank line: where a file may be cut into two documents.
BLOCK_START = re.compile(r"(?<=\n\n)(?=[A-Za-z_@])")
CUT_PROBABILITY = 0.2


class TrainingBatches:
    """Training batches as a function of the step alone, so that a run can resume anywhere.

    Each epoch cuts the files anew, at random top-level statements, into documents that begin with
    the separator: the model then knows how to go on from a prompt that begins with `def` or
    `class`, not only from the imports at the top of a file. Documents are shuffled, packed and cut
    into rows of `context` + 1 tokens that overlap by one.
    """

    def __init__(
        self, texts: Iterable[str], tokenizer: Tokenizer, batch_rows: int, context: int, seed: int
    ):
        blocks = [BLOCK_START.split(text) for text in texts]
        encoded = iter(
            tokenizer.encode_batch([b for file in blocks for b in file], add_special_tokens=False)
        )
        self._files = [[np.array(next(encoded).ids, np.int64) for _ in file] for file in blocks]
        self._context, self._batch_rows, self._seed = context, batch_rows, seed
        self._epoch, self._rows = -1, np.zeros((0, context + 1), np.int64)
        self.tokens = sum(len(block) for file in self._files for block in file) + len(self._files)
        self.identity = [self.tokens, batch_rows, context, seed]
        # An epoch's exact length depends on its cuts; this one is below all of them.
        self.steps_per_epoch = (self.tokens - 1) // (batch_rows * context)
        if not self.steps_per_epoch:
            raise ValueError(f"{self.tokens} tokens are less than one batch")

    def batch(self, step: int) -> np.ndarray:
        """Rows of tokens for `step`, (batch_rows, context + 1), int64."""
        epoch, index = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._epoch, self._rows = epoch, self._shuffled_rows(epoch)
        return self._rows[index * self._batch_rows : (index + 1) * self._batch_rows]

    def _shuffled_rows(self, epoch: int) -> np.ndarray:
        random = np.random.default_rng((self._seed, epoch))
        separator = np.array([SEPARATOR_ID], np.int64)
        documents: list[list[np.ndarray]] = []
        for file in self._files:
            cuts = random.random(len(file)) < CUT_PROBABILITY
            for number, block in enumerate(file):
                if number == 0 or cuts[number]:
                    documents.append([separator])
                documents[-1].append(block)
        order = random.permutation(len(documents))
        stream = np.concatenate([part for number in order for part in documents[number]])
        rows = _windows(stream, self._context)
        return rows[random.permutation(len(rows))]


class HeldOut:
    """Held-out files as windows of `context` + 1 tokens, and the bytes those tokens stand for."""

    def __init__(self, texts: Iterable[str], tokenizer: Tokenizer, context: int):
        encoded = tokenizer.encode_batch(list(texts))
        self.rows = _windows(np.concatenate([np.array(e.ids, np.int64) for e in encoded]), context)
        self._tokenizer = tokenizer

    @cached_property
    def _byte_counts(self) -> np.ndarray:
        """UTF-8 bytes of each token (one character of a byte-level token is one byte), (vocab,)."""
        size = self._tokenizer.get_vocab_size()
        counts = np.array([len(self._tokenizer.id_to_token(i) or "") for i in range(size)])
        counts[SEPARATOR_ID] = 0
        return counts

    def target_bytes(self, rows: np.ndarray) -> int:
        """Bytes of text that a model predicts in `rows` (all tokens of a row but its first)."""
        return int(self._byte_counts[rows[:, 1:]].sum())


def _windows(stream: np.ndarray, context: int) -> np.ndarray:
    """Cut a stream into rows of `context` + 1 tokens, overlapping by one; drop the rest."""
    count = (len(stream) - 1) // context
    index = np.arange(count)[:, None] * context + np.arange(context + 1)
    return stream[index]
