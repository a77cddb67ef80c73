"""Options and checks that several commands share."""

import json
import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from compiler.errors import UserError
from hdl.config import PRESETS, Config
from runtime.link import DEFAULT_BAUD
from sim.verilated.dram import DRAM_KINDS, dram_timing
from sim.verilated.library import MemoryTiming

__all__ = [
    "Bandwidth",
    "Device",
    "DeviceChoice",
    "DeviceName",
    "JsonFile",
    "Latency",
    "Memory",
    "Preset",
    "Seed",
    "StallPercent",
    "memory_timing",
    "output_file",
    "preset",
    "whole",
    "write_json",
]


class DeviceName(StrEnum):
    """Devices that a model can run on."""

    rtl = "rtl"
    golden = "golden"
    serial = "serial"


@dataclass(frozen=True)
class DeviceChoice:
    """What ``--device`` names; ``port`` and ``baud`` for a board behind a serial port."""

    name: DeviceName
    port: str = ""
    baud: int = DEFAULT_BAUD

    def __str__(self) -> str:
        return f"{self.name}:{self.port}" if self.port else str(self.name)

    @classmethod
    def parse(cls, text: "str | DeviceChoice") -> "DeviceChoice":
        """``rtl``, ``golden``, ``serial:PORT`` or ``serial:PORT@BAUD``; else ``UserError``."""
        if isinstance(text, DeviceChoice):  # a default
            return text
        name, colon, port = text.partition(":")
        if name == DeviceName.serial:
            port, at, rate = port.rpartition("@") if "@" in port else (port, "", "")
            if not port:
                raise UserError(
                    f"--device {text}: name the board's port, as serial:/dev/ttyUSB0 or serial:COM3"
                )
            if not at:
                return cls(DeviceName.serial, port)
            if not rate.isdecimal() or not 300 <= int(rate) <= 100_000_000:
                raise UserError(f"--device {text}: the rate is in baud, as serial:{port}@3000000")
            return cls(DeviceName.serial, port, int(rate))
        if colon or name not in (DeviceName.rtl, DeviceName.golden):
            raise UserError(f"--device {text}: choose from rtl, golden, serial:PORT")
        return cls(DeviceName(name))


Device = Annotated[
    DeviceChoice,
    typer.Option(
        "--device",
        parser=DeviceChoice.parse,
        metavar="[rtl|golden|serial:PORT]",
        help="What runs it: the simulated chip, the golden model, or a board (see `board`).",
    ),
]

Preset = Annotated[str, typer.Option("--preset", help=f"Chip: {', '.join(PRESETS)}.")]
JsonFile = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Write the figures as JSON too.")
]
Seed = Annotated[int, typer.Option("--seed", help="Seed of everything random.")]
Latency = Annotated[
    int, typer.Option("--latency", help="Memory latency of the simulation, in cycles.")
]
StallPercent = Annotated[
    int, typer.Option("--stalls", help="Random stalls of the memory, percent of cycles (0 to 90).")
]
Memory = Annotated[
    str,
    typer.Option("--memory", help=f"Memory behind the port: ideal, {', '.join(DRAM_KINDS)}."),
]
Bandwidth = Annotated[
    float, typer.Option("--bandwidth", help="Beats a cycle at most, each direction (0.001 to 1).")
]


def preset(name: str) -> Config:
    """The configuration of a preset; ``UserError`` for a name that is none."""
    if name not in PRESETS:
        raise UserError(f"--preset {name}: no such preset; choose from {', '.join(PRESETS)}")
    return PRESETS[name]


def whole(option: str, value: int, low: int, high: int) -> int:
    """``value`` if it lies in low .. high, else ``UserError`` naming the option."""
    if not low <= value <= high:
        raise UserError(f"{option} {value}: give a whole number from {low} to {high}")
    return value


def memory_timing(
    config: Config, latency: int, stalls: int, memory: str = "ideal", bandwidth: float = 1.0
) -> MemoryTiming:
    """Timing of the simulated memory from the options, for the port of this chip."""
    if memory not in ("ideal", *DRAM_KINDS):
        raise UserError(f"--memory {memory}: choose from ideal, {', '.join(DRAM_KINDS)}")
    if not 0.001 <= bandwidth <= 1:
        raise UserError(f"--bandwidth {bandwidth}: give beats a cycle from 0.001 to 1")
    return MemoryTiming(
        latency=whole("--latency", latency, 1, 100_000),
        bandwidth=bandwidth,
        stall_probability=whole("--stalls", stalls, 0, 90) / 100,
        dram=None if memory == "ideal" else dram_timing(memory, config.port_bytes),
    )


def output_file(option: str, path: Path | None) -> None:
    """``UserError`` if a file can't be written there: said before hours of work, not after."""
    if path is None:
        return
    if path.is_dir():
        raise UserError(f"{option} {path}: this is a folder; name a file")
    if not path.parent.is_dir():
        raise UserError(f"{option} {path}: there is no folder {path.parent}")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UserError(f"{option} {path}: can't write there (no permission)")


def write_json(path: Path | None, figures: dict) -> None:
    """Write figures to ``path``, if one was asked for; ``UserError`` if that fails."""
    if path is None:
        return
    try:
        path.write_text(json.dumps(figures, indent=2) + "\n")
    except OSError as error:
        raise UserError(f"--json {path}: can't write it ({error.strerror})") from None
