"""On-chip memories: one synchronous read port and one write port each.

None of them needs a defined result when a word is read in the cycle it is written: semaphores and
credits keep the reader of a word behind its writer, and a unit that reads and writes back the same
word (ADD) writes it later. So ``no_rw_check`` tells Yosys to build no bypass for that case.
"""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out, Signature
from amaranth.utils import bits_for

from hdl.config import Config
from hdl.interfaces import activation_word, read_port

__all__ = [
    "ActivationMemory",
    "ConstantMemory",
    "RowMemory",
    "constant_address_bits",
    "row_address_bits",
    "write_port",
]

ATTRIBUTES = {"no_rw_check": 1}


def row_address_bits(config: Config) -> int:
    """Bits of a word address in row memory."""
    return bits_for(config.row_blocks * config.block_words - 1)


def constant_address_bits(config: Config) -> int:
    """Bits of a word address in constant memory."""
    return bits_for(config.constant_blocks * config.block_words - 1)


def write_port(address_bits: int, shape) -> Signature:
    """The writer's side of a memory write port: the word is written in a cycle with ``enable``."""
    return Signature({"enable": Out(1), "address": Out(address_bits), "data": Out(shape)})


def _load(address_bits: int, width: int) -> stream.Signature:
    return stream.Signature(data.StructLayout({"address": address_bits, "data": width}))


class RowMemory(wiring.Component):
    """The residual stream: ``row_blocks`` blocks of 32 FP32 in words of ``lanes``.

    Members
    -------
    read : In(read_port(row_address_bits, word_bits))
        Vector unit.
    write : In(write_port(row_address_bits, word_bits))
        Vector unit; always served.
    load : In(stream({address, data}))
        Row loader; served a cycle behind those without ``write.enable``.

    A word can be read from an address that comes 3 cycles after its write. (The vector unit reads
    later than that after the end of what wrote, and a semaphore takes as long.)
    """

    def __init__(self, config: Config):
        self.config = config
        bits = row_address_bits(config)
        super().__init__(
            {
                "read": In(read_port(bits, config.word_bits)),
                "write": In(write_port(bits, config.word_bits)),
                "load": In(_load(bits, config.word_bits)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self.config
        m.submodules.memory = memory = Memory(
            shape=config.word_bits,
            depth=config.row_blocks * config.block_words,
            init=[],
            attrs=ATTRIBUTES,
        )
        read, write = memory.read_port(), memory.write_port()
        # The memory is spread over the chip: its port has registers, and so has what decides.
        ready = Signal(init=1)
        first = Signal(len(write.addr) + len(write.data))
        m.d.sync += [
            ready.eq(~self.write.enable),
            first.eq(Cat(self.write.address, self.write.data)),
            write.en.eq(~ready | self.load.valid),
            Cat(write.addr, write.data).eq(
                Mux(ready, Cat(self.load.payload.address, self.load.payload.data), first)
            ),
        ]
        m.d.comb += [
            read.addr.eq(self.read.address),
            self.read.data.eq(read.data),
            self.load.ready.eq(ready),
        ]
        return m


class ConstantMemory(wiring.Component):
    """Norm weights and RoPE rows: ``constant_blocks`` blocks of 32 FP32 in words of ``lanes``.

    Members
    -------
    read : In(read_port(constant_address_bits, word_bits))
        Vector unit.
    load : In(stream({address, data}))
        Row loader; always ready. A word can be read from an address that comes 2 cycles later.
    """

    def __init__(self, config: Config):
        self.config = config
        bits = constant_address_bits(config)
        super().__init__(
            {
                "read": In(read_port(bits, config.word_bits)),
                "load": In(_load(bits, config.word_bits)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self.config
        m.submodules.memory = memory = Memory(
            shape=config.word_bits,
            depth=config.constant_blocks * config.block_words,
            init=[],
            attrs=ATTRIBUTES,
        )
        read, write = memory.read_port(), memory.write_port()
        m.d.comb += [
            read.addr.eq(self.read.address),
            self.read.data.eq(read.data),
            self.load.ready.eq(1),
        ]
        m.d.sync += [
            write.addr.eq(self.load.payload.address),
            write.data.eq(self.load.payload.data),
            write.en.eq(self.load.valid),
        ]
        return m


class ActivationMemory(wiring.Component):
    """Quantised activations: ``activation_blocks`` words of one MX block.

    Members
    -------
    read : In(read_port(bits_for(activation_blocks - 1), activation_word()))
        Matrix unit.
    write : In(write_port(bits_for(activation_blocks - 1), activation_word()))
        Vector unit.
    """

    def __init__(self, config: Config):
        self.config = config
        bits = bits_for(config.activation_blocks - 1)
        super().__init__(
            {
                "read": In(read_port(bits, activation_word())),
                "write": In(write_port(bits, activation_word())),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = memory = Memory(
            shape=activation_word().size,
            depth=self.config.activation_blocks,
            init=[],
            attrs=ATTRIBUTES,
        )
        read, write = memory.read_port(), memory.write_port()
        m.d.comb += [
            read.addr.eq(self.read.address),
            self.read.data.as_value().eq(read.data),
            write.addr.eq(self.write.address),
            write.data.eq(self.write.data.as_value()),
            write.en.eq(self.write.enable),
        ]
        return m
