"""The vector side of a random ATTEND, and the matrix unit's and KV unit's parts around it."""

import numpy as np

from hdl.config import PAGE_TOKENS
from hdl.isa import Opcode
from sim.bench import vector_golden as golden
from sim.bench.vector_program import Machine, same_blocks, values
from sim.golden import fp32

__all__ = ["attend"]


def _batches(m: Machine, most_visits: int, position):
    """Batches (row, rows, query offset, position), in the order of the contract."""
    group, hb = m.model["head_group"], m.model["head_blocks"]
    stride, batch_rows = m.model["query_stride"], m.model["batch_rows"]
    row, visits = 0, 0
    while row < m.step["rows"]:
        rows = m.draw.randint(1, m.step["rows"] - row) if position is None else m.step["rows"]
        choice = m.draw.choice([0, m.draw.randint(0, 90), PAGE_TOKENS - 1, PAGE_TOKENS])
        position = choice if position is None else position
        for head in range(m.model["kv_heads"]):
            for first in range(0, rows, batch_rows):
                n = min(batch_rows, rows - first)
                offset = (row + first) * stride + head * group * hb
                yield row + first, n, offset, position + first
                visits += (position + first + n - 1) // PAGE_TOKENS + 1
                if visits >= most_visits:
                    return
        row += rows


def _scores(m: Machine, rows: int, participants: np.ndarray, kind: str) -> np.ndarray:
    """Score panel (rows, 32); what takes no part is garbage."""
    draw = m.draw
    x = values(draw, (rows, PAGE_TOKENS), draw.choice(["plain", "outlier", "sparse", "zero"]))
    scale = float(m.float("score_scale"))
    shift = {"calm": 0, "jump": draw.choice([-400, 400, 60, -60, 7]), "abyss": -4e6}[kind]
    x = (x * np.float32(20) + np.float32(shift / scale)).astype(np.float32)
    garbage = np.random.default_rng(draw.getrandbits(32)).integers(0, 1 << 32, x.shape, np.uint32)
    garbage[:, -1] = 0x7FC00000
    dead = np.arange(PAGE_TOKENS)[None, :] >= participants[:, None]
    return np.where(dead, garbage, fp32.bits(x))


def attend(
    m: Machine,
    cover,
    *,
    most_visits: int = 12,
    position: int | None = None,
    abyss: bool = False,
) -> None:
    """Issue an ATTEND and queue everything that goes with it.

    ``position``: of one segment with all rows. ``abyss``: first pages of scores so low that the
    maximum saturates; a later page puts it right.
    """
    c, draw, world = m.config, m.draw, m.world
    model, group, hb = m.model, m.model["head_group"], m.model["head_blocks"]
    scale = m.float("score_scale")
    weights = draw.randint(0, 64)
    output = weights + 2 * c.row_capacity + draw.randint(0, 64)
    expected: dict = {}
    pages = []
    for number, (row, rows, offset, at) in enumerate(_batches(m, most_visits, position)):
        last = (at + rows - 1) // PAGE_TOKENS
        pages += [(number % 2, page, last, row, rows, offset, at) for page in range(last + 1)]
    state = None
    following: list = []  # PV of the visit before
    for i, (parity, page, last, row, rows, offset, position) in enumerate(pages):
        slot = i % c.page_slots
        visit = {
            "slot": slot,
            "first": int(page == 0),
            "last": int(page == last),
            "parity": parity,
            "end": int(i == len(pages) - 1),
            "row": row,
            "rows": rows,
            "query_rows": rows * group,
            "query_offset": offset,
            "position": position,
            "token": page * PAGE_TOKENS,
        }
        m.visits.send(visit)
        q = np.arange(rows * group)
        participants = np.clip(position + q // group - page * PAGE_TOKENS + 1, 0, PAGE_TOKENS)
        kind = "jump" if draw.random() < 0.4 else "calm"
        if page == 0 and last and position >= PAGE_TOKENS and (abyss or draw.random() < 0.1):
            kind = "abyss"
        scores = _scores(m, len(q), participants, kind)
        codes = np.array([draw.randint(110, 140) for _ in range(PAGE_TOKENS)], np.uint8)
        if draw.random() < 0.2:
            codes[:] = draw.choice([0, 1, 127, 250])
        codes[participants.max() :] = 255
        p, shift, state = golden.softmax(
            fp32.from_bits(scores), participants, codes, scale, None if page == 0 else state
        )
        buffer = weights + (i % 2) * c.row_capacity
        blocks = golden.place(p, lambda r, buffer=buffer: buffer + r, shift)
        assert blocks is not None, "bench: draw finite weights"
        cover.hit("row without participant", (participants == 0).any())
        cover.hit("shift 255", (shift == 255).any())
        cover.hit("shift between", ((shift > 0) & (shift < 255)).any())
        cover.hit("batch of one page", last == 0)
        cover.hit("several pages", last > 0)
        cover.hit("saturated", kind == "abyss")

        def take_scales(slot=slot, codes=codes):
            world.value_scales[slot] = codes

        def take_weights(blocks=blocks):
            same_blocks({k: v for k, v in world.activations.items() if k in blocks}, blocks)
            for k in blocks:
                del world.activations[k]

        world.script.append(("ring", scores, take_scales))
        world.script.extend(following)
        following = [("weights", take_weights)]
        if page == last:
            o = values(draw, (hb, len(q), PAGE_TOKENS), draw.choice(["plain", "wide", "zero"]))
            following.append(("output", parity, fp32.bits(o)))
            y = golden.attend_final(o, state[1])
            for b in range(hb):
                expected |= golden.place(
                    y[b],
                    lambda r, b=b, offset=offset: (
                        output + offset + r // group * model["query_stride"] + r % group * hb + b
                    ),
                )
    world.script.extend(following)
    cover.hit("one batch", len({p[3:6] for p in pages}) == 1)
    cover.hit("several batches", len({p[3:6] for p in pages}) > 1)
    m.issue(
        f"ATTEND visits {len(pages)}",
        Opcode.ATTEND,
        lambda: m.check_writes(expected),
        queries=0,
        output=output,
        weights=weights,
        offset=0,
    )
