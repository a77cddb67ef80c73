"""cocotb benches on Verilator, and what they share.

A bench is two files: ``sim/bench/<block>.py`` holds the cocotb tests (it runs inside the
simulator), ``tests/hdl/test_<block>.py`` builds the component and runs it. A complete example::

    # sim/bench/adder.py
    import cocotb
    from sim.bench import Coverage, Sink, Source, parameters, rng, start

    @cocotb.test(timeout_time=100, timeout_unit="us")      # a clock cycle is 10 ns
    async def random_sums(dut):
        config = parameters()["config"]                     # a hdl.config.Config
        await start(dut)                                    # clock, reset
        draw = rng("operands")
        operands = Source(dut, "i_operands", layout=OPERANDS, rng=rng("in"), stall=0.3)
        sums = Sink(dut, "o_sums", rng=rng("out"), stall=0.3, run=8)
        cover = Coverage("carry", "no carry")
        pairs = [{"a": draw.getrandbits(8), "b": draw.getrandbits(8)} for _ in range(200)]
        operands.extend(pairs)
        got = await sums.count(len(pairs))
        for pair, value in zip(pairs, got, strict=True):
            assert value == pair["a"] + pair["b"], f"{pair}: {value}"
            cover.hit("carry" if value > 255 else "no carry")
        cover.assert_complete()

    # tests/hdl/test_adder.py
    import pytest
    from hdl.adder import Adder
    from hdl.config import PRESETS
    from sim.bench import run

    @pytest.mark.parametrize("preset", ["tiny", "edge"])
    def test_adder(preset):
        config = PRESETS[preset]
        run(Adder(config), "sim.bench.adder", name=f"adder-{preset}", parameters={"config": config})

Port names: members of the signature joined by ``__``: a stream ``memory.request`` is
``memory__request__payload``, ``__valid``, ``__ready``; a struct payload is one packed port
(``pack`` / ``unpack`` or ``layout=``). Only ports of the top are visible. Ports that are constants
(``ready`` of an ``always_ready`` stream) or have no bits do not exist. Read a port of any width
with ``int(dut.name.value)``. Signals are sampled at the rising edge before it acts; what is written
then stands until the next. RTL ``Assert`` stops the simulation and fails the run.
``SERRANO_WAVES=1`` writes a VCD, ``SERRANO_SEED=n`` (or ``random``) sets the seed; a failure prints
the command for both.

Helpers by file: ``runner`` (run), ``settings`` (parameters, rng, seed), ``streams`` (Source, Sink,
Stall, ReadPort, WritePort, Pulses, pulse, start), ``memory`` (Image, MemoryReader, MemoryWriter:
the other side of read_client and write_client), ``axi`` (AxiMemory: the other side of the AXI4
port), ``unit`` (Instructions, Semaphores, UnitMonitor, drive_struct), ``coverage``, ``layouts``.
"""

import os

from sim.bench.coverage import Coverage
from sim.bench.layouts import pack, unpack
from sim.bench.settings import parameters, rng, seed

__all__ = ["Coverage", "pack", "parameters", "rng", "seed", "unpack"]

if "SERRANO_BENCH" in os.environ:  # inside the simulator
    from sim.bench.memory import Image, MemoryReader, MemoryWriter
    from sim.bench.streams import Pulses, ReadPort, Sink, Source, Stall, WritePort, pulse, start
    from sim.bench.unit import Instructions, Semaphores, UnitMonitor, drive_struct

    __all__ += [
        "Image",
        "Instructions",
        "MemoryReader",
        "MemoryWriter",
        "Pulses",
        "ReadPort",
        "Semaphores",
        "Sink",
        "Source",
        "Stall",
        "UnitMonitor",
        "WritePort",
        "drive_struct",
        "pulse",
        "start",
    ]
else:
    from sim.bench.emit import emit
    from sim.bench.runner import run

    __all__ += ["emit", "run"]
