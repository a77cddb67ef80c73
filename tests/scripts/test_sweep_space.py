"""The space of a sweep: axes, files, samples, what can't be built, what a result stands on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from compiler.errors import UserError
from scripts.estimate import model_config
from scripts.sweep import version
from scripts.sweep.axes import AXES, GRID, parse_axis
from scripts.sweep.pareto import Refusals
from scripts.sweep.point import FIGURES, IDENTITY, Point, evaluate
from scripts.sweep.point import version as model_version
from scripts.sweep.space import Space, space_of
from scripts.sweep.version import code_version, sources
from sim.cycle_model import MACHINES, estimate


@pytest.mark.parametrize(
    ("name", "text", "values"),
    [
        ("rows", "8,16,32", [8, 16, 32]),
        ("rows", "4:32:x2", [4, 8, 16, 32]),
        ("rows", "4:63:x2,64, 8", [4, 8, 16, 32, 64]),
        ("context", "0:1000:250", [0, 250, 500, 750, 1000]),
        ("batch", "1:4", [1, 2, 3, 4]),
        ("batch", "2:9:x1.5", [2, 3, 4, 6]),
        ("clock", "50:100:x1.5", [50, 75]),
        ("memory_bandwidth", "0.5:2:0.5", [0.5, 1, 1.5, 2]),
        ("model", "demo, a.json", ["demo", "a.json"]),
        ("lanes", [4, "8:16:x2"], [4, 8, 16]),
    ],
)
def test_axis(name: str, text: str, values: list) -> None:
    found = parse_axis(name, text, "--x")
    assert found == values
    assert all(type(v) is type(AXES[name].low) for v in found if AXES[name].low is not None)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("rows", "8,x", "--x: 'x'; give whole numbers from 1 to 4,096"),
        ("rows", "", "--x: ''; give whole"),
        ("rows", "0", "--x: '0'; give whole"),
        ("rows", "8.5", "--x: '8.5'; give whole"),
        ("batch", "8:4", "--x: range '8:4'"),
        ("batch", "1:8:x1", "range '1:8:x1'"),
        ("batch", "1:8:0", "range '1:8:0'"),
        ("batch", "1:8:-1", "range '1:8:-1'"),
        ("batch", "1:8:x2:3", "range"),
        ("batch", "1:8:two", "range"),
        ("batch", "1:8:x1.1", "its step is below 1"),
        ("context", "0:8:x2", "range '0:8:x2'"),
        ("context", "0:1000000", "more than 10,000 values"),
        ("clock", "nan", "give numbers from 0.001 to 100,000"),
        ("clock", "inf", "give numbers"),
        ("model", "demo,,x", "an empty name"),
        ("lanes", [], "no values"),
    ],
)
def test_bad_axis(name: str, text: Any, message: str) -> None:
    with pytest.raises(UserError) as refusal:
        parse_axis(name, text, "--x")
    assert str(refusal.value).startswith("--x: ")
    assert message in str(refusal.value)


def test_no_axis_is_the_grid() -> None:
    assert GRID.items() <= space_of({"model": "demo"}, None).axes.items()
    assert space_of({"rows": "8"}, None).axes["batch"] == [1]
    assert "cols" not in space_of({"rows": "8"}, None).axes


def test_file(tmp_path: Path) -> None:
    """Lists, ranges and single values; its paths are its own; options replace its axes."""
    file = tmp_path / "space.toml"
    file.write_text(
        'model = ["demo", "m/config.json"]\nrows = "4:16:x2"\ncols = [8, 16]\nbatch = 4\n'
        'sample = 5\nseed = 9\nmemories = "fixed"\nprojected = true\n'
    )
    space = space_of({"cols": "32"}, file, seed=3, memories=None)
    assert space.axes["model"] == ["demo", str(tmp_path / "m" / "config.json")]
    assert (space.axes["rows"], space.axes["cols"]) == ([4, 8, 16], [32])
    assert space.axes["batch"] == [4]
    assert (space.sample, space.seed, space.memories, space.projected) == (5, 3, "fixed", True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rows = ", "not TOML"),
        ("row = [1]", "unknown key 'row'; choose from model, preset, rows"),
        ("[rows]\na = 1", "rows: give a list"),
        ("rows = [true]", "rows: 'True'; give whole numbers"),
        ('sample = "5"', "sample: give a int"),
        ("sample = 0", "--sample 0: give 1 to"),
        ('memories = "none"', "--memories none: choose from fixed, sized"),
        ('preset = "big"', "--preset big: no such preset; choose from tiny"),
        ("row_blocks = [64]", "row_blocks: scratchpads are sized to each step"),
        ('batch = "1:9000"\ncontext = "0:100"', "909,000 combinations; narrow the axes"),
    ],
)
def test_bad_file(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "space.toml"
    file.write_text(text)
    with pytest.raises(UserError) as refusal:
        space_of({}, file)
    assert message in str(refusal.value)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="can't read it"):
        space_of({}, tmp_path / "none.toml")


def test_samples_grow() -> None:
    """Same seed, same points; a larger sample holds the smaller; other seeds are other points."""
    axes = {"rows": list(range(1000)), "cols": list(range(1000)), "batch": [1, 2, 3]}

    def drawn(sample: int | None, seed: int) -> list[tuple]:
        return [tuple(c.values()) for c in Space(axes, sample=sample, seed=seed).combinations()]

    few, many = drawn(20, 1), drawn(50, 1)
    assert few == many[:20]
    assert len(set(many)) == 50
    assert not set(many) & set(drawn(50, 2))
    small = {"rows": [1, 2], "cols": [3, 4, 5]}
    full = [tuple(c.values()) for c in Space(small, sample=6).combinations()]
    assert sorted(full) == [(a, b) for a in (1, 2) for b in (3, 4, 5)]
    part = [tuple(c.values()) for c in Space(small, sample=5).combinations()]
    assert len(set(part)) == 5
    assert set(part) < set(full)


def test_what_cannot_be_built_is_named() -> None:
    space = space_of({"rows": "8,16,64", "lanes": "4,16", "cols": "8"}, None)
    reasons = [p for p in space.points() if isinstance(p, str)]
    assert len(reasons) == 6  # the port of `edge` is 16 bytes wide: more than 8 columns
    assert any("rows=64: choose 4, 8, 16 or 32" in r for r in reasons)
    refusals = Refusals()
    for reason in reasons:
        refusals.add(reason)
    assert [k["count"] for k in refusals.as_list()] == [4, 2]
    assert refusals.total == 6

    projected = list(replace(space, projected=True).points())
    machines = [p.machine for p in projected if isinstance(p, Point)]
    assert len(machines) == 6
    assert "rows=64" in machines[-1].projection
    odd = list(space_of({"rows": "48", "batch": "1"}, None, projected=True).points())
    assert "choose a divisor or multiple of 32" in str(odd[0])


def test_machine_of_a_point() -> None:
    """Sizes, clock, memory; the point's key is of all of them and of the work."""
    axes = {"rows": "16", "clock": "400", "memory_bandwidth": "3.2", "batch": "2"}
    (point,) = space_of(axes, None).points()
    assert isinstance(point, Point)
    m = point.machine
    assert (m.rows, m.cols, m.clock_hz) == (16, 16, 4e8)
    assert m.latency == 2 * MACHINES["edge"].latency  # as far away in time as at 200 MHz
    assert float(m.bandwidth) == 0.5
    (far,) = space_of({**axes, "latency": "7"}, None).points()
    assert isinstance(far, Point)
    assert far.machine.latency == 7
    others = [
        replace(point, batch=3),
        replace(point, context=1),
        replace(point, memories="fixed"),
        replace(point, model=replace(point.model, layers=2)),
        far,
    ]
    keys = {p.key for p in [point, *others]}
    assert len(keys) == 6
    assert point.key == replace(point, code="other").key


