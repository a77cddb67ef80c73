"""FPGA families: which tools, what their cells cost, how large the devices are."""

from dataclasses import dataclass, field

__all__ = ["DEVICES", "FAMILIES", "RESOURCES", "Cost", "Device", "Family"]

RESOURCES = ("luts", "lut_ram", "ffs", "brams", "multipliers")
"""What a report counts. ``lut_ram`` is the part of ``luts`` that works as memory."""

Cost = dict[str, int]
"""Amounts by resource; what is not named is 0."""


@dataclass(frozen=True)
class Family:
    """Devices that the same tools and cells build.

    Attributes
    ----------
    tools : of `fpga.tools.TOOLS`
    synthesis : command of Yosys, with its phases in order (`-run` labels) and what each does
    costs : cells by type, as the placer will count them
    flip_flops : types of the registers
    state : types whose outputs do not follow their inputs within a cycle
    through : for types of which only some inputs reach the outputs within a cycle, those
    multiplier_registers : parameters of a multiplier that are "NONE" where a register is left out
    utilisation : resource to the placer's name for it
    latches : types of latches
    clock_gate : cell that stops a clock (CLKI, CE, CLKO), "" where none is used
    placement : options of the placer
    """

    name: str
    tools: tuple[str, ...]
    synthesis: str
    phases: tuple[tuple[str, str], ...]
    costs: dict[str, Cost]
    flip_flops: frozenset[str]
    state: frozenset[str]
    utilisation: dict[str, str]
    multiplier_registers: tuple[str, ...] = ()
    latches: frozenset[str] = frozenset()
    clock_gate: str = ""
    placement: tuple[str, ...] = ()
    through: dict[str, frozenset[str]] = field(default_factory=dict)


_PHASES = (
    ("begin", "reading cells"),
    ("coarse", "coarse synthesis"),
    ("map_ram", "mapping memories"),
    ("map_ffram", "mapping arithmetic"),
    ("map_ffs", "mapping registers"),
    ("map_luts", "mapping logic"),
    ("map_cells", "mapping cells"),
    ("check", "checking"),
)

_GOWIN_FFS = frozenset(
    f"DFF{kind}"
    for kind in ("", "E", "S", "SE", "R", "RE", "P", "PE", "C", "CE", "N", "NE", "NS", "NSE", "NR",
                 "NRE", "NP", "NPE", "NC", "NCE")
)  # fmt: skip

_ECP5 = Family(
    name="ecp5",
    tools=("yosys", "nextpnr-ecp5", "ecppack"),
    synthesis="synth_ecp5",
    phases=_PHASES,
    costs={
        "LUT4": {"luts": 1},
        "CCU2C": {"luts": 2},
        "TRELLIS_DPR16X4": {"luts": 4, "lut_ram": 4},
        "TRELLIS_FF": {"ffs": 1},
        "DP16KD": {"brams": 1},
        "MULT18X18D": {"multipliers": 1},
    },
    flip_flops=frozenset({"TRELLIS_FF"}),
    state=frozenset({"TRELLIS_FF", "DP16KD", "EHXPLLL", "OFS1P3DX", "IFS1P3DX", "ODDRX1F"}),
    utilisation={
        "luts": "TRELLIS_COMB",
        "ffs": "TRELLIS_FF",
        "brams": "DP16KD",
        "multipliers": "MULT18X18D",
    },
    multiplier_registers=("REG_INPUTA_CLK", "REG_INPUTB_CLK", "REG_OUTPUT_CLK"),
    clock_gate="DCCA",
    # Wires of the whole chip a third shorter than from the analytic placer that is the default.
    placement=("--placer", "static"),
    latches=frozenset({"$_DLATCH_P_", "$_DLATCH_N_", "DLATCH"}),
    through={"TRELLIS_DPR16X4": frozenset({"RAD"})},
)

_GW2A = Family(
    name="gw2a",
    tools=("yosys", "nextpnr-gowin", "gowin_pack"),
    synthesis="synth_gowin -family gw2a",
    phases=tuple(p for p in _PHASES if p[0] != "check"),
    costs={
        **{f"LUT{n}": {"luts": 1} for n in (1, 2, 3, 4)},
        "ALU": {"luts": 1},
        "RAM16SDP4": {"luts": 4, "lut_ram": 4},
        "RAM16SDP2": {"luts": 4, "lut_ram": 4},
        "RAM16SDP1": {"luts": 4, "lut_ram": 4},
        **{name: {"ffs": 1} for name in _GOWIN_FFS},
        **{name: {"brams": 1} for name in ("SDPB", "SDPX9B", "DPB", "DPX9B", "SPX9", "SP", "pROM")},
        "MULT9X9": {"multipliers": 1},
        "MULT18X18": {"multipliers": 1},
        "MULT36X36": {"multipliers": 4},
    },
    flip_flops=_GOWIN_FFS,
    state=_GOWIN_FFS | {"SDPB", "SDPX9B", "DPB", "DPX9B", "SPX9", "SP", "pROM", "rPLL"},
    utilisation={"luts": "LUT4", "ffs": "DFF", "brams": "BSRAM"},
    latches=frozenset({"DL", "DLE", "DLN", "DLNE", "DLC", "DLP"}),
    through={f"RAM16SDP{n}": frozenset({"RAD"}) for n in (1, 2, 4)},
)

FAMILIES = {f.name: f for f in (_ECP5, _GW2A)}


@dataclass(frozen=True)
class Device:
    """A part.

    Attributes
    ----------
    arguments : what tells the placer the part
    capacity : by resource; LUTs that can be memory are a part of the LUTs
    pack_arguments : what tells the packer the part
    sites : whether ``fpga.floorplan`` knows where its multipliers are
    """

    name: str
    family: Family
    arguments: tuple[str, ...]
    capacity: Cost
    pack_arguments: tuple[str, ...] = field(default=())
    sites: bool = False


DEVICES = {
    d.name: d
    for d in (
        Device(
            "LFE5U-85F-6",
            _ECP5,
            ("--85k", "--package", "CABGA381", "--speed", "6"),
            {"luts": 83640, "lut_ram": 41820, "ffs": 83640, "brams": 208, "multipliers": 156},
            ("--compress",),
            sites=True,
        ),
        Device(
            "GW2A-LV18PG256C8/I7",
            _GW2A,
            ("--device", "GW2A-LV18PG256C8/I7", "--vopt", "family=GW2A-18C"),
            {"luts": 20736, "lut_ram": 20736, "ffs": 15552, "brams": 46, "multipliers": 48},
            ("-d", "GW2A-18C"),
        ),
    )
}
