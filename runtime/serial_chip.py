"""A board behind a serial link as a chip."""

import struct
from collections.abc import Callable
from zlib import crc32

import numpy as np

from compiler.errors import UserError
from hdl.config import Config
from hdl.control.dispatch import READ_AHEAD_WORDS
from hdl.interfaces import READ_WINDOW_BITS
from hdl.isa import IDENTITY, Counter, HostRegister
from hdl.link.protocol import Operation, Status, config_digest
from runtime.chip import DeviceFault, Progress
from runtime.fault_text import fault_text
from runtime.link import BoardInfo, LinkClient, Port
from runtime.link.codec import Request

__all__ = ["SerialChip"]

_BLOCK_WORDS = 512  # compared at a time, and erased
_WRITE_WORDS = 120  # a request: four of them fill the board's buffer
_READ_WORDS = 120
_GAP_WORDS = 6  # unchanged between changed ones: as long as a frame's own bytes
_POLL_S = 0.5
_WATCHDOG_CYCLES = 10_000_000
_LATENCY_CYCLES = 40  # of the board's memory, about

_FIRST = HostRegister.STATUS.value
_STATE_WORDS = (HostRegister.FAULT_ADDRESS_HIGH.value - _FIRST) // 4 + 1
_BUSY, _DONE, _FAULT = 1, 2, 4
_DOORBELL, _ACKNOWLEDGE, _ABORT = 1, 2, 4


