// What a kernel is given: plain structures of raw pointers, so that code compiled for wider instruction sets
// instantiates nothing from the standard library.
#pragma once

#include <cstddef>
#include <cstdint>

#include "rstpm_edge.h"

namespace rstpm {

constexpr int kMaxStripRows = 8;
// Kernels read whole vectors; every row they read is followed by at least this many readable floats.
constexpr int kPadding = 32;

// Linear interpolation along one axis: output i = lerp(source[index[i]], source[index[i] + 1], fraction[i]).
// Arrays are padded to whole vectors by repeating the last output.
struct LinearAxis {
    int outputs, sources;
    const std::int32_t* index;
    const float* fraction;
    // The same indices per vector of outputs: index[i] = base[i / lanes] + relative[i].
    const std::int32_t* base;
    const std::int32_t* relative;
    bool permutable;  // every relative index is below lanes - 1, so that one vector holds all the sources
};

// A banded matrix along rows: output i = sum over k of weight[i * taps + k] * source[start[i] + k].
struct RowBand {
    int taps;
    const std::int32_t* start;
    const float* weight;
};

// A banded matrix along columns, per vector of outputs:
// output g * lanes + i = sum over k of weight[(g * taps + k) * lanes + i] * source[start[g] + k].
struct ColumnBand {
    int outputs, taps;
    const std::int32_t* start;
    const float* weight;
};

// A sum of upsampled levels is linear between knots, the places where one of its levels has a pixel centre.
// So it is evaluated on the small grid of knots only; one interpolation then takes that grid to full size.
struct Grid {
    int level_count;
    int level[RSTPM_LEVELS];                // which levels are summed
    LinearAxis knot_rows[RSTPM_LEVELS];     // level rows -> knot rows
    LinearAxis knot_columns[RSTPM_LEVELS];  // level columns -> knot columns
    LinearAxis rows, columns;               // knots -> output
};

// Consecutive output rows between the same two knot rows, in every grid.
struct Strip {
    int first, count;  // count <= kMaxStripRows
};

struct Plan {
    rstpm_mode mode;
    int height, width;
    int level_height[RSTPM_LEVELS], level_width[RSTPM_LEVELS];
    float mean[RSTPM_MAPS], gain[RSTPM_MAPS];  // combined level = sum of gain * (map - mean)
    float headroom;  // a combined level times this is infinite where the fused map might be
    int grid_count;  // normalized: one grid of three levels; paper: three of one
    Grid grid[RSTPM_LEVELS];
    const Strip* strips;
    int strip_count;
    // Smoothing, of a sum only: Gaussian times bilinear, applied to the grid of knots.
    bool smooth;
    RowBand smooth_rows;
    ColumnBand smooth_columns;
};

// A small ring of rows: row r lives in slot r % slots. Rows are made kChunkRows at a time; chunk c is there
// while tag[c % chunks] == c. Both counts are powers of two.
constexpr int kChunkRows = 8;
struct RowRing {
    float* rows;
    std::int32_t* tag;
    int slots, stride;
};

struct Workspace {
    float* combined[RSTPM_LEVELS];     // both maps of a level, combined
    RowRing level_rows[RSTPM_LEVELS];  // level rows at knot columns
    RowRing knot_rows[RSTPM_LEVELS];   // knot rows at knot columns, one ring per grid
    RowRing full_rows[RSTPM_LEVELS];   // knot rows at full width, one ring per grid
};

struct Task {
    const float* map[RSTPM_MAPS];  // of one image
    float* out;                    // the whole image; rows [row_begin, row_end) are written
    std::uint8_t* mask;            // the same, or null
    float threshold;
    int row_begin, row_end;
    rstpm_image_result result;  // of these rows
    const char* kernel;         // set by the kernel: its own name
};

// One output of a resized axis: first_weight * source[first] + last_weight * source[last] + inner * (what
// lies between them). first == last, with last_weight 0, where there is only one source.
struct Span {
    std::int32_t first, last, first_weight, last_weight;
};

// Weights are whole numbers that add up to `total`, so that sums are exact in any order.
struct ResizeAxis {
    const Span* spans;
    std::int32_t inner, total;
};

struct ResizeTask {
    rstpm_image image;
    std::uint8_t* out;
    std::int64_t out_row_stride;
    ResizeAxis rows, columns;
    int width;               // of the output
    int row_begin, row_end;  // output rows to write
    bool copy;               // the size stays: only channels move
    int tile_pixels;         // how many pixels of an input row the two buffers hold; no span is longer
    int inner_pixels;        // so many row sums add up to less than 2^31
    // The rows of a span summed value for value, tile_pixels * channels + 1 of them: bytes, and bytes times
    // weights.
    std::uint16_t* byte_sums;
    std::int32_t* row_sums;
    // The columns' weights once more: a conversion less for each output pixel.
    const double *first_weights, *last_weights;
    double inner_weight;
    double scale, bias;  // output = floor(scale * sum + bias)
    const char* kernel;  // set by the kernel: its own name
};

// The compiler's own vector, known to every kernel.
typedef std::int32_t Int4 __attribute__((vector_size(16)));

struct Kernel {
    const char* name;
    int lanes;
    bool (*supported)();
    void (*fuse_rows)(const Plan& plan, const Workspace& workspace, Task& task);
    void (*resize_rows)(ResizeTask& task);
};

extern const Kernel kGenericKernel;
#if defined(__x86_64__)
extern const Kernel kAvx2Kernel;
extern const Kernel kAvx512Kernel;
#endif
#if defined(__aarch64__)
extern const Kernel kNeonKernel;
#endif

}  // namespace rstpm
