"""Timing of DRAM behind the memory port: what the datasheets say, in cycles of the chip.

The model itself is `dram.h`: one channel, one rank, an open-row controller that serves reads in
order and opens rows ahead. Not modelled: power-down, temperature, ECC, per-bank refresh, refresh
that is put off, more than one rank, address hashing.
"""

import ctypes
import math
from dataclasses import dataclass

from compiler.errors import UserError

__all__ = ["DRAM_KINDS", "DramTiming", "dram_timing"]


@dataclass(frozen=True)
class DramTiming:
    """Timing of one channel; cycles and beats of the chip's port (JEDEC names without the t).

    Parameters
    ----------
    name, clock_mhz : what it is, and the chip clock that the cycles are of
    banks, groups : banks in all, and bank groups; a stream alternates between the groups
    row_beats : beats in an open row of one bank
    burst_beats : beats of one column access; the least that is moved
    rcd : ACTIVATE to column command of the bank
    rp : PRECHARGE to ACTIVATE
    ras : ACTIVATE to PRECHARGE
    cl, cwl : read, write command to its first beat on the data bus
    rrd_short, rrd_long : ACTIVATE to ACTIVATE, of another and of the same group
    faw : any five ACTIVATEs take longer than this
    ccd_long : column command to column command of the same group (others: `burst_beats`)
    rtp : read command to PRECHARGE
    wr : end of write data to PRECHARGE
    wtr : end of write data to read command (of the same group; taken for all)
    rtw : read command to write command
    refi, rfc : every `refi` cycles a refresh of all banks, which takes `rfc`
    lookahead : columns whose rows are opened ahead
    read_buffer_beats : read from the DRAM and not yet taken by the chip
    write_buffer_beats : write data taken and not yet in the DRAM
    write_high, write_low : columns in the write buffer at which writes go ahead of reads, and give
        way again
    """

    name: str
    clock_mhz: float
    banks: int
    groups: int
    row_beats: int
    burst_beats: int
    rcd: int
    rp: int
    ras: int
    cl: int
    cwl: int
    rrd_short: int
    rrd_long: int
    faw: int
    ccd_long: int
    rtp: int
    wr: int
    wtr: int
    rtw: int
    refi: int
    rfc: int
    lookahead: int = 32
    read_buffer_beats: int = 128
    write_buffer_beats: int = 256
    write_high: int = 32
    write_low: int = 4

    def __post_init__(self):
        for name in _FIELDS[1:]:
            low = 0 if name == "write_low" else 1
            if getattr(self, name) < low:
                raise UserError(f"DRAM {name} must be at least {low}, not {getattr(self, name)}")
        for good, text in (
            (self.banks <= 64 and self.banks % self.groups == 0, "banks: up to 64, in full groups"),
            (self.row_beats % self.burst_beats == 0, "row_beats: whole columns"),
            (self.ccd_long >= self.burst_beats, "ccd_long: at least burst_beats"),
            (self.rtw + self.cwl >= self.cl + self.burst_beats, "rtw: data would meet on the bus"),
            (self.refi > self.rfc + self.ras + self.rp, "refi: no time left between refreshes"),
            (self.read_buffer_beats >= self.burst_beats, "read_buffer_beats: at least a column"),
            (self.write_low < self.write_high, "write_low: below write_high"),
            (
                self.write_high * self.burst_beats <= self.write_buffer_beats,
                "write_high: no more columns than the write buffer holds",
            ),
        ):
            if not good:
                raise UserError(f"DRAM timing {self.name}: {text}")

    def structure(self) -> "_Dram":
        """For the model in C++."""
        return _Dram(1, *(getattr(self, name) for name in _FIELDS[1:]))

    def __str__(self) -> str:
        return f"{self.name} at {self.clock_mhz:.0f} MHz"


_FIELDS = (
    *("enabled", "banks", "groups", "row_beats", "burst_beats"),
    *("rcd", "rp", "ras", "cl", "cwl", "rrd_short", "rrd_long", "faw", "ccd_long"),
    *("rtp", "wr", "wtr", "rtw", "refi", "rfc"),
    *("lookahead", "read_buffer_beats", "write_buffer_beats", "write_high", "write_low"),
)


