// AXI4 memory model: one subordinate over a flat byte buffer, cycle by cycle.
//
// Use, once a clock cycle, with the clock low:
//   drive(top, cycle)    sets the outputs of this cycle; then evaluate the design
//   sample(top, cycle)   takes the transfers of this cycle; then raise the clock
// Only drive() writes ports, so what the design sees stays put from the evaluation to the edge; and all
// outputs are registered: nothing the design drives in a cycle changes them in that cycle.
//
// Timing. A read address taken in cycle t has its first beat valid in cycle t + latency, no earlier
// than the beats before it allow; at bandwidth 1 beats follow each other without a gap, across
// bursts too, as long as addresses come early enough. A write response is valid `latency` cycles
// after the last data beat. Reads and writes do not disturb each other; each is in order.
// A read sees every write whose data beat was taken in an earlier cycle than the beat is presented.
// With a DRAM (dram.h) behind the port, beats come when the DRAM has them: `latency` is that of a
// read whose row is open, and writes take their share of the one data bus; they are still answered
// `latency` cycles after their last beat, from a buffer that makes them wait when it is full.

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "dram.h"

namespace serrano {

// Parameters; mirrored by `_Timing` in library.py.
struct Timing {
    uint32_t latency;                // cycles, at least 1
    uint32_t bandwidth_numerator;    // beats a cycle, each direction: numerator / denominator,
    uint32_t bandwidth_denominator;  // 0 < numerator <= denominator
    uint32_t outstanding_reads;      // bursts, from address to last beat
    uint32_t outstanding_writes;     // bursts, from address to response
    uint32_t stall[5];               // AR, R, AW, W, B: probability of a stall in a cycle, * 2^32
    uint64_t seed;
    DramTiming dram;
};

// Counters; mirrored by `_Stats` in library.py.
struct Stats {
    uint64_t read_bursts, read_beats, write_bursts, write_beats;
    uint64_t read_busy_cycles;     // at least one read burst accepted and not finished
    uint64_t read_blocked_cycles;  // a beat was valid and not taken
    uint64_t write_busy_cycles;
    DramStats dram;
};

// Stalls of one channel: a generator of its own, so that channels don't disturb each other.
class Stall {
public:
    void reset(uint64_t seed, uint32_t channel, uint32_t probability) {
        m_state = (seed + 1) * 0x9e3779b97f4a7c15u + (channel + 1) * 0xd1342543de82ef95u;
        if (m_state == 0) m_state = 1;
        m_probability = probability;
        for (int i = 0; m_probability && i < 8; ++i) draw();
    }
    bool draw() {
        if (m_probability == 0) return false;
        m_state ^= m_state >> 12;  // xorshift64*: Vigna, "An experimental exploration of
        m_state ^= m_state << 25;  // Marsaglia's xorshift generators, scrambled"
        m_state ^= m_state >> 27;
        return static_cast<uint32_t>((m_state * 0x2545f4914f6cdd1du) >> 32) < m_probability;
    }

private:
    uint64_t m_state = 1;
    uint32_t m_probability = 0;
};

// Beats allowed by a bandwidth of numerator / denominator, at most one a cycle.
class Rate {
public:
    void reset(const Timing& timing) {
        m_numerator = timing.bandwidth_numerator;
        m_denominator = timing.bandwidth_denominator;
        m_credit = m_denominator;
    }
    void tick() {
        // The cap keeps the remainder of the division and no more: idle time is not saved up.
        m_credit = std::min(m_credit + m_numerator, m_denominator + m_numerator - 1);
    }
    bool allowed() const { return m_credit >= m_denominator; }
    void spend() { m_credit -= m_denominator; }

private:
    uint32_t m_numerator = 1, m_denominator = 1, m_credit = 1;
};

struct Burst {
    uint64_t address;     // of the next beat, as given by the manager
    uint64_t ready_cycle; // earliest cycle of the first read beat, or of the write response
    uint32_t beats_left;
    uint32_t id;
    uint8_t size;      // log2 of bytes a beat
    uint8_t response;  // worst of the write's beats
};

// Bursts in order; capacity fixed at reset.
class BurstQueue {
public:
    void reset(uint32_t capacity) {
        uint32_t size = 1;
        while (size < capacity) size *= 2;
        m_items.assign(size, Burst{});
        m_head = m_tail = 0;
    }
    uint32_t size() const { return m_tail - m_head; }
    Burst& operator[](uint32_t index) { return m_items[(m_head + index) & (m_items.size() - 1)]; }
    void push(const Burst& burst) { m_items[m_tail++ & (m_items.size() - 1)] = burst; }
    void pop() { ++m_head; }

private:
    std::vector<Burst> m_items;
    uint32_t m_head = 0, m_tail = 0;
};

enum Response : uint8_t { OKAY = 0, SLVERR = 2, DECERR = 3 };

// Addresses that answer with SLVERR: first <= address < last, of a beat's bus word.
struct ErrorRange {
    uint64_t first, last;
};

template <class Top>
class AxiMemory {
public:
    // Data bus width in bytes; Verilator's types are exact for powers of two from 32 bits on.
    static constexpr uint32_t BUS_BYTES = sizeof(std::declval<Top&>().m_axi_rdata);
    static_assert((BUS_BYTES & (BUS_BYTES - 1)) == 0 && BUS_BYTES >= 4 && BUS_BYTES <= 128,
                  "AXI4 data width must be a power of two from 32 to 1024 bits");

