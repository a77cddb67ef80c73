"""What a model costs on a machine, from its shape alone."""

from dataclasses import asdict, dataclass, replace
from types import SimpleNamespace
from typing import Any, cast

from compiler.checkpoint.model import LlamaConfig
from compiler.errors import UserError
from compiler.layout import Layout, blocks_of
from compiler.program import step_program
from hdl.config import BLOCK, PAGE_TOKENS, Config
from sim.cycle_model.machine import Machine
from sim.cycle_model.prediction import Prediction, predict_step, unit_states
from sim.cycle_model.proxy import Area, area_of, energy_joules

__all__ = ["Estimate", "Need", "estimate", "most_rows"]

_SIMULATED_LAYERS = 3
"""Layers run through the model; one more gives what every further layer adds."""


@dataclass(frozen=True)
class Need:
    """An on-chip memory: what the step needs of it and what the machine has.

    ``unit``: blocks of 32 FP32, words of the activation memory, rows, elements of a head.
    """

    name: str
    need: int
    have: int
    unit: str

    @property
    def fits(self) -> bool:
        return self.need <= self.have


@dataclass(frozen=True)
class Estimate:
    """A step of ``batch`` sequences, ``chunk`` new rows each after ``context`` tokens.

    Attributes
    ----------
    rows, outputs
        Rows of the step; rows whose logits are made (the last of each sequence).
    cycles, seconds
        Of the step.
    cycles_per_token
        Cycles over rows.
    tokens_per_second, tokens_per_second_per_user
        In all, and of one sequence.
    roofline_cycles, efficiency
        The strict bound of bytes and useful MACs with perfect overlap, and its share.
    bound, shares
        Which of memory, macs, vector, latency rules; each one's share of the cycles: read channel
        busy, array fed, vector unit busy, none of the three at the highest of them.
    bytes
        By cause, of the step.
    utilisation
        ``macs`` (useful), ``array`` (fed), ``port`` (read beats), ``vector`` (busy).
    units
        Cycles busy, starved, blocked, idle by unit.
    needs, fits, remedy
        On-chip memories. Where they do not fit, all figures are of the machine with memories that
        do, and ``remedy`` says so.
    weight_bytes, kv_bytes
        Tape; KV pages of all sequences with the new rows.
    area, energy_joules, watts
        Proxies (``sim.cycle_model.proxy``).
    notes
        What the figures stand on beyond the RTL.
    """

    machine: str
    batch: int
    context: int
    chunk: int
    rows: int
    outputs: int
    cycles: int
    seconds: float
    cycles_per_token: float
    tokens_per_second: float
    tokens_per_second_per_user: float
    roofline_cycles: int
    efficiency: float
    bound: str
    shares: dict[str, float]
    bytes: dict[str, int]
    utilisation: dict[str, float]
    units: dict[str, dict[str, int]]
    needs: tuple[Need, ...]
    fits: bool
    remedy: str
    weight_bytes: int
    kv_bytes: int
    useful_macs: int
    area: Area
    energy_joules: float
    watts: float
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        result = asdict(self)
        for need, row in zip(self.needs, result["needs"], strict=True):
            row["fits"] = need.fits
        return result


