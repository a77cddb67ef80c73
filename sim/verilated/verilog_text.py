"""Patterns of the Verilog that Amaranth's back end writes, for the rewriting passes."""

import re

__all__ = ["IDENTIFIER", "TOKEN"]

IDENTIFIER = r"(?:\\\S+ |[A-Za-z_]\w*)"
"""A name where it stands: an escaped one with the space that ends it."""

TOKEN = re.compile(r"\\\S+|[A-Za-z_]\w*")
"""Any name or keyword."""
