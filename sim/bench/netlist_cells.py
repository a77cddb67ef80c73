"""Bench of the cell models: block memories of every width, products, the start of a register.

``parameters()["shapes"]`` are (width, depth) of the memories ``memory_<width>``; word ``a`` of each
starts as :func:`first_word` says.
"""

import cocotb
from cocotb.triggers import RisingEdge

from sim.bench import parameters, rng
from sim.bench.streams import start

__all__ = ["first_word"]

ROUNDS = 3000


def first_word(width: int, address: int) -> int:
    """Contents of a memory at the start."""
    return (address * 0x9E3779B97 + width) >> 3 & (1 << width) - 1


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def memories(dut):
    """Random reads and writes; a word is never read in the cycle in which it is written."""
    shapes = [tuple(shape) for shape in parameters()["shapes"]]
    contents = {w: [first_word(w, a) for a in range(depth)] for w, depth in shapes}
    changed = {width: 0 for width, _ in shapes}
    draw, edge = rng("memories"), RisingEdge(dut.clk)
    await start(dut)
    print(f"START {int(dut.held.value):#x}")  # compared by the test
    dut.read.value = 1
    for address in range(max(depth for _, depth in shapes) + 2):
        dut.read_address.value = address & 0x3FFF
        await edge
        for width, depth in shapes:
            if 1 <= address <= depth:
                found = int(getattr(dut, f"memory_{width}").value)
                changed[width] += found != contents[width][address - 1]
                contents[width][address - 1] = found
    # Clock and inputs start at random as well: there may have been an edge with a write.
    assert max(changed.values()) <= 1, f"words that did not start as they should: {changed}"
    due: dict[int, int] = {}
    for _ in range(ROUNDS):
        # A few addresses often, so that what was written is read.
        near = draw.random() < 0.5
        read, write = (draw.randrange(32 if near else 1 << 14) for _ in range(2))
        data, writing = draw.getrandbits(36), draw.getrandbits(4)
        reading = draw.random() < 0.8
        dut.read_address.value = read
        dut.write_address.value = write
        dut.data.value = data
        dut.write.value = writing
        dut.read.value = int(reading)
        await edge
        for width, word in due.items():
            got = int(getattr(dut, f"memory_{width}").value)
            assert got == word, f"{width} bits: {got:#x} instead of {word:#x}"
        for width, depth in shapes:
            r, w = read % depth, write % depth
            if reading:
                due.pop(width, None)
                if r != w or not writing:
                    due[width] = contents[width][r]
            parts = 4 if width == 36 else 2 if width == 18 else 1
            size = width // parts
            enables = writing if parts > 1 else int(writing != 0)
            mask = sum(((1 << size) - 1) << size * i for i in range(parts) if enables >> i & 1)
            old = contents[width][w]
            contents[width][w] = old & ~mask | data & mask


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def products(dut):
    """18 x 18 bits, two's complement and unsigned, the edges among them."""
    await start(dut)
    draw, edge = rng("products"), RisingEdge(dut.clk)
    edges = [0, 1, (1 << 17) - 1, 1 << 17, (1 << 18) - 1]
    pairs = [(a, b) for a in edges for b in edges]
    pairs += [(draw.getrandbits(18), draw.getrandbits(18)) for _ in range(500)]

    def signed(value: int) -> int:
        return value - (value >> 17 << 18)

    for a, b in pairs:
        dut.a.value, dut.b.value = a, b
        await edge
        await edge
        assert int(dut.unsigned_product.value) == a * b
        assert int(dut.signed_product.value) == signed(a) * signed(b) & (1 << 36) - 1
