"""One interface to every device: load an image, run steps of rows, read counters and faults."""

from dataclasses import dataclass

import numpy as np

from compiler.image import Image
from compiler.layout import blocks_of
from hdl.config import BLOCK, Config
from hdl.isa import RESULT_TOKEN_BYTES, Counter
from runtime.chip import ChipMaker, Progress
from runtime.descriptor import StepSegment, encode_descriptor
from runtime.pages import PageAllocator, Sequence

__all__ = ["Device", "RowRequest", "StepResult"]


@dataclass(frozen=True)
class RowRequest:
    """Tokens of one sequence for a step; the logits of the last ``outputs`` of them are wanted."""

    sequence: Sequence
    tokens: list[int]
    outputs: int = 1


@dataclass(frozen=True)
class StepResult:
    """What a step gave.

    Attributes
    ----------
    tokens : int64 (outputs,): the chip's argmax, ties to the lowest id
    logits : float32 (outputs, vocab), or None if not asked for
    counters : the chip's counters by ``Counter`` (empty on a device without cycles)
    rows : rows of the step
    """

    tokens: np.ndarray
    logits: np.ndarray | None
    counters: dict[Counter, int]
    rows: int


class Device:
    """A chip with an image in its memory: golden, simulated or real, all the same from here.

    Parameters
    ----------
    image : compiled for the chip's configuration
    make_chip : makes the chip around a memory (see ``runtime.chip``)
    """

    def __init__(self, image: Image, make_chip: ChipMaker):
        self.image = image
        self.config = Config(**image.manifest["config"])
        self.map = image.memory
        self.vocab: int = image.manifest["model"]["vocab"]
        self.rows: int = image.manifest["rows"]
        self.memory = np.zeros(self.map.size, np.uint8)
        image.place(self.memory)
        self.pages = PageAllocator(self.memory, self.map, self.config.row_capacity)
        self.chip = make_chip(self.config, self.memory)

    def open_sequence(self) -> Sequence:
        return self.pages.open()

    def close_sequence(self, sequence: Sequence) -> None:
        self.pages.close(sequence)

    def truncate(self, sequence: Sequence, length: int) -> None:
        """Roll a sequence back to its first ``length`` tokens."""
        self.pages.truncate(sequence, length)

    def step(
        self,
        requests: list[RowRequest],
        *,
        logits: bool = True,
        progress: Progress | None = None,
    ) -> StepResult:
        """One step: all rows of all requests in one pass of the tape.

        Raises
        ------
        UserError
            A sequence outgrows the context or the KV cache.
        DeviceFault
            The chip stopped; no sequence has grown.
        """
        rows = sum(len(r.tokens) for r in requests)
        if not 1 <= rows <= self.rows:
            raise ValueError(f"a step takes 1 to {self.rows} rows, not {rows}")
        if any(not r.tokens or not 0 <= r.outputs <= len(r.tokens) for r in requests):
            raise ValueError("each request takes at least one token, and at most as many outputs")
        if len({r.sequence.owner for r in requests}) < len(requests):
            raise ValueError("a sequence may stand in a step once")
        try:
            counters = self._run(requests, logits, progress)
        except BaseException:
            for r in requests:  # pages for tokens that have not come
                self.pages.truncate(r.sequence, r.sequence.length)
            raise
        for r in requests:
            r.sequence.length += len(r.tokens)
        outputs = sum(r.outputs for r in requests)
        result = self.memory[self.map.result :]
        tokens = result[: 4 * outputs].view("<u4").astype(np.int64)
        table = None
        if logits:
            stride = blocks_of(self.vocab) * BLOCK
            data = result[RESULT_TOKEN_BYTES : RESULT_TOKEN_BYTES + outputs * stride * 4]
            table = data.view("<f4").reshape(outputs, stride)[:, : self.vocab].copy()
        return StepResult(tokens, table, counters, rows)

    def _run(
        self, requests: list[RowRequest], logits: bool, progress: Progress | None
    ) -> dict[Counter, int]:
        """Pages, descriptor, doorbell to done."""
        for r in requests:
            self.pages.extend(r.sequence, r.sequence.length + len(r.tokens))
        segments = [
            StepSegment(
                r.tokens,
                r.sequence.length,
                r.sequence.owner,
                len(r.sequence.pages),
                self.pages.table_address(r.sequence),
                range(len(r.tokens) - r.outputs, len(r.tokens)),
            )
            for r in requests
        ]
        words = encode_descriptor(segments, result=self.map.result, store_logits=logits)
        at = self.map.descriptor
        self.memory[at : at + 4 * len(words)] = words.view(np.uint8)
        stop = 4 * sum(r.outputs for r in requests)
        if logits and stop:
            stop = RESULT_TOKEN_BYTES + stop * blocks_of(self.vocab) * BLOCK
        self.chip.expect(slice(self.map.result, self.map.result + stop))
        return self.chip.run(self.map.program, self.map.descriptor, progress)

    def close(self) -> None:
        """Give back what the device holds."""
        self.chip.close()
