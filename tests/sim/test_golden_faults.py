"""Every fault of the golden machine: its cause, and that the next good step runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hdl.config import BLOCK, PAGE_TOKENS
from hdl.isa import (
    DESCRIPTOR_HEADER_WORDS,
    DESCRIPTOR_SEGMENT_WORDS,
    DescriptorError,
    Fault,
)
from runtime.chip import DeviceFault
from runtime.descriptor import encode_descriptor
from runtime.device import Device, RowRequest
from runtime.pages import Sequence
from sim.golden.fault import ChipFault
from tests.devices import checkpoint, golden, logits

TEXT = list(range(40))


# A model on a device, something broken in the middle of a text ------------------------------------
class Broken:
    """A device that has run 30 tokens of TEXT, for a fault in the next step."""

    def __init__(self, preset: str = "edge") -> None:
        self.device: Device = golden(checkpoint(layers=1, head_dim=20), preset, sequences=2)
        self.expected = logits(self.device, TEXT)
        self.sequence: Sequence = self.device.open_sequence()
        logits(self.device, TEXT[:30], sequence=self.sequence)
        heads = self.device.image.manifest["model"]["kv_heads"]
        self.page_bytes = 2 * heads * (PAGE_TOKENS * BLOCK + PAGE_TOKENS)  # one layer, one block

    def fails(self) -> ChipFault:
        """Run the rest of TEXT: the fault, after checking that nothing has grown."""
        pages = list(self.sequence.pages)
        with pytest.raises(DeviceFault) as info:
            self.step()
        fault = info.value.__context__
        assert isinstance(fault, ChipFault)
        assert fault.cause.name in str(info.value)
        assert self.sequence.length == 30
        assert self.sequence.pages == pages
        return fault

    def step(self) -> NDArray[np.float32]:
        request = RowRequest(self.sequence, TEXT[30:37], 7)
        found = self.device.step([request]).logits
        assert found is not None
        return found

    def recovers(self) -> None:
        np.testing.assert_array_equal(self.step(), self.expected[30:37])
        assert self.sequence.length == 37


def set_word(index: int, value: int) -> Callable[[list[int]], None]:
    def change(words: list[int]) -> None:
        words[index] = value

    return change


SEGMENT, ROWS = DESCRIPTOR_HEADER_WORDS, 7  # one segment
TOKENS = SEGMENT + DESCRIPTOR_SEGMENT_WORDS
OUTPUTS = TOKENS + ROWS  # as many
DESCRIPTORS: dict[str, tuple[DescriptorError, Callable[[list[int]], None]]] = {
    "magic": (DescriptorError.MAGIC, set_word(0, 0x314E5252)),
    "no rows": (DescriptorError.ROWS, set_word(1, 0)),
    "rows past the capacity": (DescriptorError.ROWS, set_word(1, 65)),
    "no segments": (DescriptorError.SEGMENTS, set_word(2, 0)),
    "more segments than rows": (DescriptorError.SEGMENTS, set_word(2, 8)),
    "more outputs than rows": (DescriptorError.OUTPUTS, set_word(3, 8)),
    "unknown flag": (DescriptorError.RESERVED, set_word(4, 2)),
    "result not aligned": (DescriptorError.ALIGNMENT, set_word(6, 8)),
    "result address too long": (DescriptorError.ALIGNMENT, set_word(7, 256)),
    "token past the vocabulary": (DescriptorError.TOKEN, set_word(TOKENS + 3, 96)),
    "output row past the rows": (DescriptorError.OUTPUT_ROW, set_word(OUTPUTS + ROWS - 1, 7)),
    "output row twice": (DescriptorError.OUTPUT_ROW, set_word(OUTPUTS + 1, 0)),
    "segment without rows": (DescriptorError.SEGMENT_ROWS, set_word(SEGMENT, 0)),
    "segment with too many rows": (DescriptorError.SEGMENT_ROWS, set_word(SEGMENT, 8)),
    "rows without segment": (DescriptorError.SEGMENT_ROWS, set_word(SEGMENT, 6)),
    "position past the page table": (DescriptorError.POSITION, set_word(SEGMENT + 1, 58)),
    "position of 21 bits": (DescriptorError.POSITION, set_word(SEGMENT + 1, 1 << 20)),
    "too many pages": (DescriptorError.POSITION, set_word(SEGMENT + 3, 1 << 16)),
    "table not aligned": (DescriptorError.ALIGNMENT, set_word(SEGMENT + 4, 8)),
    "table address too long": (DescriptorError.ALIGNMENT, set_word(SEGMENT + 5, 256)),
    "reserved word 6": (DescriptorError.RESERVED, set_word(SEGMENT + 6, 1)),
    "reserved word 7": (DescriptorError.RESERVED, set_word(SEGMENT + 7, 1)),
}


def patch_descriptor(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[list[int]], None], good_sum: bool
) -> None:
    def encode_changed(*args: Any, **kwargs: Any) -> NDArray[np.uint32]:
        words = [int(w) for w in encode_descriptor(*args, **kwargs)]
        change(words)
        if good_sum:
            words[5] = -(sum(words) - words[5]) & 0xFFFFFFFF
        return np.array(words, np.uint32)

    monkeypatch.setattr("runtime.device.encode_descriptor", encode_changed)


@pytest.mark.parametrize("what", DESCRIPTORS)
def test_descriptor(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    error, change = DESCRIPTORS[what]
    broken = Broken()
    with monkeypatch.context() as patch:
        patch_descriptor(patch, change, good_sum=True)
        fault = broken.fails()
    assert (fault.cause, DescriptorError(fault.detail)) == (Fault.BAD_DESCRIPTOR, error)
    broken.recovers()


def test_descriptor_with_a_wrong_checksum(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Broken()
    with monkeypatch.context() as patch:
        patch_descriptor(patch, set_word(TOKENS, TEXT[0]), good_sum=False)
        fault = broken.fails()
    assert (fault.cause, fault.detail) == (Fault.BAD_DESCRIPTOR, DescriptorError.CHECKSUM.value)
    broken.recovers()


def test_position_past_the_context(monkeypatch: pytest.MonkeyPatch) -> None:
    """Legal by the page table: a context of 60 in two pages."""
    device = golden(checkpoint(layers=1), context=60)
    sequence = device.open_sequence()
    logits(device, TEXT, sequence=sequence)
    with monkeypatch.context() as patch:
        patch_descriptor(patch, set_word(SEGMENT + 1, 60), good_sum=True)
        with pytest.raises(DeviceFault) as info:
            device.step([RowRequest(sequence, [1])])
    fault = info.value.__context__
    assert isinstance(fault, ChipFault)
    assert DescriptorError(fault.detail) is DescriptorError.POSITION
    assert device.step([RowRequest(sequence, [1])]).rows == 1


def words_at(device: Device, address: int) -> NDArray[np.uint32]:
    return device.memory[address : address + 4].view("<u4")


@pytest.mark.parametrize(
    ("what", "cause"),
    [
        ("page past the cache", Fault.KV_PAGE),
        ("page of another sequence", Fault.KV_OWNER),
        ("page of nobody", Fault.KV_OWNER),
        ("owner changed", Fault.KV_OWNER),
        ("table past the memory", Fault.BAD_ADDRESS),
    ],
)
def test_pages(what: str, cause: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Broken()
    device, other = broken.device, broken.device.open_sequence()
    device.pages.extend(other, 20)
    table = words_at(device, device.pages.table_address(broken.sequence))
    owner = words_at(device, device.map.kv_owners + 4 * broken.sequence.pages[0])
    page, number = int(table[0]), int(owner[0])
    free = device.map.kv_pages - 1  # given out last
    with monkeypatch.context() as patch:
        if what == "page past the cache":
            table[0] = device.map.kv_pages
        elif what == "page of another sequence":
            table[0] = other.pages[0]
        elif what == "page of nobody":
            table[0] = free
        elif what == "owner changed":
            owner[0] = other.owner
        else:
            patch_descriptor(patch, set_word(SEGMENT + 5, 200), good_sum=True)
        assert broken.fails().cause is cause
    table[0], owner[0] = page, number
    broken.recovers()


@pytest.mark.parametrize("what", ["norm", "embedding", "key scale", "value scale"])
def test_values_in_memory_that_are_not_finite(what: str) -> None:
    broken = Broken()
    memory, map = broken.device.memory, broken.device.map
    width = PAGE_TOKENS * BLOCK  # elements of a page's half, one block a head
    page = map.kv_base + broken.sequence.pages[0] * broken.page_bytes
    at, wrong = {
        "norm": (map.norms + 4, np.float32(np.inf)),
        "embedding": (map.embedding + TEXT[33] * BLOCK * 4, np.float32(np.nan)),
        "key scale": (page + width + 5, np.uint8(255)),
        "value scale": (page + width + PAGE_TOKENS + width + 5, np.uint8(255)),
    }[what]
    data = np.frombuffer(np.asarray(wrong).tobytes(), np.uint8)
    before = memory[at : at + data.size].copy()
    memory[at : at + data.size] = data
    assert broken.fails().cause is Fault.NON_FINITE
    memory[at : at + data.size] = before
    broken.recovers()


@pytest.mark.parametrize(
    ("panel", "text"), [(0, "keys"), (2, "values"), (4, "activations"), (-1, "logits")]
)
def test_products_that_are_not_finite(panel: int, text: str) -> None:
    """A NaN among the weights' scales: where it comes out depends on the matrix it stands in."""
    device = golden(checkpoint(layers=1))
    c, map = device.config, device.map
    panels = map.tape_block_tiles // c.column_groups  # one block each: dim is 32
    at = map.tape + panel % panels * c.column_groups * c.block_tile_beats * c.port_bytes
    device.memory[at] = 255
    sequence = device.open_sequence()
    with pytest.raises(DeviceFault, match=f"NON_FINITE: {text}"):
        device.step([RowRequest(sequence, [1, 2, 3])])
    assert (sequence.length, sequence.pages) == (0, [])
