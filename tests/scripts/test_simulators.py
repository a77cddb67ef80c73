"""`serrano bench simulators`: figures of every simulator, and a wrong result seen."""

import json

import pytest

from scripts.main import main
from sim.python_chip import PythonChip

SMALL = ["bench", "simulators", "--preset", "tiny", "--m", "2", "--k", "32", "--n", "32"]


def figures(tmp_path, *options: str) -> dict[str, dict]:
    path = tmp_path / "figures.json"
    assert main([*SMALL, "--cached", "--json", str(path), *options]) == 0
    data = json.loads(path.read_text())
    assert data["workload"] == "gemm 2x32x32"
    return {one["simulator"]: one for one in data["simulators"]}


def check(one: dict) -> None:
    assert one["exact"] is True
    # 2 rows x 32 x 32 keep 16 multipliers busy for 128 cycles, and there are three steps.
    assert 128 < one["cycles"] < 10_000
    assert one["cycles_per_second"] == pytest.approx(one["cycles"] / one["cpu_seconds"])


def test_library_and_amaranth(tmp_path):
    found = figures(tmp_path, "--only", "library", "--only", "amaranth")
    assert list(found) == ["verilated library", "Amaranth simulator"]
    for one in found.values():
        check(one)


@pytest.mark.slow
def test_cocotb(tmp_path):
    found = figures(tmp_path, "--only", "cocotb")
    check(found["cocotb"])


def test_cut_short(tmp_path, capsys):
    found = figures(tmp_path, "--only", "amaranth", "--seconds", "0.05")
    one = found["Amaranth simulator"]
    assert one["exact"] is None
    assert 0 < one["cycles"] < 1000
    assert "cut short" in capsys.readouterr().out


def test_wrong_result_is_seen(monkeypatch, capsys):
    run = PythonChip.run

    def spoilt(self, program, descriptor, progress=None):
        result = run(self, program, descriptor, progress)
        self._memory[-1] ^= 1
        return result

    monkeypatch.setattr(PythonChip, "run", spoilt)
    assert main([*SMALL, "--cached", "--only", "amaranth"]) == 1
    assert "WRONG" in capsys.readouterr().out


def test_bad_arguments(capsys):
    assert main([*SMALL, "--only", "spice"]) == 2
    assert "--only spice" in capsys.readouterr().err
    assert main([*SMALL, "--seconds", "0"]) == 2
