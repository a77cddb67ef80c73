"""Host link and arbiter: runs their benches."""

import dataclasses

import pytest

from hdl.board.arbiter import AxiArbiter
from hdl.config import PRESETS
from hdl.link import Link
from hdl.link.uart import UartReceiver, UartTransmitter, phase_step
from sim.bench import run

CLOCK = 100_000_000


@pytest.mark.parametrize("baud", [3_000_000, 25_000_000, 9_000_000])
@pytest.mark.parametrize("component", [UartReceiver, UartTransmitter])
def test_uart(component, baud):
    run(
        component(CLOCK, baud),
        "sim.bench.link_uart",
        name=f"{component.__name__}-{baud}",
        parameters={"bit_cycles": CLOCK / baud},
    )


def test_rates():
    """3 Mbaud at 100 MHz within 1 % (here 0.01 %); what can't be met is refused."""
    step = phase_step(CLOCK, 3_000_000)
    assert step * CLOCK / 2**16 == pytest.approx(3_000_000, rel=1e-4)
    with pytest.raises(ValueError, match="choose at most 25000000"):
        phase_step(CLOCK, 26_000_000)
    with pytest.raises(ValueError, match="off by more than 1 %"):
        phase_step(CLOCK, 2_400)


AT_3_MBAUD = ["info", "unknown_operations", "repeated_register_writes", "events"]


@pytest.mark.parametrize(
    ("preset", "baud", "tests"),
    [
        ("tiny", 25_000_000, None),
        ("edge", 25_000_000, None),
        ("tiny", 3_000_000, AT_3_MBAUD),
    ],
)
def test_link(preset, baud, tests):
    """At four cycles a bit; at the real divisor what takes few bytes."""
    config = dataclasses.replace(PRESETS[preset], address_bits=32)
    parameters = {
        "config": config,
        "bit_cycles": CLOCK / baud,
        "clock_hz": CLOCK,
        "memory_bytes": 1 << 14,
        "timeout_cycles": 1 << 13,
        "turns": 30,
    }
    made = Link(config, clock_hz=CLOCK, baud=baud, memory_bytes=1 << 14, timeout_cycles=1 << 13)
    run(
        made,
        "sim.bench.link",
        name=f"link-{preset}-{baud}",
        parameters=parameters,
        testcase=tests,
    )


@pytest.mark.parametrize("preset", ["tiny", "edge"])
def test_arbiter(preset):
    config = PRESETS[preset]
    run(
        AxiArbiter(config, outstanding=4),
        "sim.bench.axi_arbiter",
        name=f"axi_arbiter-{preset}",
        parameters={"config": config},
    )
