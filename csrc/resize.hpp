// The weights of one resized axis.
#pragma once

#include <cstdint>
#include <vector>

#include "kernel.hpp"

namespace rstpm {

// Owns the spans of a ResizeAxis.
struct ResizeTable {
    std::vector<Span> spans;
    std::int32_t inner = 0, total = 0;
    ResizeAxis view() const { return {spans.data(), inner, total}; }
};

// Means of the sources under each output where there are no more outputs than sources, else linear
// interpolation.
ResizeTable resize_axis(int sources, int outputs);

}  // namespace rstpm
