"""The bench infrastructure: it must pass good designs and, above all, fail bad ones."""

import pytest

from sim.bench import pack, run, unpack
from tests.sim.loopback import ITEM, Loopback

BENCH = "sim.bench.bench_selftest"


def test_helpers():
    run(Loopback(), BENCH, name="selftest", parameters={"purpose": "selftest"}, timeout=60)


def test_rtl_assertion_fails_the_run():
    with pytest.raises(AssertionError) as caught:
        run(
            Loopback(),
            BENCH,
            name="selftest",
            parameters={"break": True},
            testcase="breaks_rtl_assertion",
            seed=7,
            timeout=60,
        )
    text = str(caught.value)
    assert "tag 255 is forbidden" in text
    assert "SERRANO_SEED=7" in text
    assert "test_rtl_assertion_fails_the_run" in text


def test_failing_bench_fails_the_run():
    with pytest.raises(AssertionError, match="tests failed"):
        run(Loopback(), BENCH, name="selftest", parameters={"purpose": "x"}, testcase="memory_copy")


def test_pack_unpack():
    value = {"tag": 200, "pair": [-8, 7]}
    assert pack(ITEM, value) == 200 | 0x8 << 8 | 0x7 << 12
    assert unpack(ITEM, pack(ITEM, value)) == value
    with pytest.raises(ValueError, match="does not fit"):
        pack(ITEM, {"tag": 256, "pair": [0, 0]})
    with pytest.raises(ValueError, match="missing"):
        pack(ITEM, {"tag": 1})