class SerialChip:
    """A chip on a board; its memory follows the host's ``memory`` and ``expect``.

    What the host has changed in ``memory`` goes to the board at each step. Of what the chip has
    written only the bytes last given to :meth:`expect` come back; all else (keys and values) stays
    on the board.

    Parameters
    ----------
    config : of the image; the board's must be the same
    memory : uint8; its size a multiple of 4
    port : to the board, closed with the chip
    report : called with what is being done and its fraction of 1 while the memory is compared
        and loaded

    Attributes
    ----------
    info : what the board says of itself
    loaded_bytes : of the memory that had to be sent at the beginning, zeros not counted

    Raises
    ------
    UserError
        Nothing answers, the board has another configuration or too little memory; later, that
        the link is lost.
    """

    def __init__(
        self,
        config: Config,
        memory: np.ndarray,
        port: Port,
        report: Callable[[str, float], None] = lambda text, fraction: None,
    ):
        self.memory = memory
        self.link = LinkClient(port)
        self._where = f"serial:{port.name}"
        if memory.size % 4:
            raise ValueError(f"a memory of {memory.size} bytes: give a multiple of 4")
        self._words = memory.view("<u4")
        self._board = np.zeros_like(self._words)  # what the board's memory holds, as far as known
        self._result = slice(0, 0)
        self._head = (-1, b"")
        try:
            self.info = self.link.connect()
            self._refuse(config, self.info)
            self._stop()
            self._load(report)
            window = _LATENCY_CYCLES + config.burst_beats // 2
            pairs = [
                (HostRegister.MEMORY_BASE_LOW, 0),
                (HostRegister.MEMORY_BASE_HIGH, 0),
                (HostRegister.MEMORY_LIMIT_LOW, memory.size),
                (HostRegister.MEMORY_LIMIT_HIGH, 0),
                (HostRegister.WATCHDOG, _WATCHDOG_CYCLES),
                (HostRegister.INTERRUPT_ENABLE, 1),
                (HostRegister.READ_WINDOW, min(window, (1 << READ_WINDOW_BITS) - 1)),
            ]
            self.link.write_registers([(register.value, value) for register, value in pairs])
        except BaseException:
            port.close()
            raise

    def expect(self, result: slice) -> None:
        """The bytes of memory that the host will read after the steps from now on."""
        self._result = slice(result.start // 4, -(-result.stop // 4))  # in words

    def run(
        self, program: int, descriptor: int, progress: Progress | None = None
    ) -> dict[Counter, int]:
        self._send_changes()
        pairs = [(HostRegister.CONTROL, _ACKNOWLEDGE)]
        # The chip has read the head of the last program already: say so if it is not this one.
        head = self.memory[program : program + 16 * READ_AHEAD_WORDS].tobytes()
        if (program, head) != self._head:
            pairs += [(HostRegister.PROGRAM_LOW, program), (HostRegister.PROGRAM_HIGH, 0)]
            self._head = (program, head)
        pairs += [
            (HostRegister.DESCRIPTOR_LOW, descriptor),
            (HostRegister.DESCRIPTOR_HIGH, 0),
            (HostRegister.CONTROL, _DOORBELL),
        ]
        self.link.events = 0
        self.link.write_registers([(register.value, value) for register, value in pairs])
        return self._finish(progress)

    def close(self) -> None:
        self.link.close()

    # A step's end

    def _finish(self, progress: Progress | None) -> dict[Counter, int]:
        """Waits for the end; then counters, fault and result in one go."""
        result = self._result
        reads = [
            Request(Operation.READ_MEMORY, 4 * at, min(_READ_WORDS, result.stop - at))
            for at in range(result.start, result.stop, _READ_WORDS)
        ]
        while True:
            told = self.link.wait_event(_POLL_S)
            self.link.events = 0
            state, counters = self._state(reads if told else [])
            if state[0] & _BUSY:
                if progress:
                    progress(counters[Counter.CYCLES])
                continue
            if not told:  # the event was lost
                state, counters = self._state(reads)
            break
        if state[0] & _FAULT:
            raise DeviceFault(fault_text(lambda register: state[(register.value - _FIRST) // 4]))
        return counters

    def _state(self, reads: list[Request]) -> tuple[list[int], dict[Counter, int]]:
        """Registers from STATUS on and the counters; ``reads`` of memory beside them."""
        requests = [
            Request(Operation.READ_REGISTERS, _FIRST, _STATE_WORDS),
            Request(Operation.READ_REGISTERS, HostRegister.COUNTERS.value, 2 * len(Counter)),
            *reads,
        ]
        state, counters, *memory = self.link.read_words(requests)
        for request, data in zip(requests[2:], memory, strict=True):
            words = np.frombuffer(data, "<u4")
            at = slice(request.address // 4, request.address // 4 + request.count)
            self._words[at] = words
            self._board[at] = words
        values = struct.unpack(f"<{len(Counter)}Q", counters)
        return (
            list(struct.unpack(f"<{_STATE_WORDS}I", state)),
            {counter: values[counter.value] for counter in Counter},
        )

    # Beginning

    def _refuse(self, config: Config, info: BoardInfo) -> None:
        if info.config != config_digest(config):
            raise UserError(
                f"{self._where}: the board has configuration {info.name!r} "
                f"({info.config:08x}), the image is for {config.name!r} "
                f"({config_digest(config):08x}): take --preset {info.name}, or "
                "load another bitstream"
            )
        if info.memory_bytes < self.memory.size:
            raise UserError(
                f"{self._where}: the model needs {self.memory.size / 2**20:.1f} MiB of memory, the "
                f"board has {info.memory_bytes / 2**20:.1f}: choose a smaller model or --context"
            )
        (data,) = self.link.read_words([Request(Operation.READ_REGISTERS, 0, 1)])
        if int.from_bytes(data, "little") != IDENTITY:
            raise UserError(f"{self._where}: the chip's identity register reads {data[::-1].hex()}")

    def _stop(self) -> None:
        """Ends a step that an earlier host has left running."""
        for _ in range(100):
            state, _ = self._state([])
            if not state[0] & _BUSY:
                return
            self.link.write_registers([(HostRegister.CONTROL.value, _ABORT)])
        raise UserError(f"{self._where}: a step runs and does not stop: reset the board")

    # Memory

    def _load(self, report: Callable[[str, float], None]) -> None:
        """Makes the board's memory equal to the host's, and sends only what differs."""
        size = self._words.size
        blocks = [slice(at, min(at + _BLOCK_WORDS, size)) for at in range(0, size, _BLOCK_WORDS)]
        checks = [Request(Operation.CHECK_MEMORY, 4 * b.start, b.stop - b.start) for b in blocks]
        text = f"comparing {self.memory.size:,} bytes with the board's"
        report(text, 0.0)
        found = self.link.transact(checks, lambda done: report(text, done / len(checks)))
        requests = []
        for block, reply in zip(blocks, found, strict=True):
            words = self._words[block]
            if reply.status is Status.OK and reply.data == _crc(words):
                continue
            if words.any():
                requests += self._writes(block.start, block.stop)
            else:
                size = block.stop - block.start
                requests.append(Request(Operation.FILL_MEMORY, 4 * block.start, size))
        self.loaded_bytes = sum(len(r.data) for r in requests)
        if requests:
            text = f"sending {self.loaded_bytes:,} bytes of {self.memory.size:,}"
            report(text, 0.0)
            self._write(requests, lambda done: report(text, done / len(requests)))
        self._board[:] = self._words
        report("loaded", 1.0)

    def _send_changes(self) -> None:
        changed = np.flatnonzero(self._words != self._board)
        if not changed.size:
            return
        cuts = np.flatnonzero(np.diff(changed) > _GAP_WORDS) + 1
        requests = []
        for run in np.split(changed, cuts):
            requests += self._writes(int(run[0]), int(run[-1]) + 1)
        self._write(requests)
        self._board[changed] = self._words[changed]

    def _writes(self, start: int, stop: int) -> list[Request]:
        """Requests that write the host's words ``start`` to ``stop``."""
        return [
            Request(
                Operation.WRITE_MEMORY,
                4 * at,
                min(_WRITE_WORDS, stop - at),
                self._words[at : min(at + _WRITE_WORDS, stop)].tobytes(),
            )
            for at in range(start, stop, _WRITE_WORDS)
        ]

    def _write(
        self, requests: list[Request], progress: Callable[[int], None] = lambda done: None
    ) -> None:
        for request, reply in zip(requests, self.link.transact(requests, progress), strict=True):
            if reply.status is not Status.OK:
                raise UserError(
                    f"{self._where}: the board's memory refuses a write at {request.address:#x} "
                    f"({reply.status.name}): is it as large as the bitstream says?"
                )


def _crc(words: np.ndarray) -> bytes:
    return crc32(words.tobytes()).to_bytes(4, "little")
