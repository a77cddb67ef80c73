"""Traces: what is recorded adds up to the chip's own counters; files, pictures and refusals."""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter as Counts
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compiler.checkpoint import load_checkpoint
from compiler.compile import compile_checkpoint
from compiler.errors import UserError
from hdl.accelerator import Accelerator
from hdl.config import PRESETS
from hdl.emit import emit_verilog
from hdl.isa import TABLE, Cause, Counter, Opcode, Unit, decode, encode
from hdl.trace import BEATS, State
from runtime.chip import DeviceFault
from runtime.device import Device
from runtime.gemm import run_gemm
from runtime.generate import Request, generate
from runtime.layer import LayerShape, run_layer
from runtime.rtl_chip import RtlChip, build_chip
from runtime.sampling import Sampler
from runtime.trace import Timeline, TraceWriter, read_trace
from runtime.trace.step import read_program
from runtime.trace.summary import rebin, shares
from scripts.main import main
from sim.verilated.library import MemoryTiming
from tests.models import random_checkpoint

DEMO = Path(__file__).resolve().parents[2] / "models" / "demo"
QUEUED = [unit for unit in Unit if unit is not Unit.CONTROL]
STALLED = MemoryTiming(latency=37, stall_probability=0.2)


@pytest.fixture(scope="module")
def library() -> Path:
    return build_chip(PRESETS["tiny"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("traces")


@pytest.fixture(scope="module")
def model() -> Any:
    """Two layers, on-chip rows of several sequences."""
    checkpoint = random_checkpoint(4, layers=2, heads=4, kv_heads=2)
    return compile_checkpoint(checkpoint, PRESETS["tiny"], context=64, sequences=2)


def _record(path: Path, library: Path, model, timing=None, **options) -> Path:
    """A run of two prompts, prefill and decode, into a file."""
    with TraceWriter(path, **options) as writer:
        device = Device(
            model,
            lambda c, memory: RtlChip(
                c, memory, library=library, timing=timing, seed=3, trace=writer
            ),
        )
        rng = np.random.default_rng(2)
        prompts = [rng.integers(0, 50, n).tolist() for n in (35, 3)]
        generate(device, [Request(p, 3, Sampler()) for p in prompts])
        device.close()
    return path


@pytest.fixture(scope="module")
def run(folder: Path, library: Path, model) -> Timeline:
    """A run in full detail."""
    return read_trace(_record(folder / "run.json", library, model, STALLED, resolution=1))


def _totals(timeline: Timeline) -> Counts[str]:
    totals: Counts[str] = Counts()
    for step in timeline.about["steps"]:
        totals.update(step["counters"])
    return totals


def _assert_adds_up(timeline: Timeline) -> None:
    """States, causes and beats of each step equal its counters."""
    for step in timeline.about["steps"]:
        part = timeline.clip(step["start"], step["start"] + step["cycles"])
        counters = step["counters"]
        assert step["cycles"] == counters["CYCLES"]
        for unit in QUEUED:
            mine = part.states[part.states["unit"] == unit.value]
            for state in (State.BUSY, State.STARVED, State.BLOCKED):
                some = mine[mine["state"] == state.value]
                name = f"{unit.name}_{state.name}"
                assert some["count"].sum() == counters[name], (step["name"], name)
                # A stall has a cause, and nothing else has one.
                assert ((some["cause"] == Cause.NONE.value) == (state is State.BUSY)).all(), name
        for bit, counter in enumerate(BEATS.values()):
            assert part.beats[:, 2 + bit].sum() == counters[counter.name], counter
        control = part.states[part.states["unit"] == Unit.CONTROL.value]
        assert control["count"].sum() == step["cycles"]
        busy = control[control["state"] == State.BUSY.value]
        assert busy["count"].sum() == counters["INSTRUCTIONS"]


def test_adds_up(run: Timeline) -> None:
    """Every cycle of every unit and every beat, prefill and decode, with memory stalls."""
    names = [step["name"] for step in run.about["steps"]]
    assert any("prefill" in name for name in names)
    assert any("decode" in name for name in names)
    assert _totals(run)["VECTOR_BLOCKED"] > 0
    assert _totals(run)["KV_BLOCKED"] > 0
    _assert_adds_up(run)


@pytest.mark.parametrize("resolution", [3, 16, 300])
def test_adds_up_when_gathered(folder, library, model, run, resolution) -> None:
    """Gathered segments keep the sums, and are fewer."""
    path = _record(folder / f"r{resolution}.json", library, model, STALLED, resolution=resolution)
    timeline = read_trace(path)
    _assert_adds_up(timeline)
    assert _totals(timeline) == _totals(run)
    segments = len(np.unique(timeline.states[["unit", "start"]]))
    assert (
        segments
        < len(np.unique(run.states[["unit", "start"]])) * {3: 0.9, 16: 0.3, 300: 0.1}[resolution]
    )


def test_edge_adds_up(folder: Path) -> None:
    """The demo model on the default preset."""
    config, path = PRESETS["edge"], folder / "edge.json"
    made = compile_checkpoint(load_checkpoint(DEMO), config, context=32)
    edge = build_chip(config)
    with TraceWriter(path) as writer:
        device = Device(made, lambda c, m: RtlChip(c, m, library=edge, trace=writer))
        generate(device, [Request([5, 6, 7], 2, Sampler())])
        device.close()
    timeline = read_trace(path)
    assert len(timeline.about["steps"]) == 2
    _assert_adds_up(timeline)


def test_layer_and_gemm_add_up(folder: Path, library: Path) -> None:
    """Several chips in one file, each step after the one before."""
    path = folder / "several.json.gz"
    with TraceWriter(path) as writer:

        def make(config, memory):
            return RtlChip(config, memory, library=library, trace=writer)

        rng = np.random.default_rng(1)
        shape = LayerShape(64, 96, 4, 2, 16)
        run_layer(PRESETS["tiny"], make, shape, context=70, sequences=2, chunk=1, rng=rng)
        run_gemm(PRESETS["tiny"], make, 8, 64, 64, 2, rng)
    timeline = read_trace(path)
    _assert_adds_up(timeline)
    names = [step["name"] for step in timeline.about["steps"]]
    assert names[0] == "0: decode, 2 rows of 2 sequences"
    assert [name.split(": ")[1].split(",")[0] for name in names[1:]] == ["load", "product", "store"]
    starts = [step["start"] for step in timeline.about["steps"]]
    cycles = [step["cycles"] for step in timeline.about["steps"]]
    assert starts == [0, *np.cumsum(cycles)[:-1].tolist()]


def test_instructions(run: Timeline, model) -> None:
    """Each instruction once on each of its units, in order, one at a time, inside its step."""
    memory = np.zeros(model.memory.size, np.uint8)
    model.place(memory)
    words = read_program(memory, model.memory.program)
    assert decode(words[-1])[0] is Opcode.END
    for step in run.about["steps"]:
        start, end = step["start"], step["start"] + step["cycles"]
        for unit in Unit:
            expected = [
                (i, *decode(word))
                for i, word in enumerate(words)
                if unit in TABLE[decode(word)[0]].units
            ]
            found = [i for i in run.instructions[unit] if start <= i[0] < end]
            assert [i[3]["index"] for i in found] == [i for i, _, _ in expected]
            assert [i[2] for i in found] == [op.name for _, op, _ in expected]
            at = start
            for (begin, length, _, args), (_, _, operands) in zip(found, expected, strict=True):
                assert begin >= at
                assert length > 0
                assert start <= args["dispatched"] <= args["taken"] <= begin
                assert operands.items() <= args.items()
                at = begin + length
            assert at <= end
            complete = [args.get("complete", True) for _, _, _, args in found]
            assert complete == [op is not Opcode.END for _, op, _ in expected]


def test_states_in_their_instructions(run: Timeline) -> None:
    """No two segments of a unit at once; none over a step's or an instruction's end."""
    steps = {step["start"] for step in run.about["steps"]}
    for unit in Unit:
        mine = run.states[run.states["unit"] == unit.value]
        segments = np.unique(mine[["start", "length"]])
        starts, ends = segments["start"], segments["start"] + segments["length"]
        assert (starts[1:] >= ends[:-1]).all()
        assert (mine["count"] <= mine["length"]).all()
        edges = steps | {i[0] + i[1] for i in run.instructions[unit]}
        for edge in sorted(edges - {run.cycles}):
            assert not ((starts < edge) & (ends > edge)).any(), (unit, edge)


def test_units_work_only_on_instructions(run: Timeline) -> None:
    """What the units but KV (appends) do lies in an instruction, the array's last sums apart."""
    for unit in (Unit.TAPE, Unit.LOAD, Unit.VECTOR):
        mine = run.states[run.states["unit"] == unit.value]
        bars = np.array([(s, s + n) for s, n, _, _ in run.instructions[unit]])
        at = np.searchsorted(bars[:, 0], mine["start"], side="right") - 1
        assert (mine["start"] + mine["length"] <= bars[at, 1]).all(), unit


def test_window(folder: Path, library: Path, model, run: Timeline) -> None:
    """A window keeps its own cycles exactly, and all instructions."""
    second = run.about["steps"][1]["start"]
    first, last = second - 700, second + 900
    path = _record(
        *(folder / "window.json", library, model, STALLED), resolution=1, window=(first, last)
    )
    timeline = read_trace(path)
    assert timeline.about["steps"] == run.about["steps"]
    assert timeline.instructions == run.instructions
    kept, whole = timeline.states, run.clip(first, last).states
    assert kept["start"].min() >= first
    assert (kept["start"] + kept["length"]).max() <= last
    for unit in Unit:
        for state in State:
            sums = [
                some["count"][(some["unit"] == unit.value) & (some["state"] == state.value)].sum()
                for some in (kept, whole)
            ]
            assert sums[0] == sums[1], (unit, state)
    assert timeline.beats[:, 0].min() >= first
    assert (timeline.beats[:, 0] + timeline.beats[:, 1]).max() <= last


def test_fault(folder: Path, library: Path, model) -> None:
    """A step that faults is in the file, up to the fault, and the next one too."""
    path = folder / "fault.json"
    with TraceWriter(path, resolution=1) as writer:
        device = Device(model, lambda c, memory: RtlChip(c, memory, library=library, trace=writer))
        at = model.memory.program
        good = device.memory[at : at + 32 * 16].copy()
        words = read_program(device.memory, at)
        index = next(i for i, w in enumerate(words) if decode(w)[0] is Opcode.NORM)
        _, operands = decode(words[index])
        bad = encode(Opcode.NORM, **operands | {"source": (1 << 20) - 1})
        where = slice(at + 16 * index, at + 16 * index + 16)
        device.memory[where] = np.frombuffer(bad.to_bytes(16, "little"), np.uint8)
        with pytest.raises(DeviceFault, match="VECTOR"):
            generate(device, [Request([1, 2, 3], 1, Sampler())])
        device.memory[at : at + len(good)] = good
        generate(device, [Request([1, 2, 3], 1, Sampler())])
        device.close()
    timeline = read_trace(path)
    _assert_adds_up(timeline)
    broken = timeline.about["steps"][0]["cycles"]
    norm = next(i for i in timeline.instructions[Unit.VECTOR] if i[3]["index"] == index)
    assert norm[3]["complete"] is False
    assert norm[0] + norm[1] == broken


def test_counters_unchanged(folder: Path, library: Path, model, run: Timeline) -> None:
    """Recording changes nothing that the chip does."""
    seen = []

    def make(config, memory):
        chip = RtlChip(config, memory, library=library, timing=STALLED, seed=3)
        step = chip.run

        def run(*arguments):
            seen.append(step(*arguments))
            return seen[-1]

        chip.run = run  # type: ignore[method-assign]
        return chip

    device = Device(model, make)
    rng = np.random.default_rng(2)
    prompts = [rng.integers(0, 50, n).tolist() for n in (35, 3)]
    generate(device, [Request(p, 3, Sampler()) for p in prompts])
    device.close()
    found = [{c.name: v for c, v in counters.items()} for counters in seen]
    assert found == [step["counters"] for step in run.about["steps"]]


def test_file_format(run: Timeline, folder: Path) -> None:
    """What viewers need: complete events with times, named tracks, counters."""
    content = json.loads((folder / "run.json").read_text())
    events = content["traceEvents"]
    assert {e["ph"] for e in events} == {"M", "X", "C"}
    names = {e["args"]["name"] for e in events if e["name"] == "thread_name"}
    assert {"steps", "control", "tape", "load", "matrix", "vector", "kv"} <= names
    for e in events:
        if e["ph"] == "X":
            assert e["ts"] >= 0
            assert e["dur"] >= 1
            assert e["name"]
    stalls = {e["name"] for e in events if e.get("cat") == "state"}
    assert {"waits for the tape", "waits for a panel", "waits for memory"} <= stalls


def test_verilog_without_trace() -> None:
    """The chip to be built has no trace port."""
    text = emit_verilog(Accelerator(PRESETS["tiny"]), "serrano")
    assert not re.search(r"output .*trace_(word|index)", text)
    text = emit_verilog(Accelerator(PRESETS["tiny"], trace=True), "serrano")
    assert re.search(r"output .*trace_word", text)


def test_rebin() -> None:
    start, length = np.array([0, 10, 40]), np.array([10, 10, 20])
    count = np.array([10, 5, 20])
    assert rebin(start, length, count, np.array([0, 5, 20, 30, 50, 100])).tolist() == [
        *(5, 10, 0, 10, 10)
    ]


def test_shares(run: Timeline) -> None:
    found = shares(run, run.cycles)
    for unit in Unit:
        assert sum(s.cycles for s in found[unit]) == run.cycles


# The command ------------------------------------------------------------------------------------


def test_timeline_png(run, folder: Path, capsys) -> None:
    out = folder / "run.png"
    assert main(["timeline", str(folder / "run.json"), "-o", str(out), "--step", "0"]) == 0
    assert out.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert 20_000 < out.stat().st_size < 1_000_000
    assert "waits for a panel" in capsys.readouterr().out


def test_timeline_html(run, folder: Path, capsys) -> None:
    figures = folder / "run_figures.json"
    assert main(["timeline", str(folder / "run.json"), "--json", str(figures)]) == 0
    page = (folder / "run.html").read_text()
    data = json.loads(re.search(r'<script id="data"[^>]*>(.*?)</script>', page, re.S)[1])  # type: ignore[index]
    table = json.loads(figures.read_text())["units"]
    totals = _totals(run)
    for unit in data["units"]:
        states = {s["name"]: sum(s["data"][2::3]) for s in unit["states"]}
        assert states.items() <= table[unit["name"]].items()
        if unit["name"] != "control":
            assert states["busy"] == totals[f"{unit['name'].upper()}_BUSY"]
    beats = {b["name"]: sum(b["data"][2::3]) for b in data["beats"]}
    assert beats["tape"] == totals[Counter.READ_TAPE_BEATS.name]
    assert not re.search(r"(src|href)=|https?://|@import", page), "not self-contained"


def test_timeline_zoom(run, folder: Path) -> None:
    """A range shows only what lies in it."""
    out, figures = folder / "zoom.html", folder / "zoom.json"
    arguments = ["--from", "1000", "--to", "3000", "-o", str(out), "--json", str(figures)]
    assert main(["timeline", str(folder / "run.json"), *arguments]) == 0
    for states in json.loads(figures.read_text())["units"].values():
        assert sum(states.values()) == 2000


def test_coarse_page(run, folder: Path, monkeypatch) -> None:
    """A page of a long run stays small; its sums stay right but for rounding."""
    monkeypatch.setattr("runtime.trace.page._MOST", 200)
    out = folder / "coarse.html"
    assert main(["timeline", str(folder / "run.json"), "-o", str(out)]) == 0
    assert out.stat().st_size < (folder / "run.html").stat().st_size / 2
    data = json.loads(re.search(r'id="data"[^>]*>(.*?)</script>', out.read_text(), re.S)[1])  # type: ignore[index]
    matrix = next(u for u in data["units"] if u["name"] == "matrix")
    busy = next(s for s in matrix["states"] if s["name"] == "busy")
    assert abs(sum(busy["data"][2::3]) - _totals(run)["MATRIX_BUSY"]) <= 1


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"not json at all", "not a complete JSON file"),
        (b'{"traceEvents": [\n{"ph": "X"}', "not a complete JSON file"),
        (b"\x1f\x8b\x08\x00junk", "can't read it|damaged|cut short"),
        (b'{"traceEvents": []}', "not a trace of this program"),
        (b"[]", "not a trace of this program"),
        (b'{"traceEvents": [{"ph": "X"}], "otherData": {"format": "serrano-trace-1"}}', "not a tr"),
        (gzip.compress(b"{}" * 5000, mtime=0)[:40], "cut short or damaged"),
    ],
)
def test_bad_file(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=says) as error:
        read_trace(path)
    assert "bad.json" in str(error.value)
    assert "\n" not in str(error.value)


