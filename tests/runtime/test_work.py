"""Work of a step against a count by hand, and figures from counters."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from hdl.config import PRESETS
from hdl.isa import Counter
from runtime.limit import MemoryLimit
from runtime.metrics import UNITS, array_breakdown, step_metrics
from runtime.work import StepWork, make_work, step_work
from tests.devices import checkpoint, image

SHAPE = {"dim": 40, "hidden": 50, "heads": 6, "kv_heads": 2, "head_dim": 34, "vocab": 77}


@pytest.mark.parametrize("with_head", [True, False])
@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(
    "segments", [[(0, 1, 1)], [(31, 1, 1)], [(32, 5, 0)], [(0, 33, 2), (60, 3, 3), (5, 1, 1)]]
)
def test_work_counted_one_by_one(
    segments: list[tuple[int, int, int]], preset: str, with_head: bool
) -> None:
    made = image(checkpoint(**SHAPE, context=128), preset, with_head=with_head)
    work = step_work(made, segments, logits=True)
    macs = pages = rows = outputs = 0
    for position, count, wanted in segments:
        for p in range(position, position + count):
            for _layer in range(2):
                macs += 40 * (6 + 2 + 2) * 34 + 6 * 34 * 40 + 3 * 40 * 50
                macs += 2 * 6 * 34 * (p + 1)  # scores and sums over tokens 0 .. p
        pages += (position + count - 1) // 32 + 1
        rows += count
        outputs += wanted
    token = 2 * 2 * 2 * (64 + 1)  # layers, KV heads, K and V: 34 elements in 64, a scale
    norms = 5 if with_head else 4
    assert work.macs == macs + (outputs * 40 * 77 if with_head else 0)
    assert work.tape_bytes == made.sections["tape"].size
    assert work.kv_read_bytes == pages * 32 * token
    assert work.kv_write_bytes == rows * token
    assert work.row_read_bytes == rows * (2 * 128 + 2 * 2 * 128) + norms * 2 * 128
    assert work.logit_bytes == (outputs * 77 * 4 if with_head else 0)
    assert step_work(made, segments, logits=False).logit_bytes == 0
    config = PRESETS[preset]
    read = work.tape_bytes + work.kv_read_bytes + work.row_read_bytes
    by_bytes = -(-read // config.port_bytes)
    by_macs = -(-work.macs // (config.rows * config.cols))
    assert work.roofline_cycles == max(by_bytes, by_macs)


def test_writes_bound_the_roofline_where_they_are_more() -> None:
    made = image(checkpoint(layers=1, dim=4, hidden=4, vocab=64, heads=1, kv_heads=1))
    work = step_work(made, [(0, 64, 64)], logits=True)
    assert work.logit_bytes == 64 * 64 * 4
    read = work.tape_bytes + work.kv_read_bytes + work.row_read_bytes
    written = work.logit_bytes + work.kv_write_bytes
    assert work.roofline_cycles == -(-max(read, written) // 16)


def test_metrics_of_a_step() -> None:
    config = PRESETS["edge"]
    work = StepWork(1000, 100, 10, 20, 0, 51200, 100)
    counters = dict.fromkeys(Counter, 0) | {
        Counter.CYCLES: 200,
        Counter.FEED_ROWS: 150,
        Counter.PORT_BUSY: 80,
        Counter.READ_TAPE_BEATS: 63,
        Counter.WRITE_KV_BEATS: 2,
        Counter.MATRIX_BUSY: 120,
        Counter.MATRIX_STARVED: 30,
        Counter.MATRIX_BLOCKED: 10,
    }
    found = step_metrics(config, work, counters)
    assert found["efficiency"] == 0.5
    assert found["mac_utilization"] == 0.5
    assert found["array_fed"] == 0.75
    assert found["bandwidth_utilization"] == 0.4
    assert found["bytes"]["tape"] == 63 * 16
    assert found["bytes"]["kv_write"] == 32
    assert set(found["cycles_by_unit"]) == set(UNITS)
    assert found["cycles_by_unit"]["matrix"] == {
        "busy": 120,
        "starved": 30,
        "blocked": 10,
        "idle": 40,
    }
    json.dumps(found)


def test_a_memory_that_sustains_less_moves_the_roofline() -> None:
    config = PRESETS["edge"]
    work = make_work(config, 16_000, 1_600, 320, 160, 480, 51_200)
    assert work.roofline_cycles == (16_000 + 1_600 + 160) // 16
    assert work.roofline_under(config, 0.5, shared=False) == 2 * (16_000 + 1_600 + 160) // 16
    assert work.roofline_under(config, 0.5, shared=True) == 2 * 18_560 // 16
    assert replace(work, macs=512 * 9000).roofline_under(config, 0.5, shared=True) == 9000
    counters = dict.fromkeys(Counter, 0) | {Counter.CYCLES: 4640}
    limit = MemoryLimit("slow", 0.5, 0.4, 0.3, shared=True)
    found = step_metrics(config, work, counters, limit)
    assert found["efficiency"] == 1110 / 4640
    assert (found["sustained_roofline_cycles"], found["sustained_efficiency"]) == (2320, 0.5)
    assert found["memory"] == (
        "slow; sustains 0.500 beats a cycle (sequential reads), 0.400 (an eighth of them writes), "
        "0.300 (scattered bursts)"
    )


def test_where_the_arrays_cycles_went() -> None:
    config = PRESETS["edge"]
    counters = dict.fromkeys(Counter, 0) | {
        Counter.CYCLES: 1000,
        Counter.FEED_ROWS: 400,
        Counter.MATRIX_BUSY: 650,
        Counter.MATRIX_STARVED: 200,
        Counter.MATRIX_BLOCKED: 100,
    }
    found = array_breakdown(config, make_work(config, 0, 0, 0, 0, 0, 512 * 300), counters)
    assert found == pytest.approx(
        {
            "active": 0.4,
            "useful_macs": 0.3,
            "unused_macs": 0.1,
            "weight_stall": 0.2,
            "weight_shift": 0.25,
            "other": 0.15,
            "dependency": 0.1,
        }
    )


def test_metrics_without_cycles() -> None:
    found = step_metrics(PRESETS["edge"], StepWork(1, 2, 3, 4, 5, 6, 7), {})
    assert (found["roofline_cycles"], found["useful_macs"]) == (7, 6)
    for name in ("cycles", "efficiency", "mac_utilization", "bandwidth_utilization"):
        assert found[name] is None
