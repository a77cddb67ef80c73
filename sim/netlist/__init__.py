"""What synthesis made of the design, simulated and proven against the RTL."""

from sim.netlist.synthesis import Netlist, synthesize

__all__ = ["Netlist", "synthesize"]
