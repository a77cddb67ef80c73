"""Area and energy proxies: for comparing designs, not for saying how large a chip is.

Areas and energies of operations in 45 nm are those of M. Horowitz, "Computing's energy problem",
ISSCC 2014: int8 multiply 282 um2 and 0.2 pJ, 32-bit add 137 um2 and 0.1 pJ, FP32 multiply 7700 um2
and 3.7 pJ, FP32 add 4184 um2 and 0.9 pJ, 64 bits from an 8 KB SRAM 10 pJ, from DRAM 1.3 to 2.6 nJ
(the lower is taken). An SRAM bit is taken as 0.5 um2 with its periphery; a port has no area.
"""

from dataclasses import dataclass

from hdl.config import BLOCK, PAGE_TOKENS
from sim.cycle_model.machine import Machine

__all__ = ["Area", "area_of", "energy_joules"]

_MAC_UM2 = 282 + 137
_LANE_UM2 = 7700 + 4184
_ACCUMULATE_UM2 = 4184
_BIT_UM2 = 0.5
_MAC_PJ = 0.2 + 0.1
_LANE_PJ = 3.7 + 0.9
_SRAM_PJ_A_BYTE = 10 / 8
_DRAM_PJ_A_BYTE = 1300 / 8

ACTIVATION_BITS = 8 * BLOCK + 16
"""hdl/interfaces.py: ``activation_word``."""


@dataclass(frozen=True)
class Area:
    """What a machine is made of.

    ``proxy_mm2`` = multipliers x 419 um2 + FP32 lanes x 11884 um2 (vector lanes; accumulator lanes
    x 4184 um2) + SRAM bits x 0.5 um2.
    """

    multipliers: int
    vector_lanes: int
    accumulator_lanes: int
    sram_bits: int
    port_bytes: int
    proxy_mm2: float


def sram_bits(machine: Machine) -> dict[str, int]:
    """Bits of every memory of the chip."""
    m = machine
    return {
        "activations": m.activation_blocks * ACTIVATION_BITS,
        "rows": m.row_blocks * 32 * BLOCK,
        "constants": m.constant_blocks * 32 * BLOCK,
        "panels": m.panels * m.row_capacity * 32 * BLOCK,
        "pages": m.page_slots * m.visit_pages * 2 * 8 * (PAGE_TOKENS * m.max_head_dim + 32),
        "tape": round(m.window_tiles * m.period * m.port_bytes * 8),
    }


def area_of(machine: Machine) -> Area:
    """Area proxy of a machine."""
    m = machine
    bits = sum(sram_bits(m).values()) + 8 * m.kv_on_chip_bytes
    um2: float = m.rows * m.cols * _MAC_UM2 + m.lanes * _LANE_UM2
    um2 += m.cols * m.deep_blocks * _ACCUMULATE_UM2 + bits * _BIT_UM2
    return Area(m.rows * m.cols, m.lanes, m.cols, bits, m.port_bytes, um2 / 1e6)


def energy_joules(macs: float, vector_operations: float, dram_bytes: float) -> float:
    """Energy proxy of a step: MACs and what they read on chip, FP32 operations, memory traffic.

    A multiplication reads its activation once an array row: an eighth of a byte of SRAM is charged.
    """
    on_chip = macs / 8 + vector_operations * 8
    return (
        macs * _MAC_PJ
        + vector_operations * _LANE_PJ
        + on_chip * _SRAM_PJ_A_BYTE
        + dram_bytes * _DRAM_PJ_A_BYTE
    ) / 1e12
