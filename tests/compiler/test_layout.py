"""Where a model's operands lie on chip: nothing overlaps, nothing is too large."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.checkpoint import LlamaConfig
from compiler.errors import UserError
from compiler.layout import Layout, blocks_of
from hdl.config import PRESETS
from tests.checkpoints import small_config


@st.composite
def layouts(draw: st.DrawFn) -> Layout | None:
    """A layout of a random model on a random preset; None where the preset is too small."""
    kv_heads = draw(st.integers(1, 8))
    model = LlamaConfig(
        dim=draw(st.integers(1, 3000)),
        hidden=draw(st.integers(1, 9000)),
        layers=draw(st.integers(1, 4)),
        heads=kv_heads * draw(st.integers(1, 8)),
        kv_heads=kv_heads,
        head_dim=2 * draw(st.integers(1, 128)),
        vocab=draw(st.integers(1, 100000)),
        context=64,
        norm_eps=1e-5,
    )
    try:
        return Layout(PRESETS[draw(st.sampled_from(list(PRESETS)))], model)
    except UserError:
        return None


@given(layouts())
@settings(max_examples=300)
def test_regions_are_apart_and_inside_their_memories(layout: Layout | None) -> None:
    if layout is None:
        return
    c, m, rows = layout.config, layout.model, layout.rows
    assert 1 <= rows <= c.row_capacity
    assert rows * layout.dim_blocks <= c.row_blocks
    region0 = max(layout.dim_blocks, layout.query_stride)
    region1 = max(layout.hidden_blocks, layout.query_stride)
    activations = [
        (layout.attention_weights, 2 * c.row_capacity),
        (layout.region0, rows * region0),
        (layout.region1, rows * region1),
    ]
    constants = [
        (layout.rope_tables, rows * 2 * layout.head_blocks),
        (layout.norm_slot(0), layout.dim_blocks),
        (layout.norm_slot(1), layout.dim_blocks),
    ]
    for regions, size in ((activations, c.activation_blocks), (constants, c.constant_blocks)):
        assert all(start >= 0 and start + length <= size for start, length in regions)
        for (a, n), (b, k) in combinations(regions, 2):
            assert a + n <= b or b + k <= a
    assert layout.norm_slot(7) == layout.norm_slot(1)
    assert layout.group * m.kv_heads == m.heads


def test_more_rows_than_the_layout_gives_do_not_fit() -> None:
    """`rows` is the most: the memory that bounds it has no room for another row."""
    bounds = {
        "row memory": small_config(dim=4096, hidden=32, heads=1, kv_heads=1, head_dim=32),
        "activation memory": small_config(dim=64, hidden=32000, heads=1, kv_heads=1, head_dim=32),
    }
    layout = Layout(PRESETS["edge"], bounds["row memory"])
    assert layout.rows == PRESETS["edge"].row_blocks // 128 == 64
    layout = Layout(PRESETS["edge"], bounds["activation memory"])
    assert layout.rows == (32768 - 128) // (2 + 1000) == 32
    layout = Layout(PRESETS["tiny"], small_config(dim=1600, heads=1, kv_heads=1, head_dim=64))
    assert layout.rows == (128 - 2 * 50) // 4 == 7


def test_blocks_are_rounded_up() -> None:
    assert [blocks_of(n) for n in (0, 1, 31, 32, 33, 64)] == [0, 1, 1, 1, 2, 2]


def test_bytes_of_a_page() -> None:
    model = small_config(layers=3, heads=4, kv_heads=2, head_dim=40)
    layout = Layout(PRESETS["edge"], model)
    # 32 tokens of two blocks, then 32 scales; K and V of two heads in three layers
    assert layout.kv_half_bytes == 32 * 64 + 32
    assert layout.kv_layer_bytes == 2 * 2 * (32 * 64 + 32)
    assert layout.kv_page_bytes == 3 * 2 * 2 * (32 * 64 + 32)


@pytest.mark.parametrize(
    ("preset", "changes", "text"),
    [
        ("tiny", {"head_dim": 66}, r"head_dim 66 is more than preset tiny can hold \(64\)"),
        ("edge", {"head_dim": 258}, r"head_dim 258 is more than preset edge can hold \(256\)"),
        ("ulx3s", {"heads": 9, "kv_heads": 1}, "9 query heads share a KV head, preset ulx3s"),
        ("edge", {"heads": 65, "kv_heads": 1}, "65 query heads share a KV head"),
        ("tiny", {"dim": 2048}, "130 blocks of constant memory"),
        ("tiny", {"hidden": 65536}, "blocks of activation memory"),
        ("edge", {"dim": 9000 * 32}, "blocks of row memory"),
        ("edge", {"hidden": 4096 * 32}, "hidden is more than the instruction set can name: 4096"),
        ("edge", {"vocab": 1 << 20}, "vocab is more than the instruction set can name"),
        ("edge", {"heads": 256, "kv_heads": 256}, "kv_heads is more than the instruction set"),
        ("edge", {"heads": 4096, "kv_heads": 128}, "heads x head_dim is more than"),
        (
            "edge",
            {"layers": 4096, "heads": 200, "kv_heads": 200, "head_dim": 256},
            "layers x kv_heads x head_dim is more than the instruction set can name",
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_name(
    preset: str, changes: dict[str, Any], text: str
) -> None:
    with pytest.raises(UserError, match=text) as info:
        Layout(PRESETS[preset], small_config(**changes))
    assert "\n" not in str(info.value)
