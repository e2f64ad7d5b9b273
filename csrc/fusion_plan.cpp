// The plan: tables made once, workspaces to reuse, and the split of a batch over threads.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include "dispatch.hpp"
#include "interpolation_tables.hpp"
#include "kernel.hpp"
#include "parallel.hpp"
#include "pool.hpp"
#include "rstpm_edge.h"

namespace rstpm {
namespace {

// One call's (or one thread's) scratch memory: a single zeroed block, and the pointers into it.
struct Scratch {
    AlignedVector<float> floats;
    std::vector<std::int32_t> tags;
    Workspace view{};
};

// Lays rows out one after another. Run once with null pointers to learn the size, then once for real.
struct Layout {
    float* floats = nullptr;
    std::int32_t* tags = nullptr;
    std::size_t float_count = 0, tag_count = 0;

    float* take(std::size_t count) {
        const std::size_t at = float_count;
        float_count += (count + kPadding + 15) / 16 * 16;
        return floats == nullptr ? nullptr : floats + at;
    }
    RowRing take_ring(int rows, int width) {
        RowRing ring{};
        ring.slots = kChunkRows;
        while (ring.slots < rows + kChunkRows - 1) ring.slots *= 2;
        ring.stride = round_up(width + kPadding, 16);
        ring.rows = take(static_cast<std::size_t>(ring.slots) * ring.stride);
        ring.tag = tags == nullptr ? nullptr : tags + tag_count;
        tag_count += ring.slots / kChunkRows;
        return ring;
    }
};

struct GridTables {
    LinearTable knot_rows[RSTPM_LEVELS], knot_columns[RSTPM_LEVELS], rows, columns;
};

GridTables make_grid(const rstpm_fusion_config& config, const std::vector<int>& levels, int lanes) {
    std::vector<int> heights, widths;
    for (const int level : levels) {
        heights.push_back(config.level_height[level]);
        widths.push_back(config.level_width[level]);
    }
    const std::vector<double> row_knots = find_knots(config.height, heights);
    const std::vector<double> column_knots = find_knots(config.width, widths);
    const int row_count = static_cast<int>(row_knots.size());
    const int column_count = static_cast<int>(column_knots.size());
    GridTables tables;
    for (std::size_t i = 0; i < levels.size(); ++i) {
        tables.knot_rows[i] =
            interpolate(knots_in_level(row_knots, heights[i], config.height), heights[i], lanes);
        tables.knot_columns[i] =
            interpolate(knots_in_level(column_knots, widths[i], config.width), widths[i], lanes);
    }
    tables.rows = interpolate(pixels_in_knots(row_knots, config.height), row_count, lanes);
    tables.columns = interpolate(pixels_in_knots(column_knots, config.width), column_count, lanes);
    return tables;
}

rstpm_status check(const rstpm_fusion_config& config) {
    if (config.struct_size != sizeof(rstpm_fusion_config)) return RSTPM_BAD_VERSION;
    const auto bad_side = [](std::int32_t side) { return side < 1 || side > RSTPM_MAX_SIDE; };
    if (bad_side(config.height) || bad_side(config.width)) return RSTPM_BAD_SIZE;
    for (int l = 0; l < RSTPM_LEVELS; ++l)
        if (bad_side(config.level_height[l]) || bad_side(config.level_width[l])) return RSTPM_BAD_SIZE;
    if (config.mode != RSTPM_NORMALIZED && config.mode != RSTPM_PAPER) return RSTPM_BAD_ARGUMENT;
    for (int i = 0; i < RSTPM_MAPS && config.mode == RSTPM_NORMALIZED; ++i) {
        // Each comparison is false for NaN.
        const bool good = config.std[i] >= std::numeric_limits<float>::min() &&
                          std::isfinite(config.std[i]) && std::fabs(config.mean[i]) <= RSTPM_MAX_VALUE &&
                          std::fabs(config.weight[i] / config.std[i]) <= RSTPM_MAX_GAIN;
        if (!good) return RSTPM_BAD_STATISTICS;
    }
    const double sigma = config.smoothing_sigma;
    const bool in_range = sigma >= RSTPM_MIN_SIGMA && sigma <= RSTPM_MAX_SIGMA &&
                          sigma <= std::max(config.height, config.width);
    return sigma == 0.0 || (in_range && config.mode == RSTPM_NORMALIZED) ? RSTPM_OK : RSTPM_BAD_SMOOTHING;
}

}  // namespace
}  // namespace rstpm

