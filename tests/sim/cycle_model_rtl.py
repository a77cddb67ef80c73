"""Runs steps on the RTL for their counters alone: memory is zero, no golden model beside it.

What a step costs does not depend on the numbers in it, so weights, tables and caches stay zero.
"""

from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from compiler.checkpoint.model import LlamaConfig
from compiler.compile import plan_program
from compiler.gemm import GemmJob, build_gemm
from compiler.layout import blocks_of
from compiler.program import Program
from hdl.config import PAGE_TOKENS, PRESETS, Config
from hdl.isa import Counter
from runtime.descriptor import StepSegment, encode_descriptor
from runtime.pages import PageAllocator
from runtime.rtl_chip import RtlChip, build_chip
from sim.verilated.library import MemoryTiming

__all__ = ["Case", "rtl_counters"]


@dataclass(frozen=True)
class Case:
    """A step: of a GEMM (``gemm`` = m, k, n, repeat), or of a model with these segments.

    ``segments``: (first position, rows, outputs) of each sequence.
    """

    preset: str
    gemm: tuple[int, int, int, int] | None = None
    model: LlamaConfig | None = None
    with_head: bool = False
    segments: tuple[tuple[int, int, int], ...] = ()
    latency: int = 60
    bandwidth: Fraction = field(default=Fraction(1))
    logits: bool = True

    @property
    def config(self) -> Config:
        return PRESETS[self.preset]

    @property
    def timing(self) -> MemoryTiming:
        return MemoryTiming(latency=self.latency, bandwidth=self.bandwidth)

    def job(self) -> GemmJob:
        """The GEMM's memory and programs."""
        assert self.gemm
        m, k, n, repeat = self.gemm
        zeros = np.zeros
        return build_gemm(self.config, zeros((m, k), np.float32), zeros((n, k), np.float32), repeat)

    def plan(self):
        """The model's memory map and program."""
        assert self.model
        pages = sum(-(-(p + n) // PAGE_TOKENS) for p, n, _ in self.segments)
        return plan_program(self.model, self.config, kv_pages=pages, with_head=self.with_head)

    def words(self) -> list[int]:
        """The program's instruction words."""
        if self.model:
            return self.plan().program.words
        job = self.job()
        raw = job.memory[job.product : job.dump].tobytes()
        words = [int.from_bytes(raw[i : i + 16], "little") for i in range(0, len(raw), 16)]
        return words[: words.index(1) + 1]

    def step(self) -> tuple[tuple[int, int, int], ...]:
        """The step's segments."""
        return self.segments if self.model else ((0, self.job().rows, 0),)

    def text(self) -> str:
        if self.gemm:
            what = "gemm {}x{}x{} x {}".format(*self.gemm)
        else:
            m = self.model
            assert m
            what = f"{m.layers} x {m.dim}/{m.hidden}/{m.heads}/{m.kv_heads}/{m.head_dim}"
            what += f" vocab {m.vocab}" if self.with_head else ""
            first = self.segments[0]
            same = set(self.segments) == {first}
            what += (
                f", {len(self.segments)} x {first[1]} rows at {first[0]}"
                if same
                else (f", rows at {[s[:2] for s in self.segments]}")
            )
        more = "" if self.bandwidth == 1 else f", {self.bandwidth} beats a cycle"
        return f"{self.preset}: {what}, latency {self.latency}{more}"


def rtl_counters(case: Case) -> dict[Counter, int]:
    """Counters of the step on the verilated chip."""
    config, library = case.config, build_chip(case.config)
    if case.gemm:
        job = case.job()
        chip = RtlChip(config, job.memory, library=library, timing=case.timing)
        segment = StepSegment([0] * job.rows, 0, 1, 2, 0)
        words = encode_descriptor([segment], result=0, store_logits=False).view(np.uint8)
        job.memory[job.descriptor : job.descriptor + words.size] = words
        program, descriptor = job.product, job.descriptor
    else:
        plan = case.plan()
        memory, map = np.zeros(plan.memory.size, np.uint8), plan.memory
        code = np.frombuffer(Program.to_bytes(plan.program), np.uint8)
        memory[map.program : map.program + code.size] = code
        allocator = PageAllocator(memory, map, config.row_capacity)
        segments = []
        for position, rows, outputs in case.segments:
            sequence = allocator.open()
            allocator.extend(sequence, position + rows)
            segments.append(
                StepSegment(
                    [0] * rows,
                    position,
                    sequence.owner,
                    len(sequence.pages),
                    allocator.table_address(sequence),
                    range(rows - outputs, rows),
                )
            )
        words = encode_descriptor(segments, result=map.result, store_logits=case.logits)
        memory[map.descriptor : map.descriptor + 4 * len(words)] = words.view(np.uint8)
        assert blocks_of(1) == 1
        chip = RtlChip(config, memory, library=library, timing=case.timing)
        program, descriptor = map.program, map.descriptor
    try:
        return chip.run(program, descriptor)
    finally:
        chip.close()
