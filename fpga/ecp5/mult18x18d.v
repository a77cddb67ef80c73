// MULT18X18D: a multiplier of the ECP5's sysDSP, 18 x 18 bits, with its registers on A, B and P.
//
// Sources: Lattice FPGA-TN-02205 (ECP5 and ECP5-5G sysDSP Usage Guide); Yosys techlibs/lattice
// dsp_map_18x18.v, whose mapping leaves every register out and clocks unconnected. SIGNEDx says
// whether operand x is two's complement. A register is clocked by the CLKn that REG_*_CLK names,
// enabled by REG_*_CE, cleared by REG_*_RST (synchronously; reset goes before enable). The registers
// start unknown. Not modelled and refused when the model is built: the pipeline register, operand
// C, cascades (SOURCEA, SOURCEB, SRIx), divided clocks and asynchronous reset; SIGNEDx, which has a
// register of its own in the device, may not change. The outputs ROx, SROx and SIGNEDP stay open.
// verilator lint_off UNUSEDPARAM
// verilator lint_off GENUNNAMED
module MULT18X18D (
    input A17, A16, A15, A14, A13, A12, A11, A10, A9, A8, A7, A6, A5, A4, A3, A2, A1, A0,
    input B17, B16, B15, B14, B13, B12, B11, B10, B9, B8, B7, B6, B5, B4, B3, B2, B1, B0,
    input C17, C16, C15, C14, C13, C12, C11, C10, C9, C8, C7, C6, C5, C4, C3, C2, C1, C0,
    input SIGNEDA, SIGNEDB, SOURCEA, SOURCEB,
    input CLK3, CLK2, CLK1, CLK0, CE3, CE2, CE1, CE0, RST3, RST2, RST1, RST0,
    output P35, P34, P33, P32, P31, P30, P29, P28, P27, P26, P25, P24, P23, P22, P21, P20, P19, P18,
    output P17, P16, P15, P14, P13, P12, P11, P10, P9, P8, P7, P6, P5, P4, P3, P2, P1, P0
);
    parameter REG_INPUTA_CLK = "NONE";
    parameter REG_INPUTA_CE = "CE0";
    parameter REG_INPUTA_RST = "RST0";
    parameter REG_INPUTB_CLK = "NONE";
    parameter REG_INPUTB_CE = "CE0";
    parameter REG_INPUTB_RST = "RST0";
    parameter REG_INPUTC_CLK = "NONE";
    parameter REG_PIPELINE_CLK = "NONE";
    parameter REG_OUTPUT_CLK = "NONE";
    parameter REG_OUTPUT_CE = "CE0";
    parameter REG_OUTPUT_RST = "RST0";
    parameter HIGHSPEED_CLK = "NONE";
    parameter MULT_BYPASS = "DISABLED";
    parameter CAS_MATCH_REG = "FALSE";
    parameter SOURCEB_MODE = "B_SHIFT";
    parameter RESETMODE = "SYNC";
    parameter GSR = "ENABLED";  // the global set and reset is not used by any design here
    // Of clocks that a multiplier and its result share, so without effect here.
    parameter CLK0_DIV = "ENABLED";
    parameter CLK1_DIV = "ENABLED";
    parameter CLK2_DIV = "ENABLED";
    parameter CLK3_DIV = "ENABLED";

    if (REG_PIPELINE_CLK != "NONE") $error("MULT18X18D: pipeline register");
    if (REG_INPUTC_CLK != "NONE") $error("MULT18X18D: operand C");
    if (HIGHSPEED_CLK != "NONE") $error("MULT18X18D: HIGHSPEED_CLK");
    if (MULT_BYPASS != "DISABLED") $error("MULT18X18D: MULT_BYPASS");
    if (CAS_MATCH_REG != "FALSE") $error("MULT18X18D: CAS_MATCH_REG");
    if (SOURCEB_MODE != "B_SHIFT") $error("MULT18X18D: SOURCEB_MODE");
    if (RESETMODE != "SYNC") $error("MULT18X18D: asynchronous reset");

    wire [17:0] a_in = {A17, A16, A15, A14, A13, A12, A11, A10, A9,
                        A8, A7, A6, A5, A4, A3, A2, A1, A0};
    wire [17:0] b_in = {B17, B16, B15, B14, B13, B12, B11, B10, B9,
                        B8, B7, B6, B5, B4, B3, B2, B1, B0};
    wire [17:0] a, b;
    wire signed [37:0] product = 38'($signed({SIGNEDA && a[17], a}))
                                 * 38'($signed({SIGNEDB && b[17], b}));
    wire [3:0] ce = {CE3, CE2, CE1, CE0};
    wire [3:0] rst = {RST3, RST2, RST1, RST0};
    wire [3:0] clk = {CLK3, CLK2, CLK1, CLK0};

    serrano_mult_register #(18, REG_INPUTA_CLK, REG_INPUTA_CE, REG_INPUTA_RST)
        register_a (.clk(clk), .ce(ce), .rst(rst), .d(a_in), .q(a));
    serrano_mult_register #(18, REG_INPUTB_CLK, REG_INPUTB_CE, REG_INPUTB_RST)
        register_b (.clk(clk), .ce(ce), .rst(rst), .d(b_in), .q(b));
    serrano_mult_register #(36, REG_OUTPUT_CLK, REG_OUTPUT_CE, REG_OUTPUT_RST)
        register_p (.clk(clk), .ce(ce), .rst(rst), .d(product[35:0]),
                    .q({P35, P34, P33, P32, P31, P30, P29, P28, P27, P26, P25, P24,
                        P23, P22, P21, P20, P19, P18, P17, P16, P15, P14, P13, P12,
                        P11, P10, P9, P8, P7, P6, P5, P4, P3, P2, P1, P0}));

    always @* begin
        assert (!SOURCEA && !SOURCEB);  // operands from the neighbour
        assert ({C17, C16, C15, C14, C13, C12, C11, C10, C9, C8, C7, C6, C5, C4, C3, C2, C1, C0}
                == 0);
    end
    reg signed_a, signed_b;
    initial begin
        signed_a = SIGNEDA;
        signed_b = SIGNEDB;
    end
    always @(posedge CLK0) assert (SIGNEDA == signed_a && SIGNEDB == signed_b);
