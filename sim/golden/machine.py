"""The golden model: executes a compiled program on memory, instruction by instruction, bit-exact."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from compiler.tape import unpack_matrix
from hdl.config import BLOCK, Config
from hdl.isa import (
    RESULT_TOKEN_BYTES,
    DescriptorError,
    Fault,
    LoadSource,
    ModelRegister,
    Opcode,
    RowSelect,
    Target,
    decode,
)
from sim.golden import fp32, functions, mx
from sim.golden.attention import attend_segment
from sim.golden.descriptor import Step, read_descriptor
from sim.golden.fault import ChipFault
from sim.golden.kv import KVCache

__all__ = ["GoldenChip"]

_NEGATIVE_LOG2E = np.uint32(0xBFB8AA3B).view(np.float32)
_ONE = np.float32(1)
_PROGRAM_LIMIT = 1 << 20


@dataclass
class _Tape:
    """The stream of block tiles: where it reads next, and how much is left."""

    address: int
    tiles: int


class GoldenChip:
    """A chip's architectural state and its instructions.

    Parameters
    ----------
    config
        Decides only layouts and capacities; results do not depend on it.
    memory
        The chip's memory, uint8, shared with the host.
    """

    def __init__(self, config: Config, memory: np.ndarray):
        self.config = config
        self.memory = memory
        self.rows = np.zeros((config.row_blocks, BLOCK), np.float32)
        self.constants = np.zeros((config.constant_blocks, BLOCK), np.float32)
        self.elements = np.zeros((config.activation_blocks, BLOCK), np.int8)
        self.scales = np.zeros(config.activation_blocks, np.uint8)
        self._prepared: dict[tuple[int, int, int], mx.Weights] = {}
        self._handlers: dict[Opcode, Callable[..., None]] = {
            Opcode.SET: self._set,
            Opcode.TAPE: self._tape_start,
            Opcode.LOAD: self._load,
            Opcode.MATMUL: self._matmul,
            Opcode.NORM: self._norm,
            Opcode.QUANTISE: self._quantise,
            Opcode.ADD: self._add,
            Opcode.ROPE: self._rope,
            Opcode.SWIGLU: self._swiglu,
            Opcode.APPEND: self._append,
            Opcode.LOGITS: self._logits,
            Opcode.STORE: self._store,
            Opcode.PREPARE: self._prepare,
            Opcode.ATTEND: self._attend,
        }

    # Running ------------------------------------------------------------------------------------
    def run(self, program: int, descriptor: int) -> Step:
        """One step, doorbell to done.

        Parameters
        ----------
        program, descriptor
            Byte addresses.

        Raises
        ------
        ChipFault
            As the chip's fault record would say.
        """
        self.model: dict[ModelRegister, int] = dict.fromkeys(ModelRegister, 0)
        self.step = read_descriptor(self.config, self.memory, descriptor)
        self.ring: deque[np.ndarray] = deque()  # panels (rows, 32)
        self.tape = _Tape(0, 0)
        self.kv: KVCache | None = None
        with np.errstate(all="ignore"):
            for index in range(_PROGRAM_LIMIT):
                at = program + 16 * index
                word = int.from_bytes(self.memory[at : at + 16].tobytes(), "little")
                try:
                    opcode, operands = decode(word)
                except ValueError as error:
                    raise ChipFault(Fault.ILLEGAL_INSTRUCTION, str(error), index=index) from None
                del operands["wait"], operands["signal"]
                if opcode is Opcode.END:
                    break
                try:
                    self._handlers[opcode](**operands)
                except ChipFault as fault:
                    fault.index = index
                    raise
        if self.tape.tiles:
            raise ChipFault(Fault.TAPE_LEFT, f"{self.tape.tiles} block tiles unread")
        return self.step

    def _fault(self, condition: bool, text: str) -> None:
        if condition:
            raise ChipFault(Fault.BAD_OPERAND, text)

    def _row_list(self, select: int) -> np.ndarray:
        output = RowSelect(select) is RowSelect.OUTPUT
        return self.step.outputs if output else np.arange(self.step.rows)

    def _row_span(self, base: int, blocks: int) -> np.ndarray:
        """Row memory of every step row: view (rows, blocks, 32)."""
        n = self.step.rows * blocks
        self._fault(blocks == 0 or base + n > len(self.rows), f"row blocks {base} + {n}")
        return self.rows[base : base + n].reshape(self.step.rows, blocks, BLOCK)

    def _put(self, base: int, stride: int, block: int, values: np.ndarray) -> None:
        """Quantise values (rows, n blocks, 32) into activation memory at row * stride + block."""
        rows, n, _ = values.shape
        if not rows:
            return
        last = base + (rows - 1) * stride + block + n
        self._fault(last > len(self.scales), f"activation block {last}")
        elements, scales, finite = mx.quantise(values)
        if not finite:
            raise ChipFault(Fault.NON_FINITE, "activations")
        where = base + np.arange(rows)[:, None] * stride + block + np.arange(n)
        self.elements[where] = elements
        self.scales[where] = scales.reshape(rows, n)

    def _take(self, count: int) -> np.ndarray:
        """The next panels of the ring side by side: (rows, count * 32)."""
        if len(self.ring) < count:
            raise ChipFault(Fault.WATCHDOG, "waits for panels that no MATMUL makes")
        return np.concatenate([self.ring.popleft() for _ in range(count)], axis=1)

    # Control, tape, load ------------------------------------------------------------------------
    def _set(self, register: int, value: int) -> None:
        try:
            which = ModelRegister(register)
        except ValueError:
            raise ChipFault(Fault.ILLEGAL_INSTRUCTION, f"model register {register}") from None
        self.model[which] = value
        if which is ModelRegister.VOCABULARY and np.any(self.step.tokens >= value):
            raise ChipFault.descriptor(DescriptorError.TOKEN, "token past the vocabulary")
        if which is ModelRegister.CONTEXT and np.any(self.step.positions >= value):
            raise ChipFault.descriptor(DescriptorError.POSITION, "position past the context")

    def _tape_start(self, address: int, block_tiles: int) -> None:
        self._fault(block_tiles == 0, "empty tape")
        self.tape = _Tape(address, block_tiles)

    def _load(self, source: int, target: int, destination: int, blocks: int, address: int) -> None:
        which = {
            LoadSource.CONSTANT: lambda: np.zeros(1, np.int64),
            LoadSource.TOKEN: lambda: self.step.tokens,
            LoadSource.POSITION: lambda: self.step.positions,
            LoadSource.ROW: lambda: np.arange(self.step.rows),
        }[LoadSource(source)]()
        memory = self.rows if Target(target) is Target.ROWS else self.constants
        self._fault(blocks == 0, "a row of no blocks")
        last = destination + len(which) * blocks
        self._fault(last > len(memory), f"{Target(target).name} block {last}")
        for i, row in enumerate(which):
            start = address + int(row) * blocks * 128
            if start + blocks * 128 > self.memory.size:
                raise ChipFault(Fault.BAD_ADDRESS, f"{start:#x}")
            data = self.memory[start : start + blocks * 128].view("<f4")
            memory[destination + i * blocks : destination + (i + 1) * blocks] = data.reshape(
                blocks, BLOCK
            )

    # Matrix -------------------------------------------------------------------------------------
    def _weights(self, panels: int, blocks: int) -> mx.Weights:
        """The next matrix of the tape, prepared for products (kept: the tape does not change)."""
        c = self.config
        tiles = panels * blocks * c.column_groups
        if tiles > self.tape.tiles:
            raise ChipFault(Fault.WATCHDOG, "waits for a tape that has ended")
        key = (self.tape.address, panels, blocks)
        size = tiles * c.block_tile_beats * c.port_bytes
        if key not in self._prepared:
            data = self.memory[self.tape.address : self.tape.address + size]
            self._prepared[key] = mx.Weights(*unpack_matrix(c, data, panels, blocks))
        self.tape.address += size
        self.tape.tiles -= tiles
        return self._prepared[key]

    def _matmul(self, activations: int, blocks: int, panels: int, rows: int) -> None:
        self._fault(blocks == 0 or panels == 0, "MATMUL of no blocks or panels")
        count = len(self._row_list(rows))
        weights = self._weights(panels, blocks)
        if not count:
            return
        last = activations + count * blocks
        self._fault(last > len(self.scales), f"activation block {last}")
        a = self.elements[activations:last].reshape(count, blocks, BLOCK)
        s = self.scales[activations:last].reshape(count, blocks)
        product = mx.block_dot(a, s, weights)
        self.ring.extend(np.split(product, panels, axis=1))

    # Vector -------------------------------------------------------------------------------------
    def _norm(self, source: int, destination: int, blocks: int, weights: int, rows: int) -> None:
        x = self._row_span(source, blocks)[self._row_list(rows)]
        self._fault(weights + blocks > len(self.constants), "norm weights")
        sums = fp32.tree_sum(fp32.mul(x, x))  # (rows, blocks)
        total = sums[:, 0]
        for b in range(1, blocks):
            total = fp32.add(total, sums[:, b])
        u = fp32.mul(total, self._float(ModelRegister.INVERSE_DIM))
        r = functions.rsqrt(fp32.add(u, self._float(ModelRegister.NORM_EPSILON)))
        y = fp32.mul(fp32.mul(x, r[:, None, None]), self.constants[weights : weights + blocks])
        self._put(destination, blocks, 0, y)

    def _float(self, register: ModelRegister) -> np.float32:
        return np.uint32(self.model[register] & 0xFFFFFFFF).view(np.float32)

    def _quantise(self, source: int, destination: int, blocks: int, rows: int) -> None:
        x = self._row_span(source, blocks)[self._row_list(rows)]
        self._put(destination, blocks, 0, x)

    def _add(self, destination: int, panels: int) -> None:
        self._fault(panels == 0, "ADD of no panels")
        x = self._row_span(destination, panels)
        x[:] = fp32.add(self._take(panels).reshape(x.shape), x)

    def _rotate(self, x: np.ndarray, tables: int) -> np.ndarray:
        """(rows, heads, head_blocks * 32), rotated by the rows' tables in constant memory."""
        hb = self.model[ModelRegister.HEAD_BLOCKS]
        n = self.step.rows * 2 * hb
        self._fault(tables + n > len(self.constants), "RoPE tables")
        table = self.constants[tables : tables + n].reshape(self.step.rows, 2, 1, hb * BLOCK)
        swapped = x.reshape(*x.shape[:-1], -1, 2)[..., ::-1].reshape(x.shape)
        return fp32.add(fp32.mul(swapped, table[:, 1]), fp32.mul(x, table[:, 0]))

    def _rope(self, destination: int, panels: int, tables: int) -> None:
        hb = self.model[ModelRegister.HEAD_BLOCKS]
        self._fault(panels == 0 or hb == 0 or panels % hb != 0, "ROPE of no whole heads")
        x = self._take(panels).reshape(self.step.rows, panels // hb, hb * BLOCK)
        y = self._rotate(x, tables).reshape(self.step.rows, panels, BLOCK)
        self._put(destination, panels, 0, y)

    def _swiglu(self, destination: int, pairs: int) -> None:
        self._fault(pairs == 0, "SWIGLU of no pairs")
        both = self._take(2 * pairs).reshape(self.step.rows, pairs, 2, BLOCK)
        gate, up = both[:, :, 0], both[:, :, 1]
        t = functions.exp2(fp32.mul(gate, _NEGATIVE_LOG2E))
        t = functions.reciprocal(fp32.add(t, _ONE))
        self._put(destination, pairs, 0, fp32.mul(fp32.mul(t, gate), up))

    def _logits(self, panels: int) -> None:
        rows = len(self.step.outputs)
        if not rows:
            return
        vocabulary = self.model[ModelRegister.VOCABULARY]
        logits = self._take(panels)
        if not np.all(np.isfinite(logits)):
            raise ChipFault(Fault.NON_FINITE, "logits")
        tokens = np.argmax(logits[:, :vocabulary], axis=1).astype("<u4")
        result = self.step.result
        self.memory[result : result + 4 * rows] = tokens.view(np.uint8)
        if self.step.store_logits:
            start = result + RESULT_TOKEN_BYTES
            data = np.ascontiguousarray(logits, "<f4").view(np.uint8).reshape(-1)
            self.memory[start : start + data.size] = data

    def _store(self, source: int, blocks: int, address: int) -> None:
        data = np.ascontiguousarray(self._row_span(source, blocks), "<f4").view(np.uint8)
        self.memory[address : address + data.size] = data.reshape(-1)

    # KV -----------------------------------------------------------------------------------------
    def _prepare(self) -> None:
        self.kv = KVCache(self.memory, self.model)
        self.kv.prepare(self.step)

    def _append(self, offset: int, value: int, tables: int) -> None:
        if self.kv is None:
            raise ChipFault(Fault.WATCHDOG, "APPEND waits for PREPARE")
        heads, hb = self.kv.heads, self.kv.head_blocks
        x = self._take(heads * hb).reshape(self.step.rows, heads, hb * BLOCK)
        if not value:
            x = self._rotate(x, tables)
        elements, scales, finite = mx.quantise_head(x)
        if not finite:
            raise ChipFault(Fault.NON_FINITE, "values" if value else "keys")
        self.kv.append(self.step, offset, value, elements, scales)

    def _attend(self, queries: int, output: int, weights: int, offset: int) -> None:
        if self.kv is None:
            raise ChipFault(Fault.WATCHDOG, "ATTEND waits for PREPARE")
        hb = self.kv.head_blocks
        stride = self.model[ModelRegister.QUERY_STRIDE]
        scale = self._float(ModelRegister.SCORE_SCALE)
        for s in self.step.segments:
            first, n = queries + s.row * stride, s.rows * stride
            self._fault(first + n > len(self.scales), "queries")
            q = self.elements[first : first + n].reshape(s.rows, stride // hb, hb, BLOCK)
            qs = self.scales[first : first + n].reshape(s.rows, stride // hb, hb)
            y = attend_segment(self.kv, s, offset, scale, q, qs)
            self._put(output + s.row * stride, stride, 0, y.reshape(s.rows, stride, BLOCK))
