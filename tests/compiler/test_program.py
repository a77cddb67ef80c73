"""The program of a model: right in every interleaving of the units, and equal to its own tape."""

from __future__ import annotations

import math
import re
from random import Random
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from compiler.errors import UserError
from compiler.gemm import build_gemm
from compiler.layout import Layout
from compiler.program import NORM_SLOT_FREE, model_registers, step_program
from hdl.config import PRESETS
from hdl.interfaces import model_layout
from hdl.isa import LoadSource, ModelRegister, Opcode, RowSelect, decode, encode
from tests.checkpoints import small_config
from tests.compiler.overlap import Overlap
from tests.devices import checkpoint, image

SHAPES: dict[str, dict[str, Any]] = {
    "small": {},
    "long heads": {"heads": 2, "kv_heads": 2, "head_dim": 64, "hidden": 300},
    "wide": {"dim": 200, "hidden": 90, "heads": 8, "kv_heads": 1, "head_dim": 34, "layers": 3},
    "one layer": {"layers": 1, "heads": 1, "kv_heads": 1},
}
MEMORY = SimpleNamespace(
    **dict.fromkeys(("kv_base", "tape", "embedding", "norms", "rope", "rows_in", "rows_out"), 0),
    **dict.fromkeys(("kv_pages", "tape_block_tiles"), 1),
    kv_owners=64,
    context=64,
)


def program(shape: str, preset: str, with_head: bool = True) -> tuple[list[int], Layout]:
    layout = Layout(PRESETS[preset], small_config(**SHAPES[shape]))
    return step_program(layout, MEMORY, with_head=with_head).words, layout


