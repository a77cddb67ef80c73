"""A point of the design space, and what the cycle model says of it."""

import hashlib
import json
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from typing import Any

from compiler.checkpoint import LlamaConfig
from compiler.errors import UserError
from scripts.sweep.version import code_version
from sim.cycle_model import Estimate, Machine, estimate

__all__ = ["FIGURES", "IDENTITY", "Point", "evaluate", "model_hash", "version"]

IDENTITY: dict[str, type] = {
    "point": str,
    "code": str,
    "made": float,
    "model": str,
    "model_hash": str,
    "batch": int,
    "context": int,
    "chunk": int,
    "memories": str,
    "preset": str,
    "projected": bool,
    **{
        f.name: f.type if isinstance(f.type, type) and f.type in (int, float) else float
        for f in fields(Machine)
        if f.name not in ("name", "projection")
    },
    "memory_gbs": float,
}
"""Columns that say what was asked; the machine's as it was estimated, ``bandwidth`` in beats."""

FIGURES: dict[str, type] = {
    "refusal": str,
    "cycles": int,
    "seconds": float,
    "tokens_per_second": float,
    "tokens_per_second_per_user": float,
    "cycles_per_token": float,
    "roofline_cycles": int,
    "efficiency": float,
    "bound": str,
    **{f"share_{k}": float for k in ("memory", "macs", "vector", "latency")},
    "macs_utilisation": float,
    "moved_bytes": int,
    "weight_bytes": int,
    "kv_bytes": int,
    "area_mm2": float,
    "multipliers": int,
    "sram_bits": int,
    "energy_joules": float,
    "joules_per_token": float,
    "watts": float,
}
"""Columns that the model gives; all but ``refusal`` are null where there is one."""


@cache
def model_hash(model: LlamaConfig) -> str:
    """16 hexadecimal digits of a model's shape and constants."""
    return _hash(asdict(model))


def _hash(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def version() -> str:
    """Hash of the sources that `evaluate` stands on."""
    return code_version(__name__)


@dataclass(frozen=True)
class Point:
    """A machine and its work.

    Parameters
    ----------
    name, model
        What the user calls it; its shape.
    batch, context, chunk
        As `sim.cycle_model.estimate` takes them.
    memories
        ``fixed``: the scratchpads are the machine's, a step that does not fit them is refused.
        ``sized``: activation, row and constant memory are what this step needs, so that area is
        not ruled by memory that the model has no use for.
    code
        `version` of the process that asks.
    """

    machine: Machine
    name: str
    model: LlamaConfig
    batch: int
    context: int
    chunk: int
    memories: str
    code: str

    @property
    def key(self) -> str:
        """Hash of what is asked; not of the code."""
        work = (self.name, model_hash(self.model), self.batch, self.context, self.chunk)
        return _hash([asdict(self.machine), work, self.memories])


def _sized(machine: Machine, found: Estimate) -> Machine:
    """The machine with the scratchpads that the step needs."""
    need = {n.name: n.need for n in found.needs}
    return replace(
        machine,
        activation_blocks=need["activation memory"],
        row_blocks=need["row memory"],
        constant_blocks=need["constant memory"],
    )


def _figures(found: Estimate) -> dict[str, Any]:
    moved = sum(found.bytes.values())
    return {
        "cycles": found.cycles,
        "seconds": found.seconds,
        "tokens_per_second": found.tokens_per_second,
        "tokens_per_second_per_user": found.tokens_per_second_per_user,
        "cycles_per_token": found.cycles_per_token,
        "roofline_cycles": found.roofline_cycles,
        "efficiency": found.efficiency,
        "bound": found.bound,
        **{f"share_{k}": v for k, v in found.shares.items()},
        "macs_utilisation": found.utilisation["macs"],
        "moved_bytes": moved,
        "weight_bytes": found.weight_bytes,
        "kv_bytes": found.kv_bytes,
        "area_mm2": found.area.proxy_mm2,
        "multipliers": found.area.multipliers,
        "sram_bits": found.area.sram_bits,
        "energy_joules": found.energy_joules,
        "joules_per_token": found.energy_joules / found.rows,
        "watts": found.watts,
    }


def evaluate(point: Point) -> dict[str, Any]:
    """A row of results: `IDENTITY` (without ``made``) and `FIGURES`.

    Raises
    ------
    UserError
        In a worker whose sources are not those of the process that asks.
    """
    if point.code != version():
        raise UserError(
            "a worker runs other sources of the cycle model than this process: start the workers "
            "again from the same tree"
        )
    machine = point.machine
    work = (point.model, point.batch, point.context, point.chunk)
    figures: dict[str, Any] = dict.fromkeys(FIGURES)
    try:
        found = estimate(machine, *work)
        if point.memories == "sized":
            machine = _sized(machine, found)
            found = estimate(machine, *work)
        if found.fits:
            figures |= _figures(found)
        else:
            short = [n for n in found.needs if not n.fits]
            figures["refusal"] = "does not fit: " + ", ".join(
                f"{n.name} needs {n.need} {n.unit}, has {n.have}" for n in short
            )
    except UserError as error:
        figures["refusal"] = str(error)
    sizes = {f.name: getattr(machine, f.name) for f in fields(machine)}
    return {
        "point": point.key,
        "code": point.code,
        "model": point.name,
        "model_hash": model_hash(point.model),
        "batch": point.batch,
        "context": point.context,
        "chunk": point.chunk,
        "memories": point.memories,
        "preset": sizes.pop("name"),
        "projected": bool(sizes.pop("projection")),
        **sizes,
        "bandwidth": float(machine.bandwidth),
        "memory_gbs": machine.port_bytes * machine.clock_hz * float(machine.bandwidth) / 1e9,
        **figures,
    }
