"""A program as the chip runs it: units side by side, each in its own order, in any interleaving.

Instructions move no data here; every block on chip remembers which instruction wrote it. A program
is right if in every interleaving each read finds what it finds when instructions run one by one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from functools import partial
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hdl.isa import SEMAPHORES, TABLE, Opcode, RowSelect, Target, Unit, decode

__all__ = ["Overlap"]

Process = Generator[Callable[[], bool], None, None]
_UNITS = (Unit.LOAD, Unit.MATRIX, Unit.VECTOR, Unit.KV, Unit.TAPE)
_PARTS = 4  # pieces in which a long read or write happens


class Overlap:
    """Units, queues, semaphores and the panel ring of a chip.

    Parameters
    ----------
    words : the program
    layout : `compiler.layout.Layout` of the model on the chip
    order : draws which units are slow, and which goes on; None runs one instruction at a time
    expected : reads of the run one by one, to be compared with
    """

    def __init__(
        self,
        words: list[int],
        layout: Any,
        order: Random | None = None,
        expected: dict[tuple[int, str, int], list[int]] | None = None,
    ) -> None:
        c = layout.config
        self.program = [decode(word) for word in words]
        self.layout, self.order, self.expected = layout, order, expected
        self.writer = {
            "rows": np.full(c.row_blocks, -1),
            "constants": np.full(c.constant_blocks, -1),
            "activations": np.full(c.activation_blocks, -1),
            "kv": np.full(2 * layout.model.layers, -1),
        }
        self.reads: dict[tuple[int, str, int], list[int]] = {}
        self.semaphores = [0] * SEMAPHORES
        self.ring = 0  # panels made and not taken
        self.appended = 0
        self.scores: set[int] = set()  # ATTENDs whose scores, weights, outputs are made
        self.weights: set[int] = set()
        self.outputs: set[int] = set()
        self.queues: dict[Unit, deque[int]] = {unit: deque() for unit in _UNITS}
        self.speed = {unit: 100.0 ** order.random() if order else 1.0 for unit in _UNITS}

    def run(self) -> None:
        """To the end; `AssertionError` for a deadlock, or a read that finds something else."""
        units = {unit: self._unit(unit) for unit in _UNITS}
        waits = {unit: next(process) for unit, process in units.items()}
        dispatched = 0
        while True:
            progress = False
            if dispatched < len(self.program):
                targets = [u for u in TABLE[self.program[dispatched][0]].units if u in self.queues]
                depth = self.layout.config.queue_depth if self.order else 1
                alone = self.order or not any(self.queues.values())
                if alone and all(len(self.queues[u]) < depth for u in targets):
                    for unit in targets:
                        self.queues[unit].append(dispatched)
                    dispatched += 1
                    progress = True
            ready = [unit for unit in _UNITS if waits[unit]()]
            if ready:
                unit = ready[0]
                if self.order:
                    (unit,) = self.order.choices(ready, [self.speed[u] for u in ready])
                waits[unit] = next(units[unit])
                progress = True
            if not progress:
                break
        stuck = {u.name: self.program[q[0]][0].name for u, q in self.queues.items() if q}
        assert dispatched == len(self.program), f"stuck at {dispatched}: {stuck}"
        assert not stuck, f"waits for ever: {stuck}"
        assert self.ring == 0

    def _unit(self, unit: Unit) -> Process:
        queue = self.queues[unit]
        while True:
            yield lambda: bool(queue)
            index = queue[0]
            opcode, operands = self.program[index]
            wait, signal = operands["wait"], operands["signal"]
            attend = opcode is Opcode.ATTEND
            if not attend or unit is Unit.MATRIX:
                yield partial(self._given, wait)
                for i in range(SEMAPHORES):
                    self.semaphores[i] -= wait >> i & 1
            step = getattr(self, f"_{opcode.name.lower()}_{unit.name.lower()}", None)
            if step is not None:
                yield from step(index, **operands)
            if not attend or unit is Unit.VECTOR:
                for i in range(SEMAPHORES):
                    self.semaphores[i] += signal >> i & 1
                    assert self.semaphores[i] < 256
            queue.popleft()

    def _given(self, wait: int) -> bool:
        return all(self.semaphores[i] for i in range(SEMAPHORES) if wait >> i & 1)

    # What instructions touch --------------------------------------------------------------------
    def _read(self, index: int, memory: str, where: NDArray, part: int = 0) -> None:
        found = self.writer[memory][where].tolist()
        if self.expected is None:
            self.reads[index, memory, part] = found
        else:
            name = self.program[index][0].name
            assert found == self.expected[index, memory, part], f"{name} {index} reads {memory}"

    def _write(self, index: int, memory: str, where: NDArray) -> None:
        self.writer[memory][where] = index

    def _span(self, base: int, blocks: int) -> NDArray:
        return base + np.arange(self.layout.rows * blocks)

    def _column(self, base: int, stride: int, block: int) -> NDArray:
        return base + np.arange(self.layout.rows) * stride + block

    def _panel(self) -> Process:
        yield lambda: self.ring > 0
        self.ring -= 1

    def _load_load(self, index, source, target, destination, blocks, **_) -> Process:
        memory = "rows" if Target(target) is Target.ROWS else "constants"
        where = self._span(destination, blocks) if source else destination + np.arange(blocks)
        for part in np.array_split(where, _PARTS):
            self._write(index, memory, part)
            yield lambda: True

    def _matmul_matrix(self, index, activations, blocks, panels, **_) -> Process:
        for panel in range(panels):
            self._read(index, "activations", self._span(activations, blocks), panel)
            yield lambda: self.order is None or self.ring < self.layout.config.panel_ring
            self.ring += 1
            yield lambda: True

    def _norm_vector(self, index, source, destination, blocks, weights, rows, **_) -> Process:
        assert rows in (RowSelect.ALL.value, RowSelect.OUTPUT.value)
        for part in range(_PARTS):
            self._read(index, "rows", self._span(source, blocks), part)
            self._read(index, "constants", weights + np.arange(blocks), part)
            split = np.array_split(self._span(destination, blocks), _PARTS)
            self._write(index, "activations", split[part])
            yield lambda: True

    def _quantise_vector(self, index, source, destination, blocks, rows, **_) -> Process:
        for part in range(_PARTS):
            self._read(index, "rows", self._span(source, blocks), part)
            split = np.array_split(self._span(destination, blocks), _PARTS)
            self._write(index, "activations", split[part])
            yield lambda: True

    def _add_vector(self, index, destination, panels, **_) -> Process:
        for panel in range(panels):
            yield from self._panel()
            where = self._column(destination, panels, panel)
            self._read(index, "rows", where, panel)
            self._write(index, "rows", where)

    def _rope_vector(self, index, destination, panels, tables, **_) -> Process:
        for panel in range(panels):
            yield from self._panel()
            self._read(index, "constants", self._span(tables, 2 * self.layout.head_blocks), panel)
            self._write(index, "activations", self._column(destination, panels, panel))

    def _swiglu_vector(self, index, destination, pairs, **_) -> Process:
        for pair in range(pairs):
            yield from self._panel()
            yield from self._panel()
            self._write(index, "activations", self._column(destination, pairs, pair))

    def _append_vector(self, index, offset, value, tables, **_) -> Process:
        for panel in range(self.layout.model.kv_heads * self.layout.head_blocks):
            yield from self._panel()
            if not value:
                where = self._span(tables, 2 * self.layout.head_blocks)
                self._read(index, "constants", where, panel)
        self._write(index, "kv", np.array([2 * (offset // self.layout.kv_layer_bytes) + value]))
        self.appended += 1

    def _logits_vector(self, index, panels, **_) -> Process:
        for _panel in range(panels):
            yield from self._panel()

    def _store_vector(self, index, source, blocks, **_) -> Process:
        self._read(index, "rows", self._span(source, blocks))
        yield lambda: True

    def _attend_kv(self, index, offset, **_) -> Process:
        yield lambda: self.appended == 2
        self.appended = 0
        layer = 2 * (offset // self.layout.kv_layer_bytes)
        self._read(index, "kv", np.array([layer, layer + 1]))
        yield lambda: index in self.outputs

    def _attend_matrix(self, index, queries, weights, **_) -> Process:
        buffers = weights + np.arange(2 * self.layout.config.row_capacity)
        self._read(index, "activations", self._span(queries, self.layout.query_stride), 0)
        self.scores.add(index)
        yield lambda: index in self.weights
        self._read(index, "activations", self._span(queries, self.layout.query_stride), 1)
        self._read(index, "activations", buffers, 2)
        self.outputs.add(index)

    def _attend_vector(self, index, output, weights, **_) -> Process:
        yield lambda: index in self.scores
        self._write(index, "activations", weights + np.arange(2 * self.layout.config.row_capacity))
        self.weights.add(index)
        yield lambda: index in self.outputs
        for part in np.array_split(self._span(output, self.layout.query_stride), _PARTS):
            self._write(index, "activations", part)
            yield lambda: True
