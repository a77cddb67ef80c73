"""`./serrano sweep`: results that stay whole, go on after a kill, and can be looked at."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest
from matplotlib.image import imread

from compiler.errors import UserError
from scripts.main import main
from scripts.sweep import store
from scripts.sweep.pareto import front, thinned, varying, workloads
from scripts.sweep.picture import _Scale, write_html
from scripts.sweep.point import FIGURES, IDENTITY
from scripts.sweep.store import Store, read_results
from tests.dask_cluster import ROOT, dask_cluster, worker_pids

SMALL = ["--rows", "16,32", "--cols", "16", "--port-bytes", "8,16", "--batch", "1,4"]


def sweep(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main(["sweep", *map(str, arguments)])
    said = capsys.readouterr()
    return code, " ".join(said.out.split()), said.err


def rows_on_disk(folder: Path) -> list[dict[str, Any]]:
    """All rows of all parts: nothing is left out for being there twice."""
    return [row for part in folder.glob("part-*") for row in parquet.read_table(part).to_pylist()]


def test_sweep_and_resume(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Evaluated once; a second call evaluates what is new alone, and reports all of its space."""
    out, file = tmp_path / "results", tmp_path / "figures.json"
    code, text, _ = sweep(capsys, *SMALL, "--out", out, "--jobs", 1, "--json", file)
    assert code == 0
    assert "8 of 8 combinations: 8 points, of them 0 there already, 8 evaluated" in text
    assert "Most tokens/s for the area (of 4 points): demo, decode, 4 sequences" in text
    first = json.loads(file.read_text())
    assert (first["evaluated"], first["resumed"]) == (8, 0)
    assert len(first["fronts"]) == 2
    (part,) = out.glob("part-*")
    before = part.read_bytes()

    wider = [*SMALL[:1], "8,16,32", *SMALL[2:], "--latency", "60,4"]
    code, text, _ = sweep(capsys, *wider, "--out", out, "--jobs", 1, "--json", file)
    assert code == 0
    second = json.loads(file.read_text())
    # latency 60 is the preset's; 8 rows can't take a port of 16 bytes
    assert (second["points"], second["resumed"], second["evaluated"]) == (20, 8, 12)
    assert second["impossible"][0]["count"] == 4
    assert "port_bytes=16 must divide rows=8" in second["impossible"][0]["example"]
    assert part.read_bytes() == before
    rows = rows_on_disk(out)
    assert len(rows) == len({r["point"] for r in rows}) == 20
    best = {r["point"]: r for w in second["fronts"] for r in w["area"]}
    assert best
    for row in rows:
        if row["point"] in best:
            assert row["cycles"] == best[row["point"]]["cycles"]


