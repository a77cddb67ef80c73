"""A memory copier: the smallest chip with the standard ports, to test the simulator with."""

from amaranth.hdl import (
    Array,
    Assert,
    Cat,
    EnableInserter,
    Format,
    Module,
    Mux,
    Print,
    ResetInserter,
    ResetSignal,
    Signal,
    signed,
)
from amaranth.lib import data, enum, memory, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

__all__ = ["Copier", "Mode", "Register", "Scrambler"]


class Register(enum.IntEnum):
    """Byte addresses. CONTROL: writing 1 starts, writing 2 takes `irq` down."""

    CONTROL = 0x00
    SOURCE = 0x04
    DESTINATION = 0x08
    BEATS = 0x0C
    BURST_BEATS = 0x10
    MODE = 0x14
    RESPONSE = 0x18  # worst response of the last run
    READ_LATENCY = 0x1C  # cycles from the first AR transfer to the first R transfer
    READ_SPAN = 0x20  # cycles from the first to the last R transfer, both included
    WRITE_LATENCY = 0x24  # cycles from the last W transfer to the last B transfer
    SILENT = 0x28  # an access is never answered
    REFUSED = 0x2C  # an access is answered with SLVERR
    DIGEST = 0x30  # of a Scrambler, which starts with the copy
    LASTS = 0x34  # beats marked as the last of a burst


class Mode(enum.IntFlag):
    """Departures from a good copy, each for one test."""

    READ_ONLY = 1
    CROSS_4K = 2
    WRAP = 4
    EARLY_WLAST = 8
    DROP_ARVALID = 16
    ASSERT = 32  # an assertion fails at the third beat read
    GREET = 64  # prints at the start
    HALF = 128  # writes only the lower half of every beat