def _needs(machine: Machine, model: LlamaConfig, rows: int) -> tuple[Need, ...]:
    """On-chip memories of a step (``compiler.layout.Layout``)."""
    d, h, hb = blocks_of(model.dim), blocks_of(model.hidden), blocks_of(model.head_dim)
    queries = model.heads * hb
    capacity = max(machine.row_capacity, rows, model.heads // model.kv_heads)
    act = 2 * capacity + rows * (max(d, queries) + max(queries, h))
    return (
        Need("rows of a step", rows, machine.row_capacity, "rows"),
        Need("attention batch", model.heads // model.kv_heads, machine.row_capacity, "rows"),
        Need("head", model.head_dim, machine.max_head_dim, "elements"),
        Need("activation memory", act, machine.activation_blocks, "words"),
        Need("row memory", rows * d, machine.row_blocks, "blocks"),
        Need("constant memory", rows * 2 * hb + 2 * d, machine.constant_blocks, "blocks"),
    )


def most_rows(machine: Machine, model: LlamaConfig) -> int:
    """Rows of a step that fit; the row capacity where not even one does."""
    try:
        return Layout(cast(Config, machine), model).rows
    except UserError:
        return machine.row_capacity


def _enlarged(machine: Machine, needs: tuple[Need, ...]) -> Machine:
    """The machine with memories in which the step fits."""
    need = {n.name: n.need for n in needs}
    capacity = max(machine.row_capacity, need["rows of a step"], need["attention batch"])
    return replace(
        machine,
        row_capacity=capacity,
        max_head_dim=max(machine.max_head_dim, -(-need["head"] // BLOCK) * BLOCK),
        activation_blocks=max(machine.activation_blocks, need["activation memory"]),
        row_blocks=max(machine.row_blocks, need["row memory"]),
        constant_blocks=max(machine.constant_blocks, need["constant memory"]),
    )


def _program(machine: Machine, model: LlamaConfig, kv_pages: int) -> list[int]:
    """The program of a model; addresses in memory are nil, they cost nothing."""
    layout = Layout(cast(Config, machine), model)
    nowhere = ("kv_base", "kv_owners", "norms", "tape", "embedding", "rope", "rows_in", "rows_out")
    memory = SimpleNamespace(
        **dict.fromkeys(nowhere, 0), kv_pages=kv_pages, context=model.context, tape_block_tiles=1
    )
    try:
        return step_program(layout, memory).words
    except ValueError as error:
        raise UserError(f"the instruction set can't name this step's operands: {error}") from None


def _scaled(first: Prediction, second: Prediction, more: int) -> Prediction:
    """``first`` with ``more`` times what ``second`` has beyond it."""

    def add(a: int, b: int) -> int:
        return a + more * (b - a)

    cycles = add(first.cycles, second.cycles)
    return Prediction(
        cycles=cycles,
        bytes={k: add(v, second.bytes[k]) for k, v in first.bytes.items()},
        units={
            unit: unit_states(
                cycles,
                *(add(v, second.units[unit][s]) for s, v in states.items() if s != "idle"),
            )
            for unit, states in first.units.items()
        },
        array_fed=add(first.array_fed, second.array_fed),
        macs_fed=add(first.macs_fed, second.macs_fed),
        port_busy=add(first.port_busy, second.port_busy),
    )


def estimate(
    machine: Machine,
    model: LlamaConfig,
    batch: int,
    context: int,
    chunk: int = 1,
    *,
    store_logits: bool = False,
) -> Estimate:
    """Cycles, bytes, bounds and memories of a step.

    Parameters
    ----------
    batch
        Sequences.
    context
        Tokens of each sequence in the KV cache before the step.
    chunk
        New rows of each sequence: 1 is decode.
    store_logits
        Logits go to memory (for sampling on the host); else the chip's argmax alone does.

    Raises
    ------
    UserError
        For a model that the chip can't run, by the name of the feature, or a context past the
        model's.
    """
    if batch < 1 or chunk < 1 or context < 0:
        raise UserError(
            f"batch {batch}, chunk {chunk}, context {context}: give at least 1, 1 and 0"
        )
    if context + chunk > model.context:
        raise UserError(
            f"context {context} and {chunk} new rows: the model takes {model.context} tokens"
        )
    rows = batch * chunk
    needs = _needs(machine, model, rows)
    fits = all(n.fits for n in needs)
    built = machine if fits else _enlarged(machine, needs)
    pages = batch * -(-(context + chunk) // PAGE_TOKENS)
    layout = Layout(cast(Config, built), model)
    segments = [(context, chunk, 1)] * batch

    def run(layers: int) -> Prediction:
        words = _program(built, replace(model, layers=layers), pages)
        return predict_step(built, words, segments, store_logits=store_logits)

    few = min(model.layers, _SIMULATED_LAYERS)
    predicted = run(few)
    if model.layers > few:
        predicted = _scaled(predicted, run(few + 1), model.layers - few)

    macs = _useful_macs(model, rows, batch, context, chunk)
    moved = sum(predicted.bytes[k] for k in ("tape", "kv", "rows"))
    beat = built.beat_cycles
    roofline = round(max(moved / built.port_bytes * beat, macs / (built.rows * built.cols)))
    cycles = predicted.cycles
    seconds = cycles / built.clock_hz
    used = {
        "memory": min(1.0, predicted.port_busy * beat / cycles),
        "macs": min(1.0, predicted.array_fed / cycles),
        "vector": min(1.0, predicted.units["vector"]["busy"] / cycles),
    }
    shares = {**used, "latency": 1 - max(used.values())}
    energy = energy_joules(
        macs, predicted.units["vector"]["busy"] * built.lanes, sum(predicted.bytes.values())
    )
    notes = [machine.projection] if machine.projection else []
    remedy = _remedy(machine, needs)
    if remedy:
        notes.append(remedy)
    return Estimate(
        machine=machine.name,
        batch=batch,
        context=context,
        chunk=chunk,
        rows=rows,
        outputs=batch,
        cycles=cycles,
        seconds=seconds,
        cycles_per_token=cycles / rows,
        tokens_per_second=rows / seconds,
        tokens_per_second_per_user=chunk / seconds,
        roofline_cycles=roofline,
        efficiency=roofline / cycles,
        bound=max(shares, key=lambda k: shares[k]),
        shares=shares,
        bytes=predicted.bytes,
        utilisation={
            "macs": macs / (cycles * built.rows * built.cols),
            "array": used["macs"],
            "port": predicted.port_busy / cycles,
            "vector": used["vector"],
        },
        units=predicted.units,
        needs=needs,
        fits=fits,
        remedy=remedy,
        weight_bytes=predicted.bytes["tape"],
        kv_bytes=pages * layout.kv_page_bytes,
        useful_macs=macs,
        area=area_of(built),
        energy_joules=energy,
        watts=energy / seconds,
        notes=tuple(notes),
    )


def _remedy(machine: Machine, needs: tuple[Need, ...]) -> str:
    """What would do, where a step does not fit."""
    short = [n for n in needs if not n.fits]
    if not short:
        return ""
    what = ", ".join(f"{n.name} {n.need:,} {n.unit} (has {n.have:,})" for n in short)
    return (
        f"does not fit {machine.name} as it is: needs {what}; the figures are of a {machine.name} "
        "built with that, or take fewer rows a step or a larger preset"
    )


def _useful_macs(model: LlamaConfig, rows: int, batch: int, context: int, chunk: int) -> int:
    """As ``runtime.work``: true dimensions, no padding."""
    m = model
    weights = m.dim * m.head_dim * (2 * m.heads + 2 * m.kv_heads) + 3 * m.dim * m.hidden
    seen = batch * (chunk * context + chunk * (chunk + 1) // 2)
    attention = 2 * m.heads * m.head_dim * seen
    return m.layers * (rows * weights + attention) + batch * m.dim * m.vocab
