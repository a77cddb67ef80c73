"""`./serrano` on a machine with nothing but Python: in a copy, with small packages of our own."""

import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

MAIN = """
import importlib.metadata, json, os, sys
names = ("alpha", "clang", "linter", "parts", "swarm")
found = {d.name: d.version for d in importlib.metadata.distributions() if d.name in names}
print(json.dumps({"arguments": sys.argv[1:], "cwd": os.getcwd(), "packages": found}))
sys.exit(7 if "fail" in sys.argv else 0)
"""

PROJECT = """
[project]
name = "stub"
dependencies = ["alpha=={alpha}"]
[project.optional-dependencies]
compiler = ["clang==1.0"]
dev = ["linter==1.0"]
sweep = ["parts==1.0"]
cluster = ["swarm==1.0"]
"""


def _wheel(folder: Path, name: str, version: str) -> None:
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f"version = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)


class Copy:
    """A repository of its own: the real script, a stub of the tool, packages in a folder."""

    def __init__(self, folder: Path):
        self.root = folder / "the repository"
        self.wheels = folder / "wheels"
        self.programs = folder / "bin"
        self.elsewhere = folder / "elsewhere"
        for path in (self.root / "scripts", self.wheels, self.programs, self.elsewhere / "scripts"):
            path.mkdir(parents=True)
        shutil.copy(ROOT / "serrano", self.root)
        (self.root / "scripts" / "main.py").write_text(MAIN)
        # A decoy in the current directory, which must not be taken for the tool.
        (self.elsewhere / "scripts" / "main.py").write_text("raise SystemExit('decoy')\n")
        for name, version in (("alpha", "1.0"), ("alpha", "2.0"), ("clang", "1.0")):
            _wheel(self.wheels, name, version)
        for name in ("linter", "parts", "swarm"):
            _wheel(self.wheels, name, "1.0")
        self.depend("1.0")
        self.have_compiler(True)

    def depend(self, alpha: str) -> None:
        (self.root / "pyproject.toml").write_text(PROJECT.format(alpha=alpha))

    def have_compiler(self, have: bool) -> None:
        compiler = self.programs / "g++"
        compiler.unlink(missing_ok=True)
        if have:
            compiler.symlink_to(shutil.which("true"))

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen:
        kept = {k: v for k, v in os.environ.items() if k in ("HOME", "LANG", "TMPDIR")}
        return subprocess.Popen(
            [sys.executable, str(self.root / "serrano"), *arguments],
            cwd=self.elsewhere,
            env={
                **kept,
                "PATH": str(self.programs),
                "PIP_NO_INDEX": "1",
                "PIP_FIND_LINKS": self.wheels.as_uri(),
                **environment,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, **environment: str) -> tuple[int, str, str]:
        process = self.start(*arguments, **environment)
        out, err = process.communicate(timeout=120)
        return process.returncode, out, err

    def packages(self, *arguments: str, **environment: str) -> dict[str, str]:
        code, out, err = self.run(*arguments, **environment)
        assert code == 0, err
        return json.loads(out)["packages"]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Copy:
    copy = Copy(tmp_path_factory.mktemp("made"))
    code, out, err = copy.run("run", "--model", "a b")
    assert code == 0, err
    assert json.loads(out) == {
        "arguments": ["run", "--model", "a b"],
        "cwd": str(copy.elsewhere),
        "packages": {"alpha": "1.0"},
    }
    lines = err.splitlines()
    assert lines[0] == f"setup: making the Python environment {copy.root / '.venv'}"
    assert lines[-1].startswith("setup: ready after")
    return copy


def test_second_run_starts_at_once(made):
    start = time.monotonic()
    code, out, err = made.run("x", "fail")
    assert (code, err) == (7, "")
    assert json.loads(out)["arguments"] == ["x", "fail"]
    assert time.monotonic() - start < 5


def test_packages_follow_what_is_needed(made):
    try:
        assert made.packages("run") == {"alpha": "1.0"}
        made.have_compiler(False)
        assert made.packages("run", CXX="own") == {"alpha": "1.0"}
        assert made.packages("run") == {"alpha": "1.0", "clang": "1.0"}
        made.have_compiler(True)
        everything = {"alpha": "1.0", "clang": "1.0", "parts": "1.0"}
        assert made.packages("sweep", "--rows", "8") == everything
        everything["swarm"] = "1.0"
        assert made.packages("x", "--cluster=tcp://y:1") == everything
        everything["linter"] = "1.0"
        assert made.packages("test") == everything
        made.depend("2.0")
        code, _, err = made.run("run")
        assert code == 0
        assert "updating the Python environment" in err
        everything["alpha"] = "2.0"
        assert made.packages("run") == everything
        stamp = json.loads((made.root / ".venv" / "serrano.json").read_text())
        assert sorted(stamp["packages"]) == sorted(f"{n}=={v}" for n, v in everything.items())

        made.depend("3.0")
        code, out, err = made.run("run")
        assert (code, out) == (1, "")
        assert "pip could not install the packages" in err
        assert "alpha==3.0" in err
        assert "Traceback" not in err
    finally:
        made.depend("1.0")
    # What was being installed when it failed is not trusted: a new environment.
    assert made.packages("run") == {"alpha": "1.0"}


def test_killed_and_concurrent_setup(tmp_path):
    copy = Copy(tmp_path)
    killed = copy.start("run")
    deadline = time.monotonic() + 60
    while not (copy.root / ".venv" / "bin").exists():
        assert time.monotonic() < deadline
        time.sleep(0.005)
    killed.kill()
    killed.communicate()
    runs = [copy.start("run", str(number)) for number in range(3)]
    for number, process in enumerate(runs):
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        assert json.loads(out)["arguments"] == ["run", str(number)]
        assert json.loads(out)["packages"] == {"alpha": "1.0"}


def _without(folder: Path, *modules: str) -> dict[str, str]:
    """An environment in which Python lacks these modules."""
    folder.mkdir()
    for name in modules:
        (folder / f"{name}.py").write_text(f"raise ImportError('no module {name} here')\n")
    return {"PYTHONPATH": str(folder)}


def test_without_ensurepip(tmp_path):
    """As on a Debian or Ubuntu with pip but without python3-venv."""
    base = getattr(sys, "_base_executable", sys.executable)
    if subprocess.run([base, "-c", "import pip"], capture_output=True).returncode:
        pytest.skip("the base Python has no pip")
    copy = Copy(tmp_path)
    lacking = _without(tmp_path / "lacking", "ensurepip")
    assert copy.packages("run", **lacking) == {"alpha": "1.0"}
    copy.depend("2.0")
    assert copy.packages("run", **lacking) == {"alpha": "2.0"}


def test_with_no_way_to_make_an_environment(tmp_path):
    copy = Copy(tmp_path)
    lacking = _without(tmp_path / "lacking", "ensurepip", "pip", "virtualenv")
    code, out, err = copy.run("run", **lacking)
    assert (code, out) == (1, "")
    version = "{}.{}".format(*sys.version_info)
    assert f"Install python{version}-venv" in err
    assert "Traceback" not in err


def test_old_python(tmp_path):
    copy = Copy(tmp_path)
    script = copy.root / "serrano"
    text = script.read_text()
    assert "\nOLDEST = (3, 11)\n" in text
    script.write_text(text.replace("\nOLDEST = (3, 11)\n", "\nOLDEST = (3, 90)\n"))
    code, out, err = copy.run("run")
    assert (code, out) == (1, "")
    assert err.startswith("serrano: needs Python 3.90 or newer; ")
    assert err.count("\n") == 1
    # One with a fitting name takes over.
    newer = copy.programs / "python3.95"
    newer.write_text('#!/bin/sh\n[ "$1" = -c ] || echo "newer: $2 $3"\n')
    newer.chmod(0o755)
    assert copy.run("run", "x") == (0, "newer: run x\n", "")
