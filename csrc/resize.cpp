// Resizing: the weights of both axes, scratch memory, and the split of the rows over threads.
#include "resize.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <limits>
#include <memory>
#include <numeric>
#include <vector>

#include "dispatch.hpp"
#include "kernel.hpp"
#include "parallel.hpp"
#include "rstpm_edge.h"

namespace rstpm {

// Both ratios are written as whole numbers, `sources` to `outputs` without common divisor. In units of one
// outputs-th of a source, output i covers [i * sources, (i + 1) * sources), and all overlaps are whole
// numbers.
ResizeTable resize_axis(int source_count, int output_count) {
    const std::int64_t divisor = std::gcd(source_count, output_count);
    const std::int64_t sources = source_count / divisor, outputs = output_count / divisor;
    ResizeTable table;
    table.spans.resize(output_count);
    if (sources >= outputs) {
        table.inner = static_cast<std::int32_t>(outputs);
        table.total = static_cast<std::int32_t>(sources);
        for (std::int64_t i = 0; i < output_count; ++i) {
            const std::int64_t begin = i * sources, end = begin + sources;
            const std::int64_t first = begin / outputs, last = (end - 1) / outputs;
            Span& span = table.spans[i];
            span.first = static_cast<std::int32_t>(first);
            span.last = static_cast<std::int32_t>(last);
            span.first_weight = static_cast<std::int32_t>(std::min((first + 1) * outputs, end) - begin);
            span.last_weight = last == first ? 0 : static_cast<std::int32_t>(end - last * outputs);
        }
        return table;
    }
    // Output i lies at (i + 1/2) * sources / outputs - 1/2, here in units of 1 / (2 * outputs).
    const std::int64_t unit = 2 * outputs;
    table.total = static_cast<std::int32_t>(unit);
    for (std::int64_t i = 0; i < output_count; ++i) {
        const std::int64_t end = (source_count - 1) * unit;
        const std::int64_t position = std::clamp<std::int64_t>((2 * i + 1) * sources - outputs, 0, end);
        const std::int64_t first = position / unit, fraction = position % unit;
        Span& span = table.spans[i];
        span.first = static_cast<std::int32_t>(first);
        span.last = static_cast<std::int32_t>(first + (fraction > 0));
        span.first_weight = static_cast<std::int32_t>(unit - fraction);
        span.last_weight = static_cast<std::int32_t>(fraction);
    }
    return table;
}

namespace {

// Values of an input row that are summed before they are reduced: the buffers then stay in the second-level
// cache, and the rows are still read in long runs.
constexpr int kTileValues = 1 << 14;

// Runs the kernel over rows [begin, end) in scratch memory of its own.
const char* resize_band(const Kernel* kernel, ResizeTask task, int begin, int end) {
    const std::size_t values =
        static_cast<std::size_t>(task.tile_pixels) * task.image.channels + 1;  // and see sum_rows
    const std::unique_ptr<std::int32_t[]> row_sums(new std::int32_t[values]);
    const std::unique_ptr<std::uint16_t[]> byte_sums(new std::uint16_t[values]);
    task.row_sums = row_sums.get();
    task.byte_sums = byte_sums.get();
    task.row_begin = begin;
    task.row_end = end;
    kernel->resize_rows(task);
    return task.kernel;
}

// The kernel's name, or null where memory ran out for a band of the rows.
const char* resize_threaded(const Kernel* kernel, const ResizeTask& task, int height, int threads) {
    std::vector<const char*> ran(threads);
    in_parallel(threads, [kernel, &task, &ran, height, threads](int t) {
        const auto row = [height, threads](std::int64_t band) {
            return static_cast<int>(height * band / threads);
        };
        try {
            ran[t] = resize_band(kernel, task, row(t), row(t + 1));
        } catch (const std::exception&) {
        }
    });
    return std::find(ran.begin(), ran.end(), nullptr) == ran.end() ? ran[0] : nullptr;
}

// Whether rows `stride` bytes apart lie within what an offset can reach.
bool reachable(std::int64_t stride, std::int32_t rows) {
    const std::int64_t most = std::numeric_limits<std::ptrdiff_t>::max() / rows;
    return stride >= -most && stride <= most;
}

rstpm_status check(const rstpm_image& image, std::int64_t out_row_stride, std::int32_t height,
                   std::int32_t width) {
    if (image.struct_size != sizeof(rstpm_image)) return RSTPM_BAD_VERSION;
    const auto outside = [](std::int32_t side, std::int32_t most) { return side < 1 || side > most; };
    if (outside(image.height, RSTPM_MAX_IMAGE_SIDE) || outside(image.width, RSTPM_MAX_IMAGE_SIDE) ||
        outside(height, RSTPM_MAX_SIDE) || outside(width, RSTPM_MAX_SIDE))
        return RSTPM_BAD_SIZE;
    if (image.pixels == nullptr || (image.channels != 1 && image.channels != 3 && image.channels != 4))
        return RSTPM_BAD_ARGUMENT;
    if (!reachable(image.row_stride, image.height) || !reachable(out_row_stride, height))
        return RSTPM_BAD_SIZE;
    if (height > 1 && std::abs(out_row_stride) < 3 * std::int64_t{width}) return RSTPM_BAD_ARGUMENT;
    return RSTPM_OK;
}

}  // namespace
}  // namespace rstpm

