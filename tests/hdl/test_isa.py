"""The instruction table: encoder, decoder, disassembler and Amaranth layouts agree."""

from __future__ import annotations

import enum
from typing import Any

import pytest
from amaranth.hdl import Const
from hypothesis import given
from hypothesis import strategies as st

from hdl.isa import (
    INSTRUCTION_BITS,
    SEMAPHORES,
    TABLE,
    Counter,
    HostRegister,
    LoadSource,
    ModelRegister,
    Opcode,
    RowSelect,
    Target,
    Unit,
    decode,
    disassemble,
    encode,
    instruction_layout,
    opcodes_of,
)


@st.composite
def instructions(draw: st.DrawFn) -> tuple[Opcode, dict[str, int]]:
    opcode = draw(st.sampled_from(list(TABLE)))
    fields = {o.name: o.bits for o in TABLE[opcode].operands}
    fields |= {"wait": SEMAPHORES, "signal": SEMAPHORES}
    return opcode, {n: draw(st.integers(0, (1 << bits) - 1)) for n, bits in fields.items()}


@given(instructions())
def test_decode_is_the_inverse_of_encode(instruction: tuple[Opcode, dict[str, int]]) -> None:
    opcode, values = instruction
    word = encode(opcode, **values)
    assert 0 < word < 1 << INSTRUCTION_BITS
    assert decode(word) == (opcode, values)


@given(instructions())
def test_the_layout_reads_the_same_fields(instruction: tuple[Opcode, dict[str, int]]) -> None:
    opcode, values = instruction
    word = Const(encode(opcode, **values), INSTRUCTION_BITS)
    view: Any = instruction_layout(opcode).from_bits(word.value)
    assert view["opcode"] == opcode.value
    assert {name: view[name] for name in values} == values
    if "reserved" in dict(instruction_layout(opcode)):
        assert view["reserved"] == 0


@given(instructions())
def test_the_disassembler_names_every_field_that_is_not_zero(
    instruction: tuple[Opcode, dict[str, int]],
) -> None:
    opcode, values = instruction
    name, *fields = disassemble(encode(opcode, **values)).split()
    assert name == opcode.name
    read = {k: int(v, 16) for k, v in (field.split("=") for field in fields)}
    assert read == {k: v for k, v in values.items() if v}


@pytest.mark.parametrize("opcode", list(TABLE))
def test_every_word_is_filled_exactly(opcode: Opcode) -> None:
    assert instruction_layout(opcode).size == INSTRUCTION_BITS


def test_the_table_is_complete() -> None:
    assert set(TABLE) == set(Opcode)
    for unit in Unit:
        assert opcodes_of(unit), unit
    for unit in Unit:
        for opcode in opcodes_of(unit):
            assert unit in TABLE[opcode].units
    for definition in TABLE.values():
        names = [o.name for o in definition.operands]
        assert len(set(names) | {"opcode", "wait", "signal"}) == len(names) + 3


@pytest.mark.parametrize(
    ("values", "field"),
    [(LoadSource, "source"), (Target, "target"), (RowSelect, "rows"), (ModelRegister, "register")],
)
def test_choices_fit_their_fields(values: type[enum.Enum], field: str) -> None:
    operands = [o for d in TABLE.values() for o in d.operands if o.name == field]
    assert operands
    assert max(v.value for v in values) < 1 << min(o.bits for o in operands)


def test_counters_lie_behind_the_registers() -> None:
    places = [r.value for r in HostRegister]
    assert len(set(places)) == len(places)
    assert all(place % 4 == 0 for place in places)
    assert max(places) == HostRegister.COUNTERS.value
    assert HostRegister.COUNTERS.value + 8 * len(Counter) <= 0x1000


@pytest.mark.parametrize(
    ("opcode", "operands", "text"),
    [
        (Opcode.ADD, {"destination": 0}, "ADD: operand panels is missing"),
        (Opcode.ADD, {"destination": 1 << 20, "panels": 1}, "ADD: destination=1048576 does not"),
        (Opcode.ADD, {"destination": -1, "panels": 1}, "ADD: destination=-1 does not fit in 20"),
        (Opcode.END, {"panels": 1}, "END: no operand called panels"),
        (Opcode.END, {"wait": 256}, "END: wait=256 does not fit in 8 bits"),
    ],
)
def test_encode_refuses(opcode: Opcode, operands: dict[str, int], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        encode(opcode, **operands)


@pytest.mark.parametrize(
    ("word", "text"),
    [
        (0, "illegal opcode 0x00"),
        (0xFF, "illegal opcode 0xff"),
        (Opcode.END.value | 1 << 24, "END: reserved bits are not zero"),
        (Opcode.ADD.value | 1 << 127, "ADD: reserved bits are not zero"),
    ],
)
def test_decode_refuses(word: int, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        decode(word)