def _ports(data_bits: int, address_bits: int) -> dict:
    lite = {"addr": 12, "prot": 3}
    full = {"id": 4, "addr": address_bits, "len": 8, "size": 3, "burst": 2}
    full |= {"lock": 1, "cache": 4, "prot": 3, "qos": 4}
    ports: dict = {"irq": Out(1)}
    for prefix, outgoing, channels in (
        (
            "s_axil_",
            False,
            {"aw": lite, "w": {"data": 32, "strb": 4}, "b": {"resp": 2}}
            | {"ar": lite, "r": {"data": 32, "resp": 2}},
        ),
        (
            "m_axi_",
            True,
            {"aw": full, "w": {"data": data_bits, "strb": data_bits // 8, "last": 1}}
            | {"b": {"id": 4, "resp": 2}, "ar": full}
            | {"r": {"id": 4, "data": data_bits, "resp": 2, "last": 1}},
        ),
    ):
        for channel, fields in channels.items():
            forward = Out if outgoing == (channel in ("aw", "w", "ar")) else In
            backward = In if forward is Out else Out
            for name, width in {**fields, "valid": 1}.items():
                ports[f"{prefix}{channel}{name}"] = forward(width)
            ports[f"{prefix}{channel}ready"] = backward(1)
    return ports


class Copier(wiring.Component):
    """Copies BEATS bus words from SOURCE to DESTINATION in bursts of up to BURST_BEATS."""

    def __init__(self, data_bits: int = 32, address_bits: int = 32):
        self.data_bits = data_bits
        super().__init__(_ports(data_bits, address_bits))

    def elaborate(self, platform):
        m = Module()
        self.busy = Signal()
        self.start = Signal()
        self.registers = {r: Signal(32, name=r.name.lower()) for r in Register}
        self._registers(m)
        m.submodules.scrambler = scrambler = Scrambler()
        m.d.comb += [
            scrambler.start.eq(self.start),
            self.registers[Register.DIGEST].eq(scrambler.digest),
        ]
        m.submodules.fifo = fifo = SyncFIFOBuffered(width=self.data_bits, depth=64)
        read_done = self._read(m, fifo)
        write_done = self._write(m, fifo)
        with m.If(self.start):
            m.d.sync += self.busy.eq(1)
            with m.If(self.mode[Mode.GREET]):
                m.d.sync += Print("copying", self.registers[Register.BEATS], "beats")
        with m.Elif(self.busy & read_done & write_done):
            m.d.sync += [self.busy.eq(0), self.irq.eq(1)]
        return m

    def _registers(self, m):
        registers = self.registers
        names = list(Register)
        write, read = Signal(), Signal()
        address, addressed = Signal(12), Signal()
        # The address is taken ahead of the data; a valid that stays up too long is taken twice.
        m.d.comb += [
            self.s_axil_awready.eq(~addressed),
            self.s_axil_wready.eq(addressed),
            write.eq(self.s_axil_wvalid & addressed),
            read.eq(self.s_axil_arvalid),
            self.s_axil_arready.eq(1),
            self.start.eq(write & (address == Register.CONTROL) & self.s_axil_wdata[0]),
        ]
        with m.If(self.s_axil_awvalid & self.s_axil_awready):
            m.d.sync += [address.eq(self.s_axil_awaddr), addressed.eq(1)]
        with m.If(write):
            m.d.sync += [
                addressed.eq(0),
                self.s_axil_bvalid.eq(address != Register.SILENT),
                self.s_axil_bresp.eq(Mux(address == Register.REFUSED, 2, 0)),
            ]
            for r in names[1:6]:
                with m.If(address == r):
                    m.d.sync += registers[r].eq(self.s_axil_wdata)
            with m.If((address == Register.CONTROL) & self.s_axil_wdata[1]):
                m.d.sync += self.irq.eq(0)
        with m.Elif(self.s_axil_bready):
            m.d.sync += self.s_axil_bvalid.eq(0)
        with m.If(read):
            m.d.sync += [
                self.s_axil_rvalid.eq(self.s_axil_araddr != Register.SILENT),
                self.s_axil_rdata.eq(Array(registers.values())[self.s_axil_araddr[2:6]]),
                self.s_axil_rresp.eq(Mux(self.s_axil_araddr == Register.REFUSED, 2, 0)),
            ]
        with m.Elif(self.s_axil_rready):
            m.d.sync += self.s_axil_rvalid.eq(0)
        self.mode = {x: registers[Register.MODE][x.bit_length() - 1] for x in Mode}

    def _burst(self, m, channel: str, address, left):
        """Drives an address channel with the next burst of `left` beats at `address`."""
        bytes_ = self.data_bits // 8
        to_page = Signal(13, name=f"{channel}_to_page")
        wanted = Signal(32, name=f"{channel}_wanted")
        beats = Signal(9, name=f"{channel}_beats")
        longest = self.registers[Register.BURST_BEATS]
        m.d.comb += [
            to_page.eq(Mux(self.mode[Mode.CROSS_4K], 4096, (4096 - address[:12]) // bytes_)),
            wanted.eq(Mux(longest < left, longest, left)),
            beats.eq(Mux(wanted < to_page, wanted, to_page)),
            getattr(self, f"m_axi_{channel}addr").eq(address),
            getattr(self, f"m_axi_{channel}size").eq((bytes_ - 1).bit_length()),
            getattr(self, f"m_axi_{channel}burst").eq(Mux(self.mode[Mode.WRAP], 2, 1)),
        ]
        return beats

    def _read(self, m, fifo):
        registers, mode = self.registers, self.mode
        address, left, expected = Signal(32), Signal(32), Signal(32)
        beats = self._burst(m, "ar", address, left)
        cycle, count = Signal(32), Signal(32)
        taken = self.m_axi_arvalid & self.m_axi_arready
        beat = self.m_axi_rvalid & self.m_axi_rready
        drop = Signal()
        m.d.comb += [
            self.m_axi_arvalid.eq((left != 0) & ~drop),
            self.m_axi_arlen.eq(beats - 1),
            self.m_axi_rready.eq(mode[Mode.READ_ONLY] | fifo.w_rdy),
            fifo.w_data.eq(self.m_axi_rdata),
            fifo.w_en.eq(self.m_axi_rvalid & ~mode[Mode.READ_ONLY]),
        ]
        m.d.sync += [
            cycle.eq(cycle + 1),
            drop.eq(mode[Mode.DROP_ARVALID] & self.m_axi_arvalid & ~self.m_axi_arready),
        ]
        with m.If(taken):
            m.d.sync += [address.eq(address + beats * (self.data_bits // 8)), left.eq(left - beats)]
            with m.If(left == registers[Register.BEATS]):
                m.d.sync += cycle.eq(1)
        with m.If(beat):
            m.d.sync += [expected.eq(expected - 1), count.eq(count + 1)]
            m.d.sync += registers[Register.READ_SPAN].eq(
                cycle - registers[Register.READ_LATENCY] + 1
            )
            with m.If(count == 0):
                m.d.sync += registers[Register.READ_LATENCY].eq(cycle)
                m.d.sync += registers[Register.READ_SPAN].eq(1)
            with m.If(self.m_axi_rlast):
                m.d.sync += registers[Register.LASTS].eq(registers[Register.LASTS] + 1)
            with m.If(self.m_axi_rresp > registers[Register.RESPONSE]):
                m.d.sync += registers[Register.RESPONSE].eq(self.m_axi_rresp)
        with m.If(self.start):
            beats = registers[Register.BEATS]
            m.d.sync += [address.eq(registers[Register.SOURCE]), left.eq(beats)]
            m.d.sync += [expected.eq(beats), count.eq(0), registers[Register.RESPONSE].eq(0)]
            m.d.sync += registers[Register.LASTS].eq(0)
        # Of an input and a register: false only while values settle.
        m.d.comb += Assert(~(self.m_axi_rvalid & (expected == 0)), "data nobody asked for")
        m.d.comb += Assert(~ResetSignal(), "checked during reset")
        m.d.sync += Assert(
            ~(mode[Mode.ASSERT] & beat & (count == 2)),
            Format('beat {:d} of "{:d}" read, 100 % wrong', count, registers[Register.BEATS]),
        )
        return expected == 0

    def _write(self, m, fifo):
        registers, mode = self.registers, self.mode
        address, left, in_burst, unanswered = Signal(32), Signal(32), Signal(9), Signal(32)
        beats = self._burst(m, "aw", address, left)
        cycle = Signal(32)
        taken = self.m_axi_awvalid & self.m_axi_awready
        beat = self.m_axi_wvalid & self.m_axi_wready
        answer = self.m_axi_bvalid & self.m_axi_bready
        m.d.comb += [
            self.m_axi_awvalid.eq((left != 0) & (in_burst == 0)),
            self.m_axi_awlen.eq(beats - 1),
            self.m_axi_wvalid.eq((in_burst != 0) & fifo.r_rdy),
            self.m_axi_wdata.eq(fifo.r_data),
            self.m_axi_wstrb.eq(Mux(mode[Mode.HALF], (1 << self.data_bits // 16) - 1, ~0)),
            self.m_axi_wlast.eq(in_burst == Mux(mode[Mode.EARLY_WLAST], 2, 1)),
            fifo.r_en.eq(beat),
            self.m_axi_bready.eq(1),
        ]
        m.d.sync += [cycle.eq(cycle + 1), unanswered.eq(unanswered + taken - answer)]
        with m.If(taken):
            m.d.sync += [in_burst.eq(beats), left.eq(left - beats)]
            m.d.sync += address.eq(address + beats * (self.data_bits // 8))
        with m.If(beat):
            m.d.sync += [in_burst.eq(in_burst - 1), cycle.eq(1)]
        with m.If(answer):
            m.d.sync += registers[Register.WRITE_LATENCY].eq(cycle)
            with m.If(self.m_axi_bresp > registers[Register.RESPONSE]):
                m.d.sync += registers[Register.RESPONSE].eq(self.m_axi_bresp)
        with m.If(self.start & ~mode[Mode.READ_ONLY]):
            m.d.sync += address.eq(registers[Register.DESTINATION])
            m.d.sync += left.eq(registers[Register.BEATS])
        return Cat(left, in_burst, unanswered) == 0


class Scrambler(wiring.Component):
    """Registers written in every manner of Amaranth, stirred for `CYCLES` cycles after `start`."""

    CYCLES = 300

    start: In(1)
    digest: Out(32)

    def elaborate(self, platform):
        m = Module()
        left, noise = Signal(16), Signal(32, init=0xACE1)
        lanes = Signal(data.ArrayLayout(signed(8), 12))
        split, both = Signal(8), Signal(12)
        with m.If(self.start):
            m.d.sync += left.eq(self.CYCLES)
        with m.If(left != 0):
            m.d.sync += [
                left.eq(left - 1),
                noise.eq(Cat(noise[0] ^ noise[1] ^ noise[21] ^ noise[31], noise)),
                lanes[noise[4:8]].eq(noise[8:16]),  # the index runs past the end
                Cat(both[:5], both[5:]).eq(noise),
            ]
            with m.Switch(noise[:4]):
                with m.Case(0, 3):
                    m.d.sync += [split[:4].eq(noise[16:]), self.digest[3:17].eq(self.digest[5:])]
                with m.Case("1--0"):
                    m.d.sync += split[:4].eq(split[1:])
                    with m.If(noise[9]):
                        m.d.sync += lanes[2].eq(lanes[3] * lanes[4])
                    with m.Elif(noise[10]):
                        m.d.sync += lanes.eq(~lanes.as_value())
                with m.Default():
                    m.d.sync += self.digest.eq(self.digest.rotate_left(5) + noise + lanes[1])
            with m.FSM():
                with m.State("odd"), m.If(noise[3]):
                    m.d.sync += self.digest.eq(self.digest ^ lanes.as_value())
                    m.next = "even"
                with m.State("even"):
                    m.d.sync += self.digest[31].eq(both.xor())
                    m.next = "odd"
        m.d.comb += split[4:].eq(noise[5:])
        m.submodules.memory = store = memory.Memory(shape=8, depth=16, init=[7, 5])
        write = store.write_port(granularity=4)
        read = store.read_port()
        m.d.comb += [
            write.addr.eq(noise[2:]),
            write.data.eq(split),
            write.en.eq(noise[7:9]),
            read.addr.eq(noise[6:]),
        ]
        m.submodules.cleared = ResetInserter(noise[11] & noise[12])(
            EnableInserter(left != 0)(counter := Module())
        )
        count = Signal(9, init=3)
        counter.d.sync += count.eq(count + read.data)
        with m.If((left != 0) & (noise[:3] == 5)):
            m.d.sync += self.digest[8:].eq(self.digest + count)
        return m
