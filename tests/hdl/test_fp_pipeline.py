"""FP32 components against the golden model, on Verilator."""

import pytest

from hdl import fp
from sim.bench import run

CASES = {
    "FpAdd": "add",
    "FpMul": "multiply",
    "SpecialFunction": "special_functions",
    "BlockTerm": "block_terms",
}


@pytest.mark.parametrize("name", CASES)
def test_pipeline(name):
    run(
        getattr(fp, name)(),
        "sim.bench.fp_pipeline",
        name=f"fp-{name}",
        testcase=CASES[name],
    )


def test_latency_constants():
    assert fp.FpAdd.latency == fp.ADD_LATENCY
    assert fp.FpMul.latency == fp.MUL_LATENCY
    assert fp.SpecialFunction.latency == fp.FUNCTION_LATENCY
    assert fp.BlockTerm.latency == fp.TERM_LATENCY
