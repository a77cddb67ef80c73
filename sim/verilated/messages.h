// Included ahead of everything (-include): where Verilator's own printf goes.
#pragma once
extern "C" int serrano_print(const char* format, ...) __attribute__((format(printf, 1, 2)));
#define VL_PRINTF serrano_print
