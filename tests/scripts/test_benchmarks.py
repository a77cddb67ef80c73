"""The benchmark suite: cycle counts against the accepted ones, and the suite's own rules."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from compiler.errors import UserError
from scripts import bench_all, measure, performance
from scripts.main import main
from scripts.measure import MeasurementError, inputs_hash, summary
from scripts.performance import PAGE, TARGETS, render
from scripts.records import Change, Records, compare
from scripts.workloads import GROUPS, WORKLOADS, Workload

QUICK = [w for w in WORKLOADS.values() if w.quick]


@pytest.mark.parametrize("workload", QUICK, ids=lambda w: w.name)
def test_cycles_have_not_grown(workload: Workload) -> None:
    record = measure.measure(workload, timeout_seconds=600)
    assert record["bit_exact"] is True
    (change,) = compare({workload.name: record}, Records().baseline())
    print(change)  # an improvement shows with -rP
    assert not change.refused, (
        f"{change}. If it is meant: ./serrano bench all --accept 'REASON' rewrites "
        f"benchmarks/baseline.json and adds the reason to benchmarks/history.jsonl. "
        f"Alone: {workload.command}"
    )


# The table ----------------------------------------------------------------------------------------
def test_the_table_is_in_order() -> None:
    assert {w.group for w in WORKLOADS.values()} == set(GROUPS)
    assert {w.group for w in QUICK} == set(GROUPS) - {"long"}
    commands = [w.command for w in WORKLOADS.values()]
    assert len(set(commands)) == len(commands)
    for name, workload in WORKLOADS.items():
        assert name == workload.name
        assert name.startswith(f"{workload.group}/")
    for target in TARGETS:
        assert any(re.search(target.chosen, name) for name in WORKLOADS), target.text


# Records ------------------------------------------------------------------------------------------
def figures(cycles: int = 1000, **more: Any) -> dict:
    array = {"active": 0.5, "useful_macs": 0.4, "unused_macs": 0.1}
    array |= {"weight_stall": 0.2, "weight_shift": 0.2, "other": 0.1, "dependency": 0.0}
    return {
        "phase": "decode",
        "rows": 1,
        "cycles": cycles,
        "roofline_cycles": 900,
        "sustained_roofline_cycles": 950,
        "sustained_beats_per_cycle": 0.95,
        "mac_utilization": 0.4,
        "array_fed": 0.5,
        "bandwidth_utilization": 0.6,
        "array": array,
        "bound": "memory",
        "memory": "a memory",
        "bit_exact": True,
        **more,
    }


def record(name: str, cycles: int = 1000, **more: Any) -> dict:
    tree = {"date": "2026-01-02T03:04:05+00:00", "commit": "abc", "rtl": "r", "inputs": "i"}
    command = WORKLOADS[name].command if name in WORKLOADS else "./serrano"
    return {"name": name, "command": command, **tree, **summary(figures(cycles)), **more}


def test_growth_is_refused_from_one_percent_on() -> None:
    assert not Change("a", 1010, 1000).refused
    assert Change("a", 1011, 1000).refused
    assert not Change("a", 10, 1000).refused
    assert Change("a", 10, None).refused
    assert str(Change("a", 2500, 2000)) == "a: 2,000 to 2,500 cycles (+25.00%)"
    assert str(Change("a", 2500, None)) == "a: 2,500 cycles, no accepted count"


def test_records_on_disk(tmp_path: Path) -> None:
    store = Records(tmp_path / "made")
    assert (store.results(), store.baseline(), store.history()) == ({}, {}, [])
    one, two = record("one"), record("two", 2000)
    store.keep(one)
    store.keep(two)
    assert list(store.results()) == ["one", "two"]
    store.accept({"two": two}, "first of all")
    store.accept({"one": one}, "later")
    assert store.baseline() == {"one": 1000, "two": 2000}
    store.append({"one": one})
    found = store.history()
    assert [(r["name"], r.get("accepted")) for r in found] == [
        ("two", "first of all"),
        ("one", "later"),
        ("one", None),
    ]
    assert found[0]["cycles"] == 2000
    with pytest.raises(UserError, match="give the reason"):
        store.accept({"one": one}, " ")
    (store.folder / "baseline.json").write_text("{")
    with pytest.raises(UserError, match=r"baseline\.json: not JSON"):
        store.baseline()


def test_a_run_is_the_sum_of_its_decode_steps() -> None:
    slow = figures(3000) | {"array": {"active": 0.1}, "array_fed": 0.1}
    fast = figures(1000) | {"array": {"active": 0.5}, "array_fed": 0.5}
    prefill = figures(77) | {"phase": "prefill"}
    found = summary({"steps": [prefill, slow, fast], "bit_exact": True})
    assert (found["cycles"], found["roofline_cycles"], found["steps"]) == (4000, 1800, 2)
    assert found["efficiency"] == 0.45
    assert found["array"]["active"] == pytest.approx(0.2)
    assert found["array_fed"] == pytest.approx(0.2)
    alone = summary(prefill | {"sustained": 0.9})
    assert (alone["cycles"], alone["sustained"]) == (77, 0.9)


def test_a_command_that_fails_is_named() -> None:
    bad = Workload("gemm/bad", "gemm", ("bench", "gemm", "--m", "0", "--k", "1", "--n", "1"))
    with pytest.raises(MeasurementError, match=r"gemm/bad: serrano: --m 0: .*\(./serrano bench"):
        measure.measure(bad)
    with pytest.raises(MeasurementError, match="gemm/bad: not done after 0 s"):
        measure.measure(bad, timeout_seconds=0.01)


# The command --------------------------------------------------------------------------------------
NAME = "gemm/64^3 x 1"


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The command with a folder of its own and measurements that are made up."""
    world: dict[str, Any] = {"store": Records(tmp_path), "cycles": 1000, "ran": [], "exact": True}

    def measured(workload: Workload) -> dict:
        world["ran"].append(workload.name)
        if world["cycles"] is None:
            raise MeasurementError(f"{workload.name}: it broke")
        made = record(workload.name, world["cycles"], inputs=inputs_hash(workload))
        return made | {"bit_exact": world["exact"]}

    monkeypatch.setattr(bench_all, "measure", measured)
    monkeypatch.setattr(bench_all, "prepare", lambda: None)
    monkeypatch.setattr(bench_all, "Records", lambda: world["store"])
    return world


