"""FPGA boards, builds and reports."""