struct rstpm_fusion {
    rstpm_fusion(const rstpm_fusion_config& config, const rstpm::Kernel* kernel);

    std::unique_ptr<rstpm::Scratch> borrow_scratch() {
        return pool_.borrow([this] { return make_scratch(); });
    }
    void give_back(std::unique_ptr<rstpm::Scratch> scratch) { pool_.give_back(std::move(scratch)); }

    const rstpm::Kernel* kernel;
    std::atomic<const char*> last_kernel{nullptr};
    rstpm::Plan plan{};

  private:
    std::unique_ptr<rstpm::Scratch> make_scratch() const;
    rstpm::Workspace lay_out(rstpm::Layout* layout) const;

    rstpm::GridTables grids_[RSTPM_LEVELS];
    rstpm::BandTable smooth_rows_, smooth_columns_;
    std::vector<rstpm::Strip> strips_;
    rstpm::Pool<rstpm::Scratch> pool_;
};

rstpm_fusion::rstpm_fusion(const rstpm_fusion_config& config, const rstpm::Kernel* chosen) : kernel(chosen) {
    using namespace rstpm;
    const bool normalized = config.mode == RSTPM_NORMALIZED;
    plan.mode = normalized ? RSTPM_NORMALIZED : RSTPM_PAPER;
    plan.height = config.height;
    plan.width = config.width;
    for (int l = 0; l < RSTPM_LEVELS; ++l) {
        plan.level_height[l] = config.level_height[l];
        plan.level_width[l] = config.level_width[l];
    }
    for (int i = 0; i < RSTPM_MAPS; ++i) {
        plan.mean[i] = normalized ? config.mean[i] : 0.0f;
        plan.gain[i] = normalized ? config.weight[i] / config.std[i] : 1.0f;
    }
    // Three levels below 2^125 add up to less than the largest float, differences between them included; of a
    // product, each below 2^41. What the bounds of rstpm_edge.h allow stays below: 2 * 2e12 * 1e24, and 2e12.
    plan.headroom = normalized ? 0x1p3f : 0x1p87f;

    // A sum of levels is linear between the knots of all three; a product only level by level.
    plan.grid_count = normalized ? 1 : RSTPM_LEVELS;
    for (int g = 0; g < plan.grid_count; ++g) {
        const std::vector<int> levels = normalized ? std::vector<int>{0, 1, 2} : std::vector<int>{g};
        grids_[g] = make_grid(config, levels, kernel->lanes);
        Grid& grid = plan.grid[g];
        grid.level_count = static_cast<int>(levels.size());
        for (int i = 0; i < grid.level_count; ++i) {
            grid.level[i] = levels[i];
            grid.knot_rows[i] = grids_[g].knot_rows[i].view();
            grid.knot_columns[i] = grids_[g].knot_columns[i].view();
        }
        grid.rows = grids_[g].rows.view();
        grid.columns = grids_[g].columns.view();
    }

    for (int y = 0; y < plan.height; ++y) {
        bool bends = y == 0 || strips_.back().count == kMaxStripRows;
        for (int g = 0; g < plan.grid_count && !bends; ++g)
            bends = plan.grid[g].rows.index[y] != plan.grid[g].rows.index[y - 1];
        if (bends) strips_.push_back({y, 0});
        ++strips_.back().count;
    }
    plan.strips = strips_.data();
    plan.strip_count = static_cast<int>(strips_.size());

    plan.smooth = config.smoothing_sigma > 0.0;
    if (plan.smooth) {
        const Banded rows = multiply(gaussian(config.height, config.smoothing_sigma), grids_[0].rows);
        const Banded columns = multiply(gaussian(config.width, config.smoothing_sigma), grids_[0].columns);
        smooth_rows_ = band_per_row(rows);
        smooth_columns_ = band_per_vector(columns, kernel->lanes);
        plan.smooth_rows = {smooth_rows_.taps, smooth_rows_.start.data(), smooth_rows_.weight.data()};
        plan.smooth_columns = {config.width, smooth_columns_.taps, smooth_columns_.start.data(),
                               smooth_columns_.weight.data()};
    }
    pool_.give_back(make_scratch());
}

