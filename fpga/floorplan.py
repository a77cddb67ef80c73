"""Where the array's multipliers stand: a systolic array is a picture, and placers do not see it."""

from hdl.config import Config

__all__ = ["array_sites"]

_ROWS = (10, 34, 58)
_COLUMNS = (4, 13, 22, 31, 40, 49, 58, 69, 78, 87, 96, 105, 114)
_OFFSETS = (0, 1, 4, 5)
"""LFE5U-85F: multipliers stand in three rows of blocks of four (prjtrellis, tilegrid.json)."""


def array_sites(config: Config) -> dict[str, str]:
    """BELs of nextpnr on an LFE5U-85F for the multipliers of the array, by the ends of their names.

    Clusters of rows stand side by side in the order in which sums go through them, along a row of
    multipliers and back on the next, so that each has its neighbours beside or below it; inside,
    the multipliers of a column stand together. None if they do not fit: the placer may know a way.
    """
    group = config.row_group
    size = -(-group * config.cols // len(_OFFSETS))  # blocks of a cluster
    in_row = len(_COLUMNS) // size  # clusters
    clusters = config.rows // group
    if clusters > in_row * len(_ROWS):
        return {}
    sites = {}
    for cluster in range(clusters):
        line, place = divmod(cluster, in_row)
        first = place * size
        blocks = list(range(first, first + size))
        if line % 2:
            blocks = [in_row * size - 1 - block for block in blocks]
        order = [
            (cluster * group + row, pair + column)
            for pair in range(0, config.cols, 2)
            for row in range(group)
            for column in range(2)
            if pair + column < config.cols
        ]
        for number, (row, column) in enumerate(order):
            block, offset = divmod(number, len(_OFFSETS))
            away = _OFFSETS[offset]
            name = f"row_{row}_{column // config.col_group}"
            name += f".multiplier_{column % config.col_group}.block"
            sites[name] = f"X{_COLUMNS[blocks[block]] + away}/Y{_ROWS[line]}/MULT18_{away}"
    return sites
