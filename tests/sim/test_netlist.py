"""Rewriting of Verilog: what may be widened or moved into an enable, and what may not."""

import pytest

from sim.verilated.netlist import prepare
from sim.verilated.sink import sink
from sim.verilated.widen import widen

PORTS = [
    "module unit(clk, rst, clear, en, other, a, b, o);",
    "  input clk;",
    "  input rst;",
    "  input clear;",
    "  input en;",
    "  input other;",
    "  input [7:0] a;",
    "  input [7:0] b;",
    "  output [7:0] o;",
    "  wire [7:0] o;",
]


def process(*body: str) -> list[str]:
    return ["  always @(posedge clk) begin", *body, "  end"]


def gated(register: str, value: str, enable: str = "en") -> list[str]:
    return process(f"    if ({enable}) begin", f"      {register} <= {value};", "    end")


def moved(lines: list[str]) -> list[str]:
    """Names of the wires that became variables."""
    before = {line for line in lines if line.startswith("  reg ")}
    after = [line for line in sink(lines) if line.startswith("  reg ") and line not in before]
    return [line.split()[-1].rstrip(";") for line in after]


def pipeline(*extra: str, second: str = "en") -> list[str]:
    """Wire w read by two registers; `extra` lines may read it too."""
    return [
        *PORTS,
        "  wire [7:0] w;",
        "  wire [7:0] x;",
        "  reg [7:0] q = 8'h00;",
        "  reg [7:0] r = 8'h00;",
        *gated("q", "w"),
        *gated("r", "x", second),
        "  assign x = w ^ b;",
        "  assign w = a + b;",
        *extra,
        "endmodule",
    ]


def test_wire_of_one_enable_is_moved():
    assert moved(pipeline()) == ["w", "x"]
    text = "\n".join(sink(pipeline()))
    assert text.count("always") == 1
    inside = text[text.index("if (en)") : text.index("endmodule")]
    at = [inside.index(line) for line in ("w = a + b;", "x = w ^ b;", "q <= w;", "r <= x;")]
    assert at[0] < at[1]
    assert max(at[:2]) < min(at[2:])
    assert "assign" not in text


@pytest.mark.parametrize(
    "reader",
    [
        "  assign o = w;",
        "  sub s (.i(w));",
        "  assign o[3:0] = w[3:0];",
        "  always @* assert (w);",
        "\n".join(gated("s", "w", "other")),
        "\n".join(process("    if (w) begin", "      s <= a;", "    end")),
        "\n".join(process("    s <= w;")),
    ],
)
def test_wire_with_another_reader_stays(reader):
    assert "w" not in moved(pipeline(*reader.split("\n")))


def test_wire_of_two_enables_stays():
    lines = pipeline(second="other")
    assert moved(lines) == []
    assert sink(lines) == lines


def test_port_stays():
    lines = [*PORTS, "  reg q = 1'h0;", *gated("q", "o"), *gated("r", "o"), "  assign o = a;"]
    assert moved([*lines, "endmodule"]) == []


def test_wire_read_once_is_left_to_verilator():
    lines = [*PORTS, "  wire [7:0] w;", *gated("q", "w"), "  assign w = a;", "endmodule"]
    assert sink(lines) == lines


def test_every_reset_stays_with_its_condition():
    def reset(register: str, value: str) -> list[str]:
        return process(
            "    if (rst) begin",
            f"      {register} <= 8'h01;",
            "    end else begin",
            "    if (clear) begin",
            f"      {register} <= 8'h02;",
            "    end else begin",
            "    if (en) begin",
            f"      {register} <= {value};",
            "    end",
            "    end",
            "    end",
        )

    lines = [*PORTS, "  wire [7:0] w;", *reset("q", "w"), *reset("r", "w + a")]
    text = "\n".join(sink([*lines, "  assign w = a + b;", "endmodule"]))
    body = [line.strip() for line in text[text.index("always") :].split("\n")]
    assert body == [
        "always @(posedge clk) begin",
        *("if (rst) begin", "q <= 8'h01;", "r <= 8'h01;", "end else begin"),
        *("if (clear) begin", "q <= 8'h02;", "r <= 8'h02;", "end else begin"),
        *("if (en) begin", "w = a + b;", "q <= w;", "r <= w + a;", "end", "end", "end", "end"),
        "endmodule",
    ]


def widened(assign: str, *more: str, wire: str = "[16:0]") -> bool:
    lines = [*PORTS, f"  wire {wire} w;", f"  assign w = {assign};", *more, "endmodule"]
    widen(lines)
    return "  wire [31:0] w;" in lines


def test_exact_signed_sum_is_widened():
    assert widened("$signed(a) * $signed(b)")
    assert widened("$signed(a) + $signed(b[6:2])", wire="[8:0]")
    assert widened("$signed(a) + $signed(8'h01)", "  assign o = w[7:0];", wire="[8:0]")
    assert widened("$signed(a) * $signed(b)", "  assign o = $signed(w) >>> 2;")


def test_truncated_or_unsigned_sum_is_not():
    assert not widened("$signed(a) * $signed(b)", wire="[14:0]")
    assert not widened("$signed(a) + $signed(b)", wire="[7:0]")
    assert not widened("a + b")
    assert not widened("$signed(a) + $signed(unknown)")
    assert not widened("$signed(a) * $signed(b)", wire="[39:0]")


@pytest.mark.parametrize("reader", ["{ w, a }", "w + a", "| w", "a[w]", "~ w"])
def test_sum_read_as_plain_bits_is_not(reader):
    assert not widened("$signed(a) * $signed(b)", f"  assign o = {reader};")


def test_waveforms_keep_every_signal():
    lines = pipeline("  wire [16:0] p;", "  assign p = $signed(a) * $signed(b);")
    assert prepare("\n".join(lines), "unit", waveforms=True) == "\n".join(lines)
    assert prepare("\n".join(lines), "unit") != "\n".join(lines)
