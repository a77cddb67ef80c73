// DRAM behind the AXI4 port: banks, open rows, refresh, one data bus for reads and writes.
//
// A controller as simple as it can be without giving bandwidth away:
// - Reads are served in order of their addresses, writes in order of theirs. Rows stay open.
// - The next `lookahead` columns of the queue in service have their rows opened ahead of time, each
//   bank for the oldest column that wants it, while the data of earlier ones move. One row command
//   and one column command a cycle; the address bus is never the limit otherwise.
// - Writes are buffered. They go ahead of reads when `write_high` columns of them wait, until
//   `write_low` are left, and whenever no read waits. Where both wait, either direction goes on for
//   `write_high` columns before it gives way.
// - Every `refi` cycles all banks are closed and refreshed; nothing is postponed.
//
// Timing. A column command at cycle t moves its first beat on the port at t + cl (reads) and holds
// the data bus `burst_beats` cycles. A read address reaches the controller `latency - cl` cycles
// after it is taken, so its first beat is valid `latency` cycles after it if the row is open and
// the bus free, `rcd` later if the bank is closed, `rp + rcd` later if another row is open.
// What the commands must keep is in dram.py; the names are those of the JEDEC standards.

#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace serrano {

// Parameters in chip clock cycles and beats of the port; mirrored by `_Dram` in dram.py.
struct DramTiming {
    uint32_t enabled;
    uint32_t banks, groups, row_beats, burst_beats;
    uint32_t rcd, rp, ras, cl, cwl, rrd_short, rrd_long, faw, ccd_long, rtp, wr, wtr, rtw;
    uint32_t refi, rfc;
    uint32_t lookahead, read_buffer_beats, write_buffer_beats, write_high, write_low;
};

// Counters; part of Stats in memory.h.
struct DramStats {
    uint64_t row_hits;       // columns that found their row open
    uint64_t row_misses;     // rows opened in a closed bank
    uint64_t row_conflicts;  // rows opened after another was closed
    uint64_t refreshes;
    uint64_t turnarounds;    // changes of the data bus from reads to writes or back
};

// A fifo that grows; never shrinks.
template <class Item>
class Fifo {
public:
    void clear() { m_head = m_tail = 0; }
    uint32_t size() const { return m_tail - m_head; }
    Item& operator[](uint32_t index) { return m_items[(m_head + index) & (m_items.size() - 1)]; }
    void push(const Item& item) {
        if (size() == m_items.size()) {
            std::vector<Item> more(m_items.size() * 2);
            const uint32_t count = size();
            for (uint32_t i = 0; i < count; ++i) more[i] = (*this)[i];
            m_items.swap(more);
            m_head = 0;
            m_tail = count;
        }
        m_items[m_tail++ & (m_items.size() - 1)] = item;
    }
    void pop() { ++m_head; }

private:
    std::vector<Item> m_items = std::vector<Item>(64);
    uint32_t m_head = 0, m_tail = 0;
};

// What went to the DRAM, for tests and traces.
struct DramCommand {
    enum Kind : uint64_t { ACTIVATE, PRECHARGE, READ, WRITE, PRECHARGE_ALL, REFRESH };
    uint64_t cycle, kind, bank, row;
};

class Dram {
public:
    explicit Dram(DramStats& stats) : stats(stats) {}

    DramStats& stats;
    std::vector<DramCommand>* log = nullptr;

    void reset(const DramTiming& timing, uint32_t latency) {
        m_t = timing;
        if (!m_t.enabled) return;
        m_front = latency - m_t.cl;
        m_banks.assign(m_t.banks, Bank{});
        m_group_next.assign(m_t.groups, 0);
        m_group_act.assign(m_t.groups, 0);
        std::fill(std::begin(m_acts), std::end(m_acts), 0);
        m_reads.clear();
        m_writes.clear();
        m_data.clear();
        m_act_next = m_column_next = m_read_next = m_write_next = 0;
        m_act_count = 0;
        m_batch = m_buffered = m_write_beats = 0;
        m_writing = m_started = false;
        m_open = m_open_read = Column{};
        m_last = DramCommand::READ;
    }

    bool enabled() const { return m_t.enabled; }

