"""The one table of instructions, model registers, host registers, faults and the step descriptor.

Encoder, decoder, disassembler, golden model, RTL, documents and tests read it; nobody repeats a
field. All multi-byte values in memory are little-endian.
"""

from dataclasses import dataclass

from amaranth.lib import data

from hdl.enums import Enum

__all__ = [
    "DESCRIPTOR_MAGIC",
    "DESCRIPTOR_READ_BEATS",
    "IDENTITY",
    "INSTRUCTION_BITS",
    "SEMAPHORES",
    "Cause",
    "Counter",
    "DescriptorError",
    "Fault",
    "HostRegister",
    "LoadSource",
    "ModelRegister",
    "Opcode",
    "RowSelect",
    "Target",
    "Unit",
    "decode",
    "disassemble",
    "encode",
    "instruction_layout",
    "opcodes_of",
]

INSTRUCTION_BITS = 128
SEMAPHORES = 8


class Unit(Enum, shape=3):
    """Who executes an instruction: one queue each."""

    CONTROL = 0
    TAPE = 1
    LOAD = 2
    MATRIX = 3
    VECTOR = 4
    KV = 5


class Opcode(Enum, shape=8):
    """Operation codes. Zero is never legal, so that cleared memory is not a program."""

    END = 0x01
    SET = 0x02
    TAPE = 0x10
    LOAD = 0x20
    MATMUL = 0x30
    NORM = 0x40
    QUANTISE = 0x41
    ADD = 0x42
    ROPE = 0x43
    SWIGLU = 0x44
    APPEND = 0x45
    LOGITS = 0x46
    STORE = 0x47
    PREPARE = 0x50
    ATTEND = 0x51


class LoadSource(Enum, shape=2):
    """Which memory row a LOAD reads for step row r (row length: ``blocks`` x 128 bytes)."""

    CONSTANT = 0  # one row, at ``address``
    TOKEN = 1  # row token[r] of the table at ``address``
    POSITION = 2  # row position[r]
    ROW = 3  # row r


class Target(Enum, shape=1):
    """Where a LOAD writes."""

    ROWS = 0  # row memory: step row r at destination + r * blocks
    CONSTANTS = 1  # constant memory, likewise


class RowSelect(Enum, shape=1):
    """Which rows of the step an instruction works on."""

    ALL = 0
    OUTPUT = 1  # the rows named in the descriptor's output list, compacted


class ModelRegister(Enum, shape=5):
    """Written by SET in the program's prologue; constant while a program runs."""

    KV_BASE = 0  # byte address of page 0
    KV_PAGES = 1  # number of pages
    KV_PAGE_BYTES = 2  # distance between pages
    KV_OWNERS = 3  # byte address of the owner table: one 32-bit word a page
    KV_HEADS = 4
    HEAD_GROUP = 5  # query heads that share a KV head
    HEAD_BLOCKS = 6  # padded head_dim / 32
    VOCABULARY = 7
    CONTEXT = 8  # positions 0 .. CONTEXT-1 are legal
    INVERSE_DIM = 9  # FP32 bits of 1 / dim
    NORM_EPSILON = 10  # FP32 bits
    SCORE_SCALE = 11  # FP32 bits of log2(e) / sqrt(head_dim)
    QUERY_STRIDE = 12  # query heads x HEAD_BLOCKS
    BATCH_ROWS = 13  # token rows of an attention batch: row_capacity // HEAD_GROUP


@dataclass(frozen=True)
class Operand:
    """A field of an instruction word above the common header."""

    name: str
    bits: int
    text: str


@dataclass(frozen=True)
class Definition:
    """What an opcode means: its queues and its operands, lowest bit first."""

    units: tuple[Unit, ...]
    text: str
    operands: tuple[Operand, ...] = ()


_HEADER = (
    Operand("opcode", 8, "operation code"),
    Operand("wait", SEMAPHORES, "semaphores taken (-1) before it starts"),
    Operand("signal", SEMAPHORES, "semaphores given (+1) when it is complete"),
)

