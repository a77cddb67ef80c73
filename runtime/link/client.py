"""Requests over a line that may lose, change and double bytes; each is answered once."""

import struct
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic

from compiler.errors import UserError
from hdl.link.protocol import (
    BUFFER_BYTES,
    EVENT_DONE,
    INFO_WORDS,
    MAGIC,
    NAME_BYTES,
    VERSION,
    Info,
    Operation,
    Status,
)
from runtime.link.codec import FrameDecoder, Reply, Request, encode_frame
from runtime.link.port import Port

__all__ = ["BoardInfo", "LinkClient", "LinkStats"]

_FRAME_BYTES = 6  # of the board's buffer beside the payload: length, CRC
_UNDER_WAY = 16  # replies of a doubled window still fit twice into the sequence numbers
_REPLY_BYTES = 8192  # asked for at a time
_LONGEST_S = 4.0


@dataclass(frozen=True)
class BoardInfo:
    """What the board says of itself; ``config`` is ``hdl.link.protocol.config_digest``."""

    clock_hz: int
    memory_bytes: int
    config: int
    name: str


@dataclass
class LinkStats:
    """Requests sent (repetitions not counted), repetitions, frames dropped here, bytes."""

    requests: int = 0
    repeated: int = 0
    dropped: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0


@dataclass
class _Flight:
    """A request under way: its place in the batch, its frame, and when it was last sent."""

    index: int
    request: Request
    frame: bytes
    order: int
    room: int


