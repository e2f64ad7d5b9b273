#include "compressed_lengths.hpp"

#include <algorithm>
#include <cstring>

namespace rstpm {

int64_t lzw_length(const uint8_t* data, size_t size, int64_t most) {
    constexpr uint32_t kClear = 256, kEnd = 257, kFirst = 258, kCodes = 4096;
    std::vector<int32_t> lengths(kCodes, 1);
    uint32_t next = kFirst, previous = kClear, width = 9, buffer = 0, bits = 0;
    int64_t total = 0;
    bool cleared = false;  // since the last clear code no other has come
    bool begun = false;
    for (size_t at = 0; total <= most;) {
        while (bits < width && at < size) {
            buffer = buffer << 8 | data[at++];
            bits += 8;
        }
        if (bits < width) return begun ? total : -1;  // some encoders leave out the end code
        const uint32_t code = buffer >> (bits - width) & ((1u << width) - 1);
        bits -= width;
        if (code == kClear) {
            next = kFirst;
            width = 9;
            cleared = begun = true;
            continue;
        }
        if (!begun) return -1;
        if (code == kEnd) return total;
        if (cleared) {
            if (code > kClear) return -1;
            cleared = false;
        } else {
            if (code > next || (code == next && next >= kCodes)) return -1;
            if (next < kCodes) lengths[next++] = lengths[previous] + 1;
            if (next + 1 >= 1u << width && width < 12) ++width;
        }
        total += lengths[code];
        previous = code;
    }
    return total;
}

int64_t packbits_length(const uint8_t* data, size_t size, int64_t most) {
    int64_t total = 0;
    size_t at = 0;
    while (at < size && total <= most) {
        const int code = data[at++];
        if (code == 128) continue;
        const size_t taken = code < 128 ? code + 1 : 1;
        if (taken > size - at) return total == most ? total : -1;  // a byte that pads to a word
        total += code < 128 ? code + 1 : 257 - code;
        at += taken;
    }
    return total;
}

bool HuffmanTable::set(const uint8_t* counts, const uint8_t* values, size_t size) {
    std::memset(short_, 0, sizeof short_);
    int32_t code = 0, offset = 0;
    for (int bits = 1; bits <= 16; ++bits, code <<= 1) {
        const int32_t count = counts[bits - 1];
        if (static_cast<size_t>(offset + count) > size || offset + count > 256 || code + count > 1 << bits)
            return false;
        first_[bits] = code;
        last_[bits] = code + count - 1;
        offset_[bits] = offset;
        for (int32_t i = 0; i < count; ++i, ++code, ++offset) {
            values_[offset] = values[offset];
            if (bits > kShort) continue;
            const int spare = kShort - bits;
            for (int32_t fill = 0; fill < 1 << spare; ++fill)
                short_[code << spare | fill] = {static_cast<uint8_t>(bits), values[offset]};
        }
    }
    return true;
}

// The bits of a scan up to a marker.
class JpegBits {
  public:
    JpegBits(const uint8_t* data, size_t size) : at_(data), end_(data + size) {}

    // The value of the next code; -1 where there is none.
    int decode(const HuffmanTable& table) {
        fill();
        const uint32_t ahead = peek(16);
        const HuffmanTable::Entry entry = table.short_[ahead >> (16 - HuffmanTable::kShort)];
        int length = entry.bits, value = entry.value;
        if (length == 0) {
            for (length = HuffmanTable::kShort + 1;; ++length) {
                if (length > 16) return -1;
                const int32_t code = static_cast<int32_t>(ahead >> (16 - length));
                if (code > table.last_[length] || code < table.first_[length]) continue;
                value = table.values_[table.offset_[length] + code - table.first_[length]];
                break;
            }
        }
        return take(length) ? value : -1;
    }

    // Whether there were as many bits as that. After `decode`, 16 and more are there if the scan has them.
    bool take(int bits) {
        count_ -= bits;
        return count_ >= 0;
    }

    uint32_t peek(int bits) const {
        if (count_ >= bits) return static_cast<uint32_t>(buffer_ >> (count_ - bits)) & ((1u << bits) - 1);
        return count_ <= 0 ? 0 : static_cast<uint32_t>(buffer_ << (bits - count_)) & ((1u << bits) - 1);
    }

    void fill() {
        while (count_ <= 48 && at_ < end_) {
            const uint8_t byte = *at_;
            if (byte == 0xFF) {
                if (at_ + 1 >= end_ || at_[1] != 0) return;  // a marker, or what fills up to one
                ++at_;
            }
            ++at_;
            buffer_ = buffer_ << 8 | byte;
            count_ += 8;
        }
    }

    // Whether nothing but padding is left in front of a marker: bits that are all alike, then bytes of zero.
    bool finish() {
        fill();
        const int odd = count_ % 8;
        const uint32_t padding = peek(odd);
        if (odd != 0 && padding != 0 && padding != (1u << odd) - 1) return false;
        take(odd);
        while (true) {
            for (; count_ > 0; count_ -= 8)
                if ((peek(8) & 0xFF) != 0) return false;
            fill();
            if (count_ == 0) return true;
        }
    }

    // Past a restart marker, if it is the one that is due.
    bool restart(int number) {
        while (at_ + 1 < end_ && at_[0] == 0xFF && at_[1] == 0xFF) ++at_;
        if (at_ + 1 >= end_ || at_[0] != 0xFF || at_[1] != 0xD0 + number) return false;
        at_ += 2;
        buffer_ = 0;
        count_ = 0;
        return true;
    }

    bool at_end() const { return at_ >= end_; }

