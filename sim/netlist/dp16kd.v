// DP16KD: a block memory of the ECP5, 1024 words of 18 bits, in the modes that Yosys maps to.
//
// Sources: Lattice FPGA-TN-02204 (ECP5 and ECP5-5G Memory Usage Guide) for the ports and modes;
// Yosys techlibs/lattice brams_16kd.txt and brams_map_16kd.v for what its mapping assumes of them:
//   - a word of 18 bits at ADx[13:4], a half of 9 at [13:3], 4 bits at [13:2], 2 at [13:1], 1 at
//     [13:0]; widths below 9 leave bit 8 of each half unused; a word of 36 is two words of 18, the
//     lower at the lower address (pseudo dual port: port A writes, port B reads);
//   - byte enables of writes in the low address bits: ADx[1:0] of 18 bits, ADA[3:0] of 36;
//   - INITVAL_ii holds 16 words, each in 20 bits of which the low 18 count;
//   - RSTx clears the output register, whether CEx or not, and no write happens in that cycle.
//     Where nothing resets, RSTx is 0 and Yosys sets RESETMODE to either: ASYNC wants RSTx = 0.
// What the mapping promises never to use is answered by noise: a word read at one port in the cycle
// in which the other writes it. Contents that no INITVAL sets start unknown (as Verilator starts
// registers: --x-initial unique); the configuration of the real device sets them to 0.
// Settings not modelled are refused when the model is built.
`define SERRANO_INITVAL(index) parameter [319:0] INITVAL_``index = 320'd0;

module DP16KD (
    input DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9,
    input DIA8, DIA7, DIA6, DIA5, DIA4, DIA3, DIA2, DIA1, DIA0,
    input ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5, ADA4, ADA3, ADA2, ADA1, ADA0,
    input CEA, OCEA, CLKA, WEA, RSTA, CSA2, CSA1, CSA0,
    output DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9,
    output DOA8, DOA7, DOA6, DOA5, DOA4, DOA3, DOA2, DOA1, DOA0,
    input DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9,
    input DIB8, DIB7, DIB6, DIB5, DIB4, DIB3, DIB2, DIB1, DIB0,
    input ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5, ADB4, ADB3, ADB2, ADB1, ADB0,
    input CEB, OCEB, CLKB, WEB, RSTB, CSB2, CSB1, CSB0,
    output DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9,
    output DOB8, DOB7, DOB6, DOB5, DOB4, DOB3, DOB2, DOB1, DOB0
);
    parameter integer DATA_WIDTH_A = 18;
    parameter integer DATA_WIDTH_B = 18;
    parameter REGMODE_A = "NOREG";
    parameter REGMODE_B = "NOREG";
    parameter RESETMODE = "SYNC";
    parameter ASYNC_RESET_RELEASE = "SYNC";  // of no effect as long as RSTx is synchronous
    parameter CSDECODE_A = "0b000";
    parameter CSDECODE_B = "0b000";
    parameter WRITEMODE_A = "NORMAL";
    parameter WRITEMODE_B = "NORMAL";
    parameter CLKAMUX = "CLKA";
    parameter CLKBMUX = "CLKB";
    parameter GSR = "ENABLED";  // the global set and reset is not used by any design here
    parameter INIT_DATA = "STATIC";
    `SERRANO_INITVAL(00) `SERRANO_INITVAL(01) `SERRANO_INITVAL(02) `SERRANO_INITVAL(03)
    `SERRANO_INITVAL(04) `SERRANO_INITVAL(05) `SERRANO_INITVAL(06) `SERRANO_INITVAL(07)
    `SERRANO_INITVAL(08) `SERRANO_INITVAL(09) `SERRANO_INITVAL(0A) `SERRANO_INITVAL(0B)
    `SERRANO_INITVAL(0C) `SERRANO_INITVAL(0D) `SERRANO_INITVAL(0E) `SERRANO_INITVAL(0F)
    `SERRANO_INITVAL(10) `SERRANO_INITVAL(11) `SERRANO_INITVAL(12) `SERRANO_INITVAL(13)
    `SERRANO_INITVAL(14) `SERRANO_INITVAL(15) `SERRANO_INITVAL(16) `SERRANO_INITVAL(17)
    `SERRANO_INITVAL(18) `SERRANO_INITVAL(19) `SERRANO_INITVAL(1A) `SERRANO_INITVAL(1B)
    `SERRANO_INITVAL(1C) `SERRANO_INITVAL(1D) `SERRANO_INITVAL(1E) `SERRANO_INITVAL(1F)
    `SERRANO_INITVAL(20) `SERRANO_INITVAL(21) `SERRANO_INITVAL(22) `SERRANO_INITVAL(23)
    `SERRANO_INITVAL(24) `SERRANO_INITVAL(25) `SERRANO_INITVAL(26) `SERRANO_INITVAL(27)
    `SERRANO_INITVAL(28) `SERRANO_INITVAL(29) `SERRANO_INITVAL(2A) `SERRANO_INITVAL(2B)
    `SERRANO_INITVAL(2C) `SERRANO_INITVAL(2D) `SERRANO_INITVAL(2E) `SERRANO_INITVAL(2F)
    `SERRANO_INITVAL(30) `SERRANO_INITVAL(31) `SERRANO_INITVAL(32) `SERRANO_INITVAL(33)
    `SERRANO_INITVAL(34) `SERRANO_INITVAL(35) `SERRANO_INITVAL(36) `SERRANO_INITVAL(37)
    `SERRANO_INITVAL(38) `SERRANO_INITVAL(39) `SERRANO_INITVAL(3A) `SERRANO_INITVAL(3B)
    `SERRANO_INITVAL(3C) `SERRANO_INITVAL(3D) `SERRANO_INITVAL(3E) `SERRANO_INITVAL(3F)

    localparam bit WIDE = DATA_WIDTH_A == 36 || DATA_WIDTH_B == 36;

    if (REGMODE_A != "NOREG" || REGMODE_B != "NOREG") $error("DP16KD: output registers");
    if (RESETMODE != "SYNC") always @* assert (!RSTA && !RSTB);  // asynchronous
    if (CSDECODE_A != "0b000" || CSDECODE_B != "0b000") $error("DP16KD: chip select");
    if (CLKAMUX != "CLKA" || CLKBMUX != "CLKB") $error("DP16KD: inverted clock");
    if (INIT_DATA != "STATIC") $error("DP16KD: INIT_DATA");
    if (!(DATA_WIDTH_A inside {1, 2, 4, 9, 18, 36})) $error("DP16KD: DATA_WIDTH_A");
    if (!(DATA_WIDTH_B inside {1, 2, 4, 9, 18, 36})) $error("DP16KD: DATA_WIDTH_B");
    if (!(WRITEMODE_A == "NORMAL" || WRITEMODE_A == "WRITETHROUGH"
          || WRITEMODE_A == "READBEFOREWRITE")) $error("DP16KD: WRITEMODE_A");
    if (!(WRITEMODE_B == "NORMAL" || WRITEMODE_B == "WRITETHROUGH"
          || WRITEMODE_B == "READBEFOREWRITE")) $error("DP16KD: WRITEMODE_B");

    wire [17:0] dia = {DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9,
                       DIA8, DIA7, DIA6, DIA5, DIA4, DIA3, DIA2, DIA1, DIA0};
    wire [17:0] dib = {DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9,
                       DIB8, DIB7, DIB6, DIB5, DIB4, DIB3, DIB2, DIB1, DIB0};
    wire [13:0] ada = {ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7,
                       ADA6, ADA5, ADA4, ADA3, ADA2, ADA1, ADA0};
    wire [13:0] adb = {ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7,
                       ADB6, ADB5, ADB4, ADB3, ADB2, ADB1, ADB0};

    // Words of 36, so that every width is a part of one.
    reg [35:0] mem[511:0];
    reg [35:0] qa, qb;
    assign {DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9, DOA8, DOA7, DOA6, DOA5,
            DOA4, DOA3, DOA2, DOA1, DOA0} = WIDE ? qb[17:0] : qa[17:0];
    assign {DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9, DOB8, DOB7, DOB6, DOB5,
            DOB4, DOB3, DOB2, DOB1, DOB0} = DATA_WIDTH_B == 36 ? qb[35:18] : qb[17:0];

    localparam [20479:0] CONTENTS = {
        INITVAL_3F, INITVAL_3E, INITVAL_3D, INITVAL_3C, INITVAL_3B, INITVAL_3A,
        INITVAL_39, INITVAL_38, INITVAL_37, INITVAL_36, INITVAL_35, INITVAL_34,
        INITVAL_33, INITVAL_32, INITVAL_31, INITVAL_30, INITVAL_2F, INITVAL_2E,
        INITVAL_2D, INITVAL_2C, INITVAL_2B, INITVAL_2A, INITVAL_29, INITVAL_28,
        INITVAL_27, INITVAL_26, INITVAL_25, INITVAL_24, INITVAL_23, INITVAL_22,
        INITVAL_21, INITVAL_20, INITVAL_1F, INITVAL_1E, INITVAL_1D, INITVAL_1C,
        INITVAL_1B, INITVAL_1A, INITVAL_19, INITVAL_18, INITVAL_17, INITVAL_16,
        INITVAL_15, INITVAL_14, INITVAL_13, INITVAL_12, INITVAL_11, INITVAL_10,
        INITVAL_0F, INITVAL_0E, INITVAL_0D, INITVAL_0C, INITVAL_0B, INITVAL_0A,
        INITVAL_09, INITVAL_08, INITVAL_07, INITVAL_06, INITVAL_05, INITVAL_04,
        INITVAL_03, INITVAL_02, INITVAL_01, INITVAL_00};
    initial
        if (CONTENTS != 0)
            for (int i = 0; i < 512; i = i + 1)
                mem[i] = {CONTENTS[40 * i + 20 +: 18], CONTENTS[40 * i +: 18]};

    // Lowest bit of the addressed part in its word of 36.
    function automatic [5:0] lowest(input int width, input [4:0] address);
        case (width)
            36: lowest = 0;
            18: lowest = address[4] ? 18 : 0;
            9: lowest = 6'(9 * address[4:3]);
            4: lowest = 6'(9 * address[4:3] + 4 * address[2]);
            2: lowest = 6'(9 * address[4:3] + 2 * address[2:1]);
            default: lowest = 6'(9 * address[4:3] + address[2:0]);
        endcase
    endfunction

    function automatic [35:0] ones(input int width);
        ones = (36'd1 << width) - 1;
    endfunction

    // Bits of the word that a write changes.
    function automatic [35:0] written(input int width, input [4:0] address);
        case (width)
            36: written = {{9{address[3]}}, {9{address[2]}}, {9{address[1]}}, {9{address[0]}}};
            18: written = 36'({{9{address[1]}}, {9{address[0]}}}) << lowest(18, address);
            default: written = ones(width) << lowest(width, address);
        endcase
    endfunction

    wire [35:0] mask_a = written(DATA_WIDTH_A, ada[4:0]);
    wire [35:0] mask_b = written(DATA_WIDTH_B, adb[4:0]);
    wire [35:0] put_a = mask_a & ((DATA_WIDTH_A == 36 ? {dib, dia} : 36'(dia))
                                  << lowest(DATA_WIDTH_A, ada[4:0]));
    wire [35:0] put_b = mask_b & (36'(dib) << lowest(DATA_WIDTH_B, adb[4:0]));
    wire write_a = CEA && WEA && !RSTA;
    wire write_b = CEB && WEB && !RSTB && !WIDE;
    wire same = ada[13:5] == adb[13:5];
    wire [35:0] new_a = (mem[ada[13:5]] & ~mask_a) | put_a;
    wire [35:0] new_b = (mem[adb[13:5]] & ~mask_b) | put_b;
    // Two writes into one word of 36; bits that both write become noise.
    wire [35:0] new_ab = ((mem[ada[13:5]] & ~mask_a & ~mask_b) | put_a | put_b)
                         ^ (noise() & mask_a & mask_b);

    function automatic [35:0] noise();
        noise = 36'({$urandom, $urandom});
    endfunction

    always @(posedge CLKA) begin
        if (write_a) mem[ada[13:5]] <= write_b && same ? new_ab : new_a;
        if (RSTA)
            qa <= 0;
        else if (CEA && !(WEA && WRITEMODE_A == "NORMAL"))
            qa <= ((write_b && same ? (mem[ada[13:5]] & ~mask_b) | (noise() & mask_b)
                    : WEA && WRITEMODE_A == "WRITETHROUGH" ? new_a : mem[ada[13:5]])
                   >> lowest(DATA_WIDTH_A, ada[4:0])) & ones(DATA_WIDTH_A);
    end
    always @(posedge CLKB) begin
        if (write_b) mem[adb[13:5]] <= write_a && same ? new_ab : new_b;
        if (RSTB)
            qb <= 0;
        else if (CEB && !(WEB && WRITEMODE_B == "NORMAL"))
            qb <= ((write_a && same ? (mem[adb[13:5]] & ~mask_a) | (noise() & mask_a)
                    : WEB && WRITEMODE_B == "WRITETHROUGH" ? new_b : mem[adb[13:5]])
                   >> lowest(DATA_WIDTH_B, adb[4:0])) & ones(DATA_WIDTH_B);
    end
endmodule