    // A beat of a read burst, in order; `last`: of the burst.
    void read_beat(uint64_t beat, bool last, uint64_t cycle) {
        gather(m_open_read, beat, last, cycle, m_reads);
    }

    // A beat of write data that was taken; `last`: of the burst.
    void write_beat(uint64_t beat, bool last, uint64_t cycle) {
        ++m_write_beats;
        gather(m_open, beat, last, cycle, m_writes);
    }

    bool write_room() const { return m_write_beats < m_t.write_buffer_beats; }

    // Whether the oldest read beat not taken yet, which is this one, has come.
    bool ready(uint64_t beat, uint64_t cycle) {
        return m_data.size() && m_data[0].cycle + beat % m_t.burst_beats <= cycle;
    }

    void take() {
        --m_buffered;
        if (--m_data[0].beats == 0) m_data.pop();
    }

    // The commands of one cycle.
    void tick(uint64_t cycle) {
        if (!m_started) {
            m_started = true;
            m_refresh_due = cycle + m_t.refi;
        }
        if (cycle >= m_refresh_due) {
            refresh(cycle);
            return;
        }
        const bool reads = waiting(m_reads, cycle), writes = waiting(m_writes, cycle);
        const bool rest = m_batch >= m_t.write_high;
        if (m_writing ? reads && (!writes || rest || m_writes.size() <= m_t.write_low)
                      : writes && (!reads || (rest && m_writes.size() >= m_t.write_high))) {
            m_writing = !m_writing;
            m_batch = 0;
        }
        if (m_writing ? !writes : !reads) return;
        Fifo<Column>& queue = m_writing ? m_writes : m_reads;
        column(queue, cycle);
        open_rows(queue, cycle);
    }

private:
    static constexpr uint64_t CLOSED = ~uint64_t{0};

    struct Bank {
        uint64_t row = CLOSED;
        // Earliest cycles of the next commands.
        uint64_t activate = 0, column = 0, precharge = 0;
    };

    // Beats of one burst that one column access of the DRAM moves.
    struct Column {
        uint64_t row = 0, visible = 0;  // visible: to the controller, from this cycle on
        uint32_t bank = 0, group = 0, beats = 0;
        uint8_t opened = 0;  // 1: its row had to be opened, 2: another had to be closed first
    };

    struct Data {
        uint64_t cycle;  // of the column's first beat
        uint32_t beats;  // wanted
    };

    DramTiming m_t{};
    uint32_t m_front = 1;
    std::vector<Bank> m_banks;
    std::vector<uint64_t> m_group_next, m_group_act;  // earliest column command, ACTIVATE
    uint64_t m_acts[4] = {};                          // of the last four ACTIVATEs
    uint32_t m_act_count = 0;
    Fifo<Column> m_reads, m_writes;
    Fifo<Data> m_data;
    Column m_open, m_open_read;  // being gathered from beats
    uint64_t m_act_next = 0, m_column_next = 0, m_read_next = 0, m_write_next = 0;
    uint64_t m_refresh_due = 0;
    uint32_t m_batch = 0;        // columns since the direction changed
    uint32_t m_buffered = 0;     // beats read or being read, not taken
    uint32_t m_write_beats = 0;  // beats in the write buffer
    bool m_writing = false, m_started = false;
    DramCommand::Kind m_last = DramCommand::READ;

    void note(DramCommand::Kind kind, uint64_t cycle, uint64_t bank, uint64_t row) {
        if (log) log->push_back({cycle, kind, bank, row});
    }

    // Address, from the low end: beat in a column, bank group, column, bank in its group, row.
    // A stream alternates between the groups, which may follow each other without a gap, and stays
    // in one row of each for groups x row_beats.
    Column locate(uint64_t index) const {
        Column column;
        column.group = index % m_t.groups;
        uint64_t rest = index / m_t.groups / (m_t.row_beats / m_t.burst_beats);
        const uint32_t in_group = m_t.banks / m_t.groups;
        column.bank = rest % in_group * m_t.groups + column.group;
        column.row = rest / in_group;
        return column;
    }

    void gather(Column& open, uint64_t beat, bool last, uint64_t cycle, Fifo<Column>& queue) {
        if (open.beats == 0) open = locate(beat / m_t.burst_beats);
        ++open.beats;
        open.visible = cycle + m_front;
        if (last || (beat + 1) % m_t.burst_beats == 0) {
            queue.push(open);
            open.beats = 0;
        }
    }

