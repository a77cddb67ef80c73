"""The straight-line program of a model: instruction words from the layout and the memory map."""

import math
from dataclasses import dataclass, field

import numpy as np

from compiler.layout import Layout
from hdl.isa import LoadSource, ModelRegister, Opcode, RowSelect, Target, encode

__all__ = ["Program", "layer_program", "model_registers", "step_program"]

# Semaphores: one for each pair of units that must wait for each other.
CONSTANTS_READY = 1 << 0  # load -> vector: rows and norm weights are on chip
NORM_SLOT_FREE = 1 << 1  # vector -> load
OPERANDS_READY = 1 << 2  # vector -> matrix: quantised activations are complete
TABLES_READY = 1 << 3  # load -> vector: RoPE rows of the step are on chip


@dataclass
class Program:
    """Instruction words under construction."""

    words: list[int] = field(default_factory=list)
    norms_wanted: int = 0  # NORMs in the whole program
    norms_loaded: int = 0  # norm weights asked for
    norms: int = 0  # NORMs issued: selects the constant slot

    def emit(self, opcode: Opcode, **operands) -> None:
        self.words.append(encode(opcode, **operands))

    def to_bytes(self) -> bytes:
        return b"".join(w.to_bytes(16, "little") for w in self.words)


def _float_bits(value: float) -> int:
    return int(np.float32(value).view(np.uint32))


def model_registers(layout: Layout, memory) -> dict[ModelRegister, int]:
    """Values of SET for a model; ``memory`` gives ``kv_base``, ``kv_pages``, ``kv_owners``,
    ``context``."""
    m = layout.model
    return {
        ModelRegister.KV_BASE: memory.kv_base,
        ModelRegister.KV_PAGES: memory.kv_pages,
        ModelRegister.KV_PAGE_BYTES: layout.kv_page_bytes,
        ModelRegister.KV_OWNERS: memory.kv_owners,
        ModelRegister.KV_HEADS: m.kv_heads,
        ModelRegister.HEAD_GROUP: layout.group,
        ModelRegister.HEAD_BLOCKS: layout.head_blocks,
        ModelRegister.VOCABULARY: m.vocab,
        ModelRegister.CONTEXT: memory.context,
        ModelRegister.INVERSE_DIM: _float_bits(1.0 / m.dim),
        ModelRegister.NORM_EPSILON: _float_bits(m.norm_eps),
        ModelRegister.SCORE_SCALE: _float_bits(math.log2(math.e) / math.sqrt(m.head_dim)),
        ModelRegister.QUERY_STRIDE: layout.query_stride,
        ModelRegister.BATCH_ROWS: layout.config.row_capacity // layout.group,
    }


def _load_norm(p: Program, layout: Layout, memory, *, signal=CONSTANTS_READY) -> None:
    """Ask for the next norm weights, if there are any more."""
    if p.norms_loaded == p.norms_wanted:
        return
    index = p.norms_loaded
    p.emit(
        Opcode.LOAD,
        source=LoadSource.CONSTANT,
        target=Target.CONSTANTS,
        destination=layout.norm_slot(index),
        blocks=layout.dim_blocks,
        address=memory.norms + index * layout.dim_blocks * 128,
        wait=NORM_SLOT_FREE if index >= 2 else 0,
        signal=signal,
    )
    p.norms_loaded += 1


def _norm(p: Program, layout: Layout, memory, rows: RowSelect) -> None:
    """A NORM, and behind it the LOAD of the weights that take over its slot.

    Not before it: a program must mean the same when it is run one instruction at a time, as the
    golden model does. The chip loses nothing, it dispatches far ahead of what it executes.
    """
    p.emit(
        Opcode.NORM,
        source=0,
        destination=layout.region0,
        blocks=layout.dim_blocks,
        weights=layout.norm_slot(p.norms),
        rows=rows,
        wait=CONSTANTS_READY,
        signal=OPERANDS_READY | NORM_SLOT_FREE,
    )
    p.norms += 1
    _load_norm(p, layout, memory)


def _matmul(
    p: Program, activations: int, blocks: int, panels: int, *, wait=0, rows=RowSelect.ALL
) -> None:
    p.emit(
        Opcode.MATMUL,
        activations=activations,
        blocks=blocks,
        panels=panels,
        rows=rows,
        wait=wait,
    )