    AxiMemory(const Timing& timing, uint8_t* data, uint64_t bytes)
        : m_timing(timing), m_data(data), m_bytes(bytes) {}
    AxiMemory(const AxiMemory&) = delete;

    Stats stats{};
    std::string error;  // first violation of the protocol; empty if none
    std::vector<ErrorRange> read_errors, write_errors;

    // From now on, every command to the DRAM goes there; none if null.
    void log_commands(std::vector<DramCommand>* log) { m_dram.log = log; }

    void reset(Top& top) {
        for (uint32_t c = 0; c < 5; ++c) m_stall[c].reset(m_timing.seed, c, m_timing.stall[c]);
        m_read_rate.reset(m_timing);
        m_write_rate.reset(m_timing);
        m_reads.reset(m_timing.outstanding_reads);
        m_writes.reset(m_timing.outstanding_writes);
        m_dram.reset(m_timing.dram, m_timing.latency);
        m_filled = 0;
        m_ar = m_aw = Held{};
        m_w_held = m_r_valid = m_b_valid = false;
        top.m_axi_arready = top.m_axi_awready = top.m_axi_wready = 0;
        top.m_axi_rvalid = top.m_axi_bvalid = 0;
    }

    void drive(Top& top, uint64_t cycle) {
        m_read_rate.tick();
        m_write_rate.tick();
        if (m_dram.enabled()) m_dram.tick(cycle);
        top.m_axi_arready = m_reads.size() < m_timing.outstanding_reads && !m_stall[AR].draw();
        if (!m_r_valid && m_reads.size() && beat_ready(cycle) && m_read_rate.allowed() &&
            !m_stall[R].draw())
            present(top);
        top.m_axi_rvalid = m_r_valid;

        top.m_axi_awready = m_writes.size() < m_timing.outstanding_writes && !m_stall[AW].draw();
        top.m_axi_wready =
            m_filled < m_writes.size() && (!m_dram.enabled() || m_dram.write_room()) &&
            m_write_rate.allowed() && !m_stall[W].draw();
        if (!m_b_valid && m_filled && m_writes[0].ready_cycle <= cycle &&
            !m_stall[B].draw()) {
            top.m_axi_bid = m_writes[0].id;
            top.m_axi_bresp = m_writes[0].response;
            m_b_valid = true;
        }
        top.m_axi_bvalid = m_b_valid;
    }

