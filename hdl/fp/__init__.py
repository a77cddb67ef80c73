"""FP32 components: pipelined, one result a cycle, no valid and no stall."""

ADD_LATENCY = 5
MUL_LATENCY = 4
FUNCTION_LATENCY = 8
TERM_LATENCY = 3
