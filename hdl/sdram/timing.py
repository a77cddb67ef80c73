"""What an SDRAM chip asks of its controller, in nanoseconds and in clock cycles."""

from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor

__all__ = ["SdramTiming"]


@dataclass(frozen=True)
class SdramTiming:
    """Timing and shape of a single-data-rate SDRAM at one clock.

    The defaults are the worst of the 256 Mbit chips (4 banks x 8192 rows x 512 columns x 16 bit)
    that ULX3S boards carry, so one bitstream serves all of them:

    =============  ===============  ==============  ==================  ============
    parameter      IS42S16160G-7    AS4C16M16SA-7   W9825G6KH-6L, -75   here
    =============  ===============  ==============  ==================  ============
    tRCD, tRP      15 ns            21 ns           18, 20 ns           21 ns
    tRAS           37 ns            42 ns           42, 45 ns           45 ns
    tRC, tRFC      60 ns            63 ns           60, 65 ns           65 ns
    tRRD           14 ns            14 ns           2 clocks            2 clocks
    tMRD (tRSC)    14 ns            14 ns           2 clocks            2 clocks
    tWR (tDPL)     14 ns            14 ns           2 clocks            2 clocks
    tRAS maximum   100 us           100 us          100 us              100 us
    clock, CL 2    10 ns            10 ns           10 ns               -
    clock, CL 3    7 ns             7 ns            7, 7.5 ns           -
    tAC, CL 2, 3   6, 5.4 ns        6, 5.4 ns       6, 5.4 ns           -
    tOH            2.5 ns           2.5 ns          3 ns                -
    refresh        8192 in 64 ms    the same        the same            the same
    =============  ===============  ==============  ==================  ============

    Sources: ISSI IS42/45S16160G data sheet (AC electrical characteristics), Alliance AS4C16M16SA
    rev. 3.0 (March 2015), Winbond W9825G6JH/KH section 9.5. All of them run at 100 MHz with a CAS
    latency of 2 or 3. It is 3 here: tAC is 0.6 ns shorter and there is room up to 133 MHz, for one
    cycle of latency and no bandwidth.

    Parameters
    ----------
    clock_hz
        Of the controller and the chip.
    trcd_ns, trp_ns, tras_ns, trc_ns, trfc_ns, tras_max_ns
        As in the data sheets.
    trrd_clocks, tmrd_clocks, twr_clocks, cas_latency
        In clocks.
    refresh_ns, refreshes
        So many refreshes in any time of that length.
    postponed
        Refreshes that may be owed before traffic is stopped for them.
    powerup_ns
        From reset to the first command. Simulations shorten it.
    init_refreshes
        Refreshes before the mode register is written (Winbond asks for 8, the others for 2).
    row_bits, column_bits
        Shape of a bank, in 16-bit columns. There are 4 banks.

    Raises
    ------
    ValueError
        For a number that can't be; the message says which.
    """

    clock_hz: float = 100e6
    trcd_ns: float = 21
    trp_ns: float = 21
    tras_ns: float = 45
    trc_ns: float = 65
    trfc_ns: float = 65
    tras_max_ns: float = 100e3
    trrd_clocks: int = 2
    tmrd_clocks: int = 2
    twr_clocks: int = 2
    cas_latency: int = 3
    refresh_ns: float = 64e6
    refreshes: int = 8192
    postponed: int = 8
    powerup_ns: float = 200e3
    init_refreshes: int = 8
    row_bits: int = 13
    column_bits: int = 9

    def __post_init__(self):
        def need(condition, message):
            if not condition:
                raise ValueError(f"SDRAM timing: {message}")

        need(self.clock_hz > 0, f"clock_hz={self.clock_hz}: choose a frequency")
        need(self.cas_latency in (2, 3), f"cas_latency={self.cas_latency}: choose 2 or 3")
        need(2 <= self.row_bits <= 13, f"row_bits={self.row_bits}: choose 2 to 13")
        need(3 <= self.column_bits <= 9, f"column_bits={self.column_bits}: choose 3 to 9")
        need(1 <= self.postponed <= 8, f"postponed={self.postponed}: choose 1 to 8")
        need(
            1 <= self.init_refreshes <= 8,
            f"init_refreshes={self.init_refreshes}: choose 1 to 8",
        )
        # While a refresh is due, the segment in hand and the one prepared (of 64 words at the most)
        # are finished first, two cycles a word; two more refreshes may be owed by then.
        worst = 2 * 2 * min(self.row_words, 64) + 4 * self.trp + 32
        need(
            self.refresh_interval >= worst // 2,
            f"clock_hz={self.clock_hz}: a refresh every {self.refresh_interval} cycles can't be "
            "kept beside bursts; choose a faster clock",
        )

    def cycles(self, ns: float) -> int:
        """Clock cycles that last at least ``ns``."""
        return ceil(Fraction(ns) * Fraction(self.clock_hz) / 10**9)

    @property
    def trcd(self) -> int:
        """Activate to read or write of that bank."""
        return self.cycles(self.trcd_ns)

    @property
    def trp(self) -> int:
        """Precharge to activate of that bank, or to refresh."""
        return self.cycles(self.trp_ns)

    @property
    def tras(self) -> int:
        """Activate to precharge of that bank, at least."""
        return self.cycles(self.tras_ns)

    @property
    def trc(self) -> int:
        """Activate to activate of the same bank, or to refresh."""
        return self.cycles(self.trc_ns)

    @property
    def trfc(self) -> int:
        """Refresh to the next command."""
        return self.cycles(self.trfc_ns)

    @property
    def tras_max(self) -> int:
        """Activate to precharge of that bank, at most."""
        return floor(Fraction(self.tras_max_ns) * Fraction(self.clock_hz) / 10**9)

    @property
    def powerup(self) -> int:
        """Reset to the first command."""
        return self.cycles(self.powerup_ns)

    @property
    def refresh_interval(self) -> int:
        """Cycles between refreshes.

        A little less than ``refresh_ns / refreshes``: with up to ``postponed + 2`` of them late,
        any 64 ms still see 8192.
        """
        cycles = Fraction(self.refresh_ns) * Fraction(self.clock_hz) / 10**9
        return floor(cycles / (self.refreshes + self.postponed + 2))

    @property
    def row_words(self) -> int:
        """32-bit words in an open row."""
        return 1 << (self.column_bits - 1)

    @property
    def size_bytes(self) -> int:
        """Bytes in the chip."""
        return 2 << (2 + self.row_bits + self.column_bits)

    @property
    def mode(self) -> int:
        """Mode register: bursts of 2 in order, read and write alike, ``cas_latency``."""
        return self.cas_latency << 4 | 0b001