    static bool waiting(Fifo<Column>& queue, uint64_t cycle) {
        return queue.size() && queue[0].visible <= cycle;
    }

    void refresh(uint64_t cycle) {
        bool open = false;
        uint64_t start = cycle;
        for (const Bank& bank : m_banks) {
            if (bank.row == CLOSED) {
                start = std::max(start, bank.activate);
            } else {
                open = true;
                if (cycle < bank.precharge) return;
            }
        }
        if (open) {
            note(DramCommand::PRECHARGE_ALL, cycle, 0, 0);
            start = std::max(start, cycle + m_t.rp);
        }
        note(DramCommand::REFRESH, start, 0, 0);
        for (Bank& bank : m_banks) {
            bank.row = CLOSED;
            bank.activate = start + m_t.rfc;
        }
        ++stats.refreshes;
        m_refresh_due += m_t.refi;
    }

    // The oldest column of the queue, if it may go.
    void column(Fifo<Column>& queue, uint64_t cycle) {
        const Column& next = queue[0];
        Bank& bank = m_banks[next.bank];
        if (bank.row != next.row || cycle < bank.column || cycle < m_column_next ||
            cycle < m_group_next[next.group] || cycle < (m_writing ? m_write_next : m_read_next))
            return;
        if (m_writing) {
            m_read_next = cycle + m_t.cwl + m_t.burst_beats + m_t.wtr;
            bank.precharge = std::max<uint64_t>(
                bank.precharge, cycle + m_t.cwl + m_t.burst_beats + m_t.wr);
            m_write_beats -= next.beats;
        } else {
            if (m_buffered + next.beats > m_t.read_buffer_beats) return;
            m_write_next = cycle + m_t.rtw;
            bank.precharge = std::max<uint64_t>(bank.precharge, cycle + m_t.rtp);
            m_buffered += next.beats;
            m_data.push({cycle + m_t.cl, next.beats});
        }
        const auto kind = m_writing ? DramCommand::WRITE : DramCommand::READ;
        note(kind, cycle, next.bank, next.row);
        stats.turnarounds += kind != m_last;
        m_last = kind;
        ++m_batch;
        stats.row_hits += next.opened == 0;
        m_column_next = cycle + m_t.burst_beats;
        m_group_next[next.group] = cycle + m_t.ccd_long;
        queue.pop();
    }

    // At most one row command: for the oldest waiting column whose bank can take one.
    void open_rows(Fifo<Column>& queue, uint64_t cycle) {
        uint64_t seen = 0;
        const uint32_t count = std::min(queue.size(), m_t.lookahead);
        for (uint32_t i = 0; i < count; ++i) {
            Column& wanted = queue[i];
            if (wanted.visible > cycle) return;
            if (seen >> wanted.bank & 1) continue;  // an older column comes first there
            seen |= uint64_t{1} << wanted.bank;
            Bank& bank = m_banks[wanted.bank];
            if (bank.row == wanted.row) continue;
            if (bank.row != CLOSED) {
                if (cycle < bank.precharge) continue;
                note(DramCommand::PRECHARGE, cycle, wanted.bank, bank.row);
                bank.row = CLOSED;
                bank.activate = std::max<uint64_t>(bank.activate, cycle + m_t.rp);
                wanted.opened = 2;
                return;
            }
            if (cycle < bank.activate || cycle < m_act_next ||
                cycle < m_group_act[wanted.group] ||
                (m_act_count >= 4 && cycle < m_acts[m_act_count & 3] + m_t.faw))
                continue;
            note(DramCommand::ACTIVATE, cycle, wanted.bank, wanted.row);
            ++(wanted.opened == 2 ? stats.row_conflicts : stats.row_misses);
            wanted.opened = std::max<uint8_t>(wanted.opened, 1);
            bank.row = wanted.row;
            bank.column = cycle + m_t.rcd;
            bank.precharge = cycle + m_t.ras;
            m_act_next = cycle + m_t.rrd_short;
            m_group_act[wanted.group] = cycle + m_t.rrd_long;
            m_acts[m_act_count++ & 3] = cycle;
            return;
        }
    }
};

}  // namespace serrano
