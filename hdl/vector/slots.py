"""The record that the sequencer sends down the datapath with every word."""

from amaranth.lib import data
from amaranth.utils import bits_for, exact_log2

from hdl.config import Config
from hdl.vector.program import control_layout

__all__ = [
    "ADDRESS_BITS",
    "HEAD_BITS",
    "PARTICIPANT_BITS",
    "panel_bits",
    "row_index_bits",
    "slot_layout",
    "temp_address_bits",
    "word_index_bits",
]

ADDRESS_BITS = 22
"""Of block addresses before they are checked; 64 rows of 2**15 panels of logits."""
CONSTANT_BITS = 18
HEAD_BITS = 4
PARTICIPANT_BITS = 6


def word_index_bits(config: Config) -> int:
    """Word of a block; one bit where there is only one (Verilog has no signals of no bits)."""
    return max(exact_log2(config.block_words), 1)


def row_index_bits(config: Config) -> int:
    """Row of a step."""
    return bits_for(config.row_capacity - 1)


def panel_bits(config: Config) -> int:
    """Panel number."""
    return bits_for(config.panels - 1)


def temp_address_bits(config: Config) -> int:
    """Temp memory: {word, row, block of a strip or head}, word lowest."""
    return (
        exact_log2(config.block_words)
        + row_index_bits(config)
        + (bits_for(config.head_blocks - 1) if config.head_blocks > 1 else 0)
    )


def slot_layout(config: Config) -> data.StructLayout:
    """One word on its way.

    ``first``: the row's reduction starts with this block; ``final``: last word of its pass.
    ``participants``: columns of the block that take part, from column 0. Addresses are in blocks.
    """
    return data.StructLayout(
        {
            "valid": 1,
            "control": control_layout(),
            "row": row_index_bits(config),
            "block": HEAD_BITS,
            "word": word_index_bits(config),
            "first": 1,
            "final": 1,
            "participants": PARTICIPANT_BITS,
            "source": ADDRESS_BITS,
            "destination": ADDRESS_BITS,
            "constant": CONSTANT_BITS,
            "panel": panel_bits(config),
            "parity": 1,  # of the attention batch
            "buffer": 1,  # P buffer
            "slot": 3,  # page slot
            "head": 8,  # KV head
        }
    )
