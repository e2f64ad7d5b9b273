// From a model's outputs to its score: the head's map joins the finest level, two fusions run, their maxima
// and that of the coarsest level's cells are put together, and what a mask leaves out has no part in any of
// it.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <limits>
#include <memory>
#include <utility>

#include "interpolation_tables.hpp"
#include "pool.hpp"
#include "rstpm_edge.h"

namespace rstpm {
namespace {

struct DestroyFusion {
    void operator()(rstpm_fusion* fusion) const { rstpm_fusion_destroy(fusion); }
};
using FusionPlan = std::unique_ptr<rstpm_fusion, DestroyFusion>;

// What one image needs besides its outputs. Both are empty where the model has no use for them.
struct Scratch {
    AlignedVector<float> finest;     // the first map and the head's, combined
    AlignedVector<float> score_map;  // what the score maps are fused to
};

// NaN, which every check refuses, where a float cannot hold the value.
float to_float(double value) {
    const bool fits = std::fabs(value) <= std::numeric_limits<float>::max();
    return fits ? static_cast<float>(value) : std::numeric_limits<float>::quiet_NaN();
}

rstpm_fusion_config fusion_config(const rstpm_scorer_config& config, std::int32_t mode, const double* mean,
                                  const double* std, const double* weight, double smoothing_sigma) {
    rstpm_fusion_config fusion{};
    fusion.struct_size = sizeof fusion;
    fusion.mode = mode;
    std::copy_n(config.level_height, RSTPM_LEVELS, fusion.level_height);
    std::copy_n(config.level_width, RSTPM_LEVELS, fusion.level_width);
    fusion.height = config.height;
    fusion.width = config.width;
    std::transform(mean, mean + RSTPM_MAPS, fusion.mean, to_float);
    std::transform(std, std + RSTPM_MAPS, fusion.std, to_float);
    std::transform(weight, weight + RSTPM_MAPS, fusion.weight, to_float);
    fusion.smoothing_sigma = smoothing_sigma;
    fusion.kernel = config.kernel;
    return fusion;
}

// What the head's map is multiplied by where the first map carries it. Not finite where that one weighs
// nothing.
double head_gain(const rstpm_scorer_config& config) {
    return config.head_weight / config.head_std * config.std[0] / config.weight[0];
}

bool within(double value, float bound) { return std::fabs(to_float(value)) <= bound; }  // not so for NaN

// What the two fusions do not check themselves.
rstpm_status check(const rstpm_scorer_config& config) {
    if (std::isnan(config.threshold)) return RSTPM_BAD_ARGUMENT;
    if (config.has_head) {
        if (config.mode != RSTPM_NORMALIZED) return RSTPM_BAD_ARGUMENT;
        const bool good = to_float(config.head_std) >= std::numeric_limits<float>::min() &&
                          within(config.head_mean, RSTPM_MAX_VALUE) &&
                          within(config.head_weight / config.head_std, RSTPM_MAX_GAIN) &&
                          within(head_gain(config), RSTPM_MAX_GAIN);
        if (!good) return RSTPM_BAD_STATISTICS;
    }
    if (config.has_score_maps) {
        bool good = config.map_weight >= 0.0 && within(config.map_weight, RSTPM_MAX_VALUE) &&
                    within(config.bias, RSTPM_MAX_VALUE);
        const std::int32_t coarse = config.coarse_maps;
        if (coarse != 0 && coarse != 2 && coarse != RSTPM_COARSE_MAPS) return RSTPM_BAD_ARGUMENT;
        for (std::int32_t i = 0; i < coarse; ++i)
            good = good && to_float(config.coarse_std[i]) >= std::numeric_limits<float>::min() &&
                   within(config.coarse_mean[i], RSTPM_MAX_VALUE) &&
                   within(config.coarse_weight[i] / config.coarse_std[i], RSTPM_MAX_GAIN);
        if (!good) return RSTPM_BAD_STATISTICS;
    }
    return RSTPM_OK;
}

bool counts_somewhere(const std::uint8_t* mask, std::size_t pixels) {
    return std::any_of(mask, mask + pixels, [](std::uint8_t value) { return value != 0; });
}

// The first of the largest values where the mask is not zero, which it is somewhere; `highest` is the first
// of all.
std::size_t find_peak(const float* map, const std::uint8_t* mask, std::size_t pixels, std::size_t highest) {
    if (mask == nullptr || mask[highest] != 0) return highest;
    std::size_t peak = 0;
    while (mask[peak] == 0) ++peak;
    for (std::size_t i = peak + 1; i < pixels; ++i)
        if (map[i] > map[peak] && mask[i] != 0) peak = i;
    return peak;
}

// The maps of the coarsest level by themselves, at their own cells: where they are highest tells best whether
// an image is defective, and there it stands out from no finer level's noise.
class CoarseCells {
  public:
    explicit CoarseCells(const rstpm_scorer_config& config)
        : count_(config.has_score_maps ? config.coarse_maps : 0),
          rows_(config.level_height[kLevel]),
          columns_(config.level_width[kLevel]),
          height_(config.height),
          width_(config.width) {
        for (int i = 0; i < count_; ++i) {
            mean_[i] = to_float(config.coarse_mean[i]);
            gain_[i] = to_float(config.coarse_weight[i] / config.coarse_std[i]);
        }
    }

