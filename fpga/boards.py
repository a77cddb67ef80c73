"""Boards: their device, clock and pins, and what stands between those and the design."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from amaranth.hdl import (
    Cat,
    ClockDomain,
    ClockSignal,
    Const,
    Elaboratable,
    Instance,
    Module,
    Signal,
)
from amaranth.lib import io
from amaranth.lib.cdc import ResetSynchronizer
from amaranth.lib.wiring import Component

from compiler.errors import UserError
from fpga.family import DEVICES, Device
from fpga.pll import Ecp5Pll, GowinPll, ecp5_pll, gowin_pll
from hdl.emit import ports_of

__all__ = ["BOARDS", "SDRAM_PHASE_DEGREES", "Board", "Shell", "find_board"]

SDRAM_PHASE_DEGREES = 240.0
"""The SDRAM's clock after the controller's (`hdl.sdram.port` says why)."""


@dataclass(frozen=True)
class Board:
    """A board that the flow builds for.

    Attributes
    ----------
    name, title
    device
    preset : what is built unless another is asked for
    clock_mhz : of the crystal
    memory : what the board has for the accelerator's memory port, in words
    platform : makes the Amaranth platform
    pll : dividers for a frequency in MHz
    led_count : LEDs by the resource `led`
    sdram : whether there is an SDRAM that `hdl.sdram` drives
    target : what is built unless another is asked for: "" for the whole
    held_high : (resource, pin) that must be driven high while the design runs
    target_mhz : what the design is meant to reach
    """

    name: str
    title: str
    device: Device
    preset: str
    clock_mhz: float
    memory: str
    platform: Callable[[], Any]
    pll: Callable[[float], Ecp5Pll | GowinPll]
    led_count: int
    sdram: bool
    target: str = ""
    held_high: tuple[tuple[str, str], ...] = ()
    target_mhz: float = 100.0


def _ulx3s() -> Any:
    from amaranth_boards.ulx3s import ULX3S_85F_Platform

    from fpga.ecp5 import MultiplierBlocks

    class Ulx3s(MultiplierBlocks, ULX3S_85F_Platform):
        def get_sdram_pads(self, pads: Any) -> Module:
            return _sdram_pads(self, pads)

    return Ulx3s()


def _tang_primer_20k() -> Any:
    from amaranth_boards.tang_primer_20k import TangPrimer20kDockPlatform

    return TangPrimer20kDockPlatform(toolchain="Apicula")


BOARDS = {
    b.name: b
    for b in (
        Board(
            name="ulx3s",
            title="Radiona ULX3S-85F",
            device=DEVICES["LFE5U-85F-6"],
            preset="ulx3s",
            clock_mhz=25.0,
            memory="32 MB SDRAM, 16 bit",
            platform=_ulx3s,
            pll=lambda mhz: ecp5_pll(25.0, mhz, SDRAM_PHASE_DEGREES),
            led_count=8,
            sdram=True,
            # The ESP32 takes a low GPIO0 as a wish to be programmed and resets the board.
            held_high=(("esp32", "gpio0"),),
        ),
        Board(
            name="tangprimer20k",
            title="Sipeed Tang Primer 20K with Dock",
            device=DEVICES["GW2A-LV18PG256C8/I7"],
            preset="tiny",
            clock_mhz=27.0,
            memory="DDR3, which the design has no controller for",
            platform=_tang_primer_20k,
            pll=lambda mhz: gowin_pll(27.0, mhz),
            led_count=6,
            sdram=False,
            target="matrix",  # the whole needs about 30,000 LUTs
            target_mhz=54.0,
        ),
    )
}


def find_board(name: str) -> Board:
    """A board by name; ``UserError`` for a name that is none."""
    if name not in BOARDS:
        known = ", ".join(BOARDS)
        raise UserError(f"--board {name}: no such board; choose from {known} (docs/fpga.md adds)")
    return BOARDS[name]


class Shell(Elaboratable):
    """The whole of a bitstream: clock, reset and pins around a component.

    Domain `sync` runs at the PLL's output from when that has locked: on ECP5 its clock stands until
    then and registers start as they were configured, so that no reset has to cross the chip in a
    cycle; elsewhere it is held in reset. With
    ``pins`` the component's members go to the board's resources by their names: `uart_rx`,
    `uart_tx`, `leds`; SDRAM pads come with the platform's ``get_sdram_pads``. Without, every port
    is behind a register, the inputs' registers one long shift register from the serial line's pad
    and the outputs' folded to one bit, so that any component fits the pads and all its paths are
    between registers.
    """

    def __init__(self, board: Board, component: Component, pll: Ecp5Pll | GowinPll, *, pins: bool):
        self.board = board
        self.component = component
        self.pll = pll
        self._pins = pins

    def elaborate(self, platform):
        m = Module()
        gated = self.board.device.family.clock_gate
        m.domains.sync = ClockDomain(reset_less=bool(gated))
        locked, shifted, clock = Signal(), Signal(), Signal(name="pll_clk")
        crystal = io.Buffer("i", platform.request(platform.default_clk, dir="-"))
        m.submodules.crystal = crystal
        m.submodules.pll = self.pll.instance(crystal.i, clock, shifted, locked)
        if gated:
            m.domains.pll = ClockDomain(reset_less=True)
            enable = Signal(2)
            m.d.comb += ClockSignal("pll").eq(clock)
            m.d.pll += enable.eq(Cat(locked, enable[0]))
            m.submodules.gate = Instance(gated, i_CLKI=clock, i_CE=enable[1], o_CLKO=ClockSignal())
        else:
            m.d.comb += ClockSignal().eq(clock)
            m.submodules.reset = ResetSynchronizer(~locked)
        m.submodules.dut = self.component
        for resource, pin in self.board.held_high:
            port = getattr(_request(platform, resource), pin)
            m.submodules[f"{resource}_{pin}"] = high = io.Buffer("o", port)
            m.d.comb += high.o.eq(1)
        if self.board.sdram:  # for the pads of an SDRAM controller, if there is one in the design
            m.domains.sdram = ClockDomain(reset_less=True)
            m.d.comb += ClockSignal("sdram").eq(shifted)
        if self._pins:
            self._connect_pins(m, platform)
        else:
            self._fold(m, platform)
        return m

    def _uart(self, m, platform) -> tuple[Signal, Signal]:
        uart = _request(platform, "uart")
        m.submodules.rx = rx = io.Buffer("i", uart.rx)
        m.submodules.tx = tx = io.Buffer("o", uart.tx)
        return rx.i, tx.o

    def _connect_pins(self, m, platform) -> None:
        rx, tx = self._uart(m, platform)
        m.d.comb += [self.component.uart_rx.eq(rx), tx.eq(self.component.uart_tx)]
        leds = self.component.leds
        for i in range(min(len(leds), self.board.led_count)):
            m.submodules[f"led_{i}"] = led = io.Buffer("o", platform.request("led", i, dir="-"))
            m.d.comb += led.o.eq(leds[i])

    def _fold(self, m, platform) -> None:
        pin, out = self._uart(m, platform)
        # The first register takes the pad out of the timing of the rest.
        chain = Signal(name="pin")
        m.d.sync += chain.eq(pin)
        total: Any = Const(0)
        for name, (value, direction) in ports_of(self.component).items():
            register = Signal(len(value), name=f"port_{name}")
            if direction.name == "Input":
                m.d.sync += register.eq(Cat(chain, register)[: len(value)])
                m.d.comb += value.eq(register)
                chain = register[-1]
            else:
                folded = Signal(len(value), name=f"fold_{name}")
                m.d.sync += register.eq(value)
                m.d.sync += folded.eq(register ^ Cat(total, folded)[: len(value)])
                total = folded[-1]
        last = Signal(name="last")
        m.d.sync += last.eq(total)
        m.d.comb += out.eq(last)


def _request(platform: Any, resource: str) -> Any:
    """The bare pins of a resource with named ones."""
    pins = [pin.name for pin in platform.lookup(resource, 0).ios if hasattr(pin, "ios")]
    return platform.request(resource, 0, dir=dict.fromkeys(pins, "-"))


def _sdram_pads(platform: Any, pads: Any) -> Module:
    """`hdl.sdram.pads.SdramPads` in the I/O cells of the pads, the chip's clock with them."""
    m = Module()
    names = {"cke": "clk_en", "cs_n": "cs", "ras_n": "ras", "cas_n": "cas", "we_n": "we"}
    members = ("cke", "cs_n", "ras_n", "cas_n", "we_n", "ba", "a", "dqm")
    port = _request(platform, "sdram")
    for name in members:
        buffer = io.FFBuffer("o", getattr(port, names.get(name, name)))
        m.submodules[name] = buffer
        value = getattr(pads.inner, name)
        # The platform's pins of cs, ras, cas, we are active low themselves.
        m.d.comb += buffer.o.eq(~value if name.endswith("_n") else value)
    m.submodules.dq = dq = io.FFBuffer("io", port.dq)
    m.d.comb += [dq.o.eq(pads.inner.dq_o), dq.oe.eq(pads.inner.dq_oe), pads.inner.dq_i.eq(dq.i)]
    m.submodules.clk = clk = io.DDRBuffer("o", port.clk, o_domain="sdram")
    m.d.comb += [clk.o[0].eq(1), clk.o[1].eq(0)]
    return m
