"""A fault of the chip, as the golden model finds it."""

from hdl.isa import DescriptorError, Fault

__all__ = ["ChipFault"]


class ChipFault(Exception):
    """The step stopped. ``cause``, ``detail`` and ``index`` are what the fault record holds."""

    def __init__(self, cause: Fault, text: str, *, detail: int = 0, index: int = 0):
        super().__init__(f"{cause.name}: {text}")
        self.cause = cause
        self.detail = detail
        self.index = index

    @classmethod
    def descriptor(cls, error: DescriptorError, text: str) -> "ChipFault":
        return cls(Fault.BAD_DESCRIPTOR, text, detail=error.value)
