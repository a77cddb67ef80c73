"""A space: values by axis, and the points that they make."""

import itertools
import math
import random
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from compiler.catalog import CATALOG
from compiler.errors import UserError
from hdl.config import BLOCK, PRESETS
from scripts.estimate import model_config, timed
from scripts.sweep.axes import AXES, DEFAULTS, GRID, SIZES, parse_axis
from scripts.sweep.point import Point, version
from sim.cycle_model import MACHINES, Machine

__all__ = ["MEMORIES", "Space", "space_of"]

MEMORIES = ("fixed", "sized")
_MOST_POINTS = 200_000


@dataclass(frozen=True)
class Space:
    """A product of axes.

    Parameters
    ----------
    axes
        Values by name of `AXES`; ``model``, ``preset``, ``batch``, ``context``, ``chunk`` always.
    memories
        As `scripts.sweep.point.Point`.
    projected
        Machines that the RTL can't be built as count too.
    sample, seed
        So many combinations drawn at random, None for all. A larger sample of the same seed holds
        the smaller one.
    """

    axes: dict[str, list]
    memories: str = "sized"
    projected: bool = False
    sample: int | None = None
    seed: int = 0

    @property
    def total(self) -> int:
        """Combinations in all."""
        return math.prod(map(len, self.axes.values()))

    @property
    def size(self) -> int:
        """Combinations that are looked at."""
        return min(self.total, self.sample or self.total)

    def combinations(self) -> Iterator[dict[str, Any]]:
        """Values by axis, of all combinations or of the sample."""
        if self.size == self.total:
            for values in itertools.product(*self.axes.values()):
                yield dict(zip(self.axes, values, strict=True))
            return
        draw = random.Random(self.seed)
        seen: set[int] = set()
        while len(seen) < self.size:
            index = draw.randrange(self.total)
            if index in seen:
                continue
            seen.add(index)
            drawn = {}
            for name, choices in self.axes.items():
                index, which = divmod(index, len(choices))
                drawn[name] = choices[which]
            yield drawn

    def points(self) -> Iterator[Point | str]:
        """Points, or why a combination makes none."""
        models = {name: model_config(name) for name in self.axes["model"]}
        code = version()
        for values in self.combinations():
            try:
                machine = _machine(values, self.projected)
            except (UserError, ValueError) as error:
                yield str(error)
                continue
            name = values["model"]
            work = (values["batch"], values["context"], values["chunk"])
            yield Point(machine, name, models[name], *work, memories=self.memories, code=code)


def _machine(values: dict[str, Any], projected: bool) -> Machine:
    """The machine of a combination; ``ValueError`` where there is none."""
    preset = values["preset"]
    base = MACHINES[preset]
    sizes = {name: values[name] for name in SIZES if name in values}
    projection = base.projection
    if preset in PRESETS:
        try:
            replace(PRESETS[preset], **sizes)
        except ValueError as error:
            if not projected:
                raise
            projection = f"a projection, the RTL can't be built as this: {error}"
    machine = replace(base, **sizes, projection=projection)
    if machine.max_head_dim % BLOCK:
        raise ValueError(f"max_head_dim={machine.max_head_dim}: choose a multiple of {BLOCK}")
    return timed(machine, *(values.get(k) for k in ("clock", "memory_bandwidth", "latency")))


def space_of(given: dict[str, str], file: Path | None, **options: Any) -> Space:
    """The space of options and a file.

    Parameters
    ----------
    given
        Axes as written on the command line, by name; they replace the file's.
    file
        TOML: an axis a key (``rows = [8, 16, 32]`` or ``rows = "8:32:x2"``), and ``memories``,
        ``projected``, ``sample``, ``seed``. Its paths start at its folder.
    options
        Fields of `Space`; None where not given.

    Raises
    ------
    UserError
        For what can't be read, unknown names, values that no machine can have, or too many points.
    """
    content = _read(file) if file else {}
    axes = {k: parse_axis(k, v, f"{file}: {k}") for k, v in content.items() if k in AXES}
    if file and "model" in axes:
        axes["model"] = [m if m in CATALOG else str(file.parent / m) for m in axes["model"]]
    for name, text in given.items():
        axes[name] = parse_axis(name, text, f"--{name.replace('_', '-')}")
    if not set(axes) - {"model"}:
        axes |= GRID
    # In the order of AXES, so that a sample does not hang on where an axis was given.
    axes = DEFAULTS | axes
    axes = {k: axes[k] for k in AXES if k in axes}
    for preset in axes["preset"]:
        if preset not in MACHINES:
            raise UserError(f"--preset {preset}: no such preset; choose from {', '.join(MACHINES)}")
    chosen: dict[str, Any] = {k: content[k] for k in _KINDS if k in content}
    chosen |= {k: v for k, v in options.items() if v is not None}
    space = Space(axes, **chosen)
    if space.memories not in MEMORIES:
        raise UserError(f"--memories {space.memories}: choose from {', '.join(MEMORIES)}")
    scratchpads = [k for k in ("activation_blocks", "row_blocks", "constant_blocks") if k in axes]
    if space.memories == "sized" and scratchpads:
        raise UserError(
            f"{scratchpads[0]}: scratchpads are sized to each step; to vary them give "
            "--memories fixed"
        )
    if space.sample is not None and not 1 <= space.sample <= _MOST_POINTS:
        raise UserError(f"--sample {space.sample}: give 1 to {_MOST_POINTS:,}")
    if space.size > _MOST_POINTS:
        raise UserError(
            f"{space.total:,} combinations; narrow the axes, or take some of them with --sample "
            f"(at most {_MOST_POINTS:,} a call; calls with other seeds add to the same results)"
        )
    return space


_KINDS: dict[str, type] = {"memories": str, "projected": bool, "sample": int, "seed": int}


def _read(file: Path) -> dict[str, Any]:
    try:
        content = tomllib.loads(file.read_text())
    except OSError as error:
        raise UserError(f"--space {file}: can't read it ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"--space {file}: not TOML: {error}") from None
    for key, value in content.items():
        if key in AXES:
            if isinstance(value, dict):
                raise UserError(f'--space {file}: {key}: give a list or "FIRST:LAST:STEP"')
            if not isinstance(value, (str, list)):
                content[key] = [value]
        elif key not in _KINDS:
            known = ", ".join([*AXES, *_KINDS])
            raise UserError(f"--space {file}: unknown key {key!r}; choose from {known}")
        elif type(value) is not _KINDS[key]:
            raise UserError(f"--space {file}: {key}: give a {_KINDS[key].__name__}")
    return content