_ACT = 20
_ROW = 20
_CON = 16

TABLE: dict[Opcode, Definition] = {
    Opcode.END: Definition((Unit.CONTROL,), "the step ends when every unit is idle"),
    Opcode.SET: Definition(
        (Unit.CONTROL,),
        "write a model register",
        (Operand("register", 8, "ModelRegister"), Operand("value", 64, "new value")),
    ),
    Opcode.TAPE: Definition(
        (Unit.TAPE,),
        "stream block tiles from memory to the array",
        (
            Operand("address", 40, "byte address, beat aligned"),
            Operand("block_tiles", 32, "block tiles (scales and 32 x cols elements) to stream"),
        ),
    ),
    Opcode.LOAD: Definition(
        (Unit.LOAD,),
        "copy FP32 rows from memory on chip",
        (
            Operand("source", 2, "LoadSource"),
            Operand("target", 1, "Target"),
            Operand("destination", _ROW, "first block in the target memory"),
            Operand("blocks", 16, "blocks of 32 FP32 in a row"),
            Operand("address", 40, "byte address of the table's row 0, beat aligned"),
        ),
    ),
    Opcode.MATMUL: Definition(
        (Unit.MATRIX,),
        "panels of 32 outputs: tape weights times quantised activations, into the panel ring",
        (
            Operand("activations", _ACT, "first word: row r, block k at + r * blocks + k"),
            Operand("blocks", 12, "reduction blocks"),
            Operand("panels", 20, "panels of 32 outputs"),
            Operand("rows", 1, "RowSelect (gives the number of rows)"),
        ),
    ),
    Opcode.NORM: Definition(
        (Unit.VECTOR,),
        "RMSNorm of row memory, quantised into activation memory",
        (
            Operand("source", _ROW, "row memory: row r, block b at + r * blocks + b"),
            Operand("destination", _ACT, "activation memory: likewise"),
            Operand("blocks", 12, "blocks in a row"),
            Operand("weights", _CON, "constant memory: block b at + b"),
            Operand("rows", 1, "RowSelect (OUTPUT gathers the rows named)"),
        ),
    ),
    Opcode.QUANTISE: Definition(
        (Unit.VECTOR,),
        "row memory quantised into activation memory",
        (
            Operand("source", _ROW, "as NORM"),
            Operand("destination", _ACT, "as NORM"),
            Operand("blocks", 12, "blocks in a row"),
            Operand("rows", 1, "RowSelect"),
        ),
    ),
    Opcode.ADD: Definition(
        (Unit.VECTOR,),
        "row memory += panels of the ring, panel p to block p (rows ALL)",
        (
            Operand("destination", _ROW, "row r, block p at + r * panels + p"),
            Operand("panels", 20, "panels to take"),
        ),
    ),
    Opcode.ROPE: Definition(
        (Unit.VECTOR,),
        "rotate query panels, quantise into activation memory (rows ALL)",
        (
            Operand("destination", _ACT, "row r, panel p at + r * panels + p"),
            Operand("panels", 20, "query heads x HEAD_BLOCKS"),
            Operand("tables", _CON, "row r: HEAD_BLOCKS blocks of cos, then as many of sin"),
        ),
    ),
    Opcode.SWIGLU: Definition(
        (Unit.VECTOR,),
        "silu(gate panel) * up panel, quantised; gate and up panels alternate (rows ALL)",
        (
            Operand("destination", _ACT, "row r, pair p at + r * pairs + p"),
            Operand("pairs", 16, "pairs of panels"),
        ),
    ),
    Opcode.APPEND: Definition(
        (Unit.VECTOR,),
        "quantise KV_HEADS heads of key or value panels, one scale a row and head, write to KV",
        (
            Operand("offset", 32, "byte offset in a page of this layer's head 0"),
            Operand("value", 1, "0: keys (rotated first), 1: values"),
            Operand("tables", _CON, "as ROPE; not used for values"),
        ),
    ),
    Opcode.LOGITS: Definition(
        (Unit.VECTOR,),
        "running argmax of panels; stores them where the descriptor asks (rows OUTPUT)",
        (Operand("panels", 20, "panels to take"),),
    ),
    Opcode.STORE: Definition(
        (Unit.VECTOR,),
        "copy row memory to memory as FP32 (rows ALL)",
        (
            Operand("source", _ROW, "row r, block b at + r * blocks + b"),
            Operand("blocks", 12, "blocks in a row"),
            Operand("address", 40, "byte address of row 0, beat aligned"),
        ),
    ),
    Opcode.PREPARE: Definition(
        (Unit.KV,),
        "walk the page of every row of the step, check owners, keep where each row is appended",
    ),
    Opcode.ATTEND: Definition(
        (Unit.MATRIX, Unit.VECTOR, Unit.KV),
        "attention of every segment of the step over its pages",
        (
            Operand(
                "queries",
                _ACT,
                "row r, head h, block b at + r * QUERY_STRIDE + h * HEAD_BLOCKS + b",
            ),
            Operand("output", _ACT, "likewise"),
            Operand("weights", _ACT, "two buffers of row_capacity words for P"),
            Operand("offset", 32, "byte offset in a page of this layer's head 0"),
        ),
    ),
}


