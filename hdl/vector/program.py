"""The vector unit's passes: what every instruction does, as a table.

A *pass* sends every word of its blocks and rows once through the datapath

    a -> multiply by b -> add c -> function -> reduce and sinks

with a configuration that does not change on the way. Nest, outermost first: blocks, rows, words of
``lanes`` FP32. :data:`PASSES` is the whole program of the unit; the sequencer runs it.
"""

from dataclasses import dataclass, fields, replace

from amaranth.hdl import Const
from amaranth.lib import data

from hdl.enums import Enum

__all__ = [
    "END",
    "PASSES",
    "Addend",
    "AddendValue",
    "Blocks",
    "Factor",
    "FactorValue",
    "Function",
    "Loop",
    "Pass",
    "Place",
    "Reduce",
    "Source",
    "control_layout",
    "pass_constant",
    "pass_layout",
    "pass_number",
]


class Source(Enum, shape=3):
    """Operand a."""

    PANEL = 0
    SWAPPED = 1  # panel, neighbouring lanes exchanged (2i with 2i+1)
    ROWS = 2  # row memory
    TEMP = 3
    SUM = 4  # the row's sum, on every lane
    TOKEN = 5  # the row's argmax, on every lane


class Factor(Enum, shape=3):
    """Operand b."""

    VALUE = 0  # FactorValue
    SELF = 1  # a
    CONSTANTS = 2  # constant memory
    SCALAR = 3  # the row's scalar
    PANEL = 4


class FactorValue(Enum, shape=2):
    ONE = 0
    INVERSE_DIM = 1
    SCORE_SCALE = 2
    MINUS_LOG2E = 3


class Addend(Enum, shape=2):
    """Operand c."""

    VALUE = 0  # AddendValue
    ROWS = 1
    TEMP = 2
    SCALAR = 3  # the row's scalar


class AddendValue(Enum, shape=2):
    MINUS_ZERO = 0  # x + -0 is x, bit for bit
    ONE = 1
    EPSILON = 2


class Function(Enum, shape=2):
    """As ``SpecialFunction`` numbers them."""

    PASS = 0
    EXP2 = 1
    RECIPROCAL = 2
    RSQRT = 3


class Reduce(Enum, shape=3):
    """Over a row's lanes and words, then over the blocks since ``first``."""

    NONE = 0
    SUM = 1
    MAXIMUM = 2  # integer ceiling, running over pages: M, shift, scalar = -M
    EXPONENT = 3  # of the largest magnitude
    ARGMAX = 4


class Blocks(Enum, shape=2):
    """Blocks a pass goes over."""

    ONE = 0
    ALL = 1  # operand ``blocks``
    STRIP = 2  # as many as temp holds of a row, or what is left
    HEAD = 3  # HEAD_BLOCKS


class Place(Enum, shape=2):
    """Destination of block 0 of row 0."""

    BASE = 0  # the instruction's, advanced
    WEIGHTS = 1  # P buffer of the visit
    OUTPUT = 2  # attention output of the batch


class Loop(Enum, shape=2):
    """When the pass ends: which pass is next."""

    NEXT = 0  # ``then``
    ITEM = 1  # the instruction's loop again, or ``then`` when no item is left
    HEAD = 2  # the instruction's loop again, or ``then`` at the end of a head
    TURN = 3  # attention: the sequencer decides


END = "END"


