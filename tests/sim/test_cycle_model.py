# amaranth: UnusedElaboratable=no
"""The cycle model by itself: what is exact must be exact, and bad questions are refused."""

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import pytest

from compiler.compile import plan_program
from compiler.errors import UserError
from hdl.config import PRESETS
from hdl.isa import Opcode, encode
from hdl.matrix.accumulator import BlockAccumulator
from hdl.matrix.array import SystolicArray
from sim.cycle_model import MACHINES, Machine, estimate, predict, predict_step
from sim.cycle_model.line import ReadLine
from sim.cycle_model.matrix import window_profile
from sim.cycle_model.steady import Steady
from sim.verilated.library import MemoryTiming
from tests.sim.cycle_model_rtl import Case
from tests.sim.cycle_model_shapes import layer_of, random_case

LLAMA_8B = layer_of(4096, 14336, 32, 8, 128, layers=32, vocab=128256)
SMALL = layer_of(256, 512, 4, 2, 64, layers=6, vocab=300)


@pytest.mark.parametrize("name", PRESETS)
def test_machine_is_the_config(name: str) -> None:
    """Derived sizes are those of the RTL."""
    config = PRESETS[name]
    m = Machine.of(config)
    for size in ("passes", "column_groups", "tile_beats", "block_words", "head_blocks", "panels"):
        assert getattr(m, size) == getattr(config, size)
    assert m.period == config.block_tile_beats
    array = SystolicArray(config)
    assert m.array_latency == array.latency
    assert m.accumulate_latency == BlockAccumulator(config, array.latency).latency
    assert not m.projection


def test_machines_that_no_rule_covers() -> None:
    edge = MACHINES["edge"]
    for changes in ({"rows": 48}, {"lanes": 0}, {"tape_beats": 40}, {"bandwidth": Fraction(2)}):
        with pytest.raises(ValueError, match="machine 'edge'"):
            replace(edge, **changes)


