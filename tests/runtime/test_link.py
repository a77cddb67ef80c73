"""The host's side of the link: codec, client and chip against the board's end in Python."""

from __future__ import annotations

import errno
import random
from types import SimpleNamespace

import numpy as np
import pytest
import serial
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.compile import compile_checkpoint
from compiler.errors import UserError
from hdl.config import PRESETS
from hdl.isa import Counter, HostRegister
from hdl.link.protocol import END, ESC, MAGIC, Operation, Status, config_digest
from runtime.chip import DeviceFault
from runtime.device import Device, RowRequest
from runtime.generate import Request as Prompt
from runtime.generate import generate
from runtime.golden_chip import GoldenChip
from runtime.link import LinkClient, SerialPort
from runtime.link.codec import FrameDecoder, Request, encode_frame
from runtime.sampling import Sampler
from runtime.serial_chip import SerialChip
from sim.board.noise import LineNoise
from tests.link_board import ModelBoard
from tests.models import random_checkpoint

TINY = PRESETS["tiny"]
NOISE = 3e-4  # of each kind, on each byte
special = st.sampled_from([END, ESC, 0xDC, 0xDD, 0])
payloads = st.lists(special | st.integers(0, 255), min_size=1, max_size=80).map(bytes)


def noisy(seed: int, rate: float = NOISE) -> tuple[LineNoise, LineNoise]:
    rates = {"drop": rate, "change": rate, "double": rate}
    return LineNoise(2 * seed, **rates), LineNoise(2 * seed + 1, **rates)


# --- Codec -------------------------------------------------------------------------------------


@given(st.lists(payloads, max_size=5), st.integers(1, 30), st.binary(max_size=9))
def test_frames_come_back(sent: list[bytes], size: int, noise: bytes) -> None:
    """However the line cuts them, and whatever stands before the first delimiter."""
    line = noise + b"".join(encode_frame(p) for p in sent)
    decoder = FrameDecoder()
    found = [p for at in range(0, len(line), size) for p in decoder.feed(line[at : at + size])]
    assert found[-len(sent) :] == sent if sent else not found


@settings(max_examples=300)
@given(payloads, payloads, st.data())
def test_a_damaged_frame_is_dropped_alone(bad: bytes, good: bytes, data: st.DataObject) -> None:
    frame = bytearray(encode_frame(bad))
    at = data.draw(st.integers(1, len(frame) - 2))
    kind = data.draw(st.sampled_from(["drop", "change", "double"]))
    if kind == "drop":
        del frame[at]
    elif kind == "change":
        frame[at] ^= data.draw(st.integers(1, 255))
    else:
        frame.insert(at, frame[at])
    decoder = FrameDecoder()
    assert decoder.feed(bytes(frame) + encode_frame(good)) == [good]
    assert decoder.dropped >= 1


def test_endless_noise_is_not_kept() -> None:
    decoder = FrameDecoder()
    for _ in range(40):
        assert not decoder.feed(bytes(100_000))
    assert decoder.dropped
    assert decoder.feed(encode_frame(b"ab")) == [b"ab"]


# --- Client ------------------------------------------------------------------------------------


def client(board: ModelBoard, **options) -> LinkClient:
    made = LinkClient(board, timeout_s=0.002, **options)
    made.connect()
    return made


@pytest.mark.parametrize("seed", range(12))
def test_requests_on_a_bad_line(seed: int) -> None:
    """Memory, reads and register writes are right, each register write is executed once."""
    draw = random.Random(seed)
    board = ModelBoard(TINY, noise=noisy(seed, NOISE if seed else 0))
    link = client(board)
    expected = board.memory.copy()
    doorbells = []
    for turn in range(25):
        requests, answers = [], []
        places = draw.sample(range(60), 20)  # of one batch: they do not overlap
        for place in places:
            at, count = 1024 * place, draw.randrange(1, 120)
            span = slice(at, at + 4 * count)
            kind = draw.randrange(4)
            if kind == 0:
                data = draw.randbytes(4 * count)
                expected[span] = np.frombuffer(data, np.uint8)
                requests.append(Request(Operation.WRITE_MEMORY, at, count, data))
            elif kind == 1:
                expected[span] = 0
                requests.append(Request(Operation.FILL_MEMORY, at, count))
            else:
                requests.append(Request(Operation.READ_MEMORY, at, count))
            answers.append(expected[span].tobytes() if kind > 1 else b"")
        replies = link.transact(requests)
        assert [r.data for r in replies] == answers
        assert all(r.status is Status.OK for r in replies)
        link.write_registers([(0x40, turn), (0x44, seed)])
        doorbells += [(0x40, turn), (0x44, seed)]
    assert np.array_equal(board.memory, expected)
    assert board.executed == doorbells
    assert (link.stats.repeated > 0) == (seed > 0)


def test_sequence_numbers_go_round() -> None:
    """A register write is never taken for a repetition of an earlier one."""
    board = ModelBoard(TINY)
    link = client(board)
    for i in range(700):
        link.write_registers([(0x40, i)])
        for _ in range(i % 3):
            link.read_words([Request(Operation.READ_REGISTERS, 0x40, 1)] * (254 if i < 9 else 1))
    assert [v for _, v in board.executed] == list(range(700))
    again = client(board)  # another host, which knows nothing of the first
    again.write_registers([(0x40, 1)])
    assert board.executed[-1] == (0x40, 1)
    assert len(board.executed) == 701


def test_errors_of_the_bus() -> None:
    link = client(ModelBoard(TINY, 1 << 12))
    with pytest.raises(UserError, match="BUS_ERROR"):
        link.read_words([Request(Operation.READ_MEMORY, 1 << 12, 1)])