    // The largest sum over both pairs' maps of one kind, residuals or angles, among the cells of which a
    // pixel counts, and that of the other kind, added; a mask has a pixel that does. 0 where no map has a
    // part, NaN where a value is not finite, wherever it is.
    float peaks(const float* const* outputs, const std::uint8_t* mask) const {
        float sum = 0.0f;
        if (count_ > 0) sum += peak(outputs[kLevel], outputs[kLevel + RSTPM_LEVELS], 0, mask);
        if (count_ > 2) sum += peak(outputs[2 * RSTPM_MAPS], outputs[2 * RSTPM_MAPS + 1], 2, mask);
        return sum;
    }

  private:
    static constexpr int kLevel = RSTPM_LEVELS - 1;

    float peak(const float* first, const float* second, int kind, const std::uint8_t* mask) const {
        float highest = -std::numeric_limits<float>::infinity();
        for (std::size_t row = 0; row < rows_; ++row) {
            for (std::size_t column = 0; column < columns_; ++column) {
                const std::size_t cell = row * columns_ + column;
                const float value = gain_[kind] * (first[cell] - mean_[kind]) +
                                    gain_[kind + 1] * (second[cell] - mean_[kind + 1]);
                if (!std::isfinite(value)) return std::numeric_limits<float>::quiet_NaN();
                if (mask == nullptr || counts(mask, row, column)) highest = std::max(highest, value);
            }
        }
        return highest;
    }

    // Whether a pixel below the cell does, in part or all of it.
    bool counts(const std::uint8_t* mask, std::size_t row, std::size_t column) const {
        const std::size_t left = column * width_ / columns_;
        const std::size_t right = ((column + 1) * width_ + columns_ - 1) / columns_;
        const std::size_t bottom = ((row + 1) * height_ + rows_ - 1) / rows_;
        for (std::size_t y = row * height_ / rows_; y < bottom; ++y)
            if (counts_somewhere(mask + y * width_ + left, right - left)) return true;
        return false;
    }

    int count_;
    std::size_t rows_, columns_, height_, width_;
    float mean_[RSTPM_COARSE_MAPS], gain_[RSTPM_COARSE_MAPS];
};

}  // namespace
}  // namespace rstpm

struct rstpm_scorer {
    rstpm_scorer(const rstpm_scorer_config& config, rstpm::FusionPlan map_fusion,
                 rstpm::FusionPlan score_fusion);

    rstpm_status run_image(const float* const* outputs, const std::uint8_t* mask, float* out, int threads,
                           rstpm::Scratch* scratch, rstpm_score* result) const;

    std::unique_ptr<rstpm::Scratch> borrow_scratch() {
        return pool_.borrow([this] { return make_scratch(); });
    }
    void give_back(std::unique_ptr<rstpm::Scratch> scratch) { pool_.give_back(std::move(scratch)); }

    std::size_t output_pixels(int output) const { return output_pixels_[output]; }

    bool has_head, has_score_maps;
    rstpm::CoarseCells coarse;
    int output_count;
    std::size_t pixels;
    rstpm::FusionPlan map_fusion, score_fusion;  // the latter is null where there are no score maps

  private:
    std::unique_ptr<rstpm::Scratch> make_scratch() const;
    std::size_t cell(const rstpm_image_result& at) const { return at.row * width_ + at.column; }

