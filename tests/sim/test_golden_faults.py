"""Every fault of the golden machine: its cause, and that the next good step runs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hdl.config import BLOCK, PAGE_TOKENS, PRESETS
from hdl.isa import (
    DESCRIPTOR_HEADER_WORDS,
    TABLE,
    DescriptorError,
    Fault,
    LoadSource,
    ModelRegister,
    Opcode,
    Target,
    encode,
)
from runtime.chip import DeviceFault
from runtime.descriptor import StepSegment, encode_descriptor
from runtime.device import Device, RowRequest
from runtime.pages import Sequence
from sim.golden.fault import ChipFault
from sim.golden.machine import GoldenChip
from tests.devices import checkpoint, golden, logits

TINY = PRESETS["tiny"]
PROGRAM, DESCRIPTOR, DATA, RESULT = 0x1000, 0x200, 0x4000, 0x8000
MEMORY_BYTES = 1 << 16
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


HEAD, ROWS = DESCRIPTOR_HEADER_WORDS, 7
SEGMENT = HEAD + ROWS + ROWS  # tokens, then as many outputs
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
    "token past the vocabulary": (DescriptorError.TOKEN, set_word(HEAD + 3, 96)),
    "output row past the rows": (DescriptorError.OUTPUT_ROW, set_word(HEAD + 2 * ROWS - 1, 7)),
    "output row twice": (DescriptorError.OUTPUT_ROW, set_word(HEAD + ROWS + 1, 0)),
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
        patch_descriptor(patch, set_word(HEAD, TEXT[0]), good_sum=False)
        fault = broken.fails()
    assert (fault.cause, fault.detail) == (Fault.BAD_DESCRIPTOR, DescriptorError.CHECKSUM.value)
    broken.recovers()


def test_position_past_the_context(monkeypatch: pytest.MonkeyPatch) -> None:
    """Legal by the page table: a context of 60 in two pages."""
    device = golden(checkpoint(layers=1), context=60)
    sequence = device.open_sequence()
    logits(device, TEXT, sequence=sequence)
    with monkeypatch.context() as patch:
        patch_descriptor(patch, set_word(HEAD + 1 + 1 + 1, 60), good_sum=True)
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
    data = np.frombuffer(wrong.tobytes(), np.uint8)
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


# Programs of their own ----------------------------------------------------------------------------
def run(words: list[int], rows: int = 2, descriptor: int = DESCRIPTOR) -> GoldenChip:
    """A program on preset tiny, with rows of one sequence at position 0."""
    memory = np.zeros(MEMORY_BYTES, np.uint8)
    code = b"".join(w.to_bytes(16, "little") for w in words)
    memory[PROGRAM : PROGRAM + len(code)] = np.frombuffer(code, np.uint8)
    segment = StepSegment([1] * rows, 0, 0, 1, DATA, outputs=range(rows))
    step = encode_descriptor([segment], result=RESULT, store_logits=True).view(np.uint8)
    memory[DESCRIPTOR : DESCRIPTOR + step.size] = step
    chip = GoldenChip(TINY, memory)
    chip.run(PROGRAM, descriptor)
    return chip


def word(opcode: Opcode, **operands: int) -> int:
    """An instruction; operands that are not named are 0, but blocks and panels 1."""
    ones = ("blocks", "panels", "pairs", "block_tiles")
    default = {o.name: int(o.name in ones) for o in TABLE[opcode].operands}
    return encode(opcode, **(default | operands))


def registers(**values: int) -> list[int]:
    return [word(Opcode.SET, register=ModelRegister[n], value=v) for n, v in values.items()]


END = word(Opcode.END)
ATTENTION = {
    "KV_BASE": 0xA000,
    "KV_PAGES": 2,
    "KV_PAGE_BYTES": 2 * 1056,
    "KV_OWNERS": 0x9000,
    "KV_HEADS": 1,
    "HEAD_GROUP": 2,
    "HEAD_BLOCKS": 1,
    "QUERY_STRIDE": 2,
    "BATCH_ROWS": 4,
}
PANEL = [word(Opcode.TAPE, address=DATA, block_tiles=8), word(Opcode.MATMUL)]
OPERAND, ADDRESS, WATCHDOG = Fault.BAD_OPERAND, Fault.BAD_ADDRESS, Fault.WATCHDOG
BAD_WORDS: dict[str, tuple[Fault, list[int]]] = {
    "empty memory": (Fault.ILLEGAL_INSTRUCTION, [0]),
    "unknown opcode": (Fault.ILLEGAL_INSTRUCTION, [0xEE]),
    "reserved bits": (Fault.ILLEGAL_INSTRUCTION, [END | 1 << 127]),
    "register that is none": (
        Fault.ILLEGAL_INSTRUCTION,
        [encode(Opcode.SET, register=31, value=0)],
    ),
    "semaphore that nothing gives": (
        WATCHDOG,
        [word(Opcode.QUANTISE, signal=2), word(Opcode.QUANTISE, wait=4)],
    ),
    "semaphore taken twice": (
        WATCHDOG,
        [word(Opcode.QUANTISE, signal=4), *[word(Opcode.QUANTISE, wait=4)] * 2],
    ),
    "token past VOCABULARY": (Fault.BAD_DESCRIPTOR, registers(VOCABULARY=1)),
    "position past CONTEXT": (Fault.BAD_DESCRIPTOR, registers(CONTEXT=1)),
    "empty tape": (OPERAND, [word(Opcode.TAPE, address=DATA, block_tiles=0)]),
    "tape past the memory": (ADDRESS, [word(Opcode.TAPE, address=0xFFF0)]),
    "tape not aligned": (ADDRESS, [word(Opcode.TAPE, address=DATA + 2)]),
    "tape left": (Fault.TAPE_LEFT, [word(Opcode.TAPE, address=DATA), END]),
    "LOAD of no blocks": (OPERAND, [word(Opcode.LOAD, blocks=0)]),
    "LOAD past the rows": (
        OPERAND,
        [word(Opcode.LOAD, source=LoadSource.ROW, destination=TINY.row_blocks - 1)],
    ),
    "LOAD past the constants": (
        OPERAND,
        [word(Opcode.LOAD, target=Target.CONSTANTS, destination=TINY.constant_blocks)],
    ),
    "LOAD past the memory": (
        ADDRESS,
        [word(Opcode.LOAD, source=LoadSource.TOKEN, address=MEMORY_BYTES - 128)],
    ),
    "LOAD not aligned": (ADDRESS, [word(Opcode.LOAD, address=DATA + 1)]),
    "MATMUL of no blocks": (OPERAND, [word(Opcode.MATMUL, blocks=0)]),
    "MATMUL of no panels": (OPERAND, [word(Opcode.MATMUL, panels=0)]),
    "MATMUL past the activations": (
        OPERAND,
        [PANEL[0], word(Opcode.MATMUL, activations=TINY.activation_blocks - 1)],
    ),
    "MATMUL without tape": (WATCHDOG, [*PANEL, word(Opcode.MATMUL)]),
    "NORM of no blocks": (OPERAND, [word(Opcode.NORM, blocks=0)]),
    "NORM past the rows": (OPERAND, [word(Opcode.NORM, source=TINY.row_blocks - 1)]),
    "NORM past the constants": (OPERAND, [word(Opcode.NORM, weights=TINY.constant_blocks)]),
    "NORM past the activations": (
        OPERAND,
        [word(Opcode.NORM, destination=TINY.activation_blocks - 1)],
    ),
    "QUANTISE of no blocks": (OPERAND, [word(Opcode.QUANTISE, blocks=0)]),
    "QUANTISE past the rows": (OPERAND, [word(Opcode.QUANTISE, blocks=TINY.row_blocks)]),
    "ADD of no panels": (OPERAND, [word(Opcode.ADD, panels=0)]),
    "ADD past the rows": (OPERAND, [*PANEL, word(Opcode.ADD, destination=TINY.row_blocks)]),
    "ADD without panels": (WATCHDOG, [word(Opcode.ADD)]),
    "ROPE without heads": (OPERAND, [*PANEL, word(Opcode.ROPE)]),
    "ROPE of half a head": (OPERAND, [*registers(HEAD_BLOCKS=2), *PANEL, word(Opcode.ROPE)]),
    "ROPE past the tables": (
        OPERAND,
        [*registers(HEAD_BLOCKS=1), *PANEL, word(Opcode.ROPE, tables=TINY.constant_blocks - 3)],
    ),
    "SWIGLU of no pairs": (OPERAND, [word(Opcode.SWIGLU, pairs=0)]),
    "SWIGLU of one panel": (WATCHDOG, [*PANEL, word(Opcode.SWIGLU)]),
    "LOGITS of no panels": (OPERAND, [word(Opcode.LOGITS, panels=0)]),
    "LOGITS of too many panels": (OPERAND, [word(Opcode.LOGITS, panels=1 << 15)]),
    "LOGITS of no vocabulary": (OPERAND, [*PANEL, word(Opcode.LOGITS)]),
    "STORE of no blocks": (OPERAND, [word(Opcode.STORE, blocks=0)]),
    "STORE past the memory": (ADDRESS, [word(Opcode.STORE, address=MEMORY_BYTES - 128)]),
    "STORE not aligned": (ADDRESS, [word(Opcode.STORE, address=DATA + 2)]),
    "APPEND before PREPARE": (WATCHDOG, [word(Opcode.APPEND)]),
    "ATTEND before PREPARE": (WATCHDOG, [word(Opcode.ATTEND)]),
    "end of memory without END": (ADDRESS, registers(KV_BASE=0) * ((0x10000 - PROGRAM) // 16)),
}


@pytest.mark.parametrize("what", BAD_WORDS)
def test_instruction(what: str) -> None:
    cause, words = BAD_WORDS[what]
    with pytest.raises(ChipFault) as info:
        run(words if what == "end of memory without END" else [*words, END])
    last = len(words) - (what != "end of memory without END")
    assert (info.value.cause, info.value.index) == (cause, last), info.value


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"HEAD_BLOCKS": 0}, OPERAND),
        ({"HEAD_BLOCKS": TINY.head_blocks + 1}, OPERAND),
        ({"KV_HEADS": 0}, OPERAND),
        ({"HEAD_GROUP": 0}, OPERAND),
        ({"BATCH_ROWS": 0}, OPERAND),
        ({"BATCH_ROWS": 5}, OPERAND),
        ({"KV_BASE": 0xA002}, OPERAND),
        ({"KV_PAGE_BYTES": 2 * 1056 + 1}, OPERAND),
        ({"KV_PAGE_BYTES": 2 * 1056 - 4}, OPERAND),
        ({"KV_OWNERS": 0x9001}, OPERAND),
        ({"QUERY_STRIDE": 3}, OPERAND),
        ({"KV_PAGES": 0}, Fault.KV_PAGE),
        ({"KV_BASE": MEMORY_BYTES}, ADDRESS),
        ({"KV_OWNERS": MEMORY_BYTES}, ADDRESS),
    ],
)
def test_registers_of_the_attention(changes: dict[str, int], cause: Fault) -> None:
    good = [*registers(**ATTENTION), word(Opcode.PREPARE), word(Opcode.ATTEND)]
    run([*good, END])
    with pytest.raises(ChipFault) as info:
        run([*registers(**(ATTENTION | changes)), *good[len(ATTENTION) :], END])
    assert info.value.cause is cause
    assert info.value.index >= len(ATTENTION)


@pytest.mark.parametrize("address", [MEMORY_BYTES - 16, MEMORY_BYTES, 1 << 39, DESCRIPTOR + 2])
def test_descriptor_and_program_outside_the_memory(address: int) -> None:
    with pytest.raises(ChipFault) as info:
        run([END], descriptor=address)
    assert info.value.cause is ADDRESS
    chip = run([END])
    with pytest.raises(ChipFault) as info:
        chip.run(address + 16, DESCRIPTOR)
    assert info.value.cause is ADDRESS


def instructions() -> st.SearchStrategy[int]:
    """Any instruction, its operands mostly small, sometimes anything."""

    def operands(opcode: Opcode) -> st.SearchStrategy[int]:
        few = st.integers(0, 3)
        fields = {
            o.name: st.one_of(
                few.filter(lambda v, bits=o.bits: v < 1 << bits),
                st.integers(0, (1 << o.bits) - 1),
            )
            for o in TABLE[opcode].operands
        }
        if opcode is Opcode.SET:
            fields["register"] = st.integers(0, len(ModelRegister) - 1)
        return st.fixed_dictionaries(fields).map(lambda values: encode(opcode, **values))

    return st.sampled_from(list(TABLE)).flatmap(operands)


@settings(max_examples=150, deadline=None)
@given(words=st.lists(instructions(), max_size=8), good=st.booleans())
def test_no_program_ends_in_anything_but_a_fault(words: list[int], good: bool) -> None:
    prologue = [*registers(**ATTENTION), word(Opcode.PREPARE), word(Opcode.TAPE, block_tiles=64)]
    with suppress(ChipFault):
        run([*(prologue if good else []), *words, END])


def test_a_product_reads_on_from_one_tape_to_the_next() -> None:
    tile = TINY.block_tile_beats * TINY.port_bytes
    parts = [(DATA, 3), (DATA + 3 * tile, 5)]
    tapes = [word(Opcode.TAPE, address=a, block_tiles=n) for a, n in parts]
    again = word(Opcode.TAPE, address=DATA, block_tiles=1)  # behind it, and not part of it
    one, two = run([*PANEL, END]), run([*tapes, PANEL[1], END])
    np.testing.assert_array_equal(one.ring[0], two.ring[0])
    with pytest.raises(ChipFault, match="TAPE_LEFT: 1 block tiles"):
        run([*tapes, again, PANEL[1], END])