endmodule

// A register of MULT18X18D, or a wire where its clock is NONE.
module serrano_mult_register #(
    parameter integer WIDTH = 18, parameter CLK = "NONE", parameter CE = "CE0",
    parameter RST = "RST0"
) (
    input [3:0] clk, ce, rst, input [WIDTH-1:0] d, output [WIDTH-1:0] q
);
    localparam integer C = CLK == "CLK0" ? 0 : CLK == "CLK1" ? 1 : CLK == "CLK2" ? 2 : 3;
    localparam integer E = CE == "CE0" ? 0 : CE == "CE1" ? 1 : CE == "CE2" ? 2 : 3;
    localparam integer R = RST == "RST0" ? 0 : RST == "RST1" ? 1 : RST == "RST2" ? 2 : 3;
    if (CLK == "NONE") assign q = d;
    else begin : clocked
        reg [WIDTH-1:0] value;
        assign q = value;
        always @(posedge clk[C])
            if (rst[R]) value <= 0;
            else if (ce[E]) value <= d;
    end
    if (!(CLK == "NONE" || CLK == "CLK0" || CLK == "CLK1" || CLK == "CLK2" || CLK == "CLK3"))
        $error("MULT18X18D: unknown clock");
    if (!(CE == "CE0" || CE == "CE1" || CE == "CE2" || CE == "CE3"))
        $error("MULT18X18D: unknown clock enable");
    if (!(RST == "RST0" || RST == "RST1" || RST == "RST2" || RST == "RST3"))
        $error("MULT18X18D: unknown reset");
endmodule
