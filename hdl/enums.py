"""Amaranth's enumerations with a shape, in a form that type checkers understand."""

from typing import TYPE_CHECKING, Any

__all__ = ["Enum"]

if TYPE_CHECKING:
    import enum

    class Enum(enum.Enum):
        """``amaranth.lib.enum.Enum``: members are constants of ``shape`` in the RTL."""

        def __init_subclass__(cls, *, shape: Any = None) -> None: ...

else:
    from amaranth.lib.enum import Enum
