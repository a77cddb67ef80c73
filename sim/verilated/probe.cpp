// The memory model alone behind a C interface, with a manager that asks as fast as it may: for
// probe.py. No design, no Verilator.

#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "memory.h"

namespace {

// The ports of a chip, as Verilator would name them.
template <uint32_t BYTES>
struct Ports {
    std::array<uint32_t, BYTES / 4> m_axi_rdata{}, m_axi_wdata{};
    uint64_t m_axi_wstrb = 0, m_axi_araddr = 0, m_axi_awaddr = 0;
    uint32_t m_axi_arlen = 0, m_axi_arsize = 0, m_axi_arburst = 1, m_axi_arid = 0;
    uint32_t m_axi_awlen = 0, m_axi_awsize = 0, m_axi_awburst = 1, m_axi_awid = 0;
    uint32_t m_axi_rid = 0, m_axi_rresp = 0, m_axi_bid = 0, m_axi_bresp = 0;
    bool m_axi_arvalid = false, m_axi_arready = false, m_axi_awvalid = false;
    bool m_axi_awready = false, m_axi_wvalid = false, m_axi_wready = false, m_axi_wlast = false;
    bool m_axi_rvalid = false, m_axi_rready = false, m_axi_rlast = false;
    bool m_axi_bvalid = false, m_axi_bready = false;
};

// Mirrored by `_Request` in probe.py.
struct Request {
    uint64_t cycle;    // its address is not offered before
    uint64_t address;
    uint64_t is_write;
    uint64_t beats;
    uint64_t accepted;  // out: cycle in which the address was taken
    uint64_t done;      // out: cycle of the last read beat, or of the write's response
};

// Requests of one direction, in order.
struct Side {
    std::vector<Request*> all;
    size_t asked = 0, moved = 0, done = 0;  // addresses, bursts of data, finished
    uint64_t beat = 0;                      // of the burst whose data move
};

template <uint32_t BYTES>
uint64_t run(const serrano::Timing& timing, uint8_t* data, uint64_t bytes, Request* requests,
             uint64_t count, const uint8_t* written, uint8_t* read, uint64_t* beat_cycles,
             uint32_t ready_every, uint64_t max_cycles, serrano::Stats* stats,
             serrano::DramCommand* log, uint64_t* log_size) {
    Ports<BYTES> top;
    serrano::AxiMemory<Ports<BYTES>> memory{timing, data, bytes};
    std::vector<serrano::DramCommand> commands;
    memory.log_commands(log ? &commands : nullptr);
    memory.reset(top);
    Side reads, writes;
    for (uint64_t i = 0; i < count; ++i)
        (requests[i].is_write ? writes : reads).all.push_back(&requests[i]);
    top.m_axi_arsize = top.m_axi_awsize = __builtin_ctz(BYTES);
    top.m_axi_wstrb = ~uint64_t{0};
    top.m_axi_bready = true;
    uint64_t cycle = 0;
    while (cycle < max_cycles && memory.error.empty() &&
           (reads.done < reads.all.size() || writes.done < writes.all.size())) {
        memory.drive(top, cycle);
        const auto offer = [&](Side& side, bool& valid, uint64_t& address, uint32_t& length) {
            valid = side.asked < side.all.size() && side.all[side.asked]->cycle <= cycle;
            if (!valid) return;
            address = side.all[side.asked]->address;
            length = side.all[side.asked]->beats - 1;
        };
        offer(reads, top.m_axi_arvalid, top.m_axi_araddr, top.m_axi_arlen);
        offer(writes, top.m_axi_awvalid, top.m_axi_awaddr, top.m_axi_awlen);
        top.m_axi_wvalid = writes.moved < writes.asked;
        if (top.m_axi_wvalid) {
            std::memcpy(&top.m_axi_wdata, written, BYTES);
            top.m_axi_wlast = writes.beat + 1 == writes.all[writes.moved]->beats;
        }
        top.m_axi_rready = cycle % ready_every == 0;
        memory.sample(top, cycle);
        if (top.m_axi_arvalid && top.m_axi_arready) reads.all[reads.asked++]->accepted = cycle;
        if (top.m_axi_wvalid && top.m_axi_wready) {
            written += BYTES;
            if (++writes.beat == writes.all[writes.moved]->beats) {
                ++writes.moved;
                writes.beat = 0;
            }
        }
        if (top.m_axi_awvalid && top.m_axi_awready) writes.all[writes.asked++]->accepted = cycle;
        if (top.m_axi_rvalid && top.m_axi_rready) {
            std::memcpy(read, &top.m_axi_rdata, BYTES);
            read += BYTES;
            *beat_cycles++ = cycle;
            if (top.m_axi_rlast) reads.all[reads.done++]->done = cycle;
        }
        if (top.m_axi_bvalid) writes.all[writes.done++]->done = cycle;
        ++cycle;
    }
    *stats = memory.stats;
    if (log) {
        const uint64_t size = std::min<uint64_t>(commands.size(), *log_size);
        std::copy_n(commands.begin(), size, log);
        *log_size = commands.size();
    }
    return memory.error.empty() ? cycle : ~uint64_t{0};
}

}  // namespace

// Cycles until everything is done, at most `max_cycles`; all ones after a violation of the protocol
// or for a width of the port that there is none of.
extern "C" __attribute__((visibility("default"))) uint64_t probe_run(
    const serrano::Timing* timing, uint32_t port_bytes, uint8_t* data, uint64_t bytes,
    Request* requests, uint64_t count, const uint8_t* written, uint8_t* read, uint64_t* beat_cycles,
    uint32_t ready_every, uint64_t max_cycles, serrano::Stats* stats, serrano::DramCommand* log,
    uint64_t* log_size) {
    const auto with = [&](auto run) {
        return run(*timing, data, bytes, requests, count, written, read, beat_cycles, ready_every,
                   max_cycles, stats, log, log_size);
    };
    switch (port_bytes) {
        case 4: return with(run<4>);
        case 8: return with(run<8>);
        case 16: return with(run<16>);
        case 32: return with(run<32>);
        case 64: return with(run<64>);
        default: return ~uint64_t{0};
    }
}
