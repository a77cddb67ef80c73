// Records what every unit does (port `trace` of the chip, hdl/trace.py) in steps, in little memory.
//
// Runs of one state and cause are kept whole if they are long; shorter ones are gathered into segments
// that keep the exact cycles of each state and cause. A segment never crosses an instruction's start or
// end. Beats are counted in bins. What is recorded adds up to the chip's own counters.

#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace serrano {

// Fields of `trace_word` in hdl/trace.py.
struct TraceWord {
    static constexpr uint32_t UNITS = 6, UNIT_BITS = 9, KEY_BITS = 7, BEATS = 8;
    static constexpr uint32_t TAKEN = 7, FINISHED = 8, BEATS_AT = UNITS * UNIT_BITS;
    static constexpr uint64_t RUNNING = uint64_t{1} << (BEATS_AT + BEATS);
    static constexpr uint64_t every_unit(uint64_t bits) {
        uint64_t word = 0;
        for (uint32_t u = 0; u < UNITS; ++u) word |= bits << (u * UNIT_BITS);
        return word;
    }
};

// Mirrored by `RECORD` in library.py. `cycle` counts from the step's first.
struct Record {
    uint64_t cycle;
    uint32_t length;  // STEP: of the step; STATE: of the segment; BEATS: of the bin
    uint32_t count;   // STATE: cycles with this state and cause; BEATS: beats
    uint32_t index;   // TAKEN: of the instruction
    uint8_t kind, unit;
    uint8_t state, cause;
};
enum Kind : uint8_t { STEP = 0, STATE = 1, TAKEN = 2, FINISHED = 3, BEATS = 4 };

class Recorder {
public:
    std::vector<Record> log;

    // `resolution`: shortest run kept whole; bins and gathered segments are 16 times as long. States and
    // beats are kept for cycles first <= cycle < last of each step.
    void start(uint32_t resolution, uint64_t first, uint64_t last) {
        *this = Recorder{};
        m_on = true;
        m_resolution = resolution;
        m_gather = 16 * resolution;
        m_first = first;
        m_last = last;
    }
    void stop() { m_on = false; }
    bool on() const { return m_on; }

    template <class Index>
    void sample(uint64_t word, Index index) {
        if (!(word & TraceWord::RUNNING)) {
            if (m_running) finish();
            return;
        }
        m_running = true;
        if (m_cycle == m_first && m_first < m_last) {
            m_open = true;
            m_states = word;
            m_bin_start = m_cycle;
            for (Track& track : m_tracks) track.start = m_cycle;
        }
        if (m_cycle == m_last) close();
        constexpr uint64_t KEYS = TraceWord::every_unit((1 << TraceWord::KEY_BITS) - 1);
        constexpr uint64_t PULSES =
            TraceWord::every_unit(1 << TraceWord::TAKEN | 1 << TraceWord::FINISHED);
        if (m_cut || (word & PULSES) || ((word ^ m_states) & KEYS)) change(word, index);
        if (m_open) {
            ++m_patterns[word >> TraceWord::BEATS_AT & 0xff];
            if (m_cycle + 1 - m_bin_start == m_gather) end_bin(m_cycle + 1);
        }
        ++m_cycle;
    }

private:
    // A unit: the run of one key (state and cause) going on, and short ones before it.
    struct Track {
        uint64_t start = 0, gathered = 0;
        uint32_t cycles[1 << TraceWord::KEY_BITS] = {};
        std::vector<uint8_t> keys;  // with cycles that are gathered
    };

    bool m_on = false, m_running = false, m_open = false;
    uint32_t m_resolution = 1, m_gather = 16, m_cut = 0;
    uint64_t m_first = 0, m_last = 0, m_cycle = 0, m_bin_start = 0;
    uint64_t m_states = 0;
    uint32_t m_patterns[256] = {};
    Track m_tracks[TraceWord::UNITS];

    static uint32_t bits_of(uint64_t word, uint32_t unit) {
        return word >> (unit * TraceWord::UNIT_BITS) & ((1 << TraceWord::UNIT_BITS) - 1);
    }
    static uint8_t key_of(uint64_t word, uint32_t unit) {
        return bits_of(word, unit) & ((1 << TraceWord::KEY_BITS) - 1);
    }

    template <class Index>
    void change(uint64_t word, Index index) {
        const uint32_t cut = m_cut;
        m_cut = 0;
        for (uint32_t u = 0; u < TraceWord::UNITS; ++u) {
            const uint32_t bits = bits_of(word, u);
            const bool taken = bits >> TraceWord::TAKEN & 1;
            const bool boundary = taken || (cut >> u & 1);
            if (m_open && (boundary || key_of(word, u) != key_of(m_states, u))) {
                end_run(u, m_cycle);
                if (boundary) gather(u, m_cycle);
            }
            if (taken) log.push_back({m_cycle, 0, 0, index(u), TAKEN, uint8_t(u), 0, 0});
            if (bits >> TraceWord::FINISHED & 1) {
                log.push_back({m_cycle, 0, 0, 0, FINISHED, uint8_t(u), 0, 0});
                m_cut |= 1 << u;
            }
        }
        m_states = word;
    }

    void state(uint64_t start, uint64_t end, uint32_t count, uint32_t unit, uint8_t key) {
        if ((key & 3) == 0) return;  // idle
        log.push_back({start, uint32_t(end - start), count, 0, STATE, uint8_t(unit),
                       uint8_t(key & 3), uint8_t(key >> 2)});
    }

    void end_run(uint32_t unit, uint64_t end) {
        Track& track = m_tracks[unit];
        const uint64_t length = end - track.start;
        const uint8_t key = key_of(m_states, unit);
        if (length >= m_resolution) {
            gather(unit, track.start);
            state(track.start, end, uint32_t(length), unit, key);
        } else if (length) {
            if (track.keys.empty()) track.gathered = track.start;
            if (track.cycles[key] == 0) track.keys.push_back(key);
            track.cycles[key] += uint32_t(length);
            if (end - track.gathered >= m_gather) gather(unit, end);
        }
        track.start = end;
    }

    void gather(uint32_t unit, uint64_t end) {
        Track& track = m_tracks[unit];
        for (const uint8_t key : track.keys) {
            state(track.gathered, end, track.cycles[key], unit, key);
            track.cycles[key] = 0;
        }
        track.keys.clear();
    }

    void end_bin(uint64_t end) {
        uint32_t counts[TraceWord::BEATS] = {};
        for (uint32_t pattern = 1; pattern < 256; ++pattern)
            if (m_patterns[pattern])
                for (uint32_t b = 0; b < TraceWord::BEATS; ++b)
                    if (pattern >> b & 1) counts[b] += m_patterns[pattern];
        for (uint32_t b = 0; b < TraceWord::BEATS; ++b)
            if (counts[b])
                log.push_back({m_bin_start, uint32_t(end - m_bin_start), counts[b], 0, BEATS,
                               uint8_t(b), 0, 0});
        std::fill(m_patterns, m_patterns + 256, 0);
        m_bin_start = end;
    }

    void close() {
        if (!m_open) return;
        for (uint32_t u = 0; u < TraceWord::UNITS; ++u) {
            end_run(u, m_cycle);
            gather(u, m_cycle);
        }
        if (m_cycle != m_bin_start) end_bin(m_cycle);
        m_open = false;
    }

    void finish() {
        close();
        log.push_back({0, uint32_t(m_cycle), 0, 0, STEP, 0, 0, 0});
        m_running = false;
        m_cycle = 0;
        m_cut = 0;
    }
};

}  // namespace serrano
