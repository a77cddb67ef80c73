"""Building the simulator: cache, concurrent and failing builds, tools."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from compiler.errors import UserError
from sim.verilated import BuildConfig, BuildError, build, cached_verilog
from sim.verilated.toolchain import find_compiler
from tests.sim.test_verilated import QUICK, library, verilog

ROOT = Path(__file__).resolve().parents[2]

_BUILDER = """
from sim.verilated import build
from tests.sim.test_verilated import QUICK, verilog
print("start", flush=True)
print(build(verilog(), "copier", QUICK, lambda *stage: print(*stage, sep="|")))
"""


def _start_builder(cache: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", _BUILDER],
        cwd=ROOT,
        env={**os.environ, "SERRANO_CACHE": str(cache)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _builds(cache: Path) -> list[Path]:
    return sorted(p for p in (cache / "verilated").iterdir() if p.is_dir())


def test_cache_finds_a_build_again(monkeypatch, tmp_path):
    text = verilog()
    first = build(text, "copier", QUICK)
    stages: list[tuple[str, float]] = []
    start = time.monotonic()
    again = build(text, "copier", QUICK, progress=lambda *stage: stages.append(stage))
    assert time.monotonic() - start < 1
    assert again == first
    assert [fraction for _, fraction in stages] == [0.0, 1.0]
    assert build(text, "copier", BuildConfig(optimize=0, jobs=1)) == first
    other = build(text, "copier", BuildConfig(optimize=0, assertions=False))
    assert other != first
    record = json.loads((first.parent / "build.json").read_text())
    assert record["top"] == "copier"
    assert record["build_seconds"] > 0


def test_concurrent_and_killed_builds(tmp_path):
    """Two processes make one build; one that is killed leaves nothing that disturbs."""
    killed = _start_builder(tmp_path)
    assert killed.stdout.readline() == "start\n"
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("verilated/*.part/chip.v")):
        assert time.monotonic() < deadline
        assert killed.poll() is None
        time.sleep(0.01)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    assert len(_builds(tmp_path)) == 1  # the half-made one

    both = [_start_builder(tmp_path), _start_builder(tmp_path)]
    outputs = [builder.communicate(timeout=120)[0].splitlines() for builder in both]
    assert [builder.returncode for builder in both] == [0, 0]
    assert {Path(lines[-1]).parent for lines in outputs} == set(_builds(tmp_path))
    stages = [[line.split("|") for line in lines[1:-1]] for lines in outputs]
    one, other = sorted(stages, key=len)
    assert [name for name, _ in one[1:]] in (["ready"], ["waiting for another build", "ready"])
    assert other[1] == ["Verilog to C++", "0.0"]
    assert other[-2][0] == "linking"
    fractions = [float(fraction) for _, fraction in other]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0


def test_failed_build_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("SERRANO_CACHE", str(tmp_path))
    with pytest.raises(BuildError, match=r"Verilator failed[\s\S]*syntax error"):
        build("module chip(input clk;\nendmodule\n", "chip", QUICK)
    assert _builds(tmp_path) == []


def test_fst_needs_libraries(monkeypatch):
    if not find_compiler().probe("#include <lz4.h>\n#include <zlib.h>\n", ("-llz4", "-lz")):
        pytest.skip("the libraries are there")
    with pytest.raises(UserError, match="lz4"):
        library(config=BuildConfig(optimize=0, trace="fst"))


def test_verilog_is_written_again_when_its_sources_change(monkeypatch, tmp_path):
    monkeypatch.setenv("SERRANO_CACHE", str(tmp_path / "cache"))
    (tmp_path / "hdl" / "unit").mkdir(parents=True)
    made = []

    def text(parameters: str = "") -> str:
        def make() -> str:
            made.append(len(made))
            return f"text {made[-1]}"

        return cached_verilog(make, tmp_path / "hdl", parameters)

    def write(content: str, age: float) -> None:
        path = tmp_path / "hdl" / "unit" / "a.py"
        path.write_text(content)
        os.utime(path, (time.time() - age,) * 2)

    write("x = 1\n", 1e6)
    assert [text(), text(), text("wide"), text("wide")] == ["text 0", "text 0", "text 1", "text 1"]
    write("x = 2\n", 1e6)
    assert text() == "text 2"
    (tmp_path / "hdl" / "unit" / "a.py").rename(tmp_path / "hdl" / "unit" / "b.py")
    assert text() == "text 3"
    with pytest.raises(ZeroDivisionError):
        cached_verilog(lambda: str(1 // 0), tmp_path / "hdl", "new")
    assert text("new") == "text 4"
    write("x = 3\n", -10)  # since this process began: it may have imported what stood there before
    assert [text("new"), text("new")] == ["text 5", "text 6"]
    write("x = 3\n", 1e6)
    assert text("new") == "text 7"


def test_compiler_must_exist(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    find_compiler.cache_clear()
    with pytest.raises(UserError, match="no-such-compiler"):
        find_compiler()
    monkeypatch.delenv("CXX")
    monkeypatch.setenv("CXX", "false")
    with pytest.raises(UserError, match="does not work"):
        find_compiler()
    find_compiler.cache_clear()
