"""PREPARE and ATTEND: KV, matrix and vector unit on the same instruction."""

from collections import deque
from itertools import groupby

from hdl.isa import Unit
from sim.cycle_model.chip import GRANT, Chip, Operands
from sim.cycle_model.steady import Steady

__all__ = ["attend", "prepare"]


def prepare(chip: Chip, v: Operands, offered: float) -> None:
    taken = max(offered, chip.kv.idle)
    chip.taken[Unit.KV].append(taken)
    granted = chip.granted(taken + 2, v["wait"])
    chip.signal(v["signal"], chip.kv.prepare(granted, chip.segments, chip.page_bits))


def attend(chip: Chip, v: Operands, offered: float) -> None:
    matrix, vector, kv, credits = chip.matrix, chip.vector, chip.kv, chip.credits
    m = chip.machine
    while chip.jobs:
        chip.make()
    # The matrix unit takes the semaphores, the vector unit gives them
    granted = chip.wait(v["wait"])
    opened = chip.open(offered)
    gate = max(opened, granted + GRANT)
    decode_at = vector.take(offered)
    chip.taken[Unit.VECTOR].append(decode_at - 1)
    vector.begin(decode_at, decode_at)
    chip.last_add = None
    vector.wait -= 1  # VISIT in the place of SETUP
    if not kv.begun:
        kv.begin(max(offered, kv.idle), chip.batches, chip.page_bits, v["offset"])
    kv.begun = False
    chip.line.flush()
    chip.taken[Unit.KV].append(kv.attending)
    keys = -(-chip.head_blocks // m.deep_blocks) * m.column_groups
    made = -(-chip.head_blocks // m.wide_panels) * m.column_groups
    half = kv.page_beats / 2
    weights_free = deque([0.0, 0.0])
    outputs_free = deque([0.0, 0.0])
    outputs: deque[float] = deque()
    weights: deque[float] = deque()
    before: tuple[int, bool, bool] | None = None  # query rows, first, last

    def values() -> None:
        assert before
        rows, first, last = before
        need = weights.popleft()
        if first:
            need = max(need, outputs_free.popleft())
        _, end, ready = matrix.page(made, half / made, rows, 0.0, need)
        kv.releases.append(end + 2)
        weights_free.append(end + rows + 1)
        if last:
            outputs.append(ready)

    def final(rows: int) -> None:
        vector.run("FINAL_INVERSE", rows, 1)
        last = vector.run("FINAL_SCALE", rows, chip.head_blocks, outputs.popleft())
        outputs_free.append(last + 4)
        vector.wait += 1  # TURN

    def visit(rows: int, first: bool, last: bool) -> None:
        nonlocal before, gate
        there = kv.page()
        need = max(gate, credits.popleft())
        _, _, ready = matrix.page(keys, half / keys, rows, max(there, opened - 1) + 1, need)
        gate = 0.0
        # softmax
        if there + 1 > vector.wait:
            vector.starved += there + 1 - vector.wait
            vector.wait = there + 1
        chip.passed = vector.wait
        vector.wait += 1
        vector.run("SOFTMAX_MAX", rows, m.visit_pages, ready)
        end = vector.run("SOFTMAX_EXP", rows, m.visit_pages, 0.0, weights_free.popleft())
        credits.append(end + 4)
        vector.wait += 1  # TURN
        weights.append(end + vector.block_stage + 1)
        if before:
            values()
            if before[2]:
                final(before[0])
        before = (rows, first, last)

    def steady() -> Steady:
        return Steady(
            [(matrix, "fed"), (matrix, "loader"), (kv, "fetch"), (kv, "page_end")]
            + [(chip, "passed")]
            + [(vector, a) for a in ("wait", "drain", "landed")],
            [credits, weights_free, outputs_free, outputs, weights, kv.releases, kv.coming],
            [(vector, a) for a in ("busy", "starved", "blocked")]
            + [(matrix, a) for a in ("starved", "blocked", "feed_rows")]
            + [(kv, "starved"), (kv, "asked")],
            chip.line.others_of,
            lambda cycles, _: chip.line.move_others(cycles),
        )

    for batch, alike in groupby(chip.batches):
        count, done = len(list(alike)), 0
        chip.kv_beats += count * batch.pages * kv.page_beats / m.visit_pages
        batches = steady()
        while done < count:
            visits, at = steady(), 0
            while at < batch.visits:
                visit(batch.query_rows, at == 0, at == batch.visits - 1)
                at += 1
                if at < batch.visits - 2:
                    at += visits.skip(at - 1, batch.visits - 1 - at)
            done += 1
            done += batches.skip(done - 1, count - done)
    values()
    assert before
    final(before[0])
    kv.idle = chip.passed + 1
    kv.walk_beats += chip.walk_beats
    chip.matrix.loader = max(chip.matrix.loader, chip.matrix.fed)
    chip.signal(v["signal"], vector.finish())
