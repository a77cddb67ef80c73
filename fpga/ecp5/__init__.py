"""Lattice ECP5: what of the design becomes a primitive of the device."""

from fpga.ecp5.multiplier import BLOCK_MODEL, MultiplierBlocks, multiplier_block

__all__ = ["BLOCK_MODEL", "MultiplierBlocks", "multiplier_block"]
