"""The golden model: runs a compiled program on memory, instruction by instruction, bit-exact."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from compiler.tape import unpack_matrix
from hdl.config import BLOCK, Config
from hdl.isa import (
    INSTRUCTION_BITS,
    RESULT_TOKEN_BYTES,
    SEMAPHORES,
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
from sim.golden.memory import span

__all__ = ["GoldenChip"]

_NEGATIVE_LOG2E = np.uint32(0xBFB8AA3B).view(np.float32)
_ONE = np.float32(1)
_PROGRAM_LIMIT = 1 << 20
_LOGIT_PANELS = 1 << 15  # a vocabulary of 20 bits
_WORD_BYTES = INSTRUCTION_BITS // 8


@dataclass
class _Tape:
    """A stretch of the tape: where its next block tile is, and how many are left."""

    address: int
    tiles: int


class GoldenChip:
    """A chip's architectural state and its instructions.

    Instructions run one after the other in the order of the program. The chip overlaps them as
    far as the semaphores allow, so a program must be one in which every ``wait`` is met by a
    ``signal`` before it: then both give the same. Here a wait that is not met is a WATCHDOG fault.

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
        self._prepared: dict[tuple, mx.Weights] = {}
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
        self.tapes: deque[_Tape] = deque()
        self.kv: KVCache | None = None
        self.semaphores = [0] * SEMAPHORES
        with np.errstate(all="ignore"):
            # The program starts on a beat; a beat may hold several of its words.
            span(self.memory, program, _WORD_BYTES, self.config.port_bytes)
            for index in range(_PROGRAM_LIMIT):
                try:
                    if self._execute(program + _WORD_BYTES * index):
                        return self.step
                except ChipFault as fault:
                    fault.index = index
                    raise
        raise ChipFault(Fault.ILLEGAL_INSTRUCTION, "a program without END", index=_PROGRAM_LIMIT)

    def _execute(self, address: int) -> bool:
        """One instruction; True for END."""
        data = span(self.memory, address, _WORD_BYTES)
        try:
            opcode, operands = decode(int.from_bytes(data.tobytes(), "little"))
        except ValueError as error:
            raise ChipFault(Fault.ILLEGAL_INSTRUCTION, str(error)) from None
        wait, signal = operands.pop("wait"), operands.pop("signal")
        if opcode is Opcode.END:
            if left := sum(t.tiles for t in self.tapes):
                raise ChipFault(Fault.TAPE_LEFT, f"{left} block tiles unread")
            return True
        for i in range(SEMAPHORES):
            self.semaphores[i] -= wait >> i & 1
            if self.semaphores[i] < 0:
                raise ChipFault(Fault.WATCHDOG, f"waits for semaphore {i} that nothing has given")
        self._handlers[opcode](**operands)
        for i in range(SEMAPHORES):
            self.semaphores[i] += signal >> i & 1
        return False

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
        c = self.config
        self._fault(block_tiles == 0, "empty tape")
        span(self.memory, address, block_tiles * c.block_tile_beats * c.port_bytes, c.port_bytes)
        self.tapes.append(_Tape(address, block_tiles))

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
            size = blocks * BLOCK * 4
            data = span(self.memory, address + int(row) * size, size, self.config.port_bytes)
            rows = data.view("<f4").reshape(blocks, BLOCK)
            memory[destination + i * blocks : destination + (i + 1) * blocks] = rows

    # Matrix -------------------------------------------------------------------------------------
    def _weights(self, panels: int, blocks: int) -> mx.Weights:
        """The next matrix of the tape, prepared for products (kept: the tape does not change)."""
        c = self.config
        tile_bytes = c.block_tile_beats * c.port_bytes
        left = panels * blocks * c.column_groups
        pieces: list[tuple[int, int]] = []  # address, bytes: one, but where a TAPE ends inside
        while left:
            if not self.tapes:
                raise ChipFault(Fault.WATCHDOG, "waits for a tape that has ended")
            tape = self.tapes[0]
            tiles = min(left, tape.tiles)
            pieces.append((tape.address, tiles * tile_bytes))
            tape.address += tiles * tile_bytes
            tape.tiles -= tiles
            left -= tiles
            if not tape.tiles:
                self.tapes.popleft()
        key = (tuple(pieces), panels)
        if key not in self._prepared:
            data = np.concatenate([span(self.memory, *piece) for piece in pieces])
            self._prepared[key] = mx.Weights(*unpack_matrix(c, data, panels, blocks))
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

    def _head_blocks(self) -> int:
        blocks = self.model[ModelRegister.HEAD_BLOCKS]
        self._fault(not 1 <= blocks <= self.config.head_blocks, f"HEAD_BLOCKS {blocks}")
        return blocks

    def _rotate(self, x: np.ndarray, tables: int) -> np.ndarray:
        """(rows, heads, head_blocks * 32), rotated by the rows' tables in constant memory."""
        hb = self._head_blocks()
        n = self.step.rows * 2 * hb
        self._fault(tables + n > len(self.constants), "RoPE tables")
        table = self.constants[tables : tables + n].reshape(self.step.rows, 2, 1, hb * BLOCK)
        swapped = x.reshape(*x.shape[:-1], -1, 2)[..., ::-1].reshape(x.shape)
        return fp32.add(fp32.mul(swapped, table[:, 1]), fp32.mul(x, table[:, 0]))

    def _rope(self, destination: int, panels: int, tables: int) -> None:
        hb = self._head_blocks()
        self._fault(panels == 0 or panels % hb != 0, "ROPE of no whole heads")
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
        self._fault(not 1 <= panels < _LOGIT_PANELS, f"LOGITS of {panels} panels")
        rows = len(self.step.outputs)
        if not rows:
            return
        vocabulary = self.model[ModelRegister.VOCABULARY]
        self._fault(vocabulary == 0, "VOCABULARY 0")
        logits = self._take(panels)
        if not np.all(np.isfinite(logits)):
            raise ChipFault(Fault.NON_FINITE, "logits")
        tokens = np.argmax(logits[:, :vocabulary], axis=1).astype("<u4")
        self._write(self.step.result, tokens)
        if self.step.store_logits:
            self._write(self.step.result + RESULT_TOKEN_BYTES, logits.astype("<f4"))

    def _store(self, source: int, blocks: int, address: int) -> None:
        self._write(address, self._row_span(source, blocks).astype("<f4"))

    def _write(self, address: int, words: np.ndarray) -> None:
        """32-bit words to memory."""
        data = np.ascontiguousarray(words).view(np.uint8).reshape(-1)
        span(self.memory, address, data.size, self.config.port_bytes)[:] = data

    # KV -----------------------------------------------------------------------------------------
    def _prepare(self) -> None:
        self.kv = KVCache(self.config, self.memory, self.model)
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
        hb, heads = self.kv.head_blocks, self.kv.heads * self.kv.group
        stride = self.model[ModelRegister.QUERY_STRIDE]
        self._fault(stride != heads * hb, f"QUERY_STRIDE {stride} for {heads} heads")
        last = weights + 2 * self.config.row_capacity
        self._fault(last > len(self.scales), f"attention weights to block {last}")
        scale = self._float(ModelRegister.SCORE_SCALE)
        for s in self.step.segments:
            first, n = queries + s.row * stride, s.rows * stride
            self._fault(first + n > len(self.scales), "queries")
            q = self.elements[first : first + n].reshape(s.rows, heads, hb, BLOCK)
            qs = self.scales[first : first + n].reshape(s.rows, heads, hb)
            y = attend_segment(self.kv, s, offset, scale, q, qs)
            self._put(output + s.row * stride, stride, 0, y.reshape(s.rows, stride, BLOCK))
