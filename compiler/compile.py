"""Checkpoint to image: quantise, lay out, generate the program, map the memory."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import numpy as np

from compiler.checkpoint.model import Checkpoint, LlamaConfig
from compiler.checkpoint.tokenizer import tokenizer_to_json
from compiler.errors import UserError
from compiler.image import Image, MemoryMap, new_image
from compiler.layout import Layout
from compiler.program import Program, step_program
from compiler.rotate import rotated
from compiler.tape import pack_matrix, pad_heads_in, pad_heads_out
from hdl.config import BLOCK, PAGE_TOKENS, Config
from hdl.interfaces import POSITION_BITS, model_layout
from hdl.isa import RESULT_TOKEN_BYTES

__all__ = ["Plan", "compile_checkpoint", "layer_matrices", "plan_program", "rope_table"]

_ALIGN = 4096
_DESCRIPTOR_BYTES = 8192
_HEAD_PIECE = 1 << 24  # elements of the head packed at a time: bounds the working memory

Progress = Callable[[str, float], None]


def _padded(vectors: np.ndarray, blocks: int) -> np.ndarray:
    """(..., n) -> (..., blocks * 32) float32 with zeros behind."""
    out = np.zeros((*vectors.shape[:-1], blocks * BLOCK), np.float32)
    out[..., : vectors.shape[-1]] = vectors
    return out


def rope_table(layout: Layout, positions: int) -> np.ndarray:
    """(positions, 2, head_blocks * 32) float32: [c0 c0 c1 c1 ...], [-s0 s0 -s1 s1 ...]."""
    m = layout.model
    angles = np.arange(positions)[:, None] * m.rope_frequencies()[None, :]
    cos, sin = np.cos(angles), np.sin(angles)
    table = np.stack(
        [np.repeat(cos, 2, axis=1), np.stack([-sin, sin], axis=2).reshape(positions, -1)], axis=1
    )
    return _padded(table.astype(np.float32), layout.head_blocks)


def layer_matrices(checkpoint: Checkpoint, layout: Layout, layer: int) -> Iterator[np.ndarray]:
    """A layer's matrices (outputs, inputs) in tape order, heads padded, gate and up interleaved."""
    m, hb = layout.model, layout.head_blocks

    def get(name: str) -> np.ndarray:
        return checkpoint.tensors[f"layers.{layer}.{name}"]

    yield pad_heads_out(get("wk"), m.kv_heads, hb)
    yield pad_heads_out(get("wv"), m.kv_heads, hb)
    yield pad_heads_out(get("wq"), m.heads, hb)
    yield pad_heads_in(get("wo"), m.heads, hb)
    both = np.zeros((layout.hidden_blocks, 2, BLOCK, m.dim), np.float32)
    for i, name in enumerate(("w_gate", "w_up")):
        padded = np.zeros((layout.hidden_blocks * BLOCK, m.dim), np.float32)
        padded[: m.hidden] = get(name)
        both[:, i] = padded.reshape(-1, BLOCK, m.dim)
    yield both.reshape(-1, m.dim)
    yield get("w_down")


def _tape_tiles(layout: Layout, with_head: bool) -> int:
    m, c = layout.model, layout.config
    d, q, kv = layout.dim_blocks, layout.query_stride, m.kv_heads * layout.head_blocks
    h = layout.hidden_blocks
    panels = m.layers * (d * (q + 2 * kv) + q * d + 3 * h * d)
    if with_head:
        panels += layout.vocabulary_panels * d
    return panels * c.column_groups