def test_schema(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Columns, types and which may be null; a refused point is a row with its reason."""
    out = tmp_path / "results"
    code, text, _ = sweep(capsys, "--batch", "1,100", "--context", "64,1000", "--out", out)
    assert code == 0
    assert "2 as: context 1000 and 1 new rows: the model takes" in text
    assert "1 as: does not fit: rows of a step needs 100 rows, has 64" in text
    (part,) = out.glob("part-*")
    schema = parquet.read_schema(part)
    assert schema.names == [*IDENTITY, *FIGURES]
    kinds = {int: "int64", float: "double", str: "string", bool: "bool"}
    for name, kind in {**IDENTITY, **FIGURES}.items():
        assert str(schema.field(name).type) == kinds[kind], name
        assert schema.field(name).nullable == (name in FIGURES), name
    rows = rows_on_disk(out)
    assert len(rows) == 4
    for row in rows:
        assert (row["refusal"] is None) == (row["cycles"] is not None)
    assert {r["lanes"] for r in rows} == {16}
    assert abs(time.time() - rows[0]["made"]) < 60


def test_other_code_is_evaluated_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A result belongs to the sources that made it; the newest is read."""
    arguments = ["--batch", "1", "--out", tmp_path / "r", "--jobs", 1]
    sweep(capsys, *arguments)
    for module in ("space", "point"):
        monkeypatch.setattr(f"scripts.sweep.{module}.version", lambda: "f" * 16)
    assert "0 there already, 1 evaluated" in sweep(capsys, *arguments)[1]
    assert "1 there already, 0 evaluated" in sweep(capsys, *arguments)[1]
    assert len(rows_on_disk(tmp_path / "r")) == 2
    (row,) = read_results(tmp_path / "r")
    assert row["code"] == "f" * 16


KILLABLE = """
import sys, scripts.sweep.store as store
store._FLUSH_SECONDS = 0.3
from scripts.main import main
if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
"""
MANY = ["--context", "0:59", "--batch", "1,2,4,8"]


def test_killed_sweep_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """kill -9 in the middle: parts are whole, the rest is done later, nothing twice."""
    script, out = tmp_path / "killable.py", tmp_path / "results"
    script.write_text(KILLABLE)
    command = [sys.executable, str(script), "sweep", *MANY, "--out", str(out), "--jobs", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    quiet = subprocess.DEVNULL
    with subprocess.Popen(
        command, env=environment, stdout=quiet, stderr=quiet, start_new_session=True
    ) as process:
        deadline = time.monotonic() + 60
        while len(list(out.glob("part-*"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)  # its workers end by themselves
    done = rows_on_disk(out)
    assert 0 < len(done) < 240
    (out / ".part-unfinished.parquet").write_bytes(b"PAR1 half")

    code, text, _ = sweep(capsys, *MANY, "--out", out, "--jobs", 2)
    assert code == 0
    assert f"240 points, of them {len(done)} there already, {240 - len(done)} evaluated" in text
    rows = rows_on_disk(out)
    assert len(rows) == len({r["point"] for r in rows}) == 240
    assert not list(out.glob(".part-*"))


def test_cluster_with_a_killed_worker(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same results as here, though a worker is killed with -9 on the way."""
    out, here = tmp_path / "results", tmp_path / "here"
    with dask_cluster(tmp_path) as address:
        (victim, _) = worker_pids(address)

        def kill() -> None:
            while not list(out.glob("part-*")):
                time.sleep(0.02)
            os.kill(victim, signal.SIGKILL)

        thread = threading.Thread(target=kill, daemon=True)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(store, "_FLUSH_SECONDS", 0.2)
            thread.start()
            code, text, _ = sweep(capsys, *MANY, "--out", out, "--cluster", address)
        assert code == 0
        assert not thread.is_alive()
    assert "240 points, of them 0 there already, 240 evaluated" in text
    rows = rows_on_disk(out)
    assert len(rows) == len({r["point"] for r in rows}) == 240
    few = ["--context", "3,47", "--batch", "1,2,4,8"]
    sweep(capsys, *few, "--out", here, "--jobs", 1)
    there = {r["point"]: r for r in rows}
    for row in rows_on_disk(here):
        assert there[row["point"]] | {"made": 0} == row | {"made": 0}


def test_failed_points_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A defect of the model at a point: the others are kept, the exit code is 1."""
    from scripts.sweep import point

    def broken(machine, model, batch, *rest):
        if batch == 4:
            raise ZeroDivisionError("at four")
        return whole(machine, model, batch, *rest)

    whole = point.estimate
    monkeypatch.setattr(point, "estimate", broken)
    out, file = tmp_path / "r", tmp_path / "f.json"
    code, text, _ = sweep(capsys, *SMALL, "--out", out, "--jobs", 1, "--json", file)
    assert code == 1
    assert "failed:" in text
    assert len(json.loads(file.read_text())["failed"]) == 4
    assert "ZeroDivisionError: at four" in json.loads(file.read_text())["failed"][0]
    monkeypatch.setattr(point, "estimate", whole)
    assert "4 there already, 4 evaluated" in sweep(capsys, *SMALL, "--out", out, "--jobs", 1)[1]


def test_refusals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line, exit code 2."""
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    parquet.write_table(arrow.table({"a": [1]}), foreign / "part-1.parquet")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "part-1.parquet").write_bytes(b"PAR1 and no more")
    (tmp_path / "file").touch()
    for arguments, message in (
        (["--rows", "8,x"], "--rows: 'x'; give whole numbers"),
        (["--port-bytes", "0"], "--port-bytes: '0'"),
        (["--jobs", 0], "--jobs 0"),
        (["--sample", 0], "--sample 0"),
        (["--model", tmp_path / "none.json"], "no such file"),
        (["--batch", 1, "--out", tmp_path / "file"], "can't write there"),
        (["--batch", 1, "--out", foreign], "not results of this version's sweep"),
        (["--batch", 1, "--out", broken], "part-1.parquet: not a Parquet file"),
        (["plot", tmp_path / "none"], "no such file or folder"),
        (["plot", broken], "not a Parquet file"),
    ):
        if arguments[0] != "plot" and "--out" not in arguments:
            arguments = [*arguments, "--out", tmp_path / "unused"]
        code, _, error = sweep(capsys, *arguments)
        assert code == 2, arguments
        assert message in error, arguments
        assert "Traceback" not in error


def test_one_sweep_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Store(tmp_path / "r").open():
        code, _, error = sweep(capsys, "--batch", 1, "--out", tmp_path / "r")
    assert code == 2
    assert "another sweep is writing there" in error
    assert sweep(capsys, "--batch", 1, "--out", tmp_path / "r")[0] == 0


def test_no_part_without_its_whole_content(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk ends in a message, not in a broken part."""

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    code, _, error = sweep(capsys, "--batch", 1, "--jobs", 1, "--out", tmp_path / "r")
    assert code == 2
    assert "No space left on device" in error
    assert not list((tmp_path / "r").glob("*part*"))


def test_front() -> None:
    """Against all pairs: what is in it is beaten by none, what is not is beaten or equal."""
    draw = random.Random(7)
    for _ in range(50):
        rows = [
            {"point": str(n), "c": draw.randrange(12), "tokens_per_second": draw.randrange(12)}
            for n in range(draw.randrange(1, 30))
        ]

        def beats(a: dict, b: dict) -> bool:
            no_worse = a["c"] <= b["c"] and a["tokens_per_second"] >= b["tokens_per_second"]
            return (
                no_worse
                and a != b
                and (a["c"], a["tokens_per_second"])
                != (
                    b["c"],
                    b["tokens_per_second"],
                )
            )

        best = front(rows, "c")
        values = [(r["c"], r["tokens_per_second"]) for r in best]
        expected = {
            (r["c"], r["tokens_per_second"]) for r in rows if not any(beats(o, r) for o in rows)
        }
        assert values == sorted(expected)
    speeds = [{"tokens_per_second": s} for s in (100, 101, 102, 103, 200)]
    assert [r["tokens_per_second"] for r in thinned(speeds)] == [100, 102, 200]


def test_ticks() -> None:
    for low, high in ((10.7, 11.7), (1, 9.9), (0.02, 3), (1, 1e6), (5, 5), (3e-4, 3.1e-4)):
        ticks = _Scale([low, high]).ticks()
        assert 1 <= len(ticks) <= 12, (low, high, ticks)
        assert ticks == sorted(set(ticks))


def test_plots(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A point a result in both plots, its parameters under the mouse, nothing fetched."""
    out = tmp_path / "my.results"
    code, _, _ = sweep(capsys, *SMALL, "--out", out, "--jobs", 1, "--plot")
    assert code == 0
    page, picture = tmp_path / "my.results.html", tmp_path / "my.results.png"
    height, width, _ = imread(picture).shape
    assert width > 800
    assert height > 600
    text = page.read_text()
    assert "http" not in text
    assert "<script" not in text
    tree = ElementTree.fromstring(text.removeprefix("<!DOCTYPE html>"))
    plots = tree.findall(".//svg")
    assert [p.get("class") for p in plots] == ["area", "power"] * 2
    rows = read_results(out)
    for work, pair in zip(workloads(rows), (plots[:2], plots[2:]), strict=True):
        assert varying(work.rows) == ["rows", "port_bytes", "memory_gbs"]
        for plot, name in zip(pair, ("area", "power"), strict=True):
            circles = plot.findall("circle")
            assert len(circles) == len(work.rows) == 4
            assert len([c for c in circles if c.get("class") == "best"]) == len(work.front(name))
            for circle in circles:
                assert 0 < float(circle.get("cx", "")) < 560
                assert 0 < float(circle.get("cy", "")) < 380
            titles = {c.findtext("title") for c in circles}
            assert len(titles) == 4
            for row in work.rows:
                start = f"rows {row['rows']}\nport_bytes {row['port_bytes']}\n"
                assert any(t and t.startswith(start) for t in titles)

    picture.unlink()
    code, text, _ = sweep(capsys, "plot", out, "-o", tmp_path / "other")
    assert code == 0
    assert (tmp_path / "other.png").exists()
    assert (tmp_path / "other.html").read_text().count("<circle") == 16
    (part,) = out.glob("part-*")
    assert sweep(capsys, "plot", part)[0] == 0
    assert part.with_suffix(".html").exists()


def test_many_points_are_thinned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A page stays readable; the front is drawn whole."""
    sweep(capsys, *SMALL, "--out", tmp_path / "r", "--jobs", 1)
    (row, *_) = read_results(tmp_path / "r")
    many = [
        {**row, "point": str(n), "area_mm2": 1 + n, "tokens_per_second": 1.0 + (n % 7 or n)}
        for n in range(9000)
    ]
    (work,) = workloads(many)
    write_html(tmp_path / "page.html", [work], "many <points>")
    text = (tmp_path / "page.html").read_text()
    assert "many &lt;points&gt;" in text
    plots = ElementTree.fromstring(text.removeprefix("<!DOCTYPE html>")).findall(".//svg")
    circles = plots[0].findall("circle")
    best = len(work.front("area"))
    assert len([c for c in circles if c.get("class")]) == best > 1000
    assert 2000 < len(circles) - best <= 4000


def test_without_pyarrow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"needs the package `pyarrow`: call \./serrano"):
        Store(tmp_path)


def test_without_distributed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    asked = ["--batch", 1, "--out", tmp_path / "r", "--cluster", "tcp://127.0.0.1:9"]
    code, _, error = sweep(capsys, *asked)
    assert code == 2
    assert "--cluster needs the package `distributed`: call ./serrano" in error
