"""The host's end of the line: a serial port."""

import errno
from contextlib import suppress
from typing import Protocol

import serial

from compiler.errors import UserError

__all__ = ["DEFAULT_BAUD", "Port", "SerialPort"]

DEFAULT_BAUD = 3_000_000

_SLICE_S = 0.02
_WRITE_S = 5.0


class Port(Protocol):
    """Bytes both ways. ``name`` for messages, ``baud`` for times."""

    name: str
    baud: int

    def write(self, data: bytes) -> None: ...

    def read(self, timeout_s: float) -> bytes:
        """What has come, at least one byte unless nothing comes for so long."""
        ...

    def close(self) -> None: ...


class SerialPort:
    """A serial port, or a pseudo-terminal, of this machine.

    Raises ``UserError`` naming the port: it is not there, may not be opened, is in use, or the
    rate can't be set; and when it goes away later.
    """

    def __init__(self, name: str, baud: int = DEFAULT_BAUD):
        self.name, self.baud = name, baud
        try:
            self._port = serial.Serial(
                name, baud, timeout=_SLICE_S, write_timeout=_WRITE_S, exclusive=True
            )
        except (serial.SerialException, OSError, ValueError) as error:
            raise UserError(_refusal(name, baud, error)) from None
        # An FTDI bridge keeps short answers back for 16 ms unless it is told not to.
        with suppress(AttributeError, ValueError, OSError, NotImplementedError):
            self._port.set_low_latency_mode(True)
        self._port.reset_input_buffer()

    def write(self, data: bytes) -> None:
        try:
            self._port.write(data)
        except (serial.SerialException, OSError) as error:
            raise UserError(self._lost(error)) from None

    def read(self, timeout_s: float) -> bytes:
        try:
            left = timeout_s
            while True:
                data = self._port.read(max(1, self._port.in_waiting))
                left -= _SLICE_S
                if data or left <= 0:
                    return data
        except (serial.SerialException, OSError) as error:
            raise UserError(self._lost(error)) from None

    def close(self) -> None:
        self._port.close()

    def _lost(self, error: Exception) -> str:
        return f"serial:{self.name}: the port is gone ({error}): plug the board in and start again"


def _refusal(name: str, baud: int, error: Exception) -> str:
    number = getattr(error, "errno", None)
    if number in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        return (
            f"serial:{name}: no such port; plug the board in, or start `board`, and name its port"
        )
    if number in (errno.EACCES, errno.EPERM):
        return f"serial:{name}: no permission; join the group that owns the port (often dialout)"
    if number in (errno.EBUSY, errno.EAGAIN, errno.EWOULDBLOCK):
        return f"serial:{name}: in use by another program; end that first"
    if number in (errno.ENOTTY, errno.EISDIR):
        return f"serial:{name}: this is not a serial port; name one, as serial:/dev/ttyUSB0"
    return f"serial:{name}: can't be opened at {baud} baud ({error}); name another port or rate"