def _memory_map(
    layout: Layout, program_bytes: int, context: int, kv_pages: int, with_head: bool
) -> MemoryMap:
    m, c = layout.model, layout.config
    tiles = _tape_tiles(layout, with_head)
    row_bytes = layout.dim_blocks * 128
    outputs = layout.rows
    sizes = {
        "program": program_bytes,
        "norms": (2 * m.layers + 1) * row_bytes,
        "rope": context * 2 * layout.head_blocks * 128,
        "embedding": m.vocab * row_bytes if with_head else 0,
        "tape": tiles * c.block_tile_beats * c.port_bytes,
        "descriptor": _DESCRIPTOR_BYTES,
        "result": RESULT_TOKEN_BYTES + outputs * layout.vocabulary_panels * 128,
        "page_tables": c.row_capacity * -(-4 * -(-context // PAGE_TOKENS) // 64) * 64,
        "kv_owners": -(-4 * kv_pages // 64) * 64,
        "kv_base": kv_pages * layout.kv_page_bytes,
        "rows_in": 0 if with_head else layout.rows * row_bytes,
        "rows_out": 0 if with_head else layout.rows * row_bytes,
    }
    address, places = _ALIGN, {}  # page 0 stays empty: a null pointer is never valid data
    for name, size in sizes.items():
        places[name] = address
        address = -(-(address + size) // _ALIGN) * _ALIGN
    if address > 1 << c.address_bits:
        raise UserError(
            f"the model and its KV cache need {address / 2**20:.0f} MiB, preset {c.name} addresses "
            f"{2 ** (c.address_bits - 20)} MiB: shorten the context or choose a larger preset"
        )
    return MemoryMap(
        **places, tape_block_tiles=tiles, kv_pages=kv_pages, context=context, size=address
    )


@dataclass(frozen=True)
class Plan:
    """What a model's shape alone decides: where everything lies, and the program."""

    layout: Layout
    memory: MemoryMap
    program: Program


def plan_program(
    model: LlamaConfig,
    config: Config,
    *,
    context: int | None = None,
    sequences: int = 1,
    kv_pages: int | None = None,
    with_head: bool = True,
) -> Plan:
    """Layout, memory map and program of a model, without its weights.

    Parameters and errors are those of :func:`compile_checkpoint`.
    """
    layout = Layout(config, model)
    longest = min(model.context, (1 << POSITION_BITS) - 1)
    context = longest if context is None else context
    if not 1 <= context <= longest:
        raise UserError(f"context {context}: the model takes 1 to {longest} tokens on this chip")
    if sequences < 1:
        raise UserError(f"sequences {sequences}: give at least 1")
    if kv_pages is None:
        kv_pages = sequences * -(-context // PAGE_TOKENS)
    most = (1 << model_layout()["kv_pages"].width) - 1
    if not 1 <= kv_pages <= most:
        raise UserError(f"a KV cache of {kv_pages} pages: the chip takes 1 to {most}")
    on_chip, need = config.kv_on_chip_bytes, kv_pages * layout.kv_page_bytes
    if on_chip and need > on_chip:
        raise UserError(
            f"a KV cache of {kv_pages} pages takes {need} bytes, preset {config.name} has "
            f"{on_chip} on chip: shorten the context or take fewer sequences"
        )
    # The program's length does not depend on the addresses in it.
    draft = _memory_map(layout, 0, context, kv_pages, with_head)
    program_bytes = len(step_program(layout, draft, with_head=with_head).to_bytes())
    memory = _memory_map(layout, program_bytes, context, kv_pages, with_head)
    return Plan(layout, memory, step_program(layout, memory, with_head=with_head))


def compile_checkpoint(
    checkpoint: Checkpoint,
    config: Config,
    *,
    context: int | None = None,
    sequences: int = 1,
    kv_pages: int | None = None,
    with_head: bool = True,
    rotate: bool = True,
    progress: Progress = lambda text, fraction: None,
) -> Image:
    """Compile a model for a chip.

    Parameters
    ----------
    context
        Longest sequence, in tokens; by default the model's own limit, or the chip's if less.
    sequences
        Sequences that can be in the KV cache at full length at the same time.
    kv_pages
        Pages of the KV cache; default: enough for ``sequences`` at full length.
    with_head
        False leaves out embedding and head (one layer measured alone).
    rotate
        Rotate the model so that it quantises better (``compiler.rotate``); a model without head
        is never rotated, its rows are the stream itself.
    progress
        Called with a text and a fraction of 1.

    Raises
    ------
    UserError
        For a model that the chip can't hold, a context longer than the model's, or a KV cache of
        no pages.
    """
    model = checkpoint.config
    plan = plan_program(
        model, config, context=context, sequences=sequences, kv_pages=kv_pages, with_head=with_head
    )
    layout, memory, program = plan.layout, plan.memory, plan.program
    context = memory.context
    if rotate and with_head:
        checkpoint = rotated(checkpoint)

    norms = [
        checkpoint.tensors[f"layers.{i}.{name}"]
        for i in range(model.layers)
        for name in ("attn_norm", "ffn_norm")
    ]
    norms.append(checkpoint.tensors["final_norm"] if with_head else np.zeros(model.dim, np.float32))
    tape = np.empty(memory.tape_block_tiles * config.block_tile_beats * config.port_bytes, np.uint8)
    at = 0
    stages = model.layers + (1 if with_head else 0)
    for layer in range(model.layers):
        progress("quantising", layer / stages)
        for matrix in layer_matrices(checkpoint, layout, layer):
            packed = pack_matrix(config, matrix)
            tape[at : at + packed.size] = packed
            at += packed.size
    embedding = np.zeros(0, np.float32)
    if with_head:
        progress("quantising", model.layers / stages)
        head = checkpoint.tensors["head"]
        step = max(1, _HEAD_PIECE // model.dim // BLOCK) * BLOCK
        for start in range(0, model.vocab, step):
            packed = pack_matrix(config, head[start : start + step])
            tape[at : at + packed.size] = packed
            at += packed.size
        embedding = _padded(checkpoint.tensors["embed"], layout.dim_blocks)
    if at != tape.size:
        raise AssertionError(f"tape of {at} bytes, {tape.size} planned")
    progress("quantising", 1.0)
    manifest = {
        "config": asdict(config),
        "model": asdict(model),
        "source": str(checkpoint.source),
        "rows": layout.rows,
        "with_head": with_head,
        "tokenizer": tokenizer_to_json(checkpoint.tokenizer) if checkpoint.tokenizer else None,
    }
    return new_image(
        manifest,
        memory,
        {
            "program": np.frombuffer(program.to_bytes(), np.uint8),
            "norms": _padded(np.stack(norms), layout.dim_blocks),
            "rope": rope_table(layout, context),
            "embedding": embedding,
            "tape": tape,
        },
    )