class LinkClient:
    """A board's memory and registers.

    Requests of one :meth:`transact` may be under way together and are repeated until each is
    answered, so they must not depend on each other: their order is kept only while nothing is
    lost. A register write is never under way with another request, and executed once.

    Parameters
    ----------
    port
    timeout_s : without any answer until requests are repeated; doubled each time, and for good when
        it proves too short (a simulated board on a busy machine)
    tries : repetitions without any answer until the link is given up

    Raises
    ------
    UserError
        From every method: nothing answers (any more), or what answers is no board of ours.
    """

    def __init__(self, port: Port, *, timeout_s: float = 0.25, tries: int = 8):
        self._port = port
        self._timeout_s, self._tries = timeout_s, tries
        self._decoder = FrameDecoder()
        self._sequence = 0
        self._last_register_write = 0
        self._order = 0
        self._connected = False
        self._hasty = False  # what was repeated last may not have been lost
        self.events = 0
        self.stats = LinkStats()

    def connect(self) -> BoardInfo:
        """Finds out what is there; before anything else."""
        (reply,) = self.transact([Request(Operation.INFO)])
        words = struct.unpack(f"<{len(reply.data) // 4}I", reply.data)
        if len(words) < 2 or words[Info.MAGIC.value] != MAGIC:
            raise UserError(f"serial:{self._port.name}: what answers there is not a Serrano board")
        version = words[Info.VERSION.value] & 0xFFFF
        if version != VERSION or len(words) != INFO_WORDS:
            raise UserError(
                f"serial:{self._port.name}: the board speaks link version {version}, this program "
                f"{VERSION}: build its bitstream again"
            )
        self._last_register_write = words[Info.SEQUENCE.value]
        self._connected = True
        name = struct.pack("<4I", *words[Info.NAME.value :])[:NAME_BYTES]
        return BoardInfo(
            clock_hz=words[Info.CLOCK.value],
            memory_bytes=words[Info.MEMORY.value],
            config=words[Info.CONFIG.value],
            name=name.rstrip(b"\0").decode(errors="replace"),
        )

    def transact(
        self,
        requests: Sequence[Request],
        progress: Callable[[int], None] = lambda done: None,
    ) -> list[Reply]:
        """The reply to each request; ``progress`` gets the number answered so far."""
        replies: list[Reply | None] = [None] * len(requests)
        waiting = deque(enumerate(requests))
        flights: dict[int, _Flight] = {}
        self.stats.requests += len(requests)
        done, silent, heard = 0, 0, monotonic()
        while done < len(requests):
            while waiting and self._fits(waiting[0][1], flights):
                index, request = waiting.popleft()
                sequence = self._next_sequence(request, flights)
                payload = request.payload(sequence)
                flight = _Flight(
                    index, request, encode_frame(payload), 0, len(payload) + _FRAME_BYTES
                )
                flights[sequence] = flight
                self._send(flight)
            arrived = self._arrived(self._patience(flights, silent) - (monotonic() - heard))
            for reply in arrived:
                found = flights.get(reply.sequence)
                if found is None or not reply.answers(found.request):
                    # Answered twice: it was not lost, only slow.
                    if self._hasty:
                        self._timeout_s = min(2 * self._timeout_s, _LONGEST_S)
                        self._hasty = False
                    continue
                del flights[reply.sequence]
                replies[found.index] = reply
                done += 1
                # The board answers in order: what was sent before this was lost.
                for other in flights.values():
                    if other.order < found.order:
                        self._repeat(other)
            if arrived:
                # Also the second answer to a request repeated too early: the board is at work, and
                # repeating more would only give it more of it.
                silent, heard = 0, monotonic()
                progress(done)
            elif monotonic() - heard > self._patience(flights, silent):
                silent += 1
                if silent > self._tries:
                    raise UserError(self._silence())
                heard = monotonic()
                self._hasty = True
                for flight in flights.values():
                    self._repeat(flight)
        return [r for r in replies if r is not None]

    def wait_event(self, timeout_s: float) -> bool:
        """True as soon as the board has told of a step's end; False if it has not for so long."""
        end = monotonic() + timeout_s
        while not self.events and (left := end - monotonic()) > 0:
            self._arrived(left)
        return self.events > 0

    def close(self) -> None:
        self._port.close()

    # Registers and memory, checked

    def write_registers(self, values: Sequence[tuple[int, int]]) -> None:
        """Pairs of byte address and value, in order, each once."""
        self._check(self.transact([Request.registers(values)]), "registers")

    def read_words(self, requests: Sequence[Request]) -> list[bytes]:
        """Data of READ_MEMORY and READ_REGISTERS requests, all under way at once."""
        replies = self.transact(requests)
        self._check(replies, "a read")
        return [r.data for r in replies]

    def _check(self, replies: Sequence[Reply], what: str) -> None:
        for reply in replies:
            if reply.status is not Status.OK:
                raise UserError(
                    f"serial:{self._port.name}: the board answered {reply.status.name} to {what}: "
                    "its memory or bitstream does not fit this program"
                )

    # The line

    def _fits(self, request: Request, flights: dict[int, _Flight]) -> bool:
        """Whether the board has room for it beside what is under way."""
        if not flights:
            return True
        under_way = [f.request for f in flights.values()]
        writes = Operation.WRITE_REGISTERS
        if request.operation is writes or under_way[0].operation is writes:
            return False
        room = sum(f.room for f in flights.values()) + request.request_bytes + _FRAME_BYTES
        answers = sum(r.reply_bytes for r in under_way) + request.reply_bytes
        return len(flights) < _UNDER_WAY and room <= BUFFER_BYTES and answers <= _REPLY_BYTES

    def _next_sequence(self, request: Request, flights: dict[int, _Flight]) -> int:
        is_write = request.operation is Operation.WRITE_REGISTERS
        while True:
            self._sequence = (self._sequence + 1) % 256
            if self._sequence in flights:
                continue
            if is_write and self._sequence == self._last_register_write:
                continue  # would be a repetition
            if is_write:
                self._last_register_write = self._sequence
            return self._sequence

    def _send(self, flight: _Flight) -> None:
        self._order += 1
        flight.order = self._order
        self.stats.sent_bytes += len(flight.frame)
        self._port.write(flight.frame)

    def _repeat(self, flight: _Flight) -> None:
        self.stats.repeated += 1
        self._send(flight)

    def _patience(self, flights: dict[int, _Flight], silent: int) -> float:
        """Seconds without an answer that may pass: the line's own time, and a margin."""
        size = sum(len(f.frame) + f.request.reply_bytes for f in flights.values())
        return min(self._timeout_s * 2**silent, _LONGEST_S) + 20 * size / self._port.baud

    def _arrived(self, timeout_s: float) -> list[Reply]:
        """Replies that have come; events are counted."""
        data = self._port.read(max(timeout_s, 0.0))
        self.stats.received_bytes += len(data)
        found = []
        for payload in self._decoder.feed(data):
            reply = Reply.of(payload)
            if reply is None:
                continue
            if reply.kind == EVENT_DONE:
                self.events += 1
            else:
                found.append(reply)
        self.stats.dropped = self._decoder.dropped
        return found

    def _silence(self) -> str:
        where = f"serial:{self._port.name}"
        if not self._connected:
            return (
                f"{where}: nothing answers at {self._port.baud} baud; load the board's bitstream, "
                "or name its rate, as serial:PORT@BAUD"
            )
        return f"{where}: the link is lost, nothing answers any more; check the cable, start again"
