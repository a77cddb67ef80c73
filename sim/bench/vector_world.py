"""What surrounds the vector unit: memories, the matrix unit's credits, and what was written."""

from collections import deque
from collections.abc import Callable
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge

from hdl.config import BLOCK, Config
from hdl.interfaces import activation_word
from sim.bench.layouts import unpack
from sim.bench.streams import Stall

__all__ = ["World"]

ACTIVATION = activation_word()


class World:
    """Every port of the unit but instructions, semaphores, visits, ``append`` and ``memory``.

    One process for all ports: it looks at them at each rising edge, and answers with the registers'
    one cycle of delay.

    Attributes
    ----------
    rows, constants : uint32 (blocks, 32)
        Row and constant memory.
    outputs : list of int
        The step's output list.
    value_scales : uint8 (8, 32)
        By page slot.
    script : deque
        What the matrix unit does, in order, as soon as credits let it: ``("ring", data)`` with
        data uint32 (rows, 32), and maybe a callback; ``("weights", callback)``: takes the oldest P
        buffer, calls back; ``("output", parity, data)`` with data (blocks, rows, 32).
    activations, row_writes : dict
        Writes since the last ``signal``: address to (elements, scale, shift), word address to
        bytes.
    on_signal : callable
        Called at each ``signal``, when everything written up to its cycle is in the memories.
    """

    def __init__(self, dut, config: Config, rng, *, stall: float = 0.0):
        self._dut, self._config, self._rng = dut, config, rng
        self._garbage = np.random.default_rng(rng.getrandbits(32))
        self._stall = Stall(rng, stall, 6)
        self.rows = self._noise(config.row_blocks)
        self.constants = self._noise(config.constant_blocks)
        self._row_bits = max((config.row_capacity - 1).bit_length(), 1)
        self._panels = self._noise(config.panels << self._row_bits).reshape(
            config.panels, 1 << self._row_bits, BLOCK
        )
        self.outputs = [0] * 64
        self.value_scales = np.full((8, BLOCK), 127, np.uint8)
        self.script: deque[tuple[Any, ...]] = deque()
        self.activations: dict[int, tuple[tuple[int, ...], int, int]] = {}
        self.row_writes: dict[int, bytes] = {}
        self.rewrites = False  # several instructions without a signal write the same words
        self.on_signal: Callable[[], None] = lambda: None
        self.signals = 0
        self.cycle = 0
        self._ring_free, self._ring_next, self._ring_oldest = config.panel_ring, 0, 0
        self._ring_full = False
        self.ring_was_full = 0
        self._outputs_free = 2
        self._outputs_oldest: deque[int] = deque()
        self._weights_ready = 0
        self._task = cocotb.start_soon(self._run())

    def _noise(self, blocks: int) -> np.ndarray:
        """Bit patterns that hurt if somebody uses them."""
        return self._garbage.integers(0, 1 << 32, (blocks, BLOCK), np.uint32)

    @property
    def idle(self) -> bool:
        """Every panel given was taken and released."""
        return not self.script and self._ring_free == self._config.panel_ring

    async def signalled(self, number: int) -> None:
        """Wait for ``signal`` number ``number`` since reset."""
        edge = RisingEdge(self._dut.clk)
        while self.signals < number:
            await edge

    # Memories -----------------------------------------------------------------------------------
    def _word(self, blocks: np.ndarray, address: int) -> int:
        lanes, words = self._config.lanes, self._config.block_words
        block, word = divmod(address, words)
        if block >= len(blocks):
            return 0
        return int.from_bytes(blocks[block, word * lanes : (word + 1) * lanes].tobytes(), "little")

    def _panel(self, address: int) -> int:
        block = self._panels.reshape(-1, BLOCK)
        return self._word(block, address)

    def _scales(self, address: int) -> int:
        return int.from_bytes(self.value_scales[address].tobytes(), "little")

    def _output(self, address: int) -> int:
        return self.outputs[address]

    def _write_rows(self, address: int, data: int) -> None:
        lanes, words = self._config.lanes, self._config.block_words
        block, word = divmod(address, words)
        content = data.to_bytes(4 * lanes, "little")
        self.rows[block, word * lanes : (word + 1) * lanes] = np.frombuffer(content, "<u4")
        assert self.rewrites or address not in self.row_writes, (
            f"row memory word {address} written twice"
        )
        self.row_writes[address] = content

    def _write_activation(self, address: int, data: int) -> None:
        word = unpack(ACTIVATION, data)
        elements = tuple(e - 256 if e > 127 else e for e in word["elements"])
        assert address not in self.activations, f"activation word {address} written twice"
        self.activations[address] = (elements, word["scale"], word["shift"])

    # The matrix unit ----------------------------------------------------------------------------
    def _act(self) -> str:
        """Does the next thing of the script if it can; gives the pulse that goes with it."""
        if not self.script:
            return ""
        kind, *rest = self.script[0]
        if kind == "ring":
            if not self._ring_free:
                self.ring_was_full += 1
                return ""
            data = np.asarray(rest[0])
            self._panels[self._ring_next, : len(data)] = data
            self._ring_next = (self._ring_next + 1) % self._config.panel_ring
            self._ring_free -= 1
            for callback in rest[1:]:
                callback()
            pulse = "ring_produce"
        elif kind == "weights":
            if not self._weights_ready:
                return ""
            rest[0]()
            self._weights_ready -= 1
            pulse = "weights_release"
        else:
            if not self._outputs_free:
                return ""
            parity, data = rest
            first = self._config.panel_ring + parity * self._config.head_blocks
            for b, panel in enumerate(np.asarray(data)):
                self._panels[first + b, : len(panel)] = panel
            self._outputs_free -= 1
            self._outputs_oldest.append(first)
            pulse = "output_produce"
        self.script.popleft()
        return pulse

    def _spoil(self, panel: int) -> None:
        self._panels[panel] = self._garbage.integers(
            0, 1 << 32, self._panels[panel].shape, np.uint32
        )

    async def _run(self) -> None:
        dut, edge = self._dut, RisingEdge(self._dut.clk)
        reads = [
            (getattr(dut, f"{name}__address"), getattr(dut, f"{name}__data"), look)
            for name, look in (
                ("panel_read", self._panel),
                ("row_read", lambda a: self._word(self.rows, a)),
                ("constant_read", lambda a: self._word(self.constants, a)),
                ("value_scales", self._scales),
                ("outputs", self._output),
            )
        ]
        row_write = [getattr(dut, f"row_write__{k}") for k in ("enable", "address", "data")]
        activation_write = [
            getattr(dut, f"activation_write__{k}") for k in ("enable", "address", "data")
        ]
        pulses = {
            name: getattr(dut, name)
            for name in ("ring_produce", "weights_release", "output_produce")
        }
        releases = {
            name: getattr(dut, name)
            for name in ("ring_release", "weights_produce", "output_release")
        }
        signal = dut.semaphore__signal
        shown = [-1] * len(reads)
        high = ""
        while True:
            await edge
            self.cycle += 1
            if int(dut.rst.value):  # registers may hold anything
                continue
            for i, (address, data, look) in enumerate(reads):
                value = look(int(address.value))
                if value != shown[i]:
                    data.value = shown[i] = value
            if int(row_write[0].value):
                self._write_rows(int(row_write[1].value), int(row_write[2].value))
            if int(activation_write[0].value):
                self._write_activation(
                    int(activation_write[1].value), int(activation_write[2].value)
                )
            if int(releases["ring_release"].value):
                self._spoil(self._ring_oldest)
                self._ring_oldest = (self._ring_oldest + 1) % self._config.panel_ring
                self._ring_free += 1
                assert self._ring_free <= self._config.panel_ring, "released a panel never given"
            if int(releases["output_release"].value):
                first = self._outputs_oldest.popleft()
                for b in range(self._config.head_blocks):
                    self._spoil(first + b)
                self._outputs_free += 1
            if int(releases["weights_produce"].value):
                self._weights_ready += 1
                assert self._weights_ready <= 2, "P buffer overrun"
            if int(signal.value):
                self.signals += 1
                self.on_signal()
            pulse = "" if self._stall.step() else self._act()
            if pulse != high:
                if high:
                    pulses[high].value = 0
                if pulse:
                    pulses[pulse].value = 1
                high = pulse
