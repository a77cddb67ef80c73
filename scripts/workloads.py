"""The one table of benchmark workloads: what is measured, by which command, in which group.

A workload's name never changes its meaning: baseline and history go by it. The order is that of
the tables in docs/performance.md.
"""

from dataclasses import dataclass

__all__ = ["GROUPS", "SHAPES", "WORKLOADS", "Workload"]

GROUPS = {
    "gemm": "Matrix products",
    "short": "Short reductions, back to back",
    "small": "Small models",
    "decode": "Decode, one layer",
    "long": "Long context",
    "prefill": "Prefill chunks, one layer",
    "latency": "Memory latency of 200 cycles",
    "stalls": "Random stalls",
    "dram": "DRAM",
}
"""Groups and their titles."""

SHAPES = {
    "tinyllama": (2048, 5632, 32, 4, 64),
    "llama1b": (2048, 8192, 32, 8, 64),
    "qwen06b": (1024, 3072, 16, 8, 128),
}
"""Layers of real models: dim, hidden, heads, KV heads, head_dim. TinyLlama-1.1B, Llama-3.2-1B, and
a shape like Qwen3-0.6B's (without its QK norm)."""

_CHUNK_ROWS = 64  # row capacity of `edge`


@dataclass(frozen=True)
class Workload:
    """One measurement.

    Parameters
    ----------
    name : of the row in baseline, history and tables
    group : key of `GROUPS`
    arguments : of `./serrano`
    quick : in the subset that CI runs
    """

    name: str
    group: str
    arguments: tuple[str, ...]
    quick: bool = False

    @property
    def command(self) -> str:
        return " ".join(("./serrano", *self.arguments))


def _make(group: str, name: str, command: str, *, quick: bool = False) -> Workload:
    return Workload(f"{group}/{name}", group, tuple(command.split()), quick)


def _gemm(m: int, k: int, n: int, repeat: int) -> str:
    return f"bench gemm --m {m} --k {k} --n {n} --repeat {repeat}"


def _layer(shape: str, context: int, rows: int = 0, more: str = "") -> str:
    """Decode of ``rows`` sequences, or a prefill chunk."""
    dim, hidden, heads, kv_heads, head_dim = SHAPES[shape]
    step = f"--rows {rows}" if rows else f"--chunk {_CHUNK_ROWS}"
    return (
        f"bench layer --dim {dim} --hidden {hidden} --heads {heads} --kv-heads {kv_heads} "
        f"--head-dim {head_dim} --context {context} {step} {more}"
    )


_SMALL = "bench layer --layers 6 --dim 288 --hidden 768 --heads 6 --kv-heads 6 --head-dim 48"


def _table() -> list[Workload]:
    table = [
        _make("gemm", f"{size}^3 x {repeat}", _gemm(size, size, size, repeat), quick=size < 256)
        for size, repeat in ((64, 1), (64, 16), (128, 1), (128, 16), (256, 16))
    ]
    table += [
        _make("gemm", f"100x77x45 x {repeat}", _gemm(100, 77, 45, repeat), quick=True)
        for repeat in (1, 16)
    ]
    table += [
        _make("short", f"64x{k}x64 x 16", _gemm(64, k, 64, 16), quick=k in (4, 32, 96))
        for k in (4, 8, 16, 32, 44, 48, 96)  # 64 is among the products
    ]
    table += [
        _make("small", "demo, 16 tokens", "run --model demo --tokens 16", quick=True),
        *[
            _make(
                "small",
                f"6 layers of 288, context 256, {rows} rows",
                f"{_SMALL} --context 256 --rows {rows}",
                quick=rows == 1,
            )
            for rows in (1, 8)
        ],
    ]
    for shape in SHAPES:
        for context in (512, 2048):
            table += [
                _make(
                    "decode",
                    f"{shape}, context {context}, {rows} rows",
                    _layer(shape, context, rows),
                    quick=(shape, context) == ("qwen06b", 512) and rows in (1, 8),
                )
                for rows in (1, 4, 8, 16, 32)
            ]
    table += [
        _make("long", "tinyllama, context 8192, 1 rows", _layer("tinyllama", 8192, 1)),
        _make("long", "tinyllama, context 8192, 4 rows", _layer("tinyllama", 8192, 4)),
        _make("long", "tinyllama, context 8192, chunk", _layer("tinyllama", 8192)),
    ]
    table += [
        _make("prefill", f"{shape}, context {context}", _layer(shape, context))
        for shape in SHAPES
        for context in (512, 2048)
    ]
    # A small prefill for CI: attention and feed-forward with every row in use.
    table.append(
        _make(
            "prefill",
            "6 layers of 288, context 256",
            f"{_SMALL} --context 256 --chunk {_CHUNK_ROWS}",
            quick=True,
        )
    )
    under = (
        ("latency", "200", "--latency 200"),
        ("stalls", "10 %", "--stalls 10"),
        ("stalls", "30 %", "--stalls 30"),
        ("dram", "DDR4", "--memory ddr4"),
        ("dram", "LPDDR4", "--memory lpddr4"),
    )
    for group, name, more in under:
        table += [
            _make(
                group,
                f"{name}: 128^3 x 16",
                f"{_gemm(128, 128, 128, 16)} {more}",
                quick=name != "30 %",
            ),
            _make(
                group,
                f"{name}: 6 layers of 288, context 256, 1 rows",
                f"{_SMALL} --context 256 --rows 1 {more}",
                quick=name != "30 %",
            ),
            _make(
                group,
                f"{name}: llama1b, context 512, 1 rows",
                _layer("llama1b", 512, 1, more),
            ),
            _make(
                group,
                f"{name}: llama1b, context 512, 8 rows",
                _layer("llama1b", 512, 8, more),
            ),
            _make(group, f"{name}: llama1b, context 512, chunk", _layer("llama1b", 512, 0, more)),
        ]
    return table


WORKLOADS = {workload.name: workload for workload in _table()}
"""All workloads by name."""
