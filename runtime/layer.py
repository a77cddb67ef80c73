"""Runs transformer layers with random weights on a chip and on the golden model."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np

from compiler.checkpoint.model import Checkpoint, LlamaConfig, tensor_shapes
from compiler.compile import compile_checkpoint
from compiler.errors import UserError
from compiler.image import Image
from compiler.layout import blocks_of
from hdl.config import BLOCK, PAGE_TOKENS, Config
from hdl.isa import Counter
from runtime.chip import ChipMaker, Progress
from runtime.device import Device, RowRequest
from runtime.golden_chip import GoldenChip
from runtime.limit import MemoryLimit
from runtime.metrics import step_metrics
from runtime.work import step_work

__all__ = ["LayerShape", "random_layer", "run_layer"]


@dataclass(frozen=True)
class LayerShape:
    """Dimensions of a transformer layer."""

    dim: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int


def random_layer(
    shape: LayerShape, context: int, rng: np.random.Generator, layers: int = 1
) -> Checkpoint:
    """A checkpoint of equal layers with normal random weights of the usual size."""
    model = LlamaConfig(
        shape.dim,
        shape.hidden,
        layers,
        shape.heads,
        shape.kv_heads,
        shape.head_dim,
        vocab=32,
        context=context,
        norm_eps=1e-5,
    )
    tensors = {}
    for name, size in tensor_shapes(model).items():
        if name.endswith("norm"):
            tensors[name] = 1 + 0.1 * rng.standard_normal(size, np.float32)
        else:
            tensors[name] = rng.standard_normal(size, np.float32) / np.float32(size[-1] ** 0.5)
    return Checkpoint(model, tensors, None, Path("random layer"))


def _fill(device: Device, context: int, sequences: int, rows: np.ndarray, seed: int):
    """Random rows in, sequences of ``context`` random tokens in the KV cache."""
    rng = np.random.default_rng(seed)
    map, model = device.map, device.image.manifest["model"]
    blocks = blocks_of(model["dim"])
    padded = np.zeros((len(rows), blocks * 32), np.float32)
    padded[:, : model["dim"]] = rows
    device.memory[map.rows_in : map.rows_in + padded.nbytes] = padded.view(np.uint8).reshape(-1)
    halves = _kv_halves(device)
    halves[:] = rng.integers(0, 256, halves.shape, np.uint8)
    # Elements may be any byte, scales are of a sensible size.
    halves[:, -PAGE_TOKENS:] = rng.integers(117, 121, (len(halves), PAGE_TOKENS), np.uint8)
    made = []
    for _ in range(sequences):
        sequence = device.open_sequence()
        device.pages.extend(sequence, context)
        sequence.length = context
        made.append(sequence)
    return made


def _kv_halves(device: Device) -> np.ndarray:
    """All K and V halves in the cache, bytes: (halves, elements then 32 scales)."""
    map, model = device.map, device.image.manifest["model"]
    half = PAGE_TOKENS * BLOCK * blocks_of(model["head_dim"]) + PAGE_TOKENS
    count = map.kv_pages * model["layers"] * model["kv_heads"] * 2
    return device.memory[map.kv_base : map.kv_base + count * half].reshape(count, half)


def _rows_out(device: Device, count: int) -> np.ndarray:
    blocks = blocks_of(device.image.manifest["model"]["dim"])
    at = device.map.rows_out
    return device.memory[at : at + count * blocks * 128].copy()


def run_layer(
    config: Config,
    make_chip: ChipMaker,
    shape: LayerShape,
    *,
    context: int,
    sequences: int,
    chunk: int,
    rng: np.random.Generator,
    progress: Progress | None = None,
    limit: Callable[[], MemoryLimit] | None = None,
    layers: int = 1,
) -> dict:
    """One step of so many equal layers; JSON-able figures.

    ``sequences`` sequences with ``context`` tokens each in the cache run ``chunk`` new rows each.
    Rows out and everything written to the KV cache are compared bit for bit. ``limit`` measures
    the memory's, for the figures.
    """
    count = sequences * chunk
    pages = -(-(context + chunk) // PAGE_TOKENS)
    checkpoint = random_layer(shape, context + chunk, rng, layers)
    image: Image = compile_checkpoint(
        checkpoint, config, kv_pages=sequences * pages, with_head=False
    )
    if not 1 <= count <= image.manifest["rows"]:
        raise UserError(
            f"{count} rows: preset {config.name} takes 1 to {image.manifest['rows']} rows of this "
            "layer in a step"
        )
    rows = rng.standard_normal((count, shape.dim), np.float32)
    seed = int(rng.integers(1 << 32))
    outcomes, counters, seconds = [], {}, 0.0
    for maker in (make_chip, GoldenChip):
        device = Device(image, maker)
        made = _fill(device, context, sequences, rows, seed)
        start = perf_counter()
        result = device.step(
            [RowRequest(s, [0] * chunk, outputs=0) for s in made], logits=False, progress=progress
        )
        if maker is make_chip:
            counters, seconds = result.counters, perf_counter() - start
        outcomes.append((_rows_out(device, count), _kv_halves(device).copy()))
        device.close()
    exact = all(np.array_equal(a, b) for a, b in zip(*outcomes, strict=True))
    work = step_work(image, [(context, chunk, 0)] * sequences, logits=False)
    cycles = counters.get(Counter.CYCLES, 0)
    return {
        "workload": f"{layers} x layer {shape.dim}/{shape.hidden}/{shape.heads}/{shape.kv_heads}/"
        f"{shape.head_dim}, context {context}, {sequences} x {chunk} rows",
        "phase": "decode" if chunk == 1 else "prefill",
        "rows": count,
        "outputs": 0,
        "bit_exact": exact,
        "simulated_cycles_per_second": cycles / seconds if cycles else None,
        **step_metrics(config, work, counters, limit() if limit else None),
    }
