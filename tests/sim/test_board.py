"""The whole board in simulation: Board, SDRAM chip and UART pins behind a pseudo-terminal."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import numpy as np
import pytest

from compiler.compile import compile_checkpoint
from compiler.errors import UserError
from hdl.board import LEDS
from hdl.config import PRESETS
from hdl.isa import Counter
from hdl.link.protocol import Operation, Status
from runtime.chip import DeviceFault
from runtime.device import Device, RowRequest
from runtime.generate import Generation, Request, generate
from runtime.golden_chip import GoldenChip
from runtime.link import SerialPort
from runtime.link.codec import Request as LinkRequest
from runtime.rtl_chip import RtlChip, build_chip
from runtime.sampling import Sampler
from runtime.serial_chip import SerialChip
from scripts.main import main
from sim.board.noise import LineNoise
from sim.board.simulated import CLOCK_HZ, SimulatedBoard, build_board
from tests.checkpoints import random_tensors, small_config, write_huggingface
from tests.models import random_checkpoint

ROOT = Path(__file__).resolve().parents[2]
TINY = PRESETS["tiny"]
BAUD = CLOCK_HZ // 4
# What a step moves whatever it waits for; the program's head may come before the doorbell.
MOVED = [c for c in Counter if c.name.startswith(("READ", "WRITE", "FEED", "INSTRUCTIONS"))]
MOVED.remove(Counter.READ_PROGRAM_BEATS)
CHECKPOINT = random_checkpoint(3, heads=4, kv_heads=2, head_dim=10, layers=2)


@pytest.fixture(scope="module")
def library() -> Path:
    return build_board(TINY, BAUD)


@pytest.fixture(scope="module")
def image():
    return compile_checkpoint(CHECKPOINT, TINY, context=64, sequences=2)


def connect(image, board: SimulatedBoard) -> Device:
    return Device(image, lambda config, memory: SerialChip(config, memory, SerialPort(board.port)))


def generated(device: Device) -> Generation:
    requests = [Request([1, 2, 3, 4, 5], 4, Sampler()), Request([9], 5, Sampler(0.8, 0.9, 7))]
    done = generate(device, requests, checker=Device(device.image, GoldenChip))
    assert done.bit_exact, str(done.mismatches[0])
    return done


def test_a_model_through_the_link(library, image):
    """Image loaded, text generated, all through the line; every logit is the golden model's.

    The tokens are those of the chip alone, and so are all of its counters that count no waiting.
    """
    with SimulatedBoard(library, BAUD) as board:
        device = connect(image, board)
        assert device.chip.loaded_bytes >= sum(s.size for s in image.sections.values())
        done = generated(device)
        device.close()
        # Another host, the same image: it is there.
        again = connect(image, board)
        assert again.chip.loaded_bytes == 0
        assert generated(again).tokens == done.tokens
        again.close()
        assert board.leds == 0b00001  # ready; no damaged frame came
    alone = generated(
        Device(image, lambda config, memory: RtlChip(config, memory, library=build_chip(TINY)))
    )
    assert alone.tokens == done.tokens
    for ours, theirs in zip(done.steps, alone.steps, strict=True):
        for counter in MOVED:
            assert ours.counters[counter] == theirs.counters[counter], counter
        assert ours.counters[Counter.CYCLES] > 0


@pytest.mark.parametrize("seed", [1, 2])
def test_a_bad_line_loses_nothing(library, image, seed):
    """Bytes lost, changed and doubled both ways: the same tokens, every bit."""
    lines = tuple(LineNoise(2 * seed + i, drop=2e-4, change=2e-4, double=2e-4) for i in range(2))
    with SimulatedBoard(library, BAUD, lines) as board:
        device = connect(image, board)
        done = generated(device)
        stats = device.chip.link.stats
        device.close()
        assert board.leds >> LEDS.index("link_dropped") & 1
    assert done.tokens == generated(Device(image, GoldenChip)).tokens
    for line in lines:
        assert line.dropped + line.changed + line.doubled > 0
    assert stats.repeated > 0


def test_a_fault_and_the_step_after_it(library, image):
    with SimulatedBoard(library, BAUD) as board:
        device = connect(image, board)
        sequence = device.open_sequence()
        with pytest.raises(DeviceFault, match=r"BAD_DESCRIPTOR in unit CONTROL.*TOKEN"):
            device.step([RowRequest(sequence, [device.vocab + 5])])
        assert board.leds & 0b111 == 0b101  # ready, not running, faulted
        found = device.step([RowRequest(sequence, [4])])
        golden = Device(image, GoldenChip)
        wanted = golden.step([RowRequest(golden.open_sequence(), [4])])
        assert np.array_equal(found.logits, wanted.logits)
        assert board.leds & 0b111 == 0b001
        device.close()


def test_a_board_of_another_configuration(library):
    other = replace(TINY, name="other", page_slots=8)
    image = compile_checkpoint(CHECKPOINT, other, context=32)
    with SimulatedBoard(library, BAUD) as board:
        with pytest.raises(UserError, match=r"configuration 'tiny' .* for 'other'"):
            connect(image, board)


def test_the_command_line(tmp_path, library, capsys):
    """`board` in one process, `run --device serial:PORT` in another: the golden model's text."""
    config = small_config()
    model = write_huggingface(tmp_path / "model", config, random_tensors(config))
    run = ["run", "--model", str(model), "--preset", "tiny", "--prompt-ids", "5,6,7"]
    run += ["--tokens", "4", "--ignore-eos"]
    figures = []
    command = [sys.executable, "-m", "scripts.main", "board", "--preset", "tiny"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as board:
        assert board.stdout is not None
        port = board.stdout.readline().strip()
        assert port.startswith("/dev/")
        try:
            for device in ("golden", f"serial:{port}"):
                file = tmp_path / "figures.json"
                assert main([*run, "--device", device, "--json", str(file)]) == 0
                figures.append(json.loads(file.read_text()))
            assert "Cycles by phase" in capsys.readouterr().out
            first = SerialPort(port)
            assert main([*run, "--device", f"serial:{port}"]) == 2
            assert "in use by another program" in capsys.readouterr().err
            first.close()
        finally:
            board.send_signal(signal.SIGINT)
        assert board.wait(30) == 0
    golden, ours = figures
    assert ours["tokens"] == golden["tokens"]
    assert ours["bit_exact"] is True
    assert (ours["device"], ours["port"]) == ("serial", port)
    assert all(step["cycles"] > 0 for step in ours["steps"])


@pytest.mark.slow
def test_at_3_mbaud():
    """The line's real divisor, 33.3 cycles a bit: right tokens, and what the line carries.

    Prints the figures of docs/link.md.
    """
    baud = 3_000_000
    image = compile_checkpoint(random_checkpoint(3), TINY, context=32)
    with SimulatedBoard(build_board(TINY, baud), baud) as board:
        device = connect(image, board)
        link, words = device.chip.link, 120
        for operation, data in (
            (Operation.WRITE_MEMORY, device.memory[: 4 * words * 24]),
            (Operation.READ_MEMORY, np.zeros(0, np.uint8)),
        ):
            requests = [
                LinkRequest(
                    operation, 4 * words * i, words, data[480 * i : 480 * i + 480].tobytes()
                )
                for i in range(24)
            ]
            start = board.cycles
            assert all(r.status is Status.OK for r in link.transact(requests))
            rate = 24 * 4 * words / ((board.cycles - start) / CLOCK_HZ)
            print(f"{operation.name}: {rate:.0f} bytes/s")
            assert rate > 0.85 * baud / 10
        sequence = device.open_sequence()
        golden = Device(image, GoldenChip)
        twin = golden.open_sequence()
        device.step([RowRequest(sequence, [1])], logits=False)
        golden.step([RowRequest(twin, [1])])
        start, began = board.cycles, perf_counter()
        result = device.step([RowRequest(sequence, [2])], logits=False)
        cycles = board.cycles - start - result.counters[Counter.CYCLES]
        print(f"a step beside the chip's cycles: {cycles} cycles, {perf_counter() - began:.2f} s")
        assert cycles / CLOCK_HZ < 5e-3
        assert result.tokens == golden.step([RowRequest(twin, [2])]).tokens
        device.close()
