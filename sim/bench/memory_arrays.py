"""Bench of the on-chip memories: contents, one cycle of latency, who wins the write port."""

import cocotb
from cocotb.triggers import RisingEdge

from sim.bench import Coverage, Source, parameters, rng, start

DEPTH, WIDTH = parameters()["depth"], parameters()["width"]
HAS_LOAD, HAS_WRITE = parameters()["load"], parameters()["write"]
WRITE_STAGES, LOAD_STAGES = (parameters()[f"{name}_stages"] for name in ("write", "load"))
ADDRESS_BITS = (DEPTH - 1).bit_length()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def random_access(dut):
    """Writes, loads, reads every cycle against a dict; words on their way are not looked at."""
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
    on_way: list[tuple[int, int, int]] = []  # cycle from which on it can be read, address, word
    blocked = False
    write: tuple[int, int] | None = None
    edge = RisingEdge(dut.clk)
    for cycle in range(1500):
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
        if write is not None:
            on_way.append((cycle + 1 + WRITE_STAGES, *write))
        if load is not None and int(dut.load__valid.value):
            assert int(dut.load__ready.value) == int(not blocked)
            if not blocked:
                on_way.append((cycle + 1 + LOAD_STAGES, *loads[sent]))
                sent += 1
                cover.hit("load goes")
            elif HAS_WRITE:
                cover.hit("load waits")
        blocked = write is not None
        looked = address if all(a != address for _, a, _ in on_way) else None
        model.update((a, word) for due, a, word in on_way if due <= cycle + 1)
        on_way = [entry for entry in on_way if entry[0] > cycle + 1]
    assert not HAS_LOAD or sent > 200
    cover.assert_complete()
