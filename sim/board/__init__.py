"""Models of what stands beside the chip on its board."""

from sim.board.sdram_chip import SdramChip
from sim.board.sdram_rules import SdramRules

__all__ = ["SdramChip", "SdramRules"]