def test_who_answers() -> None:
    board = ModelBoard(TINY)
    board.answers = False
    with pytest.raises(UserError, match="nothing answers at 1000000000 baud; load the board's"):
        client(board, tries=2)
    board = ModelBoard(TINY)
    board.info[0] = MAGIC ^ 1
    with pytest.raises(UserError, match="not a Serrano board"):
        client(board)
    board = ModelBoard(TINY)
    board.info[1] += 1
    with pytest.raises(UserError, match="link version 2, this program 1"):
        client(board)
    board = ModelBoard(TINY)
    link = client(board, tries=2)
    board.answers = False
    with pytest.raises(UserError, match="the link is lost"):
        link.write_registers([(0, 0)])


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (errno.ENOENT, "no such port"),
        (errno.EACCES, "no permission; join the group"),
        (errno.EBUSY, "in use by another program"),
        (errno.ENOTTY, "not a serial port"),
        (errno.EIO, "can't be opened at 3000000 baud"),
    ],
)
def test_ports_that_can_not_be_opened(number, text, monkeypatch) -> None:
    def refuse(*_, **__):
        raise serial.SerialException(number, "no")

    monkeypatch.setattr(serial, "Serial", refuse)
    with pytest.raises(UserError, match=f"serial:/dev/x: .*{text}"):
        SerialPort("/dev/x")


def test_a_port_that_goes_away(monkeypatch) -> None:
    def gone(*_):
        raise serial.SerialException("device disconnected")

    fake = SimpleNamespace(
        reset_input_buffer=lambda: None, write=gone, read=gone, in_waiting=0, close=lambda: None
    )
    monkeypatch.setattr(serial, "Serial", lambda *_, **__: fake)
    port = SerialPort("/dev/x")
    for use in (lambda: port.write(b"a"), lambda: port.read(1.0)):
        with pytest.raises(UserError, match="serial:/dev/x: the port is gone"):
            use()


# --- Chip --------------------------------------------------------------------------------------


def device(board: ModelBoard, **options) -> Device:
    image = compile_checkpoint(random_checkpoint(3), TINY, context=64, sequences=2, **options)

    def make(config, memory):
        chip = SerialChip(config, memory, board)
        chip.link._timeout_s = 0.01
        return chip

    return Device(image, make)


def tokens_of(made: Device, **sampling) -> list[list[int]]:
    requests = [
        Prompt([1, 2, 3, 4, 5], 6, Sampler(seed=1, **sampling)),
        Prompt([9, 8], 9, Sampler(seed=2, **sampling)),
    ]
    checker = Device(made.image, GoldenChip)
    done = generate(made, requests, checker=checker)
    assert done.bit_exact
    return done.tokens


def test_a_model_on_a_board() -> None:
    board = ModelBoard(TINY, 1 << 20)
    first = device(board)
    tokens = tokens_of(first)
    sent = len(board.written)
    assert sent > 20_000
    first.close()
    assert board.closed
    # The second host finds the image there, and only pages of the cache to erase.
    second = device(board)
    assert len(board.written) - sent < 2000
    assert second.chip.loaded_bytes == 0
    assert tokens_of(second) == tokens


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_bad_line_loses_nothing(seed: int) -> None:
    clean = tokens_of(device(ModelBoard(TINY, 1 << 20)))
    made = device(ModelBoard(TINY, 1 << 20, noisy(seed)))
    assert tokens_of(made) == clean
    assert made.chip.link.stats.repeated > 5


def test_lost_events(monkeypatch) -> None:
    monkeypatch.setattr("runtime.serial_chip._POLL_S", 0.001)
    board = ModelBoard(TINY, 1 << 20)
    board.loses_events = True
    assert tokens_of(device(board)) == tokens_of(device(ModelBoard(TINY, 1 << 20)))


def test_what_a_step_moves() -> None:
    """Descriptor out, tokens and counters back: nothing that grows with model or context."""
    board = ModelBoard(TINY, 1 << 20)
    made = device(board)
    sequence = made.open_sequence()
    made.step([RowRequest(sequence, [5])], logits=False)
    sent, received = len(board.written), made.chip.link.stats.received_bytes
    result = made.step([RowRequest(sequence, [6])], logits=False)
    assert len(board.written) - sent < 200
    assert made.chip.link.stats.received_bytes - received < 500
    assert result.counters[Counter.CYCLES] == 12345 + (1 << 32)


def test_a_fault_and_the_step_after_it() -> None:
    made = device(ModelBoard(TINY, 1 << 20))
    sequence = made.open_sequence()
    with pytest.raises(DeviceFault, match="in unit CONTROL"):
        made.step([RowRequest(sequence, [made.vocab + 5])])
    clean = Device(made.image, GoldenChip)
    wanted = clean.step([RowRequest(clean.open_sequence(), [4])])
    assert np.array_equal(made.step([RowRequest(sequence, [4])]).logits, wanted.logits)


def test_boards_that_do_not_fit() -> None:
    other = ModelBoard(PRESETS["ulx3s"], 1 << 20)
    with pytest.raises(UserError, match=r"configuration 'ulx3s' .* for 'tiny' .*--preset ulx3s"):
        device(other)
    assert other.closed
    with pytest.raises(UserError, match=r"needs 0.1 MiB of memory, the board has 0.0"):
        device(ModelBoard(TINY, 1 << 12))
    stuck = ModelBoard(TINY, 1 << 20)
    stuck._status(1)
    device(stuck)
    assert (HostRegister.CONTROL.value, 4) in stuck.executed


def test_configurations_are_told_apart() -> None:
    digests = [config_digest(c) for c in PRESETS.values()]
    assert len(set(digests)) == len(digests)
