"""A fault in words, from the chip's registers."""

from collections.abc import Callable

from hdl.isa import DescriptorError, Fault, HostRegister, Unit

__all__ = ["fault_text"]


def fault_text(read: Callable[[HostRegister], int]) -> str:
    """What the fault registers say; ``read`` gives a register."""
    cause = Fault(read(HostRegister.FAULT_CAUSE))
    unit = Unit(read(HostRegister.FAULT_UNIT))
    detail = read(HostRegister.FAULT_DETAIL)
    index = read(HostRegister.FAULT_INDEX)
    address = read(HostRegister.FAULT_ADDRESS_LOW) | read(HostRegister.FAULT_ADDRESS_HIGH) << 32
    name = DescriptorError(detail).name if cause is Fault.BAD_DESCRIPTOR else f"{detail:#x}"
    return (
        f"{cause.name} in unit {unit.name}, instruction {index}, "
        f"detail {name}, address {address:#x}"
    )