@dataclass(frozen=True)
class Pass:
    """One row of the program. Fields up to ``attention`` travel with the words."""

    source: Source = Source.PANEL
    factor: Factor = Factor.VALUE
    factor_value: FactorValue = FactorValue.ONE
    addend: Addend = Addend.VALUE
    addend_value: AddendValue = AddendValue.MINUS_ZERO
    function: Function = Function.PASS
    reduce: Reduce = Reduce.NONE
    to_temp: bool = False
    to_rows: bool = False
    to_scalars: bool = False
    to_activations: bool = False  # quantised by block
    to_append: bool = False  # quantised with the exponent of the row's head
    to_memory: bool = False  # operand a as it is read
    attention: bool = False  # P: value scales in, ``shift`` out; the running sum is rescaled
    # For the sequencer
    blocks: Blocks = Blocks.ONE
    narrow: bool = False  # one word a row
    queries: bool = False  # rows are query rows of the visit
    final: bool = False  # rows and panels are of the finished batch
    place: Place = Place.BASE
    second: bool = False  # reads the ring's second panel, not the first
    sine: bool = False  # second half of a RoPE row
    masked: bool = False  # columns take part by position, or by VOCABULARY
    panels: int = 0  # ring panels it needs
    release: int = 0  # ring panels free at its end
    release_output: bool = False
    advance: bool = False  # move source and destination on by its blocks
    paced: bool = False  # blocks no closer than the accumulator's latency
    overlap: bool = True  # its row results are used in the order and pace that they come
    after: bool = False  # uses results of the pass before
    turn: bool = False  # reads at the early stage what the pass before read at the late one
    loop: Loop = Loop.NEXT
    then: str = END


_COS = Pass(source=Source.PANEL, factor=Factor.CONSTANTS, to_temp=True, panels=1)
_SIN = Pass(
    source=Source.SWAPPED,
    factor=Factor.CONSTANTS,
    addend=Addend.TEMP,
    sine=True,
    panels=1,
    release=1,
    after=True,
)
_SCORES = Pass(
    factor_value=FactorValue.SCORE_SCALE,
    queries=True,
    masked=True,
    panels=1,
)

PASSES: dict[str, Pass] = {
    "NORM_SQUARE": Pass(
        source=Source.ROWS,
        factor=Factor.SELF,
        reduce=Reduce.SUM,
        blocks=Blocks.ALL,
        paced=True,
        overlap=False,
        then="NORM_ROOT",
    ),
    "NORM_ROOT": Pass(
        source=Source.SUM,
        factor_value=FactorValue.INVERSE_DIM,
        addend_value=AddendValue.EPSILON,
        function=Function.RSQRT,
        to_scalars=True,
        narrow=True,
        after=True,
        then="NORM_SCALE",
    ),
    "NORM_SCALE": Pass(
        source=Source.ROWS,
        factor=Factor.SCALAR,
        to_temp=True,
        blocks=Blocks.STRIP,
        after=True,
        then="NORM_WEIGH",
    ),
    "NORM_WEIGH": Pass(
        source=Source.TEMP,
        factor=Factor.CONSTANTS,
        to_activations=True,
        blocks=Blocks.STRIP,
        after=True,
        advance=True,
        loop=Loop.ITEM,
    ),
    "QUANTISE": Pass(source=Source.ROWS, to_activations=True, blocks=Blocks.ALL),
    "ADD": Pass(
        addend=Addend.ROWS, to_rows=True, panels=1, release=1, advance=True, loop=Loop.ITEM
    ),
    "ROPE_COS": replace(_COS, then="ROPE_SIN"),
    "ROPE_SIN": replace(_SIN, to_activations=True, advance=True, loop=Loop.ITEM),
    "SWIGLU_EXP": Pass(
        factor_value=FactorValue.MINUS_LOG2E,
        function=Function.EXP2,
        to_temp=True,
        panels=1,
        then="SWIGLU_RECIPROCAL",
    ),
    "SWIGLU_RECIPROCAL": Pass(
        source=Source.TEMP,
        addend_value=AddendValue.ONE,
        function=Function.RECIPROCAL,
        to_temp=True,
        after=True,
        then="SWIGLU_GATE",
    ),
    "SWIGLU_GATE": Pass(
        source=Source.TEMP,
        factor=Factor.PANEL,
        to_temp=True,
        panels=1,
        after=True,
        then="SWIGLU_UP",
    ),
    "SWIGLU_UP": Pass(
        source=Source.TEMP,
        factor=Factor.PANEL,
        second=True,
        to_activations=True,
        panels=2,
        release=2,
        after=True,
        advance=True,
        loop=Loop.ITEM,
    ),
    "KEY_COS": replace(_COS, then="KEY_SIN"),
    "KEY_SIN": replace(
        _SIN, to_temp=True, reduce=Reduce.EXPONENT, loop=Loop.HEAD, then="APPEND_OUT"
    ),
    "VALUE_COPY": Pass(
        to_temp=True,
        reduce=Reduce.EXPONENT,
        panels=1,
        release=1,
        loop=Loop.HEAD,
        then="APPEND_OUT",
    ),
    "APPEND_OUT": Pass(
        source=Source.TEMP,
        to_append=True,
        blocks=Blocks.HEAD,
        after=True,
        turn=True,
        loop=Loop.ITEM,
    ),
    "LOGITS": Pass(
        reduce=Reduce.ARGMAX,
        to_memory=True,
        masked=True,
        panels=1,
        release=1,
        advance=True,
        overlap=False,
        loop=Loop.ITEM,
        then="TOKENS",
    ),
    "TOKENS": Pass(source=Source.TOKEN, to_memory=True, narrow=True, after=True),
    "STORE": Pass(source=Source.ROWS, to_memory=True, blocks=Blocks.ALL),
    "SOFTMAX_MAX": replace(_SCORES, reduce=Reduce.MAXIMUM, then="SOFTMAX_EXP"),
    "SOFTMAX_EXP": replace(
        _SCORES,
        addend=Addend.SCALAR,
        function=Function.EXP2,
        reduce=Reduce.SUM,
        to_activations=True,
        attention=True,
        place=Place.WEIGHTS,
        release=1,
        overlap=False,
        after=True,
        loop=Loop.TURN,
    ),
    "FINAL_INVERSE": Pass(
        source=Source.SUM,
        function=Function.RECIPROCAL,
        to_scalars=True,
        narrow=True,
        queries=True,
        final=True,
        after=True,
        then="FINAL_SCALE",
    ),
    "FINAL_SCALE": Pass(
        factor=Factor.SCALAR,
        to_activations=True,
        blocks=Blocks.HEAD,
        queries=True,
        final=True,
        place=Place.OUTPUT,
        release_output=True,
        after=True,
        loop=Loop.TURN,
    ),
}

