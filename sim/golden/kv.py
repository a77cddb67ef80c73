"""The KV cache of the golden model: page walk, append, page reads."""

import numpy as np

from hdl.config import BLOCK, PAGE_TOKENS, Config
from hdl.isa import Fault, ModelRegister
from sim.golden.descriptor import Segment, Step
from sim.golden.fault import ChipFault
from sim.golden.memory import span

__all__ = ["KVCache"]


class KVCache:
    """Keys and values in pages of 32 tokens in ``memory`` (uint8), by docs/spec.md section 2.

    Raises ``ChipFault`` BAD_OPERAND for model registers that make no attention.
    """

    def __init__(self, config: Config, memory: np.ndarray, model: dict[ModelRegister, int]):
        self.memory = memory
        self.port_bytes = config.port_bytes
        self.base = model[ModelRegister.KV_BASE]
        self.pages = model[ModelRegister.KV_PAGES]
        self.page_bytes = model[ModelRegister.KV_PAGE_BYTES]
        self.owners = model[ModelRegister.KV_OWNERS]
        self.heads = model[ModelRegister.KV_HEADS]
        self.group = model[ModelRegister.HEAD_GROUP]
        self.head_blocks = model[ModelRegister.HEAD_BLOCKS]
        batch = model[ModelRegister.BATCH_ROWS] * self.group
        for good, text in (
            (1 <= self.head_blocks <= config.head_blocks, f"HEAD_BLOCKS {self.head_blocks}"),
            (self.heads > 0, "KV_HEADS 0"),
            (0 < batch <= config.row_capacity, f"BATCH_ROWS x HEAD_GROUP is {batch}"),
            (self.base % config.port_bytes == 0, f"KV_BASE {self.base:#x}"),
            (self.page_bytes % config.port_bytes == 0, f"KV_PAGE_BYTES {self.page_bytes}"),
            (self.owners % 4 == 0, f"KV_OWNERS {self.owners:#x}"),
        ):
            if not good:
                raise ChipFault(Fault.BAD_OPERAND, text)
        self.half = PAGE_TOKENS * BLOCK * self.head_blocks + PAGE_TOKENS
        self.frames: np.ndarray | None = None  # (rows,) page address of each row of the step

    def _word(self, address: int) -> int:
        return int(span(self.memory, address, 4).view("<u4")[0])

    def walk(self, segment: Segment, index: int) -> int:
        """Byte address of a sequence's page ``index``; faults KV_PAGE and KV_OWNER."""
        if index >= segment.pages:
            raise ChipFault(Fault.KV_PAGE, f"page {index} of a table of {segment.pages}")
        page = self._word(segment.table + 4 * index)
        if page >= self.pages:
            raise ChipFault(Fault.KV_PAGE, f"page {page} of {self.pages}")
        owner = self._word(self.owners + 4 * page)
        if owner != segment.owner:
            raise ChipFault(Fault.KV_OWNER, f"page {page} is {owner}'s, not {segment.owner}'s")
        return self.base + page * self.page_bytes

    def prepare(self, step: Step) -> None:
        """PREPARE: translate the position of every row."""
        frames = []
        for segment in step.segments:
            last, address = -1, 0
            for i in range(segment.rows):
                index = (segment.position + i) // PAGE_TOKENS
                if index != last:
                    last, address = index, self.walk(segment, index)
                frames.append(address)
        self.frames = np.array(frames, np.int64)

    def append(
        self, step: Step, offset: int, value: int, elements: np.ndarray, scales: np.ndarray
    ) -> None:
        """Write keys or values.

        Parameters
        ----------
        elements
            int8 (rows, heads, head_blocks * 32).
        scales
            uint8 (rows, heads).
        """
        assert self.frames is not None
        width = BLOCK * self.head_blocks
        slots = step.positions % PAGE_TOKENS
        for r in range(step.rows):
            half = self._halves(int(self.frames[r]), offset)[:, value]
            start = int(slots[r]) * width
            half[:, start : start + width] = elements[r].view(np.uint8)
            half[:, PAGE_TOKENS * width + int(slots[r])] = scales[r]

    def _halves(self, address: int, offset: int) -> np.ndarray:
        """A layer's part of a page: view (heads, 2, half) of bytes."""
        size = 2 * self.heads * self.half
        if offset % self.port_bytes or offset + size > self.page_bytes:
            raise ChipFault(Fault.BAD_OPERAND, f"{size} bytes at {offset} of a page")
        return span(self.memory, address + offset, size).reshape(self.heads, 2, self.half)

    def page(self, address: int, offset: int) -> tuple[np.ndarray, ...]:
        """Keys, key scales, values, value scales of all heads of a page.

        elements int8 (heads, 32, head_blocks * 32), scales uint8 (heads, 32).
        """
        halves = self._halves(address, offset)
        width = BLOCK * self.head_blocks
        body = halves[:, :, : PAGE_TOKENS * width].view(np.int8)
        body = body.reshape(self.heads, 2, PAGE_TOKENS, width)
        scales = halves[:, :, PAGE_TOKENS * width :]
        return body[:, 0], scales[:, 0], body[:, 1], scales[:, 1]
