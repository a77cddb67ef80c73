"""Where the simulator's time goes, by block of the chip: perf's samples, by the RTL they stand for.

``python -m scripts.profile_simulator`` builds the simulator with line numbers, runs a matrix
product under ``perf record``, and finds for every sample the generated C++ statement and in it the
hierarchical name of the signal that it computes. Needs perf (linux-perf) and addr2line (binutils).
"""

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import typer

from compiler.errors import UserError
from hdl.accelerator import Accelerator
from hdl.config import Config
from hdl.emit import emit_verilog
from runtime.gemm import run_gemm
from runtime.rtl_chip import TOP, RtlChip
from scripts import options
from sim.verilated.build import BuildConfig, build

__all__ = ["main"]

_LOOK_BACK_LINES = 200
_NAME = re.compile(rf"{TOP}__DOT__(\w+)")


def _work(library: str, preset: str, m: int, k: int, n: int, repeat: int) -> None:
    """What perf watches."""

    def make(config: Config, memory: np.ndarray) -> RtlChip:
        return RtlChip(config, memory, library=Path(library))

    config = options.preset(preset)
    run_gemm(config, make, m, k, n, repeat, np.random.default_rng(0))


def _run(command: list[str], text: str | None = None) -> str:
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True)
    except FileNotFoundError:
        raise UserError(f"{command[0]} is missing: install linux-perf and binutils") from None
    if done.returncode:
        raise UserError(f"{command[0]} failed: {done.stderr.strip()[-300:]}")
    return done.stdout


def _samples(data: Path, library: Path) -> Counter[int]:
    """Samples by address in the library."""
    base = 0
    found: Counter[int] = Counter()
    mapping = re.compile(rf"\[(0x\w+)\(0x\w+\) @ (0x\w+|0) .* r-xp .*{re.escape(str(library))}")
    script = ["perf", "script", "-i", str(data), "-F", "ip,sym,dso", "--show-mmap-events"]
    for line in _run(script).splitlines():
        if match := mapping.search(line):
            base = int(match[1], 16) - int(match[2], 16)
        elif str(library) in line:
            found[int(line.split()[0], 16) - base] += 1
    headers = _run(["readelf", "-lW", str(library)])
    segment = re.search(r"LOAD\s+(0x\w+) (0x\w+) 0x\w+ 0x\w+ 0x\w+ R E", headers)
    shift = int(segment[2], 16) - int(segment[1], 16) if segment else 0
    return Counter({address + shift: count for address, count in found.items()})


def _block(model: Path, place: str, files: dict[str, list[str]]) -> str:
    """Hierarchical name of the module whose signal a line of the C++ computes."""
    name, _, number = Path(place).name.partition(":")
    if not name.startswith("Vchip") or not number[:1].isdigit():
        return "harness"
    if name not in files:
        files[name] = (model / name).read_text().split("\n")
    last = int(re.match(r"\d+", number)[0]) - 1  # type: ignore[index]
    for line in reversed(files[name][max(0, last - _LOOK_BACK_LINES) : last + 1]):
        if match := _NAME.search(line):
            path = match[1].split("__DOT__")[:-1]
            return ".".join(re.sub(r"_?\d+$", "*", part) for part in path) or "top"
    return "harness"


def main(
    preset: options.Preset = "edge",
    m: int = 128,
    k: int = 128,
    n: int = 128,
    repeat: int = 256,
    json_file: options.JsonFile = None,
) -> None:
    """Print the share of every block, largest first."""
    options.output_file("--json", json_file)
    config = options.preset(preset)
    library = build(emit_verilog(Accelerator(config), TOP), TOP, BuildConfig(lines=True))
    with TemporaryDirectory() as folder:
        data = Path(folder) / "perf.data"
        given = (str(library), preset, m, k, n, repeat)
        work = f"from scripts.profile_simulator import _work; _work{given!r}"
        record = ["perf", "record", "-q", "-F", "5000", "-o", str(data)]
        _run([*record, sys.executable, "-c", work])
        samples = _samples(data, library)
    addresses = "\n".join(map(hex, samples))
    blocks: Counter[str] = Counter()
    files: dict[str, list[str]] = {}
    # -i: inlined functions too, the outermost last, which is the generated statement
    listing = _run(["addr2line", "-a", "-i", "-e", str(library)], addresses)
    for entry in re.split(r"(?m)^(?=0x[0-9a-f]{16}$)", listing)[1:]:
        address, *places = entry.split("\n")[:-1]
        blocks[_block(library.parent / "model", places[-1], files)] += samples[int(address, 16)]
    total = sum(blocks.values())
    for name, count in blocks.most_common(30):
        print(f"{100 * count / total:6.2f} %  {name}")
    if json_file is not None:
        shares = {name: count / total for name, count in blocks.items()}
        json_file.write_text(json.dumps({"preset": preset, "shares": shares}, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
