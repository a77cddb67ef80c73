"""Steps to compare prediction and RTL on: named bench shapes, and random ones by seed."""

import random
from fractions import Fraction

from compiler.checkpoint.model import LlamaConfig
from compiler.layout import Layout
from hdl.config import PRESETS
from tests.sim.cycle_model_rtl import Case

__all__ = ["bench_cases", "grid_cases", "layer_of", "random_case", "small_cases"]


def layer_of(
    dim: int,
    hidden: int,
    heads: int,
    kv_heads: int,
    head_dim: int,
    *,
    layers: int = 1,
    vocab: int = 32,
    context: int = 16384,
) -> LlamaConfig:
    """A model's shape."""
    return LlamaConfig(
        dim,
        hidden,
        layers,
        heads,
        kv_heads,
        head_dim,
        vocab=vocab,
        context=context,
        norm_eps=1e-5,
    )


def small_cases() -> list[Case]:
    """A handful a preset: a second or two of RTL in all."""
    small = layer_of(256, 512, 4, 2, 64)
    model = layer_of(128, 256, 4, 2, 32, layers=3, vocab=300)
    cases = []
    for preset in PRESETS:
        cases += [
            Case(preset, gemm=(8, 96, 64, 4)),
            Case(preset, gemm=(1, 64, 128, 2), latency=1),
            Case(preset, gemm=(8, 64, 128, 2), bandwidth=Fraction(1, 2)),
            Case(preset, model=small, segments=((40, 1, 0),)),
            Case(preset, model=small, segments=((100, 1, 0), (7, 3, 0)), latency=200),
            Case(preset, model=model, with_head=True, segments=((0, 8, 1),)),
        ]
    cases += [
        Case("edge", gemm=(64, 64, 64, 16)),
        Case("edge", gemm=(100, 77, 45, 1)),
        Case("edge", gemm=(64, 32, 2048, 1)),  # bound by the vector unit
        Case("edge", model=small, segments=((0, 64, 0),)),
        Case("edge", model=small, segments=((300, 1, 0),) * 16),
    ]
    return cases


def bench_cases() -> list[Case]:
    """The shapes of README.md and of `bench` at real sizes: minutes of RTL."""
    llama = layer_of(2048, 8192, 32, 8, 64)
    tiny_llama = layer_of(2048, 5632, 32, 4, 64)
    wide = layer_of(1024, 3072, 16, 8, 128)
    demo = layer_of(128, 384, 4, 2, 32, layers=5, vocab=512)
    cases = [
        Case("edge", gemm=g)
        for g in ((64, 64, 64, 16), (128, 128, 128, 1), (128, 128, 128, 16), (100, 77, 45, 1))
    ]
    cases += [Case("edge", gemm=(64, k, 64, 8)) for k in (4, 32, 64, 96)]
    cases += [Case("edge", model=llama, segments=((512, 1, 0),) * n) for n in (1, 4, 8, 16, 32)]
    cases += [Case("edge", model=tiny_llama, segments=((c, 1, 0),)) for c in (0, 512, 2048)]
    cases += [Case("edge", model=wide, segments=((2048, 1, 0),) * n) for n in (1, 8)]
    cases += [
        Case("edge", model=llama, segments=((2048, 1, 0),) * 8),
        Case("edge", model=llama, segments=((512, 64, 0),)),
        Case("edge", model=llama, segments=((2048, 64, 0),)),
        Case("edge", model=tiny_llama, segments=((512, 1, 0),), latency=200),
        Case("edge", model=tiny_llama, segments=((2048, 1, 0),) * 8, latency=200),
        Case("edge", model=wide, segments=((512, 64, 0),), latency=200),
        Case("edge", model=tiny_llama, segments=((8192, 1, 0),)),
    ]
    cases += [
        Case("edge", model=demo, with_head=True, segments=((position, rows, 1),))
        for position, rows in ((0, 20), (20, 1), (60, 1), (200, 1))
    ]
    return cases


