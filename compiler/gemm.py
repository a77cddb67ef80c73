"""A bare matrix product as programs for the chip: weights from the tape, activations on chip."""

from dataclasses import dataclass

import numpy as np

from compiler.errors import UserError
from compiler.layout import blocks_of
from compiler.program import Program
from compiler.tape import block_tiles, pack_matrix
from hdl.config import BLOCK, Config
from hdl.isa import LoadSource, ModelRegister, Opcode, RowSelect, Target

__all__ = ["GemmJob", "build_gemm"]

_READY = 1 << 0
_ALIGN = 4096


@dataclass(frozen=True)
class GemmJob:
    """Memory and programs of one GEMM measurement.

    ``prepare`` puts the activations on chip, ``product`` is what is measured, ``dump`` writes the
    result (of all repeats, summed) to ``result``. Each is the address of a program; the
    same step descriptor (``rows`` rows) serves all.

    Attributes
    ----------
    rows, batches
        The m rows are run as ``batches`` products of ``rows`` rows each.
    result_blocks
        Blocks of 32 FP32 in a row of the result region.
    """

    memory: np.ndarray
    prepare: int
    product: int
    dump: int
    descriptor: int
    result: int
    rows: int
    batches: int
    result_blocks: int
    tape_bytes: int


def build_gemm(
    config: Config, activations: np.ndarray, weights: np.ndarray, repeat: int
) -> GemmJob:
    """Programs for ``repeat`` products (m, k) x (n, k)^T back to back.

    Every product's panels are added to a result region in row memory, so that a wrong bit in any
    of them shows; where the region can't hold n outputs, later columns are added to earlier
    ones, and so are later batches of rows.

    Raises
    ------
    UserError
        If the quantised activations do not fit on chip.
    """
    (m, k), n = activations.shape, weights.shape[0]
    kb, nb = blocks_of(k), blocks_of(n)
    batches = -(-m // config.row_capacity)
    rows = -(-m // batches)
    space = config.activation_blocks
    if batches * rows * kb > space:
        raise UserError(
            f"activations of {m} x {k} need {batches * rows * kb} blocks on chip, preset "
            f"{config.name} has {space}: take a smaller m or k"
        )
    if rows * kb > config.row_blocks:
        raise UserError(
            f"{rows} rows of k={k} need {rows * kb} blocks of row memory, preset "
            f"{config.name} has {config.row_blocks}: take a smaller k"
        )
    result_blocks = min(nb, config.row_blocks // rows)
    chunks = [min(result_blocks, nb - p) for p in range(0, nb, result_blocks)]
    if len(set(chunks)) > 1:  # ADD takes whole rows of the region: keep every chunk alike
        result_blocks = max(d for d in range(1, result_blocks + 1) if nb % d == 0)
        chunks = [result_blocks] * (nb // result_blocks)

    padded = np.zeros((batches * rows, kb * BLOCK), np.float32)
    padded[:m, :k] = activations
    tape = pack_matrix(config, weights)
    sections = {
        "source": padded.nbytes,
        "zeros": rows * result_blocks * 128,
        "tape": tape.size,
        "result": rows * result_blocks * 128,
        "descriptor": 4096,
    }
    places, at = {}, _ALIGN
    for name, size in sections.items():
        places[name] = at
        at = -(-(at + size) // _ALIGN) * _ALIGN

    def program(*, body) -> bytes:
        p = Program()
        p.emit(Opcode.SET, register=ModelRegister.VOCABULARY, value=1 << 19)
        p.emit(Opcode.SET, register=ModelRegister.CONTEXT, value=1 << 19)
        body(p)
        p.emit(Opcode.END)
        return p.to_bytes()

    def prepare(p: Program) -> None:
        for b in range(batches):
            p.emit(
                Opcode.LOAD,
                source=LoadSource.ROW,
                target=Target.ROWS,
                destination=0,
                blocks=kb,
                address=places["source"] + b * rows * kb * 128,
                wait=_READY << 1 if b else 0,
                signal=_READY,
            )
            p.emit(
                Opcode.QUANTISE,
                source=0,
                destination=b * rows * kb,
                blocks=kb,
                rows=RowSelect.ALL,
                wait=_READY,
                signal=_READY << 1,
            )
        p.emit(
            Opcode.LOAD,
            source=LoadSource.ROW,
            target=Target.ROWS,
            destination=0,
            blocks=result_blocks,
            address=places["zeros"],
            wait=_READY << 1,
        )

    def product(p: Program) -> None:
        for _ in range(repeat):
            for b in range(batches):
                p.emit(Opcode.TAPE, address=places["tape"], block_tiles=block_tiles(config, n, k))
                for panels in chunks:
                    p.emit(
                        Opcode.MATMUL,
                        activations=b * rows * kb,
                        blocks=kb,
                        panels=panels,
                        rows=RowSelect.ALL,
                    )
                    p.emit(Opcode.ADD, destination=0, panels=panels)

    def dump(p: Program) -> None:
        p.emit(Opcode.STORE, source=0, blocks=result_blocks, address=places["result"])

    programs = {f.__name__: program(body=f) for f in (prepare, product, dump)}
    addresses = {}
    for name, code in programs.items():
        addresses[name] = at
        at = -(-(at + len(code)) // _ALIGN) * _ALIGN
    memory = np.zeros(at + _ALIGN, np.uint8)
    for name, code in programs.items():
        memory[addresses[name] : addresses[name] + len(code)] = np.frombuffer(code, np.uint8)
    memory[places["source"] : places["source"] + padded.nbytes] = padded.view(np.uint8).reshape(-1)
    memory[places["tape"] : places["tape"] + tape.size] = tape
    return GemmJob(
        memory,
        **addresses,
        descriptor=places["descriptor"],
        result=places["result"],
        rows=rows,
        batches=batches,
        result_blocks=result_blocks,
        tape_bytes=tape.size,
    )
