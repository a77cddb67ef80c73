"""The SDRAM rules proven of the scheduler, and of the port for as long as a search goes."""

import dataclasses

import pytest

from sim.formal import cover, prove
from tests.hdl.sdram.proof import TIMING, PortOnRules, SchedulerOnRules


def test_scheduler_keeps_every_rule():
    """For ever, whatever is asked of it."""
    result = prove(SchedulerOnRules(), depth=60, seconds=250)
    assert result.passed, result
    assert len(result.proved) >= 29


@pytest.mark.parametrize(
    ("rule", "chip"),
    [
        ("tRCD", {"trcd_ns": 41}),
        ("tRP", {"trp_ns": 41}),
        ("tRAS", {"tras_ns": 81}),
        ("tRC", {"trc_ns": 121}),
        ("tRFC", {"trfc_ns": 81}),
        ("tWR", {"twr_clocks": 3}),
        ("tRRD", {"trrd_clocks": 8}),
        ("tMRD", {"tmrd_clocks": 7}),
        ("too few refreshes", {"init_refreshes": 2}),
        ("power-up time", {"powerup_ns": 100}),
        ("the CAS latency", {"cas_latency": 2}),
    ],
)
def test_slower_chip_is_found_out(rule, chip):
    """A chip that asks for a little more than the scheduler gives: the search sees which rule."""
    slower = dataclasses.replace(TIMING, **chip)
    result = prove(SchedulerOnRules(chip=slower), depth=200, seconds=60, unbounded=False)
    assert result.failure is not None, result
    assert rule in result.failure.message
    assert "$enddefinitions" in result.failure.waves


def test_missing_refreshes_are_found_out():
    """A scheduler that refreshes a third as often as the chip asks."""
    lazy = dataclasses.replace(TIMING, refresh_ns=3 * TIMING.refresh_ns)
    result = prove(SchedulerOnRules(lazy, chip=TIMING), depth=300, seconds=200, unbounded=False)
    assert result.failure is not None, result
    assert "too many are late" in result.failure.message


def test_port_covers():
    """What the proofs are about does happen."""
    reached = cover(PortOnRules(), depth=60, seconds=60)
    assert len(reached) == 8
    assert None not in reached.values(), reached


def test_port_for_30_cycles():
    """Rules and AXI responses of the whole port, from reset."""
    result = prove(PortOnRules(), depth=30, seconds=60, unbounded=False)
    assert result.failure is None, result
    assert result.depth >= 30


@pytest.mark.slow
def test_port_for_60_cycles():
    """The same for longer: a second refresh, and what comes after it."""
    result = prove(PortOnRules(), depth=60, seconds=1200, unbounded=False)
    assert result.failure is None, result
    assert result.depth >= 60