def test_the_command(suite: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    store = suite["store"]
    some = ["bench", "all", "--only", NAME]
    count = sum(NAME in name for name in WORKLOADS)
    assert main(some) == 1  # nothing is accepted yet
    assert "no accepted count" in capsys.readouterr().err
    assert main([*some, "--accept", "first"]) == 0
    assert len(suite["ran"]) == count  # known by then
    assert store.baseline()[NAME] == 1000
    assert main(some) == 0
    suite["cycles"] = 1011
    assert main(some) == 0
    assert len(suite["ran"]) == count
    capsys.readouterr()
    assert main([*some, "--rerun"]) == 1
    said = capsys.readouterr().err
    assert f"to be accepted: {NAME}: 1,000 to 1,011 cycles (+1.10%)" in said
    assert "Accept with ./serrano bench all --accept 'REASON'" in said
    assert store.baseline()[NAME] == 1000
    suite["cycles"] = 900
    assert main([*some, "--rerun", "--record"]) == 0
    assert f"faster: {NAME}: 1,000 to 900 cycles (-10.00%)" in capsys.readouterr().err
    assert [r.get("accepted") for r in store.history()] == ["first"] * count + [None] * count


def test_what_went_wrong_is_never_accepted(
    suite: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    some = ["bench", "all", "--only", NAME]
    suite["exact"] = False
    assert main([*some, "--accept", "why not"]) == 1
    assert f"{NAME}: NOT bit-exact" in capsys.readouterr().err
    assert suite["store"].baseline() == {}
    suite["exact"], suite["cycles"] = True, None
    out = tmp_path / "out.json"
    assert main([*some, "--rerun", "--json", str(out)]) == 1
    assert f"{NAME}: it broke" in capsys.readouterr().err
    assert json.loads(out.read_text())["records"] == {}
    for more, text in (
        (["--only", "nothing like it"], "--only nothing like it: no such workload"),
        (["--accept", ""], "--accept: give the reason"),
        (["--jobs", "0"], "--jobs 0"),
    ):
        assert main(["bench", "all", *more]) == 2
        assert text in capsys.readouterr().err


def test_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "all", "--list"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(QUICK)
    assert main(["bench", "all", "--full", "--list"]) == 0
    out = capsys.readouterr().out
    assert all(w.name in out and w.command in out for w in WORKLOADS.values())


# The page -----------------------------------------------------------------------------------------
def test_the_page_is_what_the_results_say() -> None:
    assert main(["bench", "page", "--check"]) == 0, "run ./serrano bench page"


@pytest.mark.parametrize(
    ("more", "bound"),
    [
        ({"sustained_efficiency": 0.95, "array_fed": 0.5}, "memory"),
        ({"sustained_efficiency": 0.89, "array_fed": 0.5}, "latency"),
        ({"sustained_efficiency": 0.8, "array_fed": 0.95}, "MACs with padding"),
        (
            {"sustained_efficiency": 0.5, "array_fed": 0.6, "padded_roofline_cycles": 950},
            "MACs with padding",
        ),
        ({"sustained_efficiency": 0.97, "array_fed": 0.97, "bound": "MACs"}, "MACs"),
    ],
)
def test_the_bound_of_a_row(more: dict, bound: str) -> None:
    assert performance._bound(record("decode/x", 1000) | more) == bound


def test_tables_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = PAGE.read_text()
    one = record("decode/llama1b, context 512, 1 rows", 905)
    made = render(text, {one["name"]: one})
    assert "| llama1b, context 512, 1 rows | 905 | 900 | memory | 99.4 % |" in made
    assert f"`{one['command']}`" in made
    row = next(line for line in made.splitlines() if line.startswith("| decode, 1 row: 99 %"))
    assert "| 1 of 6 | 99.4 % |" in row
    assert row.endswith("| met so far |")
    # A product has more columns, and the cold start is a count that must not be passed.
    product = record("gemm/64^3 x 1", 1000)
    product |= {"padded_roofline_cycles": 890, "overhead_cycles": 110, "sustained": 0.999}
    bound = int(next(t for t in performance.TARGETS if t.text.startswith("cold start")).bound)
    for first, verdict in ((bound, "met so far"), (bound + 1, "missed")):
        made = render(
            text, {product["name"]: product | {"first_row_cycle": first, "tail_cycles": 7}}
        )
        assert f"| 890 | 110 | {first} | 7 | 99.9 % | `{product['command']}` |" in made
        assert f"| {first} cycles | gemm/64^3 x 1 | {verdict} |" in made
    made = render(text, {one["name"]: one})
    missed = render(text, {one["name"]: record(one["name"], 920)})
    assert "| 97.8 % | decode/llama1b, context 512, 1 rows | missed |" in missed
    assert render(made, {one["name"]: one}) == made
    for broken, why in (
        (text.replace("<!-- begin gemm -->", ""), "tables gemm missing"),
        (text.replace("<!-- end gemm -->", ""), "gemm has no end mark"),
        (text + "<!-- begin typo -->", "typo"),
    ):
        with pytest.raises(UserError, match=why):
            render(broken, {})
    path = tmp_path / "page.md"
    path.write_text(made)
    monkeypatch.setattr(bench_all, "Records", lambda: Records(tmp_path))
    assert main(["bench", "page", "--path", str(path), "--check"]) == 1
    assert performance.write_page(Records(tmp_path), path) is True
    assert main(["bench", "page", "--path", str(path), "--check"]) == 0
    assert main(["bench", "page", "--path", str(tmp_path / "absent.md")]) == 2