    void sample(const Top& top, uint64_t cycle) {
        stats.read_busy_cycles += m_reads.size() != 0;
        stats.write_busy_cycles += m_writes.size() != 0;
        if (m_r_valid) {
            if (top.m_axi_rready) {
                ++stats.read_beats;
                m_r_valid = false;
                if (--m_reads[0].beats_left == 0) m_reads.pop();
            } else {
                ++stats.read_blocked_cycles;
            }
        }
        if (m_b_valid && top.m_axi_bready) {
            m_b_valid = false;
            m_writes.pop();
            --m_filled;
        }
        if (top.m_axi_wvalid || m_w_held) take_data(top, cycle);

        if (top.m_axi_arvalid || m_ar.waiting) {
            const Held now{static_cast<bool>(top.m_axi_arvalid), top.m_axi_araddr,
                           top.m_axi_arlen, top.m_axi_arsize, top.m_axi_arburst, top.m_axi_arid};
            if (accept(m_ar, now, top.m_axi_arready, "AR", cycle)) {
                m_reads.push(burst(now, cycle));
                if (m_dram.enabled()) read_columns(m_reads[m_reads.size() - 1], cycle);
                ++stats.read_bursts;
            }
        }
        if (top.m_axi_awvalid || m_aw.waiting) {
            const Held now{static_cast<bool>(top.m_axi_awvalid), top.m_axi_awaddr,
                           top.m_axi_awlen, top.m_axi_awsize, top.m_axi_awburst, top.m_axi_awid};
            if (accept(m_aw, now, top.m_axi_awready, "AW", cycle)) {
                m_writes.push(burst(now, cycle));
                ++stats.write_bursts;
            }
        }
    }

private:
    enum Channel { AR, R, AW, W, B };

    // An address channel as last seen; `waiting`: valid was high and ready was not.
    struct Held {
        bool waiting = false;
        uint64_t address = 0;
        uint32_t length = 0, size = 0, type = 0, id = 0;
        bool operator==(const Held&) const = default;
    };

    Timing m_timing;
    uint8_t* m_data;
    uint64_t m_bytes;
    Stall m_stall[5];
    Rate m_read_rate, m_write_rate;
    BurstQueue m_reads, m_writes;
    Dram m_dram{stats.dram};
    uint32_t m_filled = 0;  // write bursts, oldest first, whose data is complete
    Held m_ar, m_aw;
    bool m_w_held = false, m_r_valid = false, m_b_valid = false;
    std::decay_t<decltype(std::declval<Top&>().m_axi_wdata)> m_w_data{};
    std::decay_t<decltype(std::declval<Top&>().m_axi_wstrb)> m_w_strobe{};

    void fail(uint64_t cycle, const char* channel, const char* what, uint64_t address) {
        if (!error.empty()) return;
        char text[256];
        std::snprintf(text, sizeof text, "AXI4 %s at cycle %llu: %s (address 0x%llx)", channel,
                      static_cast<unsigned long long>(cycle), what,
                      static_cast<unsigned long long>(address));
        error = text;
    }

    // Checks one cycle of an address channel (AMBA AXI4, ARM IHI 0022: A3.2.1 and A3.4.1); true if
    // the burst is taken.
    bool accept(Held& held, const Held& now, bool ready, const char* name, uint64_t cycle) {
        if (held.waiting && !(held == now))
            fail(cycle, name, "valid or payload changed before ready", now.address);
        held = now;
        held.waiting = now.waiting && !ready;
        if (!now.waiting || !ready) return false;
        const uint64_t bytes = uint64_t{1} << now.size;
        const uint64_t last = (now.address & ~(bytes - 1)) + (now.length + 1) * bytes - 1;
        if (now.type != 1) fail(cycle, name, "burst type is not INCR", now.address);
        if (bytes > BUS_BYTES) fail(cycle, name, "beats wider than the bus", now.address);
        if ((now.address ^ last) >> 12) fail(cycle, name, "burst crosses 4 KiB", now.address);
        return true;
    }

    Burst burst(const Held& held, uint64_t cycle) const {
        return {held.address,   cycle + m_timing.latency,         held.length + 1,
                held.id, static_cast<uint8_t>(held.size), OKAY};
    }