GEMM = ["bench", "gemm", "--m", "8", "--k", "64", "--n", "64", "--preset", "tiny"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["timeline", "none.json"], "can't read it"),
        (["timeline", "RUN", "-o", "x.gif"], ".png or .html"),
        (["timeline", "RUN", "--step", "99"], "--step 99"),
        (["timeline", "RUN", "--from", "5", "--to", "3"], "--to 3"),
        (["timeline", "RUN", "--to", "999999999"], "--to 999999999"),
        ([*GEMM, "--trace", "x.txt"], ".json or .json.gz"),
        ([*GEMM, "--trace", "no/x.json"], "no folder no"),
        ([*GEMM, "--trace-cycles", "3:9"], "--trace FILE"),
        (["run", "--trace", "x.json", "--trace-cycles", "9:3"], "--trace-cycles 9:3"),
        (["run", "--trace", "x.json", "--device", "golden"], "golden device shows no states"),
        (["run", "--trace", "x.json", "--trace-resolution", "0"], "--trace-resolution 0"),
    ],
)
def test_refusals(run, folder: Path, tmp_path: Path, monkeypatch, capsys, arguments, says) -> None:
    monkeypatch.chdir(tmp_path)
    where = str(folder / "run.json")
    assert main([where if a == "RUN" else a for a in arguments]) == 2
    text = capsys.readouterr().err
    assert says in text
    assert list(tmp_path.iterdir()) == []


def test_bench_command(tmp_path: Path, capsys) -> None:
    """`bench gemm --trace`: a file that `timeline` reads."""
    path = tmp_path / "gemm.json.gz"
    assert main([*GEMM, "--trace", str(path), "--trace-resolution", "1"]) == 0
    _assert_adds_up(read_trace(path))
    assert main(["timeline", str(path), "-o", str(tmp_path / "gemm.png"), "--step", "1"]) == 0