rstpm::Workspace rstpm_fusion::lay_out(rstpm::Layout* layout) const {
    using namespace rstpm;
    Workspace work{};
    for (int g = 0; g < plan.grid_count; ++g) {
        const Grid& grid = plan.grid[g];
        for (int i = 0; i < grid.level_count; ++i) {
            const int level = grid.level[i];
            work.combined[level] =
                layout->take(static_cast<std::size_t>(plan.level_height[level]) * plan.level_width[level]);
            work.level_rows[level] = layout->take_ring(2, grid.columns.sources);
        }
        work.knot_rows[g] = layout->take_ring(1, grid.columns.sources);
        work.full_rows[g] = layout->take_ring(std::max(2, plan.smooth_rows.taps), plan.width);
    }
    return work;
}

std::unique_ptr<rstpm::Scratch> rstpm_fusion::make_scratch() const {
    rstpm::Layout layout;
    lay_out(&layout);
    auto scratch = std::make_unique<rstpm::Scratch>();
    scratch->floats.assign(layout.float_count, 0.0f);  // padding is read, so it has to be a number
    scratch->tags.assign(layout.tag_count, -1);
    layout = rstpm::Layout{};
    layout.floats = scratch->floats.data();
    layout.tags = scratch->tags.data();
    scratch->view = lay_out(&layout);
    return scratch;
}

namespace rstpm {
namespace {

struct Call {
    const float* const* maps;
    float* out;
    std::uint8_t* mask;
    float threshold;
};

// Rows [begin, end) of the batch, counted over all its images. results[0] is the first image among them.
void fuse_range(rstpm_fusion* fusion, const Scratch& scratch, const Call& call, std::int64_t begin,
                std::int64_t end, rstpm_image_result* results) {
    const Plan& plan = fusion->plan;
    const std::int64_t height = plan.height;
    for (std::int64_t row = begin; row < end;) {
        const std::int64_t image = row / height;
        Task task{};
        for (int i = 0; i < RSTPM_MAPS; ++i) {
            const int level = i % RSTPM_LEVELS;
            task.map[i] = call.maps[i] + image * plan.level_height[level] * plan.level_width[level];
        }
        task.out = call.out + image * height * plan.width;
        task.mask = call.mask == nullptr ? nullptr : call.mask + image * height * plan.width;
        task.threshold = call.threshold;
        task.row_begin = static_cast<int>(row - image * height);
        task.row_end = static_cast<int>(std::min(end - image * height, height));
        fusion->kernel->fuse_rows(plan, scratch.view, task);
        *results++ = task.result;
        if (fusion->last_kernel.load(std::memory_order_relaxed) != task.kernel)
            fusion->last_kernel.store(task.kernel, std::memory_order_relaxed);
        row += task.row_end - task.row_begin;
    }
}

// No array of a batch can be larger than this: offsets into it would not fit into a pointer difference.
std::int64_t most_images(const Plan& plan) {
    std::int64_t largest = std::int64_t{plan.height} * plan.width;
    for (int l = 0; l < RSTPM_LEVELS; ++l)
        largest = std::max(largest, std::int64_t{plan.level_height[l]} * plan.level_width[l]);
    return std::numeric_limits<std::ptrdiff_t>::max() / static_cast<std::int64_t>(sizeof(float)) / largest;
}

// Splits the rows of the batch evenly. An image that two threads share has its two results merged in order.
void fuse_threaded(rstpm_fusion* fusion, const Call& call, std::int64_t batch, int threads,
                   rstpm_image_result* results) {
    struct Part {
        std::int64_t begin, end, first_image;
        std::unique_ptr<Scratch> scratch;
        std::vector<rstpm_image_result> results;
    };
    const std::int64_t height = fusion->plan.height, rows = batch * height;
    std::vector<Part> parts(threads);
    for (int t = 0; t < threads; ++t) {
        Part& part = parts[t];
        part.begin = rows * t / threads;
        part.end = rows * (t + 1) / threads;
        part.first_image = part.begin / height;
        part.scratch = fusion->borrow_scratch();
        part.results.resize((part.end - 1) / height - part.first_image + 1);
    }
    in_parallel(threads, [fusion, &call, &parts](int t) {
        Part& part = parts[t];
        fuse_range(fusion, *part.scratch, call, part.begin, part.end, part.results.data());
    });

    std::int64_t merged = 0;
    for (Part& part : parts) {
        for (std::size_t i = 0; i < part.results.size(); ++i) {
            const std::int64_t image = part.first_image + static_cast<std::int64_t>(i);
            const rstpm_image_result& later = part.results[i];
            if (image == merged) {
                results[merged++] = later;
            } else if (later.score >
                       results[image].score) {  // infinite where it is not to be had: that stays
                results[image] = later;
            }
        }
        fusion->give_back(std::move(part.scratch));
    }
}

}  // namespace
}  // namespace rstpm