class _Dram(ctypes.Structure):
    """Mirrors `DramTiming` of dram.h; all zero: no DRAM."""

    _fields_ = [(name, ctypes.c_uint32) for name in _FIELDS]


DRAM_KINDS = ("ddr4", "lpddr4")


def dram_timing(kind: str, port_bytes: int) -> DramTiming:
    """DRAM whose peak is one beat of the port a cycle.

    "ddr4"
        DDR4-2400 17-17-17, 8 Gb x8 devices, on a data bus of a quarter of the port's width (`edge`:
        64 bits, 19.2 GB/s), so the chip runs at the memory clock, 1200 MHz. Burst of 8, 16 banks in
        4 groups, rows of 1 KB a device. Source: Micron MT40A datasheet (4Gb and 8Gb x4, x8, x16
        DDR4 SDRAM), speed bin -083 and its table of AC timing parameters; the same bin in
        JEDEC JESD79-4: tRCD = tRP = tAA 14.16 ns, tRAS 32, tRRD_S 3.3, tRRD_L 4.9, tFAW 21,
        tCCD_L max(4 CK, 5 ns), tRTP 7.5, tWR 15, tWTR_L 7.5, tRFC1 350, tREFI 7800, CWL 12.
    "lpddr4"
        LPDDR4-3200, two 16-bit channels of 4 Gb in step as one bus of half the port's width
        (`edge`: 32 bits, 12.8 GB/s), chip at 800 MHz, half the memory clock. Burst of 16, 8 banks,
        rows of 2 KB a channel. Source: JEDEC JESD209-4 as in NXP's DDR tool (4 Gb a channel at
        1600 MHz): RL 28 CK, WL 14 CK, tRCD 18 ns, tRPab 21 (taken for every precharge), tRAS 42,
        tRFCab 180, tREFI 3904, nRTP 12 CK; tRRD 10, tFAW 40, tWR 18, tWTR 10, tDQSCK 3.5 at most
        (in the read to write gap).

    Raises `UserError` for another kind.
    """
    # Lengths by their source: in ns, or in cycles of the memory clock.
    if kind == "ddr4":
        clock, memory_mhz, row_bytes, banks, groups = 1200.0, 1200.0, port_bytes * 512, 16, 4
        ns = {"rcd": 14.16, "rp": 14.16, "ras": 32, "rrd_short": 3.3, "rrd_long": 4.9, "faw": 21}
        ns |= {"rtp": 7.5, "wr": 15, "wtr": 7.5, "refi": 7800, "rfc": 350}
        clocks = {"cl": 17, "cwl": 12, "ccd_long": 6, "rtw": 17 + 4 + 2 - 12}
    elif kind == "lpddr4":
        clock, memory_mhz, row_bytes, banks, groups = 800.0, 1600.0, port_bytes * 256, 8, 1
        ns = {"rcd": 18, "rp": 21, "ras": 42, "rrd_short": 10, "rrd_long": 10, "faw": 40}
        ns |= {"wr": 18, "wtr": 10, "refi": 3904, "rfc": 180}
        clocks = {"cl": 28, "cwl": 14, "ccd_long": 8, "rtp": 12, "rtw": 28 + 6 + 8 + 2 - 14}
    else:
        raise UserError(f"memory {kind}: no such DRAM; choose from {', '.join(DRAM_KINDS)}")
    cycles = {name: _ceil(value * clock / 1000) for name, value in ns.items()}
    # The mean interval: rounded down, or refreshes would come too late.
    cycles["refi"] = math.floor(ns["refi"] * clock / 1000)
    cycles |= {name: _ceil(value * clock / memory_mhz) for name, value in clocks.items()}
    return DramTiming(
        name={"ddr4": "DDR4-2400", "lpddr4": "LPDDR4-3200"}[kind],
        clock_mhz=clock,
        banks=banks,
        groups=groups,
        row_beats=row_bytes // port_bytes,
        burst_beats=4,
        **cycles,
    )


def _ceil(value: float) -> int:
    return math.ceil(value - 1e-9)
