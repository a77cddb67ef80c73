"""Bench of the on-chip memories: contents, one cycle of latency, who wins the write port."""

import cocotb
from cocotb.triggers import RisingEdge

from sim.bench import Coverage, Source, parameters, rng, start

DEPTH, WIDTH = parameters()["depth"], parameters()["width"]
HAS_LOAD, HAS_WRITE = parameters()["load"], parameters()["write"]
ADDRESS_BITS = (DEPTH - 1).bit_length()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def random_access(dut):
    """Writes, loads, reads every cycle against a dict; collisions of one address are left out."""
    await start(dut)
    cover = Coverage(
        "read after write",
        "first word",
        "last word",
        *(("load waits",) if HAS_LOAD and HAS_WRITE else ()),
        *(("load goes",) if HAS_LOAD else ()),
    )
    draw = rng("access")
    hot = [0, 1, DEPTH - 1, *(draw.randrange(DEPTH) for _ in range(5))]
    model: dict[int, int] = {}
    load = Source(dut, "load", rng=rng("load"), stall=0.3) if HAS_LOAD else None
    loads: list[tuple[int, int]] = []
    sent = 0
    if load is not None:
        for _ in range(400):
            loads.append((draw.choice(hot), draw.getrandbits(WIDTH)))
            load.send(loads[-1][0] | loads[-1][1] << ADDRESS_BITS)
    looked: int | None = None
    write: tuple[int, int] | None = None
    edge = RisingEdge(dut.clk)
    for _ in range(1500):
        if HAS_WRITE:
            write = None
            if draw.random() < 0.5:
                write = (draw.choice(hot), draw.getrandbits(WIDTH))
                dut.write__address.value, dut.write__data.value = write
            dut.write__enable.value = int(write is not None)
        address = draw.choice(hot)
        dut.read__address.value = address
        await edge
        # Now: what stood in the cycle that ends here.
        if looked in model:
            assert int(dut.read__data.value) == model[looked], f"address {looked:#x}"
            cover.hit("read after write")
            cover.hit("first word", looked == 0)
            cover.hit("last word", looked == DEPTH - 1)
        written = []
        if write is not None:
            written.append(write)
        if load is not None and int(dut.load__valid.value):
            assert int(dut.load__ready.value) == int(write is None)
            if write is None:
                written.append(loads[sent])
                sent += 1
                cover.hit("load goes")
            elif HAS_WRITE:
                cover.hit("load waits")
        looked = address if all(a != address for a, _ in written) else None
        model.update(written)
    assert not HAS_LOAD or sent > 200
    cover.assert_complete()
