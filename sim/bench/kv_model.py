"""What the KV unit must do, by direct arithmetic from docs/spec.md: steps, pages, visits."""

import random
from dataclasses import dataclass, field

from hdl.config import PAGE_TOKENS, Config

__all__ = ["Segment", "Step", "World", "expected_visits", "page_halves", "random_step"]

BASE = 0x12_3400_0000  # of the memory window: more than 32 bits


@dataclass
class World:
    """A memory with page tables, owners and KV pages.

    ``content`` is what memory must hold: appends are applied to it as they are sent. Tables come
    first, then owners, then pages.
    """

    config: Config
    head_blocks: int
    kv_heads: int
    head_group: int
    batch_rows: int
    kv_pages: int
    layers: int = 2
    slack_bytes: int = 0
    content: bytearray = field(default_factory=bytearray)

    def __post_init__(self):
        self.table_bytes = 1 << 13
        self.owners_at = BASE + self.table_bytes + 4 * 3  # word aligned only
        owners_end = self.table_bytes + 4 * (self.kv_pages + 3)
        self.kv_at = BASE + (owners_end + 63) // 64 * 64
        self.size = self.kv_at - BASE + self.kv_pages * self.page_bytes
        if not self.content:
            self.content = bytearray(self.size)

    @property
    def half_bytes(self) -> int:
        return 1024 * self.head_blocks + 32

    @property
    def layer_bytes(self) -> int:
        return self.kv_heads * 2 * self.half_bytes

    @property
    def page_bytes(self) -> int:
        return self.layers * self.layer_bytes + self.slack_bytes

    @property
    def query_stride(self) -> int:
        return self.head_group * self.kv_heads * self.head_blocks

    def model(self, **changes: int) -> dict[str, int]:
        """Model registers."""
        return {
            "kv_base": self.kv_at,
            "kv_pages": self.kv_pages,
            "kv_page_bytes": self.page_bytes,
            "kv_owners": self.owners_at,
            "kv_heads": self.kv_heads,
            "head_group": self.head_group,
            "head_blocks": self.head_blocks,
            "query_stride": self.query_stride,
            "batch_rows": self.batch_rows,
            **changes,
        }

    def put(self, address: int, data: bytes) -> None:
        """Bytes of ``content`` at a byte address."""
        offset = address - BASE
        assert 0 <= offset <= self.size - len(data)
        self.content[offset : offset + len(data)] = data

    def get(self, address: int, length: int) -> bytes:
        offset = address - BASE
        assert 0 <= offset <= self.size - length
        return bytes(self.content[offset : offset + length])

    def page_address(self, page: int) -> int:
        return self.kv_at + page * self.page_bytes

    def append(self, page: int, token: int, offset: int, block: dict) -> None:
        """Apply an appended block (fields of ``append_payload``)."""
        half = (
            self.page_address(page)
            + offset
            + block["head"] * 2 * self.half_bytes
            + block["value"] * self.half_bytes
        )
        elements = bytes(e & 0xFF for e in block["elements"])
        at = half + token * 32 * self.head_blocks + 32 * block["block"]
        self.put(at, elements)
        if block["block"] == self.head_blocks - 1:
            self.put(half + 1024 * self.head_blocks + token, bytes([block["scale"]]))


@dataclass
class Segment:
    """Rows of one sequence, and its page table."""

    row: int
    rows: int
    position: int
    owner: int
    pages: list[int]
    table: int = 0  # byte address

    def entry(self) -> dict[str, int]:
        """Fields of ``segment_entry``."""
        return {
            "row": self.row,
            "rows": self.rows,
            "position": self.position,
            "owner": self.owner,
            "pages": len(self.pages),
            "table": self.table,
        }

    def place(self, row: int) -> tuple[int, int]:
        """Page and token slot where a row of the step is appended."""
        position = self.position + row - self.row
        return self.pages[position // PAGE_TOKENS], position % PAGE_TOKENS


@dataclass
class Step:
    """Segments of one step."""

    segments: list[Segment]

    @property
    def rows(self) -> int:
        return sum(s.rows for s in self.segments)

    def header(self, **changes: int) -> dict[str, int]:
        """Fields of ``step_layout``."""
        return {"rows": self.rows, "segments": len(self.segments), **changes}

    def segment_of(self, row: int) -> Segment:
        return next(s for s in self.segments if s.row <= row < s.row + s.rows)


def random_step(
    world: World,
    draw: random.Random,
    lengths: list[tuple[int, int]],
    *,
    spare_entries: int = 1,
    contiguous: bool = False,
    first_beat: int | None = None,
) -> Step:
    """A step of ``lengths`` (first position, rows): random pages; tables and owners are stored.

    All other owner words are drawn too, from other sequences.
    """
    pages = list(range(world.kv_pages))
    if not contiguous:
        draw.shuffle(pages)
    owners = [draw.getrandbits(32) | 1 << 31 for _ in pages]
    beat = world.config.port_bytes
    cursor = BASE + beat * (draw.randrange(4) if first_beat is None else first_beat)
    row, segments = 0, []
    for number, (position, rows) in enumerate(lengths):
        need = -(-(position + rows) // PAGE_TOKENS)
        own = [pages.pop(0) for _ in range(need)]
        owner = draw.getrandbits(30) << 1 | (number & 1)
        for page in own:
            owners[page] = owner
        entries = own + [draw.getrandbits(32) for _ in range(draw.randint(0, spare_entries))]
        table = b"".join(e.to_bytes(4, "little") for e in entries)
        world.put(cursor, table)
        segments.append(Segment(row, rows, position, owner, entries, cursor))
        cursor += (len(table) // beat + 1 + draw.randrange(2)) * beat
        assert cursor < BASE + world.table_bytes
        row += rows
    world.put(world.owners_at, b"".join(o.to_bytes(4, "little") for o in owners))
    return Step(segments)


def expected_visits(world: World, step: Step) -> list[dict]:
    """Visits of an ATTEND, each with ``page`` (number) and ``head`` beside the record's fields.

    ``slot`` is not among them: it depends on what ran before.
    """
    visits = []
    parity = 0
    for segment in step.segments:
        for head in range(world.kv_heads):
            for first in range(0, segment.rows, world.batch_rows):
                rows = min(world.batch_rows, segment.rows - first)
                position = segment.position + first
                row = segment.row + first
                last_page = (position + rows - 1) // PAGE_TOKENS
                for page in range(last_page + 1):
                    visits.append(
                        {
                            "first": int(page == 0),
                            "last": int(page == last_page),
                            "parity": parity,
                            "end": 0,
                            "row": row,
                            "rows": rows,
                            "query_rows": rows * world.head_group,
                            "query_offset": row * world.query_stride
                            + head * world.head_group * world.head_blocks,
                            "position": position,
                            "token": page * PAGE_TOKENS,
                            "page": segment.pages[page],
                            "head": head,
                        }
                    )
                parity ^= 1
    visits[-1]["end"] = 1
    return visits


def page_halves(world: World, page: int, head: int, offset: int) -> list[tuple[bytes, bytes]]:
    """Elements and scales of the K half, then of the V half."""
    at = world.page_address(page) + offset + head * 2 * world.half_bytes
    halves = []
    for value in range(2):
        half = world.get(at + value * world.half_bytes, world.half_bytes)
        halves.append((half[:-32], half[-32:]))
    return halves
