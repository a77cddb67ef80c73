// A verilated board behind a C interface, for ctypes (simulated.py): its UART pins as bytes.
//
// The host's end of the line is here: bytes become bits of `bit_cycles` clock cycles and back.
// Calls are for one thread at a time per board.

#include <cstdarg>
#include <deque>
#include <string>
#include <vector>

#include "Vchip.h"
#include "verilated.h"

namespace {

struct Board;
thread_local Board* t_board = nullptr;  // whose call this thread is in

constexpr uint64_t QUIET_CYCLES = 100;  // more than any block of the board takes to show activity

struct Board {
    VerilatedContext context;
    Vchip top;
    const double bit_cycles;
    uint64_t cycle = 0;
    bool stopped = false;  // an assertion failed or the model gave up; for good
    std::string output;    // what the design printed, assertions included

    std::deque<uint8_t> to_board;
    uint32_t send_bits = 0, send_left = 0;  // lowest next
    double send_due = 0;                    // cycle of the next bit

    std::vector<uint8_t> from_board;
    int receive_bit = -1;  // -1: idle
    uint32_t receive_byte = 0;
    double receive_due = 0;  // cycle in the middle of the next bit
    uint64_t framing_errors = 0;

    explicit Board(double bit_cycles) : top{&context, "TOP"}, bit_cycles{bit_cycles} {
        top.clk = 0;
        top.uart_rx = 1;
    }

    void tick() {
        drive();
        top.clk = 0;
        top.eval();
        sample();
        top.clk = 1;
        top.eval();
        ++cycle;
    }

    void drive() {
        if (send_left == 0) {
            if (to_board.empty()) return;
            send_bits = 0x200u | to_board.front() << 1;  // start bit lowest, stop bit highest
            to_board.pop_front();
            send_left = 10;
            if (send_due < cycle) send_due = cycle;
        }
        if (cycle < send_due) return;
        top.uart_rx = send_bits & 1;
        send_bits >>= 1;
        --send_left;
        send_due += bit_cycles;
    }

    void sample() {
        if (receive_bit < 0) {
            if (top.uart_tx) return;
            receive_bit = 0;
            receive_byte = 0;
            receive_due = cycle + bit_cycles / 2;
        }
        if (cycle + 1 <= receive_due) return;
        receive_due += bit_cycles;
        if (receive_bit == 9) {
            receive_bit = -1;
            if (top.uart_tx)
                from_board.push_back(receive_byte);
            else
                ++framing_errors;
            return;
        }
        if (receive_bit > 0) receive_byte |= uint32_t{top.uart_tx} << (receive_bit - 1);
        ++receive_bit;
    }

    // Nothing happens until the host sends something.
    bool idle() const {
        const bool running = top.leds >> 1 & 1, busy = top.leds >> 3 & 1;
        return to_board.empty() && !send_left && receive_bit < 0 && !running && !busy;
    }
};

struct Active {
    explicit Active(Board* board) { t_board = board; }
    ~Active() { t_board = nullptr; }
};

}  // namespace

// --- What Verilator calls ---------------------------------------------------------------------

extern "C" int serrano_print(const char* format, ...) {
    char text[4096];
    va_list arguments;
    va_start(arguments, format);
    const int length = std::vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (t_board)
        t_board->output += text;
    else
        std::fputs(text, stderr);
    return length;
}

// Replacements of Verilator's own, which would end the process (VL_USER_STOP and so on).
void vl_stop(const char*, int, const char*) VL_MT_UNSAFE {
    if (t_board) t_board->stopped = true;
}
void vl_finish(const char*, int, const char*) VL_MT_UNSAFE {
    if (t_board) t_board->stopped = true;
}
void vl_fatal(const char* file, int line, const char*, const char* message) VL_MT_UNSAFE {
    serrano_print("%%Error: %s:%d: %s\n", file, line, message);
    if (t_board) t_board->stopped = true;
}

// --- What simulated.py calls ------------------------------------------------------------------

#define API extern "C" __attribute__((visibility("default")))

API Board* board_open(double bit_cycles) { return new Board{bit_cycles}; }

API void board_close(Board* board) {
    const Active active{board};
    board->top.final();
    delete board;
}

API void board_reset(Board* board, uint64_t cycles) {
    const Active active{board};
    board->top.rst = 1;
    for (uint64_t i = 0; i < cycles; ++i) board->tick();
    board->top.rst = 0;
}

// Bytes for the line to the board, behind those that wait.
API void board_send(Board* board, const uint8_t* data, uint64_t count) {
    board->to_board.insert(board->to_board.end(), data, data + count);
}

// Runs until bytes have come from the board and its line is idle, or nothing goes on; at most
// `max_cycles`. 0: it goes on; 1: nothing goes on; 2: an assertion failed.
API int board_run(Board* board, uint64_t max_cycles) {
    const Active active{board};
    uint64_t quiet = 0;
    for (uint64_t i = 0; i < max_cycles && quiet < QUIET_CYCLES && !board->stopped; ++i) {
        board->tick();
        quiet = board->idle() ? quiet + 1 : 0;
    }
    return board->stopped ? 2 : quiet >= QUIET_CYCLES;
}

// Bytes that have come from the board; at most `capacity` of them.
API uint64_t board_receive(Board* board, uint8_t* data, uint64_t capacity) {
    auto& from = board->from_board;
    const uint64_t count = from.size() < capacity ? from.size() : capacity;
    std::copy(from.begin(), from.begin() + count, data);
    from.erase(from.begin(), from.begin() + count);
    return count;
}

API uint64_t board_cycles(const Board* board) { return board->cycle; }

API uint32_t board_leds(const Board* board) { return board->top.leds; }

API const char* board_output(const Board* board) { return board->output.c_str(); }