    std::size_t width_, output_pixels_[RSTPM_MAX_OUTPUTS];
    float head_mean_, head_gain_, map_weight_, bias_;
    double threshold_;
    rstpm::Pool<rstpm::Scratch> pool_;
};

rstpm_scorer::rstpm_scorer(const rstpm_scorer_config& config, rstpm::FusionPlan for_map,
                           rstpm::FusionPlan for_score)
    : has_head(config.has_head != 0),
      has_score_maps(config.has_score_maps != 0),
      coarse(config),
      output_count(rstpm_output_count(&config)),
      pixels(static_cast<std::size_t>(config.height) * config.width),
      map_fusion(std::move(for_map)),
      score_fusion(std::move(for_score)),
      width_(config.width),
      head_mean_(has_head ? rstpm::to_float(config.head_mean) : 0.0f),
      head_gain_(has_head ? rstpm::to_float(rstpm::head_gain(config)) : 0.0f),
      map_weight_(has_score_maps ? rstpm::to_float(config.map_weight) : 1.0f),
      bias_(has_score_maps ? rstpm::to_float(config.bias) : 0.0f),
      threshold_(config.threshold) {
    for (int i = 0; i < output_count; ++i) {
        const std::int32_t level = rstpm_output_level(&config, i);
        output_pixels_[i] = static_cast<std::size_t>(config.level_height[level]) * config.level_width[level];
    }
    pool_.give_back(make_scratch());
}

std::unique_ptr<rstpm::Scratch> rstpm_scorer::make_scratch() const {
    auto scratch = std::make_unique<rstpm::Scratch>();
    if (has_head) scratch->finest.resize(output_pixels(0));
    if (has_score_maps) scratch->score_map.resize(pixels);
    return scratch;
}

rstpm_status rstpm_scorer::run_image(const float* const* outputs, const std::uint8_t* mask, float* out,
                                     int threads, rstpm::Scratch* scratch, rstpm_score* result) const {
    const float* maps[RSTPM_MAPS];
    std::copy_n(outputs, RSTPM_MAPS, maps);
    if (has_head) {
        // Fusion is a sum, and both maps have one size. What is not finite is still so afterwards.
        const float *first = maps[0], *head = outputs[output_count - 1];
        float* const both = scratch->finest.data();
        for (std::size_t i = 0; i < scratch->finest.size(); ++i)
            both[i] = first[i] + head_gain_ * (head[i] - head_mean_);
        maps[0] = both;
    }
    rstpm_image_result highest{}, highest_score{};
    rstpm_status status = rstpm_fusion_run(map_fusion.get(), maps, 1, out, &highest, nullptr, 0.0f, threads);
    if (status == RSTPM_OK && has_score_maps)
        status = rstpm_fusion_run(score_fusion.get(), outputs + RSTPM_MAPS, 1, scratch->score_map.data(),
                                  &highest_score, nullptr, 0.0f, threads);
    if (status != RSTPM_OK) return status;

    *result = rstpm_score{};
    result->nonfinite = highest.nonfinite != 0 || highest_score.nonfinite != 0;
    if (!result->nonfinite) {
        const std::size_t peak = rstpm::find_peak(out, mask, pixels, cell(highest));
        result->row = static_cast<std::int32_t>(peak / width_);
        result->column = static_cast<std::int32_t>(peak % width_);
        result->score = out[peak];
        if (has_score_maps) {
            const float* const score_map = scratch->score_map.data();
            const std::size_t at = rstpm::find_peak(score_map, mask, pixels, cell(highest_score));
            result->score = score_map[at] + coarse.peaks(outputs, mask) + map_weight_ * out[peak] + bias_;
        }
        result->nonfinite = !std::isfinite(result->score);
    }
    if (result->nonfinite) result->score = std::numeric_limits<float>::infinity();
    result->anomalous = result->nonfinite || static_cast<double>(result->score) > threshold_;
    return RSTPM_OK;
}

extern "C" std::int32_t rstpm_output_count(const rstpm_scorer_config* config) {
    const bool angles = config->has_score_maps && config->coarse_maps == RSTPM_COARSE_MAPS;
    return RSTPM_MAPS * (config->has_score_maps ? 2 : 1) + (angles ? 2 : 0) + (config->has_head ? 1 : 0);
}

