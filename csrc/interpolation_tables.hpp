// The mathematics of one axis, done once per plan and in double precision.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <vector>

#include "kernel.hpp"

namespace rstpm {

// Cache-line aligned storage, so that a vector load of a table never straddles two lines.
template <typename T>
struct AlignedAllocator {
    using value_type = T;
    AlignedAllocator() = default;
    template <typename U>
    AlignedAllocator(const AlignedAllocator<U>&) {}
    T* allocate(std::size_t n) {
        return static_cast<T*>(::operator new(n * sizeof(T), std::align_val_t(64)));
    }
    void deallocate(T* p, std::size_t) { ::operator delete(p, std::align_val_t(64)); }
    bool operator==(const AlignedAllocator&) const { return true; }
    bool operator!=(const AlignedAllocator&) const { return false; }
};
template <typename T>
using AlignedVector = std::vector<T, AlignedAllocator<T>>;

inline int round_up(int n, int multiple) { return (n + multiple - 1) / multiple * multiple; }

// Owns the arrays of a LinearAxis.
struct LinearTable {
    int outputs = 0, sources = 0;
    AlignedVector<std::int32_t> index, base, relative;
    AlignedVector<float> fraction;
    bool permutable = false;
    LinearAxis view() const;
};

// Linear interpolation at the given source coordinates, each within [0, sources - 1].
LinearTable interpolate(const std::vector<double>& positions, int sources, int lanes);

// Where a sum of upsampled levels may bend, in ascending output coordinates from 0 to outputs - 1: the
// levels' pixel centres, and the two ends. Knots that no output pixel depends on are left out. Where knots
// would be no fewer than the output pixels (levels nearly as fine as the output, or finer), the pixels
// themselves serve.
std::vector<double> find_knots(int outputs, const std::vector<int>& level_sizes);

// The knots in a level's source coordinates (half-pixel centres, edges clamped).
std::vector<double> knots_in_level(const std::vector<double>& knots, int level_size, int outputs);
// Output pixels 0..outputs - 1 in knot coordinates: k + 0.5 is halfway between knots k and k + 1.
std::vector<double> pixels_in_knots(const std::vector<double>& knots, int outputs);

// A banded matrix; row i holds weight[i] from column start[i] on.
struct Banded {
    int columns = 0;
    std::vector<int> start;
    std::vector<std::vector<double>> weight;
};
// Gaussian of radius ceil(3 sigma), taps normalised, edges clamped.
Banded gaussian(int size, double sigma);
Banded multiply(const Banded& left, const LinearTable& right);

struct BandTable {
    int outputs = 0, taps = 0;
    AlignedVector<std::int32_t> start;
    AlignedVector<float> weight;
};
BandTable band_per_row(const Banded& matrix);
BandTable band_per_vector(const Banded& matrix, int lanes);

}  // namespace rstpm
