// Whether compressed image data holds exactly what it should: lengths only, no pixels.
//
// Decoders stop as soon as they have their pixels, and go on past what cannot be. Damage shifts what comes
// after it, so that data is left over or lacking, or a block has more coefficients than places: here that
// counts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace rstpm {

// Bytes that TIFF's LZW and PackBits data decode to; -1 for data that no encoder writes. Gives up above
// `most`.
int64_t lzw_length(const uint8_t* data, size_t size, int64_t most);
int64_t packbits_length(const uint8_t* data, size_t size, int64_t most);

// A Huffman table as a JPEG file has it: how many codes of 1 to 16 bits there are, and what they stand for.
class HuffmanTable {
  public:
    // False if there are more codes than fit.
    bool set(const uint8_t* counts, const uint8_t* values, size_t size);

  private:
    friend class JpegBits;
    static constexpr int kShort = 9;
    struct Entry {
        uint8_t bits, value;
    };
    Entry short_[1 << kShort];
    int32_t first_[17], last_[17], offset_[17];  // codes of each length, and where their values begin
    uint8_t values_[256];
};

struct JpegComponent {
    int blocks;  // in a minimum coded unit
    HuffmanTable dc, ac;
    int64_t most;  // a DC coefficient's absolute value
};

// Where the data of a JPEG's scan that begins at `at` ends: at the first marker that is none of the data's
// own.
size_t scan_end(const uint8_t* data, size_t size, size_t at);

enum class Coefficients { kAll, kFirstBitsOfDc, kNextBitOfDc };

// Whether the data of a JPEG's scan holds `units` minimum coded units and nothing else.
bool is_whole_scan(const uint8_t* data, size_t size, std::vector<JpegComponent>& components, int64_t units,
                   int64_t restart_interval, Coefficients coefficients = Coefficients::kAll);

// A component of a progressive JPEG: which of its coefficients are known not to be zero, since those have a
// bit each in the scans that refine them.
class ProgressiveComponent {
  public:
    explicit ProgressiveComponent(size_t blocks) : known_(blocks) {}

    // Whether the data of a scan of AC coefficients `first` to `last` holds all blocks and nothing else.
    bool is_whole_scan(const uint8_t* data, size_t size, const HuffmanTable& table, int first, int last,
                       bool refines, int64_t restart_interval);

  private:
    std::vector<uint64_t> known_;
};

}  // namespace rstpm
