"""What the FP32 pipelines share: registers of a stage, and the enables that hold them."""

from collections.abc import Callable
from typing import Any

from amaranth.hdl import Cat, Const, Module, Signal, Value, ValueLike
from amaranth.lib.wiring import In, Member

__all__ = ["enable_port", "held", "stage", "stage_enables"]


def enable_port(latency: int) -> Member:
    """Input that lets the registers of each stage (bit 0: the first) take new values.

    Left alone it is all ones. Driven with `stage_enables` of the operands' valid, stages with
    nothing in them stand still, which saves power in the chip and time in simulation.
    """
    return In(latency, init=(1 << latency) - 1)


def held(platform: Any, enable: ValueLike) -> Value:
    """An enable that is there for power and simulation speed only, so it may be all ones too.

    It is so in an FPGA (a platform that builds multipliers, `hdl.multiplier`): there an enable is
    a wire to hundreds of registers, the longest of the design, and holds no clock back.
    """
    enable = Value.cast(enable)
    ones = Const((1 << len(enable)) - 1, len(enable))
    return ones if hasattr(platform, "get_multiplier") else enable


def stage_enables(m: Module, valid: Value, latency: int) -> Value:
    """Enables of a pipeline of `latency` stages whose operands are there while `valid` is high.

    Make one for all lanes that run together. The result is there one cycle after the last bit.
    Call it outside `m.If`.
    """
    later = Signal(latency - 1, name="later_stages")
    enables = Signal(latency, name="stage_enables")
    m.d.sync += later.eq(enables)
    m.d.comb += enables.eq(Cat(valid, later))
    return enables


def stage(m: Module, enable: Value) -> Callable[[Value, str], Signal]:
    """A function that registers a value under a name while `enable` is high. Not reset."""

    def register(value: Value, name: str) -> Signal:
        signal = Signal(value.shape(), name=name, reset_less=True)
        with m.If(enable):
            m.d.sync += signal.eq(value)
        return signal

    return register