  private:
    const uint8_t* at_;
    const uint8_t* end_;
    uint64_t buffer_ = 0;
    int count_ = 0;
};

size_t scan_end(const uint8_t* data, size_t size, size_t at) {
    while (at < size) {
        const void* const found = std::memchr(data + at, 0xFF, size - at);
        if (found == nullptr) break;
        at = static_cast<size_t>(static_cast<const uint8_t*>(found) - data);
        size_t next = at + 1;
        while (next < size && data[next] == 0xFF) ++next;
        if (next == size) break;
        const uint8_t marker = data[next];
        if (marker > 1 && (marker < 0xD0 || marker > 0xD7)) return at;
        at = next + 1;
    }
    return size;
}

namespace {

bool skip_bits(JpegBits& bits, int count) {
    bits.fill();
    return bits.take(count);
}

bool skip_block(JpegBits& bits, const JpegComponent& component, int64_t& dc, Coefficients coefficients) {
    if (coefficients == Coefficients::kNextBitOfDc) return skip_bits(bits, 1);
    const int size = bits.decode(component.dc);
    if (size < 0 || size > 15) return false;
    if (size > 0) {
        bits.fill();
        const int64_t value = bits.peek(size);
        if (!bits.take(size)) return false;
        dc += value >> (size - 1) ? value : value - (int64_t{1} << size) + 1;
        if (dc > component.most || dc < -component.most) return false;
    }
    if (coefficients == Coefficients::kFirstBitsOfDc) return true;
    for (int place = 1; place < 64; ++place) {
        const int code = bits.decode(component.ac);
        if (code < 0) return false;
        const int run = code >> 4, ac_size = code & 15;
        if (ac_size == 0 && run != 15) return true;
        place += run;
        if (place > 63 || !bits.take(ac_size)) return false;
    }
    return true;
}

// How many blocks, this one too, have no coefficients any more; 0 for a failure.
int64_t read_end_of_band(JpegBits& bits, int size) {
    bits.fill();
    const int64_t blocks = (int64_t{1} << size) + (size == 0 ? 0 : bits.peek(size));
    return bits.take(size) ? blocks : 0;
}

bool skip_first(JpegBits& bits, const HuffmanTable& table, int first, int last, uint64_t& known,
                int64_t& ended) {
    if (ended > 0) {
        --ended;
        return true;
    }
    for (int place = first; place <= last; ++place) {
        const int code = bits.decode(table);
        if (code < 0) return false;
        const int run = code >> 4, size = code & 15;
        if (size == 0 && run != 15) {
            ended = read_end_of_band(bits, run) - 1;
            return ended >= 0;
        }
        place += run;
        if (place > last || !bits.take(size)) return false;
        if (size > 0) known |= uint64_t{1} << place;
    }
    return true;
}

bool skip_refinement(JpegBits& bits, const HuffmanTable& table, int first, int last, uint64_t& known,
                     int64_t& ended) {
    int place = first;
    for (; ended == 0 && place <= last; ++place) {
        const int code = bits.decode(table);
        if (code < 0 || (code & 15) > 1) return false;
        int run = code >> 4;
        const bool found = (code & 15) == 1;
        if (found && !bits.take(1)) return false;
        if (!found && run != 15) {
            ended = read_end_of_band(bits, run);
            if (ended == 0) return false;
            break;
        }
        for (; place <= last; ++place) {  // past `run` zeros and one more, with a bit for what is none
            if (known >> place & 1) {
                if (!skip_bits(bits, 1)) return false;
            } else if (--run < 0) {
                break;
            }
        }
        if (place > last) return false;
        if (found) known |= uint64_t{1} << place;
    }
    if (ended == 0) return true;
    for (; place <= last; ++place)
        if ((known >> place & 1) && !skip_bits(bits, 1)) return false;
    --ended;
    return true;
}

}  // namespace

bool is_whole_scan(const uint8_t* data, size_t size, std::vector<JpegComponent>& components, int64_t units,
                   int64_t restart_interval, Coefficients coefficients) {
    // Each block takes a bit, so that the data ends the loop; units without any block would not.
    const auto has_blocks = [](const JpegComponent& component) { return component.blocks > 0; };
    if (std::none_of(components.begin(), components.end(), has_blocks)) return false;
    JpegBits bits(data, size);
    std::vector<int64_t> dc(components.size(), 0);
    int number = 0;
    for (int64_t unit = 0; unit < units; ++unit) {
        if (restart_interval > 0 && unit > 0 && unit % restart_interval == 0) {
            if (!bits.finish() || !bits.restart(number)) return false;
            number = (number + 1) % 8;
            std::fill(dc.begin(), dc.end(), 0);
        }
        for (size_t i = 0; i < components.size(); ++i)
            for (int block = 0; block < components[i].blocks; ++block)
                if (!skip_block(bits, components[i], dc[i], coefficients)) return false;
    }
    if (!bits.finish()) return false;
    bits.restart(number);  // some encoders end with one
    return bits.at_end();
}

bool ProgressiveComponent::is_whole_scan(const uint8_t* data, size_t size, const HuffmanTable& table,
                                         int first, int last, bool refines, int64_t restart_interval) {
    JpegBits bits(data, size);
    int64_t ended = 0, block = 0;
    int number = 0;
    for (uint64_t& known : known_) {
        if (restart_interval > 0 && block > 0 && block % restart_interval == 0) {
            if (ended > 0 || !bits.finish() || !bits.restart(number)) return false;
            number = (number + 1) % 8;
        }
        ++block;
        const auto skip = refines ? skip_refinement : skip_first;
        if (!skip(bits, table, first, last, known, ended)) return false;
    }
    if (ended > 0 || !bits.finish()) return false;
    bits.restart(number);
    return bits.at_end();
}

}  // namespace rstpm