def grid_cases() -> list[Case]:
    """What the model was made on: small shapes, three latencies, all presets."""
    little = layer_of(64, 128, 2, 1, 32)
    small = layer_of(256, 512, 4, 2, 64)
    middle = layer_of(288, 768, 6, 6, 48)
    large = layer_of(512, 1024, 8, 2, 64)
    cases = []
    for latency in (1, 60, 200):
        gemms = [(1, 32, 32, 1), (4, 64, 64, 1), (8, 32, 256, 1), (8, 96, 64, 4), (5, 100, 45, 2)]
        steps = [((0, 1, 0),), ((40, 1, 0),), ((100, 1, 0),) * 4, ((33, 8, 0),), ((7, 1, 0),) * 8]
        for preset in ("tiny", "ulx3s"):
            cases += [Case(preset, gemm=g, latency=latency) for g in gemms]
            cases += [
                Case(preset, model=m, segments=s, latency=latency)
                for m in (little, small)
                for s in steps
            ]
        gemms = [(1, 32, 32, 1), (64, 64, 64, 1), (64, 32, 256, 1), (64, 96, 64, 8)]
        gemms += [(1, 256, 256, 4), (8, 512, 256, 1), (32, 256, 256, 2)]
        steps = [((0, 1, 0),), ((512, 1, 0),), ((100, 1, 0),) * 4, ((300, 1, 0),) * 32]
        steps += [((0, 64, 0),), ((500, 64, 0),), ((64, 4, 0),) * 8]
        cases += [Case("edge", gemm=g, latency=latency) for g in gemms]
        cases += [
            Case("edge", model=m, segments=s, latency=latency)
            for m in (little, small, middle, large)
            for s in steps
        ]
    return cases


def random_case(seed: int) -> Case:
    """A random step of a random shape, small enough for seconds of RTL."""
    draw = random.Random(seed)
    preset = draw.choice(["tiny", "ulx3s", "edge", "edge"])
    config = PRESETS[preset]
    latency = draw.choice([1, 20, 60, 60, 60, 120, 200])
    bandwidth = draw.choice([Fraction(1)] * 4 + [Fraction(1, 2), Fraction(3, 4), Fraction(9, 10)])
    big = preset == "edge"
    if draw.random() < 0.35:
        shape = (
            draw.randint(1, 150 if big else 24),
            draw.randint(1, 700 if big else 200),
            draw.randint(1, 700 if big else 200),
            draw.randint(1, 6),
        )
        return Case(preset, gemm=shape, latency=latency, bandwidth=bandwidth)
    kv_heads = draw.choice([1, 2, 3, 4])
    heads = kv_heads * draw.choice([1, 1, 2, 4])
    head_dim = draw.choice([32, 48, 64, 96, 128] if big else [32, 48, 64])
    dim = 32 * draw.randint(2, 32 if big else 8) - draw.choice([0, 0, 0, 8])
    hidden = 32 * draw.randint(2, 48 if big else 12)
    with_head = draw.random() < 0.3
    layers = draw.randint(1, 4) if with_head else 1
    vocab = draw.randint(40, 1200 if big else 300) if with_head else 32
    model = layer_of(dim, hidden, heads, kv_heads, head_dim, layers=layers, vocab=vocab)
    most = Layout(config, model).rows
    kind = draw.choice(["decode", "decode", "chunk", "mixed"])
    longest = 1500 if big else 200
    if kind == "decode":
        rows = draw.randint(1, min(most, 32))
        segments = [(draw.randint(0, longest), 1, int(with_head)) for _ in range(rows)]
        if draw.random() < 0.5:
            segments = [segments[0]] * rows
    elif kind == "chunk":
        segments = [(draw.randint(0, longest), draw.randint(1, most), int(with_head))]
    else:
        left, segments = most, []
        while left and len(segments) < 5:
            rows = draw.randint(1, min(left, 12))
            segments.append((draw.randint(0, longest // 2), rows, int(with_head)))
            left -= rows
    return Case(
        preset,
        model=model,
        with_head=with_head,
        segments=tuple(segments),
        latency=latency,
        bandwidth=bandwidth,
    )