def opcodes_of(unit: Unit) -> list[Opcode]:
    """Opcodes that a unit's queue accepts."""
    return [op for op, d in TABLE.items() if unit in d.units]


def instruction_layout(opcode: Opcode) -> data.StructLayout:
    """The 128-bit word of one opcode as an Amaranth layout (header, operands, ``reserved``)."""
    members = {o.name: o.bits for o in (*_HEADER, *TABLE[opcode].operands)}
    spare = INSTRUCTION_BITS - sum(members.values())
    if spare < 0:
        raise ValueError(f"{opcode.name}: operands need {-spare} bits more than there are")
    if spare:
        members["reserved"] = spare
    return data.StructLayout(members)


def encode(opcode: Opcode, *, wait: int = 0, signal: int = 0, **operands: int | Enum) -> int:
    """The 128-bit word of an instruction.

    Raises ``ValueError`` for an operand that is missing, unknown or too wide for its field.
    """
    values = {"opcode": opcode.value, "wait": wait, "signal": signal, **operands}
    word, shift = 0, 0
    for field in (*_HEADER, *TABLE[opcode].operands):
        if field.name not in values:
            raise ValueError(f"{opcode.name}: operand {field.name} is missing")
        raw = values.pop(field.name)
        value = int(raw.value if isinstance(raw, Enum) else raw)
        if not 0 <= value < 1 << field.bits:
            raise ValueError(
                f"{opcode.name}: {field.name}={value} does not fit in {field.bits} bits"
            )
        word |= value << shift
        shift += field.bits
    if values:
        raise ValueError(f"{opcode.name}: no operand called {', '.join(values)}")
    return word


def decode(word: int) -> tuple[Opcode, dict[str, int]]:
    """Opcode and fields (``wait``, ``signal`` and the operands) of a word.

    Raises ``ValueError`` for an opcode that does not exist or reserved bits that are not zero.
    """
    try:
        opcode = Opcode(word & 0xFF)
    except ValueError:
        raise ValueError(f"illegal opcode 0x{word & 0xFF:02x}") from None
    values, shift = {}, 0
    for field in (*_HEADER, *TABLE[opcode].operands):
        values[field.name] = word >> shift & (1 << field.bits) - 1
        shift += field.bits
    if word >> shift:
        raise ValueError(f"{opcode.name}: reserved bits are not zero")
    del values["opcode"]
    return opcode, values


def disassemble(word: int) -> str:
    """One line of text for a word."""
    opcode, values = decode(word)
    return " ".join([f"{opcode.name:8s}", *(f"{k}={v:#x}" for k, v in values.items() if v)])