_NUMBERS = {name: i for i, name in enumerate(PASSES)}
_TRAVELS = [f.name for f in fields(Pass)]
_TRAVELS = _TRAVELS[: _TRAVELS.index("attention") + 1]


def pass_number(name: str) -> int:
    """Number of a pass; the one past the last is :data:`END`."""
    return len(_NUMBERS) if name == END else _NUMBERS[name]


def _shape(name: str):
    default = getattr(Pass(), name)
    return 1 if isinstance(default, bool) else type(default)


def control_layout() -> data.StructLayout:
    """The part of a pass that travels with its words."""
    return data.StructLayout({name: _shape(name) for name in _TRAVELS})


def pass_layout() -> data.StructLayout:
    """A pass as the sequencer holds it."""
    members = {"control": control_layout()}
    for f in fields(Pass):
        if f.name not in _TRAVELS:
            members[f.name] = {"panels": 2, "release": 2, "then": 5}.get(f.name) or _shape(f.name)
    members["drain"] = 7  # cycles until a dependent pass may start
    members["landing"] = 7  # cycles until its last result is in place
    return data.StructLayout(members)


def pass_constant(name: str, drain: int, landing: int) -> Const:
    """A pass as a constant of :func:`pass_layout`."""
    row = PASSES[name]
    value = {f.name: getattr(row, f.name) for f in fields(Pass) if f.name not in _TRAVELS}
    value["control"] = {name: getattr(row, name) for name in _TRAVELS}
    value |= {"then": pass_number(row.then), "drain": drain, "landing": landing}
    return pass_layout().const(value)