@pytest.mark.parametrize("seed", range(12))
def test_skipping_what_repeats_changes_nothing(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Panels, visits and layers done by arithmetic give what doing each of them gives, but for
    program words that are fetched in between.
    """
    case = random_case(seed)
    words = case.words()
    short = predict(words, case.config, case.step(), case.timing)
    monkeypatch.setattr(Steady, "skip", lambda *_: 0)
    whole = predict(words, case.config, case.step(), case.timing)
    assert short.bytes == whole.bytes
    assert short.array_fed == whole.array_fed
    assert abs(short.cycles - whole.cycles) <= 3e-3 * whole.cycles


def test_skipping_does_skip(monkeypatch: pytest.MonkeyPatch) -> None:
    done = []
    skip = Steady.skip

    def watched(self: Steady, number: int, left: int) -> int:
        done.append(skip(self, number, left))
        return done[-1]

    monkeypatch.setattr(Steady, "skip", watched)
    case = Case("edge", model=SMALL, with_head=True, segments=((2000, 1, 1),))
    predict(case.words(), case.config, case.step())
    assert sum(done) > 100


def test_more_costs_more() -> None:
    """Rows, context, latency and narrower memory never make a step shorter."""

    def cycles(rows: int = 1, context: int = 100, **timing) -> int:
        case = Case("edge", model=SMALL, with_head=True, segments=((context, 1, 1),) * rows)
        memory = MemoryTiming(**timing)
        return predict(case.words(), case.config, case.step(), memory).cycles

    for series in (
        [cycles(rows=n) for n in (1, 4, 16, 64)],
        [cycles(context=n) for n in (0, 100, 1000, 4000)],
        [cycles(latency=n) for n in (1, 60, 200, 400)],
        [cycles(bandwidth=Fraction(1, n)) for n in (1, 2, 4)],
    ):
        assert all(a < b for a, b in pairwise(series)), series


def test_bytes_are_the_programs() -> None:
    """Tape, pages and appended heads counted by hand."""
    plan = plan_program(SMALL, PRESETS["edge"], context=512)
    p = predict(plan.program, PRESETS["edge"], [(40, 1, 1), (100, 3, 1)])
    assert p.bytes["tape"] == plan.memory.tape_block_tiles * 33 * 16
    pages = (40 // 32 + 1) + (102 // 32 + 1)
    assert p.bytes["kv"] == SMALL.layers * 2 * pages * 2 * (2048 + 32)
    assert p.bytes["kv_write"] == SMALL.layers * 4 * 2 * 2 * (2 * 32 + 16)
    assert p.bytes["rows_write"] == 2 * 10 * 128 + 2 * 16
    for states in p.units.values():
        assert sum(states.values()) == p.cycles
        assert min(states.values()) >= 0


def test_words_image_and_bytes_are_the_same_program() -> None:
    plan = plan_program(SMALL, PRESETS["tiny"], context=64)
    steps = [(3, 1, 1)]
    first = predict(plan.program, PRESETS["tiny"], steps)
    assert first == predict(plan.program.words, PRESETS["tiny"], steps)
    assert first == predict(plan.program.to_bytes() + bytes(64), PRESETS["tiny"], steps)
    with pytest.raises(ValueError, match="no END"):
        predict(encode(Opcode.PREPARE).to_bytes(16, "little"), PRESETS["tiny"], steps)


def test_small_windows_wait_for_memory() -> None:
    """A FIFO of four block tiles hides 60 cycles of latency, not 200."""
    tiny = MACHINES["tiny"]
    assert window_profile(replace(tiny, latency=60), 32.0)[1] == pytest.approx(33, abs=0.5)
    profile, spacing = window_profile(replace(tiny, latency=200), 32.0)
    assert spacing == pytest.approx(75.734, abs=0.01)  # RTL: 75.7344
    assert profile[2] == 64  # what is in the FIFO comes at the array's pace
    assert window_profile(replace(MACHINES["edge"], latency=200), 64.0) == ((), 64)


def test_read_line_keeps_order_and_counts_beats() -> None:
    """Requests delay the tape by their beats, and never overlap."""
    machine = MACHINES["edge"]
    line = ReadLine(machine, 1e6)
    line.start(10)
    alone = line.due(2000)
    assert alone == 10 + 5 + machine.latency + 1999
    first = line.request(100, 64)
    second = line.request(101, 64)
    assert second == first + 64
    assert line.due(2000) == alone + 128


def test_estimate_extrapolates_layers_exactly() -> None:
    """Layers beyond a few are alike: the whole model run through gives the same."""
    machine = Machine.of(PRESETS["edge"])
    e = estimate(machine, SMALL, 2, 300)
    case = Case("edge", model=SMALL, with_head=True, segments=((300, 1, 1),) * 2, logits=False)
    p = predict_step(machine, case.words(), case.step(), store_logits=False)
    assert abs(e.cycles - p.cycles) <= 2e-3 * p.cycles
    assert e.bytes["tape"] == p.bytes["tape"]
    assert e.bytes["kv"] == p.bytes["kv"]


def test_large_models_on_the_projection() -> None:
    """Llama 3 8B: weights over bandwidth bound a single user, MACs a prefill chunk."""
    server = MACHINES["server"]
    assert server.projection
    decode = estimate(server, LLAMA_8B, 1, 512)
    assert decode.bound == "memory"
    assert decode.cycles >= decode.weight_bytes / server.port_bytes
    assert decode.efficiency > 0.9
    assert decode.notes == (server.projection,)
    prefill = estimate(server, LLAMA_8B, 1, 512, 256)
    assert prefill.bound == "macs"
    assert prefill.fits
    many = estimate(server, LLAMA_8B, 16, 512)
    assert many.tokens_per_second > 5 * decode.tokens_per_second
    assert many.tokens_per_second_per_user < decode.tokens_per_second_per_user
    assert many.as_dict()["area"]["multipliers"] == 128 * 128


def test_what_does_not_fit_is_said() -> None:
    """Llama 3 8B needs more activation memory than a small chip has: which, and how much."""
    e = estimate(MACHINES["ulx3s"], LLAMA_8B, 1, 100)
    assert not e.fits
    assert "head 128 elements (has 64)" in e.remedy
    assert "activation memory" not in e.remedy or "words" in e.remedy
    assert e.remedy in e.notes
    wide = estimate(MACHINES["edge"], LLAMA_8B, 128, 100)
    assert "rows of a step 128 rows (has 64)" in wide.remedy


def test_questions_without_an_answer() -> None:
    machine = MACHINES["edge"]
    with pytest.raises(UserError, match="the model takes 16384 tokens"):
        estimate(machine, LLAMA_8B, 1, 16384)
    with pytest.raises(UserError, match="give at least 1, 1 and 0"):
        estimate(machine, LLAMA_8B, 0, 100)
    huge = layer_of(1 << 18, 1 << 18, 32, 8, 128, layers=2)
    with pytest.raises(UserError, match="more than the instruction set can name"):
        estimate(machine, huge, 1, 10)
