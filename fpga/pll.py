"""The PLLs that make a board's clock from its crystal."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from amaranth.hdl import Const, Instance, Signal, Value

from compiler.errors import UserError

__all__ = ["Ecp5Pll", "GowinPll", "ecp5_pll", "gowin_pll"]

TOLERANCE = 1e-4
"""Of a frequency: 100 ppm, far less than the baud rate of a serial line bears."""


def _whole(low: int, high: int) -> Iterator[int]:
    return iter(range(low, high + 1))


@dataclass(frozen=True)
class Ecp5Pll:
    """Dividers of an EHXPLLL whose output CLKOP is its feedback.

    Sources: Lattice FPGA-TN-02200 (VCO 400 to 800 MHz, phase detector 3.125 to 400 MHz); the phases
    are counted as prjtrellis's ecppll does.

    Attributes
    ----------
    input_mhz, output_mhz
        Of CLKI; of CLKOP and CLKOS.
    input_divider, feedback_divider, output_divider
        ``output = input * feedback_divider / input_divider``, ``vco = output * output_divider``.
    phase_degrees
        CLKOS lags CLKOP by so much: a multiple of 45 / ``output_divider``.
    """

    input_mhz: float
    output_mhz: float
    input_divider: int
    feedback_divider: int
    output_divider: int
    phase_degrees: float = 0.0

    @property
    def phases(self) -> tuple[int, int, int]:
        """CPHASE of CLKOP, CPHASE and FPHASE (eighths of a VCO cycle) of CLKOS."""
        primary = self.output_divider // 2 - 1
        eighths = round(8 * self.output_divider * self.phase_degrees / 360)
        return primary, (primary + eighths // 8) % 128, eighths % 8

    def instance(self, source: Value, clock: Signal, shifted: Signal, locked: Signal) -> Instance:
        """The primitive; ``shifted`` is CLKOS."""
        primary, coarse, fine = self.phases
        parameters: dict[str, Any] = {
            "p_CLKI_DIV": self.input_divider,
            "p_CLKFB_DIV": self.feedback_divider,
            "p_FEEDBK_PATH": "CLKOP",
            "p_CLKOP_ENABLE": "ENABLED",
            "p_CLKOP_DIV": self.output_divider,
            "p_CLKOP_CPHASE": primary,
            "p_CLKOP_FPHASE": 0,
            "p_CLKOS_ENABLE": "ENABLED",
            "p_CLKOS_DIV": self.output_divider,
            "p_CLKOS_CPHASE": coarse,
            "p_CLKOS_FPHASE": fine,
        }
        for name in ("PLLRST_ENA", "INTFB_WAKE", "STDBY_ENABLE", "DPHASE_SOURCE"):
            parameters[f"p_{name}"] = "DISABLED"
        for letter in "ABCD":
            parameters[f"p_OUTDIVIDER_MUX{letter}"] = f"DIV{letter}"
        for name in ("RST", "STDBY", "PHASESEL0", "PHASESEL1", "PLLWAKESYNC", "ENCLKOP"):
            parameters[f"i_{name}"] = Const(0)
        for name in ("PHASEDIR", "PHASESTEP", "PHASELOADREG"):
            parameters[f"i_{name}"] = Const(1)
        return Instance(
            "EHXPLLL",
            # The analogue loop filter, as Lattice's tools set it for these ranges (ecppll).
            a_ICP_CURRENT="12",
            a_LPF_RESISTOR="8",
            a_MFG_ENABLE_FILTEROPAMP="1",
            a_MFG_GMCREF_SEL="2",
            a_FREQUENCY_PIN_CLKI=str(self.input_mhz),
            a_FREQUENCY_PIN_CLKOP=str(self.output_mhz),
            a_FREQUENCY_PIN_CLKOS=str(self.output_mhz),
            i_CLKI=source,
            i_CLKFB=clock,
            o_CLKOP=clock,
            o_CLKOS=shifted,
            o_LOCK=locked,
            **parameters,
        )


def ecp5_pll(input_mhz: float, output_mhz: float, phase_degrees: float = 0.0) -> Ecp5Pll:
    """Dividers for a frequency, the VCO nearest to 600 MHz; ``UserError`` if there are none."""
    best: tuple[tuple[float, float], Ecp5Pll] | None = None
    for divider in _whole(1, 128):
        if not 3.125 <= input_mhz / divider <= 400:
            continue
        feedback = round(output_mhz * divider / input_mhz)
        if not 1 <= feedback <= 80:
            continue
        found = input_mhz * feedback / divider
        for output in _whole(2, 128):
            if not 400 <= found * output <= 800:
                continue
            error = abs(found - output_mhz)
            rank = (error if error > TOLERANCE * output_mhz else 0.0, abs(found * output - 600))
            pll = Ecp5Pll(input_mhz, found, divider, feedback, output, phase_degrees)
            if best is None or rank < best[0]:
                best = rank, pll
    if best is None or best[0][0]:
        raise UserError(_no_clock(input_mhz, output_mhz, best[1].output_mhz if best else None))
    return best[1]


@dataclass(frozen=True)
class GowinPll:
    """Dividers of an rPLL: ``output = input * feedback / divider``, ``vco = output * vco_divider``.

    Source: Gowin DS102/UG286 for the GW2A, speed C8/I7, as apycula's gowin_pll has them.
    """

    input_mhz: float
    output_mhz: float
    divider: int
    feedback: int
    vco_divider: int

    def instance(self, source: Value, clock: Signal, shifted: Signal, locked: Signal) -> Instance:
        """The primitive; ``shifted`` is the output CLKOUTP, half a cycle late."""
        zeros = {"RESET": 1, "RESET_P": 1, "CLKFB": 1, "FBDSEL": 6, "IDSEL": 6, "ODSEL": 6}
        zeros |= {"DUTYDA": 4, "PSDA": 4, "FDLY": 4}
        return Instance(
            "rPLL",
            p_DEVICE="GW2A-18C",
            p_FCLKIN=f"{self.input_mhz:g}",
            p_IDIV_SEL=self.divider - 1,
            p_FBDIV_SEL=self.feedback - 1,
            p_ODIV_SEL=self.vco_divider,
            p_PSDA_SEL="1000",
            p_DUTYDA_SEL="1000",
            i_CLKIN=source,
            o_CLKOUT=clock,
            o_CLKOUTP=shifted,
            o_LOCK=locked,
            **{f"i_{name}": Const(0, width) for name, width in zeros.items()},
        )


def gowin_pll(input_mhz: float, output_mhz: float) -> GowinPll:
    """Dividers for a frequency; ``UserError`` if there are none within the tolerance."""
    best: tuple[float, GowinPll] | None = None
    for divider in _whole(1, 64):
        if not 3 <= input_mhz / divider <= 500:
            continue
        feedback = round(output_mhz * divider / input_mhz)
        found = input_mhz * feedback / divider
        if not 1 <= feedback <= 64 or not 3.90625 < found < 625:
            continue
        for vco in (2, 4, 8, 16, 32, 48, 64, 80, 96, 112, 128):
            if 500 < found * vco < 1250:
                error = abs(found - output_mhz)
                if best is None or error < best[0]:
                    best = error, GowinPll(input_mhz, found, divider, feedback, vco)
    if best is None or best[0] > TOLERANCE * output_mhz:
        raise UserError(_no_clock(input_mhz, output_mhz, best[1].output_mhz if best else None))
    return best[1]


def _no_clock(input_mhz: float, output_mhz: float, nearest: float | None) -> str:
    hint = f"; {nearest:.6g} MHz would do" if nearest else ""
    return f"--freq {output_mhz:g}: the PLL can't make this from {input_mhz:g} MHz{hint}"
