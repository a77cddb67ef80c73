"""Page slots: K and V of the pages that the array works on and the next ones."""

from amaranth import Module, Signal
from amaranth.lib import data
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In
from amaranth.utils import bits_for

from hdl.config import PAGE_TOKENS, Config
from hdl.interfaces import read_port
from hdl.kv.records import log2_exact

__all__ = ["PageSlots", "slot_write"]

ATTRIBUTES = {"no_rw_check": 1}
"""Of the memories: a slot is read when it is whole, and not written before it is free again."""


def slot_write(config: Config) -> data.StructLayout:
    """A beat of a page: where it goes. At most one of the enables is set.

    ``beat`` counts in a half's elements; of the scale enables each is for one beat of a half.
    """
    return data.StructLayout(
        {
            "elements": 1,  # enable
            "key_scales": config.scale_beats,  # enables
            "value_scales": config.scale_beats,
            "value": 1,  # of elements: 0 keys, 1 values
            "slot": 3,
            "beat": bits_for(config.slot_beats - 1),
            "data": config.port_bits,
        }
    )


class PageSlots(Component):
    """``page_slots`` pages of K and V elements, and of 32 key and 32 value scales each.

    Members
    -------
    write
        A beat a cycle; readable from the next cycle.
    page_elements
        Read port for the matrix unit: address = {beat (lowest), value, slot}.
    key_scales, value_scales
        Read ports for matrix and vector unit: address = slot, byte t = token t.
    """

    def __init__(self, config: Config):
        self._config = config
        self._beat_bits = bits_for(config.slot_beats - 1)
        super().__init__(
            {
                "write": In(slot_write(config)),
                "page_elements": In(read_port(self._beat_bits + 4, config.port_bits)),
                "key_scales": In(read_port(3, 8 * PAGE_TOKENS)),
                "value_scales": In(read_port(3, 8 * PAGE_TOKENS)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self._config
        write = self.write
        slot_bits = log2_exact(config.page_slots)

        m.submodules.elements = elements = Memory(
            shape=config.port_bits,
            depth=config.page_slots << (self._beat_bits + 1),
            init=[],
            attrs=ATTRIBUTES,
        )
        read = elements.read_port()
        store = elements.write_port()
        address = Signal(self._beat_bits + 4)
        m.d.comb += [
            address[: self._beat_bits].eq(write.beat),
            address[self._beat_bits].eq(write.value),
            address[self._beat_bits + 1 :].eq(write.slot),
            store.addr.eq(address),
            store.data.eq(write.data),
            store.en.eq(write.elements),
            read.addr.eq(self.page_elements.address),
            self.page_elements.data.eq(read.data),
        ]

        lanes = config.scale_beats
        for name, port, enables in (
            ("key", self.key_scales, write.key_scales),
            ("value", self.value_scales, write.value_scales),
        ):
            m.submodules[f"{name}_scales"] = memory = Memory(
                shape=8 * PAGE_TOKENS, depth=config.page_slots, init=[], attrs=ATTRIBUTES
            )
            read = memory.read_port()
            store = memory.write_port(granularity=config.port_bits)
            m.d.comb += [
                store.addr.eq(write.slot[:slot_bits]),
                store.data.eq(write.data.replicate(lanes)),
                read.addr.eq(port.address[:slot_bits]),
                port.data.eq(read.data),
                store.en.eq(enables),
            ]
        return m
