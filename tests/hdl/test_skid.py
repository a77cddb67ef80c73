"""The register slice."""

from hdl.streams import SkidBuffer
from sim.bench import run


def test_skid_buffer():
    run(SkidBuffer(8), "sim.bench.skid", name="skid")
