"""Random vector instructions with what they must do; run in one go, checked at each signal."""

from collections import deque
from collections.abc import Callable

import numpy as np
from cocotb.triggers import ClockCycles

from hdl.config import BLOCK, Config
from hdl.interfaces import append_payload, model_layout, step_layout, visit_layout
from hdl.isa import Opcode, encode
from sim.bench import (
    Image,
    Instructions,
    MemoryWriter,
    Semaphores,
    Sink,
    Source,
    UnitMonitor,
    drive_struct,
)
from sim.bench import vector_golden as golden
from sim.bench.vector_world import World
from sim.golden import fp32

__all__ = ["Machine", "same_blocks", "values"]

BASE = 0x10000
SIGNAL = 1


def values(draw, shape, kind: str | None = None) -> np.ndarray:
    """FP32 values of a kind: plain, wide (exponents -20 .. 20), outlier, sparse, tiny, zero."""
    kind = kind or draw.choice(["plain", "plain", "wide", "outlier", "sparse", "tiny", "zero"])
    r = np.random.default_rng(draw.getrandbits(32))
    x = r.normal(size=shape)
    if kind == "wide":
        x *= 2.0 ** r.integers(-20, 21, shape)
    elif kind == "outlier":
        x *= np.where(r.random(shape) < 0.03, 1000.0, 1.0)
    elif kind == "sparse":
        x *= r.random(shape) < 0.2
    elif kind == "tiny":
        x *= 2.0**-100 * 2.0 ** r.integers(-24, 25, shape)
    elif kind == "zero":
        x *= 0
    x = x.astype(np.float32)
    return np.where(np.abs(x) < 2.0**-126, np.float32(0), x).astype(np.float32)


