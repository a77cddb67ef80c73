"""`serrano test`: every check of the project."""

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from scripts.console import err

__all__ = ["suite"]

_ROOT = Path(__file__).resolve().parents[1]


def suite(
    context: typer.Context,
    quick: Annotated[bool, typer.Option("--quick", help="Lint and types only.")] = False,
    jobs: Annotated[str, typer.Option("-n", help="Parallel test processes.")] = "2",
) -> int:
    """Run the whole test suite: lint, format, types, then pytest (further arguments go to it)."""
    checks = [
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "."],
        ["mypy", "hdl", "compiler", "runtime", "sim", "scripts", "fpga"],
    ]
    if not quick:
        checks.append(["pytest", "-n", jobs, "--dist", "worksteal", *context.args])
    for check in checks:
        err.print(f"[bold]{' '.join(check)}[/bold]")
        code = subprocess.run([sys.executable, "-m", *check], cwd=_ROOT).returncode
        if code:
            err.print(f"{check[0]} failed (exit code {code})")
            raise typer.Exit(1)
    return 0