@pytest.mark.parametrize("preset", ["tiny", "edge"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("with_head", [True, False])
def test_every_interleaving_reads_what_one_by_one_reads(
    shape: str, preset: str, with_head: bool
) -> None:
    words, layout = program(shape, preset, with_head)
    one_by_one = Overlap(words, layout)
    one_by_one.run()
    assert one_by_one.reads
    for seed in range(10):
        Overlap(words, layout, Random(seed), one_by_one.reads).run()


def test_the_interleavings_find_a_race_and_a_deadlock() -> None:
    words, layout = program("small", "edge")
    expected = Overlap(words, layout)
    expected.run()
    loads = [decode(w) for w in words if decode(w)[0] is Opcode.LOAD]

    def found(opcode: Opcode, number: int, **change: int) -> str:
        """What is wrong when the semaphores of one of an opcode's instructions are changed."""
        at = [i for i, w in enumerate(words) if decode(w)[0] is opcode][number]
        broken = list(words)
        for name, value in change.items():
            shift = {"wait": 8, "signal": 16}[name]
            broken[at] = broken[at] & ~(0xFF << shift) | value << shift
        for seed in range(20):
            try:
                Overlap(broken, layout, Random(seed), expected.reads).run()
            except AssertionError as error:
                return str(error)
        return ""

    assert re.fullmatch("NORM .* reads constants.*", found(Opcode.NORM, 1, wait=0), re.DOTALL)
    assert re.fullmatch("ATTEND .* reads act.*", found(Opcode.ATTEND, 1, wait=0), re.DOTALL)
    assert re.fullmatch("MATMUL .* reads act.*", found(Opcode.MATMUL, 3, wait=0), re.DOTALL)
    assert re.fullmatch("NORM .* reads rows.*", found(Opcode.NORM, 0, wait=0), re.DOTALL)
    slot_free = next(i for i, (_, o) in enumerate(loads) if o["wait"] == NORM_SLOT_FREE)
    assert re.fullmatch("NORM .* reads con.*", found(Opcode.LOAD, slot_free, wait=0), re.DOTALL)
    assert "waits for ever" in found(Opcode.ATTEND, 1, signal=0)
    assert "'MATRIX': 'ATTEND'" in found(Opcode.ROPE, 0, signal=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_norms_are_used_in_the_order_in_which_they_lie(shape: str) -> None:
    words, layout = program(shape, "edge")
    slots: dict[int, int] = {}
    used = []
    for opcode, o in map(decode, words):
        if opcode is Opcode.LOAD and o["source"] == LoadSource.CONSTANT.value:
            slots[o["destination"]] = o["address"] // (layout.dim_blocks * 128)
        if opcode is Opcode.NORM:
            used.append(slots[o["weights"]])
    assert used == list(range(2 * layout.model.layers + 1))


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("with_head", [True, False])
def test_products_use_the_tape_to_its_end(shape: str, preset: str, with_head: bool) -> None:
    made = image(checkpoint(**SHAPES[shape]), preset, with_head=with_head)
    words = made.sections["program"].reshape(-1, 16)
    program = [decode(int.from_bytes(w.tobytes(), "little")) for w in words]
    c = PRESETS[preset]
    products = [o for opcode, o in program if opcode is Opcode.MATMUL]
    tiles = sum(o["panels"] * o["blocks"] for o in products) * c.column_groups
    (tape,) = [o for opcode, o in program if opcode is Opcode.TAPE]
    assert tape["block_tiles"] == tiles
    assert made.sections["tape"].size == tiles * c.block_tile_beats * c.port_bytes
    assert tape["address"] == made.memory.tape
    assert program[-1][0] is Opcode.END
    outputs = [o for o in products if o["rows"] == RowSelect.OUTPUT.value]
    assert outputs == (products[-1:] if with_head else [])


def test_registers_of_a_model() -> None:
    model = small_config(dim=40, heads=6, kv_heads=2, head_dim=34, vocab=77, norm_eps=1e-6)
    layout = Layout(PRESETS["edge"], model)
    registers = model_registers(layout, MEMORY)
    assert set(registers) == set(ModelRegister)
    fields = dict(model_layout())
    assert {r.name.lower() for r in registers} == set(fields)

    def real(register: ModelRegister) -> float:
        return float(np.uint32(registers[register]).view(np.float32))

    assert real(ModelRegister.INVERSE_DIM) == np.float32(1 / 40)
    assert real(ModelRegister.NORM_EPSILON) == np.float32(1e-6)
    assert real(ModelRegister.SCORE_SCALE) == np.float32(1 / (math.log(2) * math.sqrt(34)))
    assert registers[ModelRegister.HEAD_GROUP] == 3
    assert registers[ModelRegister.HEAD_BLOCKS] == 2
    assert registers[ModelRegister.QUERY_STRIDE] == 12
    assert registers[ModelRegister.BATCH_ROWS] == 64 // 3
    assert registers[ModelRegister.VOCABULARY] == 77
    assert registers[ModelRegister.KV_PAGE_BYTES] == 2 * 2 * 2 * (32 * 64 + 32)


@pytest.mark.parametrize(("m", "k", "n"), [(64, 100, 70), (150, 64, 33), (64, 64, 4200)])
def test_products_alone_are_right_in_every_interleaving(m: int, k: int, n: int) -> None:
    config = PRESETS["edge"]
    a, w = np.zeros((m, k), np.float32), np.zeros((n, k), np.float32)
    job = build_gemm(config, a, w, 2)
    layout = SimpleNamespace(config=config, rows=job.rows, model=SimpleNamespace(layers=1))
    for start in (*(p for p, _ in job.prepare), job.product, job.dump):
        words = [w.view("<u4") for w in job.memory[start : start + 4096].reshape(-1, 16)]
        code = [sum(int(v) << 32 * i for i, v in enumerate(w)) for w in words]
        code = code[: code.index(encode(Opcode.END)) + 1]
        one_by_one = Overlap(code, layout)
        one_by_one.run()
        for seed in range(5):
            Overlap(code, layout, Random(seed), one_by_one.reads).run()


@pytest.mark.parametrize(
    ("m", "k", "n", "text"),
    [
        (64, 33000, 32, "activations of 64 x 33000 need 66048 blocks on chip, preset edge"),
        (1, 300_000, 32, "a row of k=300000 needs 9375 blocks of row memory"),
    ],
)
def test_products_that_do_not_fit_are_refused(m: int, k: int, n: int, text: str) -> None:
    a, w = np.zeros((m, k), np.float32), np.zeros((n, k), np.float32)
    with pytest.raises(UserError, match=text):
        build_gemm(PRESETS["edge"], a, w, 1)