extern "C" rstpm_status rstpm_fusion_create(const rstpm_fusion_config* config, rstpm_fusion** fusion) {
    if (fusion == nullptr) return RSTPM_BAD_ARGUMENT;
    *fusion = nullptr;
    if (config == nullptr) return RSTPM_BAD_ARGUMENT;
    const rstpm::Kernel* kernel = nullptr;
    rstpm_status status = rstpm::check(*config);
    if (status == RSTPM_OK) status = rstpm::choose_kernel(config->kernel, &kernel);
    if (status != RSTPM_OK) return status;
    try {
        *fusion = new rstpm_fusion(*config, kernel);
    } catch (const std::exception&) {  // only memory can run out here
        return RSTPM_NO_MEMORY;
    }
    return RSTPM_OK;
}

extern "C" void rstpm_fusion_destroy(rstpm_fusion* fusion) { delete fusion; }

extern "C" rstpm_status rstpm_fusion_run(rstpm_fusion* fusion, const float* const maps[RSTPM_MAPS],
                                         int64_t batch, float* out, rstpm_image_result* results,
                                         uint8_t* mask, float threshold, int32_t threads) {
    if (fusion == nullptr || maps == nullptr || batch < 0 || threads < 1) return RSTPM_BAD_ARGUMENT;
    if (batch == 0) return RSTPM_OK;
    if (out == nullptr || results == nullptr) return RSTPM_BAD_ARGUMENT;
    if (mask != nullptr && std::isnan(threshold)) return RSTPM_BAD_ARGUMENT;
    for (int i = 0; i < RSTPM_MAPS; ++i)
        if (maps[i] == nullptr) return RSTPM_BAD_ARGUMENT;
    if (batch > rstpm::most_images(fusion->plan)) return RSTPM_BAD_SIZE;
    const rstpm::Call call{maps, out, mask, threshold};
    const std::int64_t rows = batch * fusion->plan.height;
    try {
        if (threads == 1 || rows == 1) {
            std::unique_ptr<rstpm::Scratch> scratch = fusion->borrow_scratch();
            rstpm::fuse_range(fusion, *scratch, call, 0, rows, results);
            fusion->give_back(std::move(scratch));
        } else {
            const std::int64_t parts = std::min<std::int64_t>(threads, rows);
            rstpm::fuse_threaded(fusion, call, batch, static_cast<int>(parts), results);
        }
    } catch (const std::exception&) {  // only memory can run out here
        return RSTPM_NO_MEMORY;
    }
    return RSTPM_OK;
}

extern "C" const char* rstpm_fusion_kernel(const rstpm_fusion* fusion) {
    return fusion == nullptr ? nullptr : fusion->kernel->name;
}

extern "C" const char* rstpm_fusion_last_kernel(const rstpm_fusion* fusion) {
    return fusion == nullptr ? nullptr : fusion->last_kernel.load(std::memory_order_relaxed);
}
