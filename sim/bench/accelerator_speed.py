"""The whole chip in cocotb under a stop watch: recorded steps, memory compared after each."""

import json
from time import process_time

import cocotb
import numpy as np
from cocotb.utils import get_sim_time

from hdl.isa import HostRegister
from sim.bench import parameters, start
from sim.bench.accelerator_steps import Chip
from sim.bench.streams import PERIOD_NS


@cocotb.test(timeout_time=200, timeout_unit="ms")
async def speed(dut):
    """Prints a line of JSON: cycles and CPU seconds from the doorbells to the interrupts."""
    steps = np.load(parameters()["steps"])  # as scripts/simulators.py writes them
    size = steps["before"].shape[1]
    chip = Chip(dut, size, 0.0)
    await start(dut)
    await chip.write(HostRegister.MEMORY_LIMIT_LOW, size)
    await chip.write(HostRegister.WATCHDOG, 100_000)
    await chip.write(HostRegister.INTERRUPT_ENABLE, 1)
    cycles, seconds = 0, 0.0
    for (program, descriptor), before, after in zip(
        steps["registers"].tolist(), steps["before"], steps["after"], strict=True
    ):
        chip.ram.write(0, before.tobytes())
        await chip.write(HostRegister.PROGRAM_LOW, program)
        await chip.write(HostRegister.DESCRIPTOR_LOW, descriptor)
        began, clock = get_sim_time("ns"), process_time()
        fault = await chip.step()
        seconds += process_time() - clock
        cycles += round((get_sim_time("ns") - began) / PERIOD_NS)
        assert not fault, fault
        assert chip.ram.read(0, size) == after.tobytes()
    print("SPEED", json.dumps({"cycles": cycles, "seconds": seconds}), flush=True)