extern "C" rstpm_status rstpm_resize(const rstpm_image* image, uint8_t* out, int64_t out_row_stride,
                                     int32_t height, int32_t width, int32_t threads, const char* kernel_name,
                                     const char** ran) {
    using namespace rstpm;
    if (image == nullptr || out == nullptr || threads < 1) return RSTPM_BAD_ARGUMENT;
    const Kernel* kernel = nullptr;
    rstpm_status status = check(*image, out_row_stride, height, width);
    if (status == RSTPM_OK) status = choose_kernel(kernel_name, &kernel);
    if (status != RSTPM_OK) return status;
    try {
        const ResizeTable rows = resize_axis(image->height, height);
        const ResizeTable columns = resize_axis(image->width, width);
        // A quotient lies at least 1 / (4 total) away from where rounding changes, thanks to the bias; in
        // double precision that is certain up to 2^40.
        const double total = static_cast<double>(rows.total) * columns.total;
        if (total > static_cast<double>(std::int64_t{1} << 40)) return RSTPM_BAD_SIZE;
        ResizeTask task{};
        task.image = *image;
        task.out = out;
        task.out_row_stride = out_row_stride;
        task.rows = rows.view();
        task.columns = columns.view();
        task.width = width;
        task.copy = image->height == height && image->width == width;
        const int longest = image->width / width + 2;
        task.tile_pixels =
            task.copy ? 0 : std::min(std::max(kTileValues / image->channels, longest), image->width);
        task.inner_pixels = std::numeric_limits<std::int32_t>::max() / (255 * rows.total);
        std::vector<double> weights;
        weights.reserve(2 * columns.spans.size());
        for (const Span& span : columns.spans) weights.push_back(span.first_weight);
        for (const Span& span : columns.spans) weights.push_back(span.last_weight);
        task.first_weights = weights.data();
        task.last_weights = weights.data() + width;
        task.inner_weight = columns.inner;
        task.scale = 1.0 / total;
        task.bias = 0.5 + 0.25 / total;
        const int bands = std::min(threads, height);
        const char* name =
            bands == 1 ? resize_band(kernel, task, 0, height) : resize_threaded(kernel, task, height, bands);
        if (name == nullptr) return RSTPM_NO_MEMORY;
        if (ran != nullptr) *ran = name;
    } catch (const std::exception&) {  // only memory can run out here
        return RSTPM_NO_MEMORY;
    }
    return RSTPM_OK;
}