# Step descriptor --------------------------------------------------------------------------------
#
# 32-bit words:
#   0  DESCRIPTOR_MAGIC
#   1  rows (1 .. row_capacity)
#   2  segments (1 .. rows)
#   3  outputs (0 .. rows)
#   4  flags: bit 0 store logits
#   5  checksum: all words of the descriptor, this one taken as 0, sum to it modulo 2**32
#   6  result address, low word (beat aligned)
#   7  result address, high word
#   8 + 8 s              segment s: 8 words                             (8 x segments words)
#      0 rows, 1 first position, 2 owner, 3 pages in its table,
#      4 page table address low, 5 high (beat aligned), 6, 7 zero
#   then                 token of row r                                 (rows words)
#   then                 output list: row index, ascending              (outputs words)
# The chip reads DESCRIPTOR_READ_BEATS beats in any case: they must lie in its memory.
# Result at the result address: token ids, one 32-bit word an output row, padded to 256 bytes; then,
# where asked for, logits: FP32, row-major, rows of ceil(vocabulary / 32) * 32.
DESCRIPTOR_MAGIC = 0x314E5253  # "SRN1"
DESCRIPTOR_HEADER_WORDS = 8
DESCRIPTOR_SEGMENT_WORDS = 8
DESCRIPTOR_READ_BEATS = 32
FLAG_STORE_LOGITS = 1
RESULT_TOKEN_BYTES = 256


class DescriptorError(Enum, shape=8):
    """Detail of Fault.BAD_DESCRIPTOR."""

    NONE = 0
    MAGIC = 1
    ROWS = 2
    SEGMENTS = 3
    OUTPUTS = 4
    CHECKSUM = 5
    TOKEN = 6
    OUTPUT_ROW = 7
    SEGMENT_ROWS = 8
    POSITION = 9
    ALIGNMENT = 10
    RESERVED = 11


class Fault(Enum, shape=8):
    """Why a step stopped. The first fault of a step is the one recorded."""

    NONE = 0
    ILLEGAL_INSTRUCTION = 1
    BAD_ADDRESS = 2  # outside [MEMORY_BASE, MEMORY_LIMIT), or not aligned
    READ_ERROR = 3  # AXI RRESP
    WRITE_ERROR = 4  # AXI BRESP
    BAD_DESCRIPTOR = 5  # detail: DescriptorError
    KV_PAGE = 6  # position past the page table, or page past the KV memory
    KV_OWNER = 7  # page of another sequence
    NON_FINITE = 8  # NaN or infinity reached a quantiser
    WATCHDOG = 9
    SEMAPHORE = 10  # a count past its range
    BAD_OPERAND = 11  # on-chip address past its memory, or a zero count
    TAPE_LEFT = 12  # END with tape words unread


IDENTITY = 0x53524E31
"""What HostRegister.IDENTITY reads: "SRN1"."""


class HostRegister(Enum, shape=12):
    """AXI4-Lite byte addresses; 32-bit registers. RO, WO, RW as the text says."""

    IDENTITY = 0x000  # RO the constant IDENTITY
    VERSION = 0x004  # RO
    CONTROL = 0x008  # WO bit 0 doorbell, bit 1 interrupt acknowledge, bit 2 abort
    # RO bit 0 busy, bit 1 done, bit 2 fault (1 and 2 until the next doorbell), bit 3: the head of
    # the program is on chip, a doorbell from now on does not wait for it
    STATUS = 0x00C
    INTERRUPT_ENABLE = 0x010  # RW bit 0
    PROGRAM_LOW = 0x014  # RW; the chip reads ahead: write it again when the program has changed
    PROGRAM_HIGH = 0x018  # RW
    DESCRIPTOR_LOW = 0x01C  # RW
    DESCRIPTOR_HIGH = 0x020  # RW
    MEMORY_BASE_LOW = 0x024  # RW first legal byte address
    MEMORY_BASE_HIGH = 0x028  # RW
    MEMORY_LIMIT_LOW = 0x02C  # RW one past the last
    MEMORY_LIMIT_HIGH = 0x030  # RW
    WATCHDOG = 0x034  # RW cycles without a retired instruction or memory beat; 0 = off
    FAULT_CAUSE = 0x038  # RO Fault
    FAULT_DETAIL = 0x03C  # RO DescriptorError, or the unit's own
    FAULT_UNIT = 0x040  # RO Unit
    FAULT_INDEX = 0x044  # RO index of the instruction in the program
    FAULT_ADDRESS_LOW = 0x048  # RO
    FAULT_ADDRESS_HIGH = 0x04C  # RO
    CONFIG_ARRAY = 0x050  # RO rows, cols, port_bytes, lanes: 8 bits each
    CONFIG_LIMITS = 0x054  # RO row_capacity (16), max_head_dim (16)
    READ_WINDOW = (
        0x058  # RW beats asked for ahead of memory (set a little above its latency); 0 = all
    )
    COUNTERS = 0x400  # RO Counter c: low word at + 8 c, high word at + 8 c + 4


