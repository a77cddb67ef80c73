"""What the sequencer says about an array tile to the loader, the feeder and the accumulators."""

from amaranth.lib import data

from hdl.config import Config
from hdl.interfaces import ROW_BITS
from hdl.isa import SEMAPHORES

__all__ = ["row_tag_layout", "tile_layout"]


def _range(n: int) -> range:
    """Of at least a bit: Verilog has no vector without one."""
    return range(max(n, 2))


def tile_layout(config: Config) -> data.StructLayout:
    """An array tile: ``rows`` x ``cols`` weights, and the activation rows that meet them."""
    return data.StructLayout(
        {
            # Weights
            "page": 1,  # from a page slot, else from the tape
            "value": 1,  # of a page: V, loaded by row; else K. All but V is loaded by column
            "slot": 3,
            "beat": range(config.slot_beats),  # of the slot's half: first beat of the tile
            # Place in the panel
            "reduction": _range(config.passes),  # array pass of the block
            "group": _range(config.column_groups),  # columns group * cols ... of the panel
            "first": 1,  # first block: the panel's old contents do not count
            "output": 1,  # an output panel of attention, else the present panel of the ring
            "panel": range(2 * config.head_blocks),  # output panel
            # Activation rows: row r at address + r * stride. Query rows: row (i, h) at address
            # + i * stride + h * HEAD_BLOCKS for h < HEAD_GROUP
            "rows": ROW_BITS,  # 0: the weights are dropped
            "address": 20,
            "stride": 12,
            "query": 1,
            # Order
            "opens": 1,  # first tile of an instruction: needs its semaphores
            "closes": 1,  # last tile of an instruction
            "signal": SEMAPHORES,  # given when the last row has been read
            "panel_first": 1,  # takes a panel of the ring
            "panel_last": 1,
            "weights_first": 1,  # takes a P buffer
            "weights_last": 1,  # gives it back, and the page slot
            "batch_first": 1,  # takes a set of output panels
            "batch_last": 1,
        }
    )


def row_tag_layout(config: Config) -> data.StructLayout:
    """What goes along with an activation row, from the feeder to the accumulators."""
    return data.StructLayout(
        {
            "swap": 1,  # first row of its tile
            "open": 1,  # first pass of its block
            "close": 1,  # last pass of its block: its panel word is written
            "first": 1,
            "group": _range(config.column_groups),
            "row": _range(config.row_capacity),
            "panel": range(config.panels),
            "ring_done": 1,  # last row of a ring panel
            "output_done": 1,  # last row of a set of output panels
        }
    )