    static uint64_t beat_number(const Burst& burst) { return burst.address / BUS_BYTES; }

    bool beat_ready(uint64_t cycle) {
        return m_dram.enabled() ? m_dram.ready(beat_number(m_reads[0]), cycle)
                                : m_reads[0].ready_cycle <= cycle;
    }

    void read_columns(Burst burst, uint64_t cycle) {
        for (; burst.beats_left; --burst.beats_left) {
            m_dram.read_beat(beat_number(burst), burst.beats_left == 1, cycle);
            step(burst);
        }
    }

    // Bus word of the burst's next beat; moves on to the beat after it.
    static uint64_t step(Burst& burst) {
        const uint64_t word = burst.address & ~uint64_t{BUS_BYTES - 1};
        const uint64_t bytes = uint64_t{1} << burst.size;
        burst.address = (burst.address & ~(bytes - 1)) + bytes;
        return word;
    }

    Response check(uint64_t word, const std::vector<ErrorRange>& errors) const {
        for (const ErrorRange& range : errors)
            if (word + BUS_BYTES > range.first && word < range.last) return SLVERR;
        return m_bytes >= BUS_BYTES && word <= m_bytes - BUS_BYTES ? OKAY : DECERR;
    }

    void present(Top& top) {
        Burst& burst = m_reads[0];
        const uint64_t word = step(burst);
        const Response response = check(word, read_errors);
        if (response == OKAY)
            std::memcpy(&top.m_axi_rdata, m_data + word, BUS_BYTES);
        else
            std::memset(&top.m_axi_rdata, 0, BUS_BYTES);
        top.m_axi_rid = burst.id;
        top.m_axi_rresp = response;
        top.m_axi_rlast = burst.beats_left == 1;
        m_r_valid = true;
        m_read_rate.spend();
        if (m_dram.enabled()) m_dram.take();
    }

    void take_data(const Top& top, uint64_t cycle) {
        if (m_w_held &&
            (!top.m_axi_wvalid || std::memcmp(&m_w_data, &top.m_axi_wdata, BUS_BYTES) ||
             std::memcmp(&m_w_strobe, &top.m_axi_wstrb, sizeof m_w_strobe)))
            fail(cycle, "W", "valid or payload changed before ready", 0);
        m_w_held = top.m_axi_wvalid && !top.m_axi_wready;
        if (m_w_held) {
            std::memcpy(&m_w_data, &top.m_axi_wdata, BUS_BYTES);
            std::memcpy(&m_w_strobe, &top.m_axi_wstrb, sizeof m_w_strobe);
        }
        if (!top.m_axi_wvalid || !top.m_axi_wready) return;
        Burst& burst = m_writes[m_filled];
        const uint64_t word = step(burst);
        const Response response = check(word, write_errors);
        burst.response = std::max<uint8_t>(burst.response, response);
        if (response == OKAY) store(top, word);
        if (m_dram.enabled()) m_dram.write_beat(word / BUS_BYTES, burst.beats_left == 1, cycle);
        m_write_rate.spend();
        ++stats.write_beats;
        const bool last = --burst.beats_left == 0;
        if (static_cast<bool>(top.m_axi_wlast) != last)
            fail(cycle, "W", "wlast does not agree with awlen", word);
        if (last) {
            burst.ready_cycle = cycle + m_timing.latency;
            ++m_filled;
        }
    }

    void store(const Top& top, uint64_t word) {
        uint8_t data[BUS_BYTES], strobe[(BUS_BYTES + 7) / 8];
        std::memcpy(data, &top.m_axi_wdata, BUS_BYTES);
        std::memcpy(strobe, &top.m_axi_wstrb, sizeof strobe);
        for (uint32_t i = 0; i < BUS_BYTES; ++i)
            if (strobe[i / 8] >> (i % 8) & 1) m_data[word + i] = data[i];
    }
};

}  // namespace serrano
