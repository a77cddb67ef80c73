"""The board's RTL behind a pseudo-terminal: for programs on this machine, a serial port."""

import contextlib
import ctypes
import os
import select
import threading
import tty
from collections.abc import Callable
from pathlib import Path

import hdl
from hdl.config import Config
from hdl.emit import emit_verilog
from hdl.sdram import SdramTiming
from sim.board.noise import LineNoise
from sim.board.system import BoardSystem
from sim.verilated.build import BuildConfig, build, cached_verilog
from sim.verilated.library import SimulationError

__all__ = ["CLOCK_HZ", "SimulatedBoard", "build_board"]

CLOCK_HZ = 100_000_000
TOP = "board"

_HERE = Path(__file__).parent
_RESET_CYCLES = 4
_CHUNK_CYCLES = 4000
_LOOK_S = 0.1
_HELD_BYTES = 1 << 16  # for a host that does not read; a UART would lose them too
_POWER_UP_NS = 2000.0  # the chips want 200,000: nothing but waiting


def build_board(
    config: Config,
    baud: int,
    progress: Callable[[str, float], None] = lambda text, fraction: None,
) -> Path:
    """The simulator of a board as a shared library, built if it is not in the cache."""
    timing = SdramTiming(clock_hz=CLOCK_HZ, powerup_ns=_POWER_UP_NS)

    def make() -> str:
        return emit_verilog(BoardSystem(config, timing=timing, baud=baud), TOP)

    progress("writing Verilog", 0.0)
    models = "".join(file.read_text() for file in sorted(_HERE.glob("*.py")))
    parameters = f"{config!r}, {timing!r}, {baud}, {models}"
    text = cached_verilog(make, Path(hdl.__file__).parent, parameters)
    harness = BuildConfig(harness=str(_HERE / "harness.cpp"))
    return build(text, TOP, harness, progress=progress)


class _Library:
    """The verilated board."""

    def __init__(self, path: Path, bit_cycles: float):
        library = ctypes.CDLL(str(path))
        board, u64, text = ctypes.c_void_p, ctypes.c_uint64, ctypes.c_char_p
        for name, result, arguments in (
            ("board_open", board, (ctypes.c_double,)),
            ("board_close", None, (board,)),
            ("board_reset", None, (board, u64)),
            ("board_send", None, (board, text, u64)),
            ("board_run", ctypes.c_int, (board, u64)),
            ("board_receive", u64, (board, ctypes.c_char_p, u64)),
            ("board_cycles", u64, (board,)),
            ("board_leds", ctypes.c_uint32, (board,)),
            ("board_output", text, (board,)),
        ):
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
        self._library = library
        self._handle = library.board_open(bit_cycles)
        self._buffer = ctypes.create_string_buffer(1 << 16)
        library.board_reset(self._handle, _RESET_CYCLES)

    def send(self, data: bytes) -> None:
        self._library.board_send(self._handle, data, len(data))

    def receive(self) -> bytes:
        count = self._library.board_receive(self._handle, self._buffer, len(self._buffer))
        return self._buffer.raw[:count]

    def run(self, cycles: int) -> bool:
        """True if something goes on. Raises ``SimulationError``."""
        state = self._library.board_run(self._handle, cycles)
        if state == 2:
            text = self._library.board_output(self._handle).decode(errors="replace").strip()
            raise SimulationError(f"at cycle {self.cycles}: {text or 'the model stopped'}")
        return state == 0

    @property
    def cycles(self) -> int:
        return self._library.board_cycles(self._handle)

    @property
    def leds(self) -> int:
        return self._library.board_leds(self._handle)

    def close(self) -> None:
        self._library.board_close(self._handle)


class SimulatedBoard:
    """A board whose serial port is ``port``, a pseudo-terminal. Simulates only while used.

    Parameters
    ----------
    library : from :func:`build_board`
    baud : that the library was built with
    noise : on the line to the board and from it

    Attributes: ``port``: path; ``cycles``: simulated so far; ``leds``: as ``hdl.board.LEDS``.
    """

    def __init__(
        self,
        library: Path,
        baud: int,
        noise: tuple[LineNoise | None, LineNoise | None] = (None, None),
    ):
        self._chip = _Library(library, CLOCK_HZ / baud)
        self._noise = noise
        self._master, self._slave = os.openpty()
        # Our own end stays open, so that hosts may come and go.
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.port = os.ttyname(self._slave)
        self._held = b""
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None

    @property
    def cycles(self) -> int:
        return self._chip.cycles

    @property
    def leds(self) -> int:
        return self._chip.leds

    def run(self) -> None:
        """Serves the port until :meth:`stop`. Raises ``SimulationError``."""
        active = True
        while not self._stop.is_set():
            wait = 0.0 if active else _LOOK_S
            readable, _, _ = select.select([self._master], [], [], wait)
            if readable:
                with contextlib.suppress(BlockingIOError):
                    self._chip.send(self._damaged(0, os.read(self._master, 4096)))
            active = self._chip.run(_CHUNK_CYCLES) or bool(readable)
            self._held += self._damaged(1, self._chip.receive())
            if self._held:
                with contextlib.suppress(BlockingIOError):
                    self._held = self._held[os.write(self._master, self._held) :]
                self._held = self._held[-_HELD_BYTES:]

    def stop(self) -> None:
        self._stop.set()

    def _damaged(self, direction: int, data: bytes) -> bytes:
        noise = self._noise[direction]
        return noise.apply(data) if noise else data

    # In a thread of its own

    def __enter__(self) -> "SimulatedBoard":
        def work() -> None:
            try:
                self.run()
            except SimulationError as error:
                self._error = error

        self._thread = threading.Thread(target=work, name="simulated board", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.stop()
        assert self._thread is not None
        self._thread.join()
        self.close()
        if self._error:
            raise self._error

    def close(self) -> None:
        self._chip.close()
        os.close(self._master)
        os.close(self._slave)