def a_point(**changes: Any) -> Point:
    model = model_config("demo")
    values = {"batch": 2, "context": 64, "chunk": 1, "memories": "fixed", "code": model_version()}
    return Point(MACHINES["edge"], "demo", model, **{**values, **changes})


def test_row_is_the_estimate() -> None:
    row = evaluate(a_point())
    found = estimate(MACHINES["edge"], model_config("demo"), 2, 64)
    assert set(row) == (set(IDENTITY) | set(FIGURES)) - {"made"}
    assert row["cycles"] == found.cycles
    assert row["tokens_per_second"] == found.tokens_per_second
    assert row["area_mm2"] == found.area.proxy_mm2
    assert row["watts"] == found.watts
    assert row["moved_bytes"] == sum(found.bytes.values())
    assert (row["bound"], row["refusal"], row["projected"]) == (found.bound, None, False)
    assert row["memory_gbs"] == 3.2


def test_sized_memories() -> None:
    """Scratchpads as large as the step needs: as fast, smaller, and no larger than that."""
    fixed, sized = evaluate(a_point()), evaluate(a_point(memories="sized"))
    assert sized["cycles"] == fixed["cycles"]
    assert sized["area_mm2"] < 0.5 * fixed["area_mm2"]
    need = {n.name: n.need for n in estimate(MACHINES["edge"], model_config("demo"), 2, 64).needs}
    assert sized["activation_blocks"] == need["activation memory"]
    assert sized["point"] != fixed["point"]


def test_refusals_are_rows() -> None:
    row = evaluate(a_point(context=100_000))
    assert "the model takes" in row["refusal"]
    assert all(row[c] is None for c in FIGURES if c != "refusal")
    for memories in ("fixed", "sized"):  # rows of a step are an axis, not a scratchpad
        row = evaluate(a_point(batch=65, memories=memories))
        assert row["refusal"].startswith("does not fit: rows of a step needs 65 rows, has 64")
    small = replace(MACHINES["edge"], row_blocks=1)
    assert "row memory needs" in evaluate(replace(a_point(), machine=small))["refusal"]


def test_other_sources_in_a_worker() -> None:
    with pytest.raises(UserError, match="start the workers again from the same tree"):
        evaluate(a_point(code="0" * 16))


def test_code_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file behind a result counts, and no other."""
    names = set(sources("scripts.sweep.point"))
    assert {"sim.cycle_model.steady", "hdl.config", "compiler.layout", "hdl.fp.add"} <= names
    assert not names & {"scripts.main", "runtime.generate", "scripts.sweep.picture"}

    package = tmp_path / "thing"
    (package / "inner").mkdir(parents=True)
    (package / "__init__.py").write_text("from .part import x\n")
    (package / "part.py").write_text("import json\nfrom .inner import y as x\n")
    (package / "inner" / "__init__.py").write_text("y = 1\n")
    (package / "unused.py").write_text("")
    monkeypatch.setattr(version, "_ROOT", tmp_path)
    assert set(sources("thing")) == {"thing", "thing.part", "thing.inner"}

    def fresh() -> str:
        code_version.cache_clear()
        return code_version("thing")

    try:
        before = fresh()
        (package / "unused.py").write_text("z = 1\n")
        assert fresh() == before
        (package / "inner" / "__init__.py").write_text("y = 2\n")
        assert fresh() != before
    finally:
        code_version.cache_clear()


def test_rows_are_json() -> None:
    """What --json writes of fronts."""
    assert json.loads(json.dumps(evaluate(a_point())))["model"] == "demo"
