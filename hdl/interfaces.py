"""Contracts between blocks: the structs and signatures that meet at more than one block.

Conventions: a stream transfer is valid & ready; valid never waits for ready; the payload holds
while stalled. A *pulse* is one event for each cycle it is high. A *read port* is synchronous: data
for the address of cycle t stands in cycle t + 1. Directions are seen from the unit that owns the
signature in its own ports; the other side uses ``.flip()``.
"""

from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out, Signature

from hdl.config import BLOCK, Config
from hdl.isa import INSTRUCTION_BITS, SEMAPHORES, Cause

__all__ = [
    "activation_word",
    "activity_signature",
    "append_payload",
    "fault_signature",
    "instruction_signature",
    "model_layout",
    "read_client",
    "read_port",
    "row_entry",
    "segment_entry",
    "semaphore_signature",
    "step_layout",
    "visit_layout",
    "write_client",
]

ADDRESS_BITS = 40  # inside the chip; the port checks the window
ROW_BITS = 7  # 0 .. 64
POSITION_BITS = 20
TOKEN_BITS = 20
BLOCK_ADDRESS_BITS = 20
READ_WINDOW_BITS = 12  # beats
INDEX_BITS = 20  # of an instruction in the program


def read_client(config: Config) -> Signature:
    """A unit's way to read memory.

    ``request``: byte ``address`` (beat aligned) and ``beats`` (1 .. 256); may cross any boundary,
    the port splits it. ``data``: exactly that many beats, in request order. The unit must have room
    for all it asked: it can't refuse a beat. A bus error is the port's fault to report; its beats
    come all the same.
    """
    return Signature(
        {
            "request": Out(
                stream.Signature(data.StructLayout({"address": ADDRESS_BITS, "beats": 9}))
            ),
            "data": In(stream.Signature(config.port_bits, always_ready=True)),
        }
    )


def write_client(config: Config) -> Signature:
    """A unit's way to write memory.

    ``request`` as in :func:`read_client`, and its beats on ``data`` (byte ``strobe``), in the order
    of the requests; a beat may be there before its request is taken. ``done`` pulses once a
    request, when its last response has come.
    """
    return Signature(
        {
            "request": Out(
                stream.Signature(data.StructLayout({"address": ADDRESS_BITS, "beats": 9}))
            ),
            "data": Out(
                stream.Signature(
                    data.StructLayout({"data": config.port_bits, "strobe": config.port_bytes})
                )
            ),
            "done": In(1),
        }
    )


def read_port(address_bits: int, shape) -> Signature:
    """The reader's side of a synchronous memory read port (data one cycle after the address)."""
    return Signature({"address": Out(address_bits), "data": In(shape)})


def instruction_signature() -> Signature:
    """Instructions for one unit: the word and its index in the program (for fault records).

    The unit takes (ready) an instruction when it starts on it; waiting for the semaphores of
    the word and giving them is the unit's own duty, through :func:`semaphore_signature`.
    """
    return stream.Signature(data.StructLayout({"word": INSTRUCTION_BITS, "index": INDEX_BITS}))


def semaphore_signature() -> Signature:
    """A unit's side of the semaphores.

    ``wait_valid`` with ``wait_mask`` asks to take 1 of every semaphore in the mask; it is done in
    the cycle where ``wait_ready`` is high too (an empty mask is granted at once). ``signal`` gives
    1 to every semaphore set, in each cycle that it is set.
    """
    return Signature(
        {
            "wait_valid": Out(1),
            "wait_mask": Out(SEMAPHORES),
            "wait_ready": In(1),
            "signal": Out(SEMAPHORES),
        }
    )


def fault_signature() -> Signature:
    """A unit's fault report: held from the cycle it is found until the unit is reset."""
    return Signature(
        {
            "valid": Out(1),
            "cause": Out(8),
            "detail": Out(32),
            "address": Out(40),
            "index": Out(INDEX_BITS),
        }
    )


