"""Work of a step against a count by hand, and figures from counters."""

from __future__ import annotations

import json

import pytest

from hdl.config import PRESETS
from hdl.isa import Counter
from runtime.metrics import UNITS, step_metrics
from runtime.work import StepWork, step_work
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


def test_metrics_without_cycles() -> None:
    found = step_metrics(PRESETS["edge"], StepWork(1, 2, 3, 4, 5, 6, 7), {})
    assert (found["roofline_cycles"], found["useful_macs"]) == (7, 6)
    for name in ("cycles", "efficiency", "mac_utilization", "bandwidth_utilization"):
        assert found[name] is None
