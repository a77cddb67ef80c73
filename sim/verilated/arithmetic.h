// Ahead of the generated C++: cheaper forms of Verilator's own signed arithmetic.
//
// Its sign extension is three operations (mask, negate, or) that g++ does not recognise; two
// shifts become one load with sign extension for 8 and 16 bits. Its product extends both operands
// again, though the low bits, all that is ever kept, do not depend on anything above them.
// Comparisons shift both sides to the top instead of extending them in 64 bits.
// Results are "dirty" as Verilator's are: bits above the result's width mean nothing.

#pragma once

#include "verilated.h"

static inline IData serrano_extend(int bits, IData value) {
    return static_cast<IData>(static_cast<int32_t>(value << (32 - bits)) >> (32 - bits));
}

static inline QData serrano_extend_long(int bits, QData value) {
    return static_cast<QData>(static_cast<int64_t>(value << (64 - bits)) >> (64 - bits));
}

// Order is that of the values; what stands above the operand's width falls off.
static inline int32_t serrano_at_top(int bits, IData value) {
    return static_cast<int32_t>(value << (32 - bits));
}

#define VL_EXTENDS_II(result_bits, bits, value) serrano_extend(bits, value)
#define VL_EXTENDS_QI(result_bits, bits, value) serrano_extend_long(bits, value)
#define VL_EXTENDS_QQ(result_bits, bits, value) serrano_extend_long(bits, value)
#define VL_MULS_III(bits, a, b) (static_cast<IData>(a) * static_cast<IData>(b))
#define VL_MULS_QQQ(bits, a, b) (static_cast<QData>(a) * static_cast<QData>(b))
#define VL_GTS_III(bits, a, b) (serrano_at_top(bits, a) > serrano_at_top(bits, b))
#define VL_GTES_III(bits, a, b) (serrano_at_top(bits, a) >= serrano_at_top(bits, b))
#define VL_LTS_III(bits, a, b) (serrano_at_top(bits, a) < serrano_at_top(bits, b))
#define VL_LTES_III(bits, a, b) (serrano_at_top(bits, a) <= serrano_at_top(bits, b))
