"""FP32 components: pipelined, one result a cycle, no valid, no stall and no reset.

A result stands `latency` cycles after its operands. Empty stages may be held (`stage_enables`).
Numerics: docs/spec.md, section 1.
"""

from .add import FpAdd
from .convert import (
    ceil_to_int,
    int_to_fp,
    order_key,
    quantise_element,
    quantise_operand,
    scale_code,
    scale_down,
    scale_exponent,
    share,
)
from .function import SpecialFunction
from .mul import FpMul
from .pipeline import held, stage, stage_enables
from .tables import Function
from .term import BlockTerm

__all__ = [
    "ADD_LATENCY",
    "FUNCTION_LATENCY",
    "MUL_LATENCY",
    "TERM_LATENCY",
    "BlockTerm",
    "FpAdd",
    "FpMul",
    "Function",
    "SpecialFunction",
    "ceil_to_int",
    "held",
    "int_to_fp",
    "order_key",
    "quantise_element",
    "quantise_operand",
    "scale_code",
    "scale_down",
    "scale_exponent",
    "share",
    "stage",
    "stage_enables",
]

ADD_LATENCY = FpAdd.latency
MUL_LATENCY = FpMul.latency
FUNCTION_LATENCY = SpecialFunction.latency
TERM_LATENCY = BlockTerm.latency
