// The verilated chip with its memory behind a C interface, for ctypes (library.py).
//
// One clock cycle is two evaluations: clock low with this cycle's inputs, where every signal is
// sampled, then the rising edge. Calls are for one thread at a time per chip.

#include <cstdarg>
#include <memory>

#include "Vchip.h"
#include "memory.h"
#include "recorder.h"
#include "verilated.h"
#if VM_TRACE_FST
#include "verilated_fst_c.h"
using TraceFile = VerilatedFstC;
#elif VM_TRACE_VCD
#include "verilated_vcd_c.h"
using TraceFile = VerilatedVcdC;
#endif

namespace {

// Designs with the port `trace` of hdl/trace.py; index of an instruction that a unit takes.
template <class Top>
constexpr bool TRACED = requires(const Top& top) { top.trace_word; };

template <class Top>
void record(serrano::Recorder& recorder, const Top& top) {
    if constexpr (TRACED<Top>)
        recorder.sample(top.trace_word, [&top](uint32_t unit) {
            const uint32_t bit = 20 * unit, at = bit / 32, shift = bit % 32;
            uint32_t index = top.trace_index[at] >> shift;
            if (shift > 12) index |= top.trace_index[at + 1] << (32 - shift);
            return index & 0xfffff;
        });
}

struct Chip;
thread_local Chip* t_chip = nullptr;  // whose call this thread is in

// Registers without initial value, which only a netlist has, start at random.
VerilatedContext* started(VerilatedContext& context, uint64_t seed) {
    context.randReset(2);
    context.randSeed(static_cast<int>(seed % 0x7fffffff) + 1);  // 0 would be the time of day
    return &context;
}

struct Chip {
    VerilatedContext context;
    Vchip top;
    serrano::AxiMemory<Vchip> memory;
    serrano::Recorder recorder;
    uint64_t cycle = 0;
    bool stopped = false;  // an assertion failed or the model gave up; for good
    std::string output;    // what the design printed, assertions included
#if VM_TRACE
    std::unique_ptr<TraceFile> trace;
#endif

    Chip(const serrano::Timing& timing, uint8_t* data, uint64_t bytes)
        : top{started(context, timing.seed), "TOP"}, memory{timing, data, bytes} {
#if VM_TRACE
        context.traceEverOn(true);
#endif
        top.clk = 0;
        idle();
    }

    bool failed() const { return stopped || !memory.error.empty(); }

    void idle() {
        top.s_axil_awvalid = top.s_axil_wvalid = top.s_axil_arvalid = 0;
        top.s_axil_bready = top.s_axil_rready = 0;
        memory.reset(top);
    }

    void evaluate(bool clock) {
        top.clk = clock;
        top.eval();
#if VM_TRACE
        if (trace) trace->dump(context.time());
#endif
        context.timeInc(1);
    }

    // Everything settles and the transfers of this cycle are known; nothing is clocked yet.
    void settle() {
        memory.drive(top, cycle);
        evaluate(false);
        memory.sample(top, cycle);
        if (recorder.on()) record(recorder, top);
    }

    void edge() {
        evaluate(true);
        ++cycle;
    }
};

// Makes a chip the one that prints and stops, for the length of a call.
struct Active {
    explicit Active(Chip* chip) { t_chip = chip; }
    ~Active() { t_chip = nullptr; }
};

enum Status : int { OK = 0, IRQ = 1, TIMEOUT = 2, FAILED = 3, UNSUPPORTED = 4 };

}  // namespace

// --- What Verilator calls ---------------------------------------------------------------------

extern "C" int serrano_print(const char* format, ...) {
    char text[4096];
    va_list arguments;
    va_start(arguments, format);
    const int length = std::vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (t_chip)
        t_chip->output += text;
    else
        std::fputs(text, stderr);
    return length;
}

// Replacements of Verilator's own, which would end the process (VL_USER_STOP and so on).
void vl_stop(const char*, int, const char*) VL_MT_UNSAFE {
    if (t_chip) t_chip->stopped = true;
}
void vl_finish(const char*, int, const char*) VL_MT_UNSAFE {
    if (t_chip) t_chip->stopped = true;
}
void vl_fatal(const char* file, int line, const char*, const char* message) VL_MT_UNSAFE {
    serrano_print("%%Error: %s:%d: %s\n", file, line, message);
    if (t_chip) t_chip->stopped = true;
}

// --- What library.py calls --------------------------------------------------------------------

#define API extern "C" __attribute__((visibility("default")))

API Chip* chip_open(const serrano::Timing* timing, uint8_t* data, uint64_t bytes) {
    return new Chip{*timing, data, bytes};
}

API void chip_close(Chip* chip) {
    const Active active{chip};
#if VM_TRACE
    if (chip->trace) chip->trace->close();
#endif
    chip->top.final();
    delete chip;
}

