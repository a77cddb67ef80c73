// MULT18X18D of the ECP5, for simulation: A, B and P through registers with enables, at CLK0,
// without reset. Any other use stops the simulation. Source: Lattice FPGA-TN-02205.
module MULT18X18D (
    input A17, A16, A15, A14, A13, A12, A11, A10, A9, A8, A7, A6, A5, A4, A3, A2, A1, A0,
    input B17, B16, B15, B14, B13, B12, B11, B10, B9, B8, B7, B6, B5, B4, B3, B2, B1, B0,
    input C17, C16, C15, C14, C13, C12, C11, C10, C9, C8, C7, C6, C5, C4, C3, C2, C1, C0,
    input SIGNEDA, SIGNEDB, SOURCEA, SOURCEB,
    input CLK0, CLK1, CLK2, CLK3, CE0, CE1, CE2, CE3, RST0, RST1, RST2, RST3,
    output P35, P34, P33, P32, P31, P30, P29, P28, P27, P26, P25, P24, P23, P22, P21, P20, P19,
    P18, P17, P16, P15, P14, P13, P12, P11, P10, P9, P8, P7, P6, P5, P4, P3, P2, P1, P0
);
    parameter REG_INPUTA_CLK = "NONE";
    parameter REG_INPUTA_CE = "CE0";
    parameter REG_INPUTB_CLK = "NONE";
    parameter REG_INPUTB_CE = "CE0";
    parameter REG_INPUTC_CLK = "NONE";
    parameter REG_PIPELINE_CLK = "NONE";
    parameter REG_OUTPUT_CLK = "NONE";
    parameter REG_OUTPUT_CE = "CE0";
    parameter GSR = "ENABLED";

    wire [17:0] a = {
        A17, A16, A15, A14, A13, A12, A11, A10, A9, A8, A7, A6, A5, A4, A3, A2, A1, A0
    };
    wire [17:0] b = {
        B17, B16, B15, B14, B13, B12, B11, B10, B9, B8, B7, B6, B5, B4, B3, B2, B1, B0
    };
    wire [3:0] ce = {CE3, CE2, CE1, CE0};
    reg signed [18:0] a_register, b_register;
    reg signed [37:0] product;

    // "CE0" ... "CE3": the last character is the number
    wire enable_a = ce[REG_INPUTA_CE[1:0]];
    wire enable_b = ce[REG_INPUTB_CE[1:0]];
    wire enable_p = ce[REG_OUTPUT_CE[1:0]];

    always @(posedge CLK0) begin
        if (enable_a) a_register <= {SIGNEDA & a[17], a};
        if (enable_b) b_register <= {SIGNEDB & b[17], b};
        if (enable_p) product <= a_register * b_register;
    end

    assign {
        P35, P34, P33, P32, P31, P30, P29, P28, P27, P26, P25, P24, P23, P22, P21, P20, P19,
        P18, P17, P16, P15, P14, P13, P12, P11, P10, P9, P8, P7, P6, P5, P4, P3, P2, P1, P0
    } = product[35:0];

    initial begin
        if (REG_INPUTA_CLK != "CLK0" || REG_INPUTB_CLK != "CLK0" || REG_OUTPUT_CLK != "CLK0" ||
            REG_INPUTC_CLK != "NONE" || REG_PIPELINE_CLK != "NONE" || GSR != "DISABLED") begin
            $display("MULT18X18D: this model has registers at A, B and P, all at CLK0, no GSR");
            $finish;
        end
    end
    always @(posedge CLK0)
        if (SOURCEA || SOURCEB || RST0 || RST1 || RST2 || RST3) begin
            $display("MULT18X18D: this model has no shifted input and no reset");
            $finish;
        end
endmodule