class Counter(Enum, shape=6):
    """64-bit counters, cleared by the doorbell, frozen when the step ends."""

    CYCLES = 0
    MATRIX_BUSY = 1
    MATRIX_STARVED = 2  # waits for weights (tape or page)
    MATRIX_BLOCKED = 3  # waits for a panel, for activations or a semaphore
    VECTOR_BUSY = 4
    VECTOR_STARVED = 5  # waits for a panel, page or semaphore
    VECTOR_BLOCKED = 6  # waits for a place to write
    KV_BUSY = 7
    KV_STARVED = 8
    KV_BLOCKED = 9
    LOAD_BUSY = 10
    LOAD_STARVED = 11
    LOAD_BLOCKED = 12
    TAPE_BUSY = 13
    TAPE_STARVED = 14  # asked for beats that have not come
    TAPE_BLOCKED = 15  # FIFO full
    READ_TAPE_BEATS = 16
    READ_KV_BEATS = 17
    READ_PROGRAM_BEATS = 18  # program, descriptor
    READ_ROW_BEATS = 19  # embedding, norm weights, RoPE
    READ_WALK_BEATS = 20  # page tables and owners
    WRITE_KV_BEATS = 21
    WRITE_ROW_BEATS = 22  # logits, tokens, stored rows
    FEED_ROWS = 23  # activation rows fed to the array: rows x cols MACs each
    INSTRUCTIONS = 24
    PORT_BUSY = 25  # cycles with a read beat
    ARRAY_FIRST = 26  # CYCLES when the array took its first row; 0 if it took none
    ARRAY_LAST = 27  # CYCLES when it took its last


class Cause(Enum, shape=5):
    """What a unit waits for in a cycle that its counters call starved or blocked."""

    NONE = 0
    PIPELINE = 1  # its own decoding and latency
    SEMAPHORE = 2
    MEMORY = 3  # beats it asked for (KV: of pages)
    PORT = 4  # the memory port to take a request
    FIFO = 5  # tape: room in its FIFOs
    TAPE = 6  # matrix: weights from the tape
    PAGE = 7  # matrix: the next page
    VISIT = 8  # vector: the next page; KV: a unit to take its visit
    PANEL = 9  # matrix: a free panel of the ring; vector: a full one
    WEIGHTS = 10  # a P buffer: full for matrix, free for vector
    OUTPUT = 11  # output panels: free for matrix, full for vector
    SLOT = 12  # KV: a free page slot
    APPEND = 13  # KV: the layer's appends to be complete; vector: room for an append
    WRITE = 14  # writes: room in the writer, responses, a write port on chip
    WALK = 15  # KV: page tables and owners
    DESCRIPTOR = 16  # control: the descriptor to be read and checked
    PROGRAM = 17  # control: instruction words
    QUEUE = 18  # control: room in a unit's queue
    DRAIN = 19  # control: units and memory to come to rest
