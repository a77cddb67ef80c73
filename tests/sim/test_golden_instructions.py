"""Faults of single instructions on the golden machine, and that no program does worse."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hdl.config import PRESETS
from hdl.isa import (
    TABLE,
    Fault,
    LoadSource,
    ModelRegister,
    Opcode,
    Target,
    encode,
)
from runtime.descriptor import StepSegment, encode_descriptor
from sim.golden.fault import ChipFault
from sim.golden.machine import GoldenChip

TINY = PRESETS["tiny"]
PROGRAM, DESCRIPTOR, DATA, RESULT = 0x1000, 0x200, 0x4000, 0x8000
MEMORY_BYTES = 1 << 16


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


def word(opcode: Opcode, **operands: Any) -> int:
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
        fields = {
            o.name: st.one_of(
                st.integers(0, min(3, (1 << o.bits) - 1)), st.integers(0, (1 << o.bits) - 1)
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