// Holds reset for `cycles`; the memory forgets what was under way, the data stays.
API int chip_reset(Chip* chip, uint64_t cycles) {
    const Active active{chip};
    chip->idle();
    chip->top.rst = 1;
    for (uint64_t i = 0; i < cycles; ++i) {
        chip->evaluate(false);
        chip->edge();
    }
    chip->top.rst = 0;
    return chip->failed() ? FAILED : OK;
}

API int chip_run(Chip* chip, uint64_t max_cycles) {
    const Active active{chip};
    for (uint64_t i = 0; i < max_cycles && !chip->top.irq && !chip->failed(); ++i) {
        chip->settle();
        chip->edge();
    }
    return chip->failed() ? FAILED : chip->top.irq ? IRQ : OK;
}

// AXI4-Lite transactions: valid is held until ready, the response is taken at once.
API int chip_write(Chip* chip, uint32_t address, uint32_t value, uint64_t timeout, int* response) {
    const Active active{chip};
    Vchip& top = chip->top;
    top.s_axil_awaddr = address;
    top.s_axil_awprot = 0;
    top.s_axil_wdata = value;
    top.s_axil_wstrb = 0xf;
    top.s_axil_awvalid = top.s_axil_wvalid = top.s_axil_bready = 1;
    bool done = false;
    for (uint64_t i = 0; i < timeout && !done && !chip->failed(); ++i) {
        chip->settle();
        const bool address_taken = top.s_axil_awready, data_taken = top.s_axil_wready;
        done = top.s_axil_bvalid;
        *response = top.s_axil_bresp;
        chip->edge();
        if (address_taken) top.s_axil_awvalid = 0;
        if (data_taken) top.s_axil_wvalid = 0;
    }
    top.s_axil_awvalid = top.s_axil_wvalid = top.s_axil_bready = 0;
    return chip->failed() ? FAILED : done ? OK : TIMEOUT;
}

API int chip_read(Chip* chip, uint32_t address, uint64_t timeout, uint32_t* value, int* response) {
    const Active active{chip};
    Vchip& top = chip->top;
    top.s_axil_araddr = address;
    top.s_axil_arprot = 0;
    top.s_axil_arvalid = top.s_axil_rready = 1;
    bool done = false;
    for (uint64_t i = 0; i < timeout && !done && !chip->failed(); ++i) {
        chip->settle();
        const bool address_taken = top.s_axil_arready;
        done = top.s_axil_rvalid;
        *value = top.s_axil_rdata;
        *response = top.s_axil_rresp;
        chip->edge();
        if (address_taken) top.s_axil_arvalid = 0;
    }
    top.s_axil_arvalid = top.s_axil_rready = 0;
    return chip->failed() ? FAILED : done ? OK : TIMEOUT;
}

API uint64_t chip_cycles(const Chip* chip) { return chip->cycle; }

API uint32_t chip_bus_bytes(const Chip*) { return serrano::AxiMemory<Vchip>::BUS_BYTES; }

API void chip_stats(const Chip* chip, serrano::Stats* stats) { *stats = chip->memory.stats; }

API void chip_set_errors(Chip* chip, int writes, const serrano::ErrorRange* ranges, uint64_t count) {
    (writes ? chip->memory.write_errors : chip->memory.read_errors).assign(ranges, ranges + count);
}

// Text of the first protocol violation; empty if none. Valid until the chip is closed.
API const char* chip_violation(const Chip* chip) { return chip->memory.error.c_str(); }

// What the design has printed so far; valid until the next call.
API const char* chip_output(const Chip* chip) { return chip->output.c_str(); }

API void chip_clear_output(Chip* chip) { chip->output.clear(); }

// Forgets what was recorded and records from now on, or no longer if `resolution` is 0.
API int chip_record(Chip* chip, uint32_t resolution, uint64_t first, uint64_t last) {
    if (resolution && !TRACED<Vchip>) return UNSUPPORTED;
    chip->recorder.start(resolution, first, last);
    if (resolution == 0) chip->recorder.stop();
    return OK;
}

// The steps recorded so far; valid until the next call.
API const serrano::Record* chip_recorded(const Chip* chip, uint64_t* count) {
    *count = chip->recorder.log.size();
    return chip->recorder.log.data();
}

// Starts a waveform file, or ends it if `path` is null.
API int chip_trace(Chip* chip, const char* path) {
#if VM_TRACE
    const Active active{chip};
    if (chip->trace) chip->trace->close();
    chip->trace.reset();
    if (path == nullptr) return OK;
    chip->trace = std::make_unique<TraceFile>();
    chip->top.trace(chip->trace.get(), 99);
    chip->trace->open(path);
    return chip->trace->isOpen() ? OK : FAILED;
#else
    (void)chip;
    return path ? UNSUPPORTED : OK;
#endif
}