class Machine:
    """The unit with everything around it, and the NumPy state that its instructions act on.

    ``model`` and ``step`` are constant between :meth:`configure` calls. Every ``op_*`` method draws
    an instruction, hands its panels to the matrix unit's script and queues a check for its signal.
    """

    def __init__(self, dut, config: Config, rng, *, stall: float = 0.0):
        self.dut, self.config, self.draw = dut, config, rng
        self.world = World(dut, config, rng, stall=stall)
        self.instructions = Instructions(dut, rng=rng, stall=stall)
        self.semaphores = Semaphores(dut, rng=rng, stall=stall)
        self.visits = Source(dut, "visits", layout=visit_layout(config), rng=rng, stall=stall)
        self.append = Sink(dut, "append", layout=append_payload(), rng=rng, stall=stall, run=8)
        self.image = Image(1 << 20, BASE)
        self.memory = MemoryWriter(
            dut, "memory", self.image, latency=(1, 20), rng=rng, stall=stall, run=4
        )
        self.expected_image = bytearray(self.image.data)
        self.expected_rows = self.world.rows.copy()
        self.checks: deque[tuple[str, Callable[[], None]]] = deque()
        self.world.on_signal = self._check
        self.issued = 0
        self.monitor: UnitMonitor

    # Setup --------------------------------------------------------------------------------------
    async def configure(self, **override):
        """Draw a model and a step, and drive them: before the instructions that need them."""
        c, draw = self.config, self.draw
        head_group = draw.choice([g for g in (1, 2, 3, 4, 8) if g <= c.row_capacity])
        heads = draw.randint(1, 3)
        head_blocks = draw.randint(1, min(c.head_blocks, 3))
        rows = draw.choice([1, 2, c.row_capacity, draw.randint(1, c.row_capacity)])
        rows = override.pop("rows", rows)
        self.model = {
            "kv_heads": heads,
            "head_group": head_group,
            "head_blocks": head_blocks,
            "vocabulary": 32 * 3 + draw.randint(1, 32),
            "inverse_dim": _bits(1 / draw.randint(32, 1000)),
            "norm_epsilon": _bits(1e-5),
            "score_scale": _bits(1.4427 / np.sqrt(64)),
        }
        outputs = sorted(draw.sample(range(rows), draw.randint(0, rows)))
        self.step = {
            "rows": rows,
            "segments": 1,
            "outputs": len(outputs),
            "store_logits": draw.getrandbits(1),
            "result_address": BASE + 64 * draw.randint(0, 15),
        }
        for key, value in override.items():
            if key == "output_list":
                outputs = value
                self.step["outputs"] = len(value)
            else:
                (self.model if key in self.model else self.step)[key] = value
        assert not outputs or outputs[-1] < rows
        group = self.model["head_group"]
        heads = self.model["kv_heads"] * group
        self.model["query_stride"] = heads * self.model["head_blocks"]
        self.model["batch_rows"] = c.row_capacity // max(group, 1)
        self.outputs = outputs
        self.world.outputs[: len(outputs)] = outputs
        drive_struct(self.dut, "model", model_layout(), **self.model)
        drive_struct(self.dut, "step", step_layout(), **self.step)
        await ClockCycles(self.dut.clk, 1)

    def float(self, name: str) -> np.float32:
        return np.uint32(self.model[name]).view(np.float32)

    def set_rows(self, first: int, x: np.ndarray) -> None:
        """Put (n, 32) FP32 blocks into row memory, now."""
        self.world.rows[first : first + len(x)] = fp32.bits(x)
        self.expected_rows[first : first + len(x)] = fp32.bits(x)

    def set_constants(self, first: int, x: np.ndarray) -> None:
        self.world.constants[first : first + len(x)] = fp32.bits(x)

    async def finish(self) -> None:
        """Wait until every instruction has signalled."""
        await self.world.signalled(self.issued)
        assert not self.checks

    def issue(self, name: str, opcode: Opcode, check: Callable[[], None], **operands) -> None:
        self.checks.append((name, check))
        self.issued += 1
        self.instructions.issue(encode(opcode, signal=SIGNAL, **operands))

    def _check(self) -> None:
        name, check = self.checks.popleft()
        try:
            check()
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from error

    def check_writes(self, activations=None, rows=None) -> None:
        """Exactly these blocks were written, and row memory is as expected."""
        same_blocks(self.world.activations, activations or {})
        self.world.activations.clear()
        words = {
            block * self.config.block_words + w
            for block in rows or []
            for w in range(self.config.block_words)
        }
        assert set(self.world.row_writes) == words, "row memory: other words written"
        self.world.row_writes.clear()
        wrong = np.argwhere(self.world.rows != self.expected_rows)
        if len(wrong):
            block, i = wrong[0]
            raise AssertionError(
                f"row memory block {block} element {i}: {self.world.rows[block, i]:#x}, "
                f"expected {self.expected_rows[block, i]:#x}"
            )

    def _check_image(self) -> None:
        if self.image.data != self.expected_image:
            where = next(
                i
                for i, (a, b) in enumerate(zip(self.image.data, self.expected_image, strict=True))
                if a != b
            )
            got, wanted = (
                int.from_bytes(data[where & -4 :][:4], "little")
                for data in (self.image.data, self.expected_image)
            )
            raise AssertionError(f"memory word {BASE + where:#x} is {got:#x}, not {wanted:#x}")

    def _expect_bytes(self, address: int, content: bytes) -> None:
        self.expected_image[address - BASE : address - BASE + len(content)] = content

    # Instructions -------------------------------------------------------------------------------
    def _rows(self, select: int) -> list[int]:
        return self.outputs if select else list(range(self.step["rows"]))

    def op_norm(self, select: int | None = None, blocks: int | None = None) -> None:
        """RMSNorm of fresh rows."""
        c, draw = self.config, self.draw
        most = min(c.row_blocks // self.step["rows"], c.constant_blocks, 12)
        blocks = blocks or draw.randint(1, most)
        select = draw.getrandbits(1) if select is None else select
        n = self.step["rows"] * blocks
        source = draw.randint(0, c.row_blocks - n)
        rows = self._rows(select)
        destination = draw.randint(0, c.activation_blocks - n)
        weights = draw.randint(0, c.constant_blocks - blocks)
        x = self._row_data(source, n).reshape(self.step["rows"], blocks, BLOCK)[rows]
        w = self.world.constants[weights : weights + blocks]
        y = (
            golden.norm(x, fp32.from_bits(w), self.float("inverse_dim"), self.float("norm_epsilon"))
            if rows
            else np.zeros((0, blocks, BLOCK), np.float32)
        )
        expected = golden.place(y.reshape(-1, BLOCK), lambda i: destination + i)
        assert expected is not None, "bench: draw finite rows"
        self.issue(
            f"NORM rows {len(rows)} blocks {blocks}",
            Opcode.NORM,
            lambda: self.check_writes(expected),
            source=source,
            destination=destination,
            blocks=blocks,
            weights=weights,
            rows=select,
        )

    def _row_data(self, first: int, count: int) -> np.ndarray:
        """What row memory will hold when the instructions issued so far are done."""
        return fp32.from_bits(self.expected_rows_later[first : first + count])

    def prepare(self) -> None:
        """Fill row and constant memory with finite values; instructions then follow on them."""
        c = self.config
        step = c.row_blocks // 8
        for first in range(0, c.row_blocks, step):
            self.set_rows(first, values(self.draw, (step, BLOCK)))
        self.set_constants(0, values(self.draw, (c.constant_blocks, BLOCK), "plain"))
        self.expected_rows_later = self.expected_rows.copy()

    def op_quantise(self) -> None:
        c, draw = self.config, self.draw
        blocks = draw.randint(1, min(c.row_blocks // self.step["rows"], 6))
        select = draw.getrandbits(1)
        n = self.step["rows"] * blocks
        source = draw.randint(0, c.row_blocks - n)
        destination = draw.randint(0, c.activation_blocks - n)
        x = self._row_data(source, n).reshape(self.step["rows"], blocks, BLOCK)
        chosen = x[self._rows(select)].reshape(-1, BLOCK)
        expected = golden.place(chosen, lambda i: destination + i)
        self.issue(
            f"QUANTISE blocks {blocks}",
            Opcode.QUANTISE,
            lambda: self.check_writes(expected),
            source=source,
            destination=destination,
            blocks=blocks,
            rows=select,
        )

    def op_add(self, panels: int | None = None, *, links: int = 1) -> None:
        """``links`` ADDs back to back, most through the same blocks; the last one signals."""
        c, draw, rows = self.config, self.draw, self.step["rows"]
        panels = panels or draw.randint(1, min(c.row_blocks // rows, 7))
        highest = c.row_blocks - rows * panels
        destination = draw.randint(0, highest)
        written: set[int] = set()
        for link in range(links):
            if link and draw.random() < 0.5:  # first words where the one before ended
                last = max(rows - 1 - draw.randint(0, 2), 0) * panels + panels - 1
                destination = min(destination + last, highest) if draw.random() < 0.8 else 0
            later = self.expected_rows_later
            span = range(destination, destination + rows * panels)
            block = later[span.start : span.stop].reshape(rows, panels, BLOCK)
            x = values(draw, (panels, rows, BLOCK))
            for p in range(panels):
                self.world.script.append(("ring", fp32.bits(x[p])))
                block[:, p] = fp32.bits(golden.add(fp32.from_bits(block[:, p]), x[p]))
            written |= set(span)
            if link < links - 1:
                word = encode(Opcode.ADD, destination=destination, panels=panels)
                self.instructions.issue(word)
        after = later.copy()

        def check():
            self.expected_rows = after
            self.check_writes(rows=written)

        self.issue(
            f"ADD panels {panels}", Opcode.ADD, check, destination=destination, panels=panels
        )

    def _tables(self) -> tuple[int, np.ndarray, np.ndarray]:
        """Address of RoPE tables, cosine and sine blocks (rows, head_blocks, 32)."""
        rows, hb = self.step["rows"], self.model["head_blocks"]
        tables = self.draw.randint(0, self.config.constant_blocks - 2 * rows * hb)
        n = 2 * rows * hb
        table = fp32.from_bits(self.world.constants[tables : tables + n])
        table = table.reshape(rows, 2, hb, BLOCK)
        return tables, table[:, 0], table[:, 1]

    def op_rope(self, panels: int | None = None) -> None:
        c, draw, rows = self.config, self.draw, self.step["rows"]
        hb = self.model["head_blocks"]
        panels = panels or hb * draw.randint(1, 3)
        destination = draw.randint(0, c.activation_blocks - rows * panels)
        tables, cosine, sine = self._tables()
        expected: dict = {}
        for p in range(panels):
            x = values(draw, (rows, BLOCK))
            self.world.script.append(("ring", fp32.bits(x)))
            y = golden.rope(x, cosine[:, p % hb], sine[:, p % hb])
            expected |= golden.place(y, lambda r, p=p: destination + r * panels + p)
        self.issue(
            f"ROPE panels {panels}",
            Opcode.ROPE,
            lambda: self.check_writes(expected),
            destination=destination,
            panels=panels,
            tables=tables,
        )

    def op_swiglu(self, pairs: int | None = None) -> None:
        draw, rows = self.draw, self.step["rows"]
        pairs = pairs or draw.randint(1, 4)
        destination = draw.randint(0, self.config.activation_blocks - rows * pairs)
        expected: dict = {}
        for p in range(pairs):
            gate, up = values(draw, (rows, BLOCK)), values(draw, (rows, BLOCK))
            self.world.script.append(("ring", fp32.bits(gate)))
            self.world.script.append(("ring", fp32.bits(up)))
            y = golden.swiglu(gate, up)
            expected |= golden.place(y, lambda r, p=p: destination + r * pairs + p)
        self.issue(
            f"SWIGLU pairs {pairs}",
            Opcode.SWIGLU,
            lambda: self.check_writes(expected),
            destination=destination,
            pairs=pairs,
        )

    def op_append(self, value: int | None = None) -> None:
        draw, rows = self.draw, self.step["rows"]
        hb, heads = self.model["head_blocks"], self.model["kv_heads"]
        value = draw.getrandbits(1) if value is None else value
        tables, cosine, sine = self._tables()
        offset = draw.getrandbits(32)
        expected = {}
        for h in range(heads):
            x = values(draw, (rows, hb, BLOCK))
            y = x.copy()
            for b in range(hb):
                self.world.script.append(("ring", fp32.bits(x[:, b])))
                if not value:
                    y[:, b] = golden.rope(x[:, b], cosine[:, b], sine[:, b])
            elements, codes = golden.append(y)
            for r in range(rows):
                for b in range(hb):
                    expected[r, h, b] = (elements[r, b].tolist(), int(codes[r]))

        def check():
            self.check_writes()
            got = {}
            for v in self.append.values:
                assert (v["value"], v["offset"]) == (value, offset)
                elements = [e - 256 if e > 127 else e for e in v["elements"]]
                key = v["row"], v["head"], v["block"]
                assert key not in got, f"{key} twice"
                got[key] = (elements, v["scale"])
            self.append.clear()
            same_blocks(got, expected)

        self.issue(
            f"APPEND value {value} heads {heads} blocks {hb}",
            Opcode.APPEND,
            check,
            offset=offset,
            value=value,
            tables=tables,
        )

    def op_logits(self) -> None:
        draw, n = self.draw, self.step["outputs"]
        vocabulary = self.model["vocabulary"]
        panels = -(-vocabulary // BLOCK)
        x = values(draw, (n, panels * BLOCK))
        x[:, vocabulary:] = 1e30  # must not win
        if n and draw.getrandbits(1):  # equals: the lowest index wins
            x[:, :vocabulary] = np.round(x[:, :vocabulary])
            x[0, :vocabulary] = -3.5
        content = b""
        if n:
            for p in range(panels):
                self.world.script.append(("ring", fp32.bits(x[:, BLOCK * p : BLOCK * (p + 1)])))
            tokens = golden.logits(x, vocabulary)
            content = tokens.astype("<u4").tobytes()
        result, store = self.step["result_address"], self.step["store_logits"]

        def check():
            self._expect_bytes(result, content)
            if n and store:
                self._expect_bytes(result + 256, fp32.bits(x).astype("<u4").tobytes())
            self.check_writes()
            self._check_image()

        self.issue(f"LOGITS rows {n} store {store}", Opcode.LOGITS, check, panels=panels)

    def op_store(self) -> None:
        c, draw, rows = self.config, self.draw, self.step["rows"]
        blocks = draw.randint(1, min(c.row_blocks // rows, 6))
        source = draw.randint(0, c.row_blocks - rows * blocks)
        address = BASE + 0x40000 + 64 * draw.randint(0, 100)
        content = self.expected_rows_later[source : source + rows * blocks].tobytes()

        def check():
            self._expect_bytes(address, content)
            self.check_writes()
            self._check_image()

        self.issue(
            f"STORE blocks {blocks}",
            Opcode.STORE,
            check,
            source=source,
            blocks=blocks,
            address=address,
        )


def _bits(x: float) -> int:
    return int(np.float32(x).view(np.uint32))


def same_blocks(got: dict, expected: dict) -> None:
    for key in sorted(set(got) | set(expected)):
        assert key in got, f"block {key} was not written ({len(got)} of {len(expected)} were)"
        assert key in expected, f"block {key} must not be written"
        assert got[key] == expected[key], f"block {key}: {got[key]}, expected {expected[key]}"