def activity_signature() -> Signature:
    """What a unit does in this cycle, at most one of the three; none when idle (no instruction).

    ``cause``: what it waits for where it is starved or blocked, without meaning elsewhere.
    ``finished``: pulse in the last cycle of its oldest instruction; none after a fault.
    """
    return Signature(
        {
            "busy": Out(1),
            "starved": Out(1),
            "blocked": Out(1),
            "cause": Out(Cause),
            "finished": Out(1),
        }
    )


def activation_word() -> data.StructLayout:
    """A word of activation memory: an MX block, and for P the rescaling of its output row."""
    return data.StructLayout(
        {
            "elements": data.ArrayLayout(8, BLOCK),  # two's complement, element 0 lowest
            "scale": 8,  # E8M0
            "shift": 8,  # attention: accumulator * 2**-shift before the add (255: at least 255)
        }
    )


def model_layout() -> data.StructLayout:
    """The model registers, ready to use."""
    return data.StructLayout(
        {
            "kv_base": 40,
            "kv_pages": 24,
            "kv_page_bytes": 32,
            "kv_owners": 40,
            "kv_heads": 8,
            "head_group": 7,
            "head_blocks": 4,
            "vocabulary": TOKEN_BITS,
            "context": POSITION_BITS,
            "inverse_dim": 32,
            "norm_epsilon": 32,
            "score_scale": 32,
            "query_stride": 12,
            "batch_rows": ROW_BITS,
        }
    )


def step_layout() -> data.StructLayout:
    """The header of the step that runs, constant until it ends."""
    return data.StructLayout(
        {
            "rows": ROW_BITS,
            "segments": ROW_BITS,
            "outputs": ROW_BITS,
            "store_logits": 1,
            "result_address": 40,
        }
    )


def row_entry() -> data.StructLayout:
    """Row table, by row."""
    return data.StructLayout({"token": TOKEN_BITS, "position": POSITION_BITS})


def segment_entry() -> data.StructLayout:
    """Segment table, by segment: contiguous rows of one sequence."""
    return data.StructLayout(
        {
            "row": ROW_BITS,  # first row
            "rows": ROW_BITS,
            "position": POSITION_BITS,  # of the first row
            "owner": 32,
            "pages": 16,  # entries in its page table
            "table": 40,  # byte address of the page table: 32-bit page numbers
        }
    )


def visit_layout(config: Config) -> data.StructLayout:
    """One page visited by one attention batch; the KV unit sends it to matrix and vector unit.

    Order of visits in an ATTEND: segments ascending; in it KV heads ascending; in it batches of
    ``batch_rows`` rows ascending; in it pages 0 .. (last position of the batch) // 32.
    A batch's query rows are numbered q = row_in_batch * head_group + h.
    """
    return data.StructLayout(
        {
            "slot": 3,  # page slot that holds K and V of the page
            "first": 1,  # first page of the batch
            "last": 1,  # last page of the batch
            "parity": 1,  # of the batch: which set of output panels and row scalars
            "end": 1,  # last visit of this ATTEND
            "row": ROW_BITS,  # first token row of the batch
            "rows": ROW_BITS,  # token rows
            "query_rows": ROW_BITS,  # rows * head_group
            "query_offset": BLOCK_ADDRESS_BITS,  # row * QUERY_STRIDE + first head * HEAD_BLOCKS
            "position": POSITION_BITS,  # of the first token row
            "token": POSITION_BITS,  # position of the page's first token
        }
    )


def append_payload() -> data.StructLayout:
    """One quantised block of a key or value row, for the KV unit to write."""
    return data.StructLayout(
        {
            "elements": data.ArrayLayout(8, BLOCK),
            "scale": 8,
            "row": ROW_BITS,
            "head": 8,
            "block": 4,  # of HEAD_BLOCKS
            "value": 1,
            "offset": 32,  # APPEND.offset
        }
    )