def layer_program(p: Program, layout: Layout, memory, layer: int) -> None:
    """One transformer layer, row memory in and out. Tape order: k, v, q, o, gate/up, down."""
    m, hb = layout.model, layout.head_blocks
    xq, attention = layout.region0, layout.region0
    queries, hidden = layout.region1, layout.region1
    offset = layer * layout.kv_layer_bytes
    tables_wait = TABLES_READY if layer == 0 else 0

    _norm(p, layout, memory, RowSelect.ALL)
    kv_panels = m.kv_heads * hb
    _matmul(p, xq, layout.dim_blocks, kv_panels, wait=OPERANDS_READY)
    p.emit(Opcode.APPEND, offset=offset, value=0, tables=layout.rope_tables, wait=tables_wait)
    _matmul(p, xq, layout.dim_blocks, kv_panels)
    p.emit(Opcode.APPEND, offset=offset, value=1, tables=layout.rope_tables)
    _matmul(p, xq, layout.dim_blocks, m.heads * hb)
    p.emit(
        Opcode.ROPE,
        destination=queries,
        panels=m.heads * hb,
        tables=layout.rope_tables,
        signal=OPERANDS_READY,
    )
    p.emit(
        Opcode.ATTEND,
        queries=queries,
        output=attention,
        weights=layout.attention_weights,
        offset=offset,
        wait=OPERANDS_READY,
        signal=OPERANDS_READY,
    )
    _matmul(p, attention, layout.query_stride, layout.dim_blocks, wait=OPERANDS_READY)
    p.emit(Opcode.ADD, destination=0, panels=layout.dim_blocks)
    _norm(p, layout, memory, RowSelect.ALL)
    _matmul(p, xq, layout.dim_blocks, 2 * layout.hidden_blocks, wait=OPERANDS_READY)
    p.emit(Opcode.SWIGLU, destination=hidden, pairs=layout.hidden_blocks, signal=OPERANDS_READY)
    _matmul(p, hidden, layout.hidden_blocks, layout.dim_blocks, wait=OPERANDS_READY)
    p.emit(Opcode.ADD, destination=0, panels=layout.dim_blocks)


def step_program(layout: Layout, memory, *, with_head: bool = True) -> Program:
    """The whole step of a model.

    Parameters
    ----------
    memory
        The memory map (addresses of tape, tables and KV; see ``compiler.image.MemoryMap``).
    with_head
        False: rows come from ``memory.rows_in`` and go to ``memory.rows_out`` as FP32, without
        embedding and logits (one layer measured alone).
    """
    m = layout.model
    p = Program(norms_wanted=2 * m.layers + (1 if with_head else 0))
    # What does not depend on the step comes first: it starts while the descriptor is read.
    p.emit(Opcode.TAPE, address=memory.tape, block_tiles=memory.tape_block_tiles)
    _load_norm(p, layout, memory, signal=0)  # the rows, behind it, signal for both
    for register, value in model_registers(layout, memory).items():
        p.emit(Opcode.SET, register=register, value=value)
    p.emit(Opcode.PREPARE)
    p.emit(
        Opcode.LOAD,
        source=LoadSource.TOKEN if with_head else LoadSource.ROW,
        target=Target.ROWS,
        destination=0,
        blocks=layout.dim_blocks,
        address=memory.embedding if with_head else memory.rows_in,
        signal=CONSTANTS_READY,
    )
    p.emit(
        Opcode.LOAD,
        source=LoadSource.POSITION,
        target=Target.CONSTANTS,
        destination=layout.rope_tables,
        blocks=2 * layout.head_blocks,
        address=memory.rope,
        signal=TABLES_READY,
    )
    _load_norm(p, layout, memory)
    for layer in range(m.layers):
        layer_program(p, layout, memory, layer)
    if with_head:
        _norm(p, layout, memory, RowSelect.OUTPUT)
        panels = layout.vocabulary_panels
        _matmul(
            p,
            layout.region0,
            layout.dim_blocks,
            panels,
            wait=OPERANDS_READY,
            rows=RowSelect.OUTPUT,
        )
        p.emit(Opcode.LOGITS, panels=panels)
    else:
        p.emit(Opcode.STORE, source=0, blocks=layout.dim_blocks, address=memory.rows_out)
    p.emit(Opcode.END)
    return p
