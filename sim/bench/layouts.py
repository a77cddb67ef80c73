"""Python values to and from the bits of an Amaranth layout (fast: no Amaranth object a value)."""

from collections.abc import Mapping
from typing import Any

from amaranth.hdl import Shape
from amaranth.lib import data

__all__ = ["pack", "unpack"]


def pack(layout: Any, value: Any) -> int:
    """Bits of ``value``.

    A struct wants a mapping with every field, an array a sequence of its length, another shape an
    int (negative where the shape is signed). Raises ``ValueError`` for what does not fit.
    """
    if isinstance(value, Mapping):
        if not isinstance(layout, data.StructLayout):
            raise ValueError(f"{value!r} needs a struct layout, not {layout!r}")
        if missing := set(layout.members) ^ set(value):
            raise ValueError(f"fields missing or unknown: {', '.join(sorted(missing))}")
        return sum(pack(field.shape, value[name]) << field.offset for name, field in layout)
    if isinstance(layout, data.ArrayLayout) and not isinstance(value, int):
        if len(value) != layout.length:
            raise ValueError(f"{len(value)} elements for an array of {layout.length}")
        width = Shape.cast(layout.elem_shape).width
        return sum(pack(layout.elem_shape, v) << i * width for i, v in enumerate(value))
    if layout is None:
        raise ValueError(f"{value!r} needs a layout")
    shape, number = Shape.cast(layout), int(value)
    low = -(1 << shape.width - 1) if shape.signed else 0
    if not low <= number < low + (1 << shape.width):
        raise ValueError(f"{number} does not fit in {shape.width} bits")
    return number & (1 << shape.width) - 1


def unpack(layout: Any, bits: int) -> Any:
    """The reverse: dicts for structs, lists for arrays, ints otherwise."""
    if isinstance(layout, data.StructLayout):
        return {name: unpack(field.shape, bits >> field.offset) for name, field in layout}
    if isinstance(layout, data.ArrayLayout):
        width = Shape.cast(layout.elem_shape).width
        return [unpack(layout.elem_shape, bits >> i * width) for i in range(layout.length)]
    shape = Shape.cast(layout)
    value = bits & (1 << shape.width) - 1
    if shape.signed and value >> shape.width - 1:
        value -= 1 << shape.width
    return value
