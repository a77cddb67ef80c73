"""Makes devices for the command line, with progress where it takes time."""

from compiler.catalog import resolve
from compiler.checkpoint import load_checkpoint
from compiler.checkpoint.model import Checkpoint
from compiler.compile import compile_checkpoint
from compiler.image import Image
from hdl.config import Config
from runtime.chip import ChipMaker
from runtime.golden_chip import GoldenChip
from runtime.limit import MemoryLimit, memory_limit
from runtime.link import SerialPort
from runtime.rtl_chip import RtlChip, build_chip
from runtime.serial_chip import SerialChip
from runtime.trace import TraceWriter
from scripts.console import bar, err
from scripts.options import DeviceChoice, DeviceName
from sim.verilated.library import MemoryTiming

__all__ = ["chip_maker", "compiled", "load_model", "measured_limit"]


def load_model(name: str, tokenizer: str | None) -> Checkpoint:
    """A checkpoint by catalogue name or path."""
    path = resolve(name, report=lambda text: err.print(text))
    return load_checkpoint(path, tokenizer)


def compiled(checkpoint: Checkpoint, config: Config, **options) -> Image:
    """``compile_checkpoint`` with a progress bar."""
    with bar("compiling") as progress:
        return compile_checkpoint(checkpoint, config, progress=progress, **options)


def chip_maker(
    device: DeviceChoice | DeviceName,
    config: Config,
    timing: MemoryTiming | None = None,
    seed: int = 0,
    trace: TraceWriter | None = None,
) -> ChipMaker:
    """How to make a chip of this kind; ``trace`` gets its steps.

    The simulator is built, if need be, when the first chip is made: what is wrong with a model or a
    shape is said before.
    """
    choice = device if isinstance(device, DeviceChoice) else DeviceChoice(device)
    if choice.name is DeviceName.golden:
        return GoldenChip
    if choice.name is DeviceName.serial:

        def connect(config: Config, memory) -> SerialChip:
            with bar(f"board on {choice.port}") as progress:
                port = SerialPort(choice.port, choice.baud)
                return SerialChip(config, memory, port, progress)

        return connect

    def make(config: Config, memory) -> RtlChip:
        with bar(f"simulator for preset {config.name}") as progress:
            library = build_chip(config, progress)
        return RtlChip(config, memory, library=library, timing=timing, seed=seed, trace=trace)

    return make


def measured_limit(config: Config, timing: MemoryTiming, seed: int = 0) -> MemoryLimit:
    """What the simulated memory sustains; seconds the first time on a machine, then less."""
    with bar("memory model alone") as progress:
        progress("measuring what it sustains", 0.0)
        return memory_limit(config, timing, seed)
