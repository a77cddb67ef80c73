"""A bare matrix product as programs for the chip: weights from the tape, activations on chip."""

from dataclasses import dataclass
from functools import partial

import numpy as np

from compiler.errors import UserError
from compiler.layout import blocks_of
from compiler.program import Program
from compiler.tape import block_tiles, pack_matrix
from hdl.config import BLOCK, Config
from hdl.isa import LoadSource, Opcode, RowSelect, Target

__all__ = ["GemmJob", "build_gemm"]

_READY = 1 << 0
_ALIGN = 4096


@dataclass(frozen=True)
class GemmJob:
    """Memory and programs of one GEMM measurement.

    The programs of ``prepare`` put the activations on chip, ``product`` is what is measured,
    ``dump`` writes the result (of all repeats, summed) to ``result``. Numbers are byte addresses;
    a step descriptor of ``rows`` rows goes to ``descriptor`` for product and dump.

    Attributes
    ----------
    prepare
        (program, rows of its step) in order: as many rows at a time as row memory holds.
    rows, batches
        The m rows are run as ``batches`` products of ``rows`` rows each.
    result_blocks
        Blocks of 32 FP32 in a row of the result region.
    """

    memory: np.ndarray
    prepare: tuple[tuple[int, int], ...]
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
    if kb > config.row_blocks:
        raise UserError(
            f"a row of k={k} needs {kb} blocks of row memory, preset {config.name} has "
            f"{config.row_blocks}: take a smaller k"
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
        body(p)
        p.emit(Opcode.END)
        return p.to_bytes()

    def prepare(p: Program, start: int) -> None:
        p.emit(
            Opcode.LOAD,
            source=LoadSource.ROW,
            target=Target.ROWS,
            destination=0,
            blocks=kb,
            address=places["source"] + start * kb * 128,
            signal=_READY,
        )
        p.emit(
            Opcode.QUANTISE,
            source=0,
            destination=start * kb,
            blocks=kb,
            rows=RowSelect.ALL,
            wait=_READY,
            signal=_READY << 1,
        )
        p.emit(
            Opcode.LOAD,  # the result starts at zero; the last piece's counts
            source=LoadSource.CONSTANT,
            target=Target.ROWS,
            destination=0,
            blocks=rows * result_blocks,
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

    piece = min(rows, config.row_blocks // kb)
    starts = range(0, batches * rows, piece)
    codes = [program(body=partial(prepare, start=start)) for start in starts]
    codes += [program(body=product), program(body=dump)]
    addresses = []
    for code in codes:
        addresses.append(at)
        at = -(-(at + len(code)) // _ALIGN) * _ALIGN
    memory = np.zeros(at + _ALIGN, np.uint8)
    for address, code in zip(addresses, codes, strict=True):
        memory[address : address + len(code)] = np.frombuffer(code, np.uint8)
    memory[places["source"] : places["source"] + padded.nbytes] = padded.view(np.uint8).reshape(-1)
    memory[places["tape"] : places["tape"] + tape.size] = tape
    return GemmJob(
        memory,
        prepare=tuple(
            (address, min(piece, batches * rows - start))
            for address, start in zip(addresses, starts, strict=False)
        ),
        product=addresses[-2],
        dump=addresses[-1],
        descriptor=places["descriptor"],
        result=places["result"],
        rows=rows,
        batches=batches,
        result_blocks=result_blocks,
        tape_bytes=tape.size,
    )