extern "C" std::int32_t rstpm_output_level(const rstpm_scorer_config* config, std::int32_t output) {
    const std::int32_t count = rstpm_output_count(config);
    if (output < 0 || output >= count) return -1;
    if (config->has_head && output == count - 1) return 0;
    return output < 2 * RSTPM_MAPS ? output % RSTPM_LEVELS : RSTPM_LEVELS - 1;
}

extern "C" rstpm_status rstpm_scorer_create(const rstpm_scorer_config* config, rstpm_scorer** scorer) {
    if (scorer == nullptr) return RSTPM_BAD_ARGUMENT;
    *scorer = nullptr;
    if (config == nullptr) return RSTPM_BAD_ARGUMENT;
    if (config->struct_size != sizeof(rstpm_scorer_config)) return RSTPM_BAD_VERSION;
    rstpm_status status = rstpm::check(*config);
    rstpm::FusionPlan plans[2];
    for (int i = 0; i < (config->has_score_maps ? 2 : 1) && status == RSTPM_OK; ++i) {
        const rstpm_fusion_config fusion =
            i == 0 ? rstpm::fusion_config(*config, config->mode, config->mean, config->std, config->weight,
                                          config->smoothing_sigma)
                   : rstpm::fusion_config(*config, config->score_mode, config->score_mean, config->score_std,
                                          config->score_weight, config->score_smoothing_sigma);
        rstpm_fusion* plan = nullptr;
        status = rstpm_fusion_create(&fusion, &plan);
        plans[i].reset(plan);
    }
    if (status != RSTPM_OK) return status;
    try {
        *scorer = new rstpm_scorer(*config, std::move(plans[0]), std::move(plans[1]));
    } catch (const std::exception&) {  // only memory can run out here
        return RSTPM_NO_MEMORY;
    }
    return RSTPM_OK;
}

extern "C" void rstpm_scorer_destroy(rstpm_scorer* scorer) { delete scorer; }

extern "C" rstpm_status rstpm_scorer_run(rstpm_scorer* scorer, const float* const outputs[], int64_t batch,
                                         const uint8_t* const masks[], float* out, rstpm_score* results,
                                         int32_t threads) {
    if (scorer == nullptr || outputs == nullptr || batch < 0 || threads < 1) return RSTPM_BAD_ARGUMENT;
    if (batch == 0) return RSTPM_OK;
    if (out == nullptr || results == nullptr) return RSTPM_BAD_ARGUMENT;
    std::size_t largest = scorer->pixels;
    for (int i = 0; i < scorer->output_count; ++i) {
        if (outputs[i] == nullptr) return RSTPM_BAD_ARGUMENT;
        largest = std::max(largest, scorer->output_pixels(i));
    }
    // Offsets into a larger array would not fit into a pointer difference.
    const std::size_t most = std::numeric_limits<std::ptrdiff_t>::max() / sizeof(float) / largest;
    if (static_cast<std::uint64_t>(batch) > most) return RSTPM_BAD_SIZE;
    for (std::int64_t image = 0; masks != nullptr && image < batch; ++image)
        if (masks[image] != nullptr && !rstpm::counts_somewhere(masks[image], scorer->pixels))
            return RSTPM_BAD_ARGUMENT;
    try {
        std::unique_ptr<rstpm::Scratch> scratch = scorer->borrow_scratch();
        rstpm_status status = RSTPM_OK;
        for (std::int64_t image = 0; image < batch && status == RSTPM_OK; ++image) {
            const float* of_image[RSTPM_MAX_OUTPUTS];
            for (int i = 0; i < scorer->output_count; ++i)
                of_image[i] = outputs[i] + image * static_cast<std::ptrdiff_t>(scorer->output_pixels(i));
            status = scorer->run_image(of_image, masks == nullptr ? nullptr : masks[image],
                                       out + image * static_cast<std::ptrdiff_t>(scorer->pixels), threads,
                                       scratch.get(), &results[image]);
        }
        scorer->give_back(std::move(scratch));
        return status;
    } catch (const std::exception&) {  // only memory can run out here
        return RSTPM_NO_MEMORY;
    }
}

extern "C" const char* rstpm_scorer_kernel(const rstpm_scorer* scorer) {
    return scorer == nullptr ? nullptr : rstpm_fusion_kernel(scorer->map_fusion.get());
}

extern "C" const char* rstpm_scorer_last_kernel(const rstpm_scorer* scorer) {
    return scorer == nullptr ? nullptr : rstpm_fusion_last_kernel(scorer->map_fusion.get());
}
