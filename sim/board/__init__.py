"""Models of what stands beside the chip on its board."""

from sim.board.sdram_chip import SdramChip
from sim.board.sdram_rules import SdramRules
from sim.board.sdram_system import SdramSystem

__all__ = ["SdramChip", "SdramRules", "SdramSystem"]
