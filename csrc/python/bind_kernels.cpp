// Python's way to kernels and scorer: validate, convert, release the GIL, compute. Nothing is computed here.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "bindings.hpp"
#include "rstpm_edge.h"

namespace py = pybind11;

namespace {

const char* const kMapNames[RSTPM_MAPS] = {"stpm_a", "stpm_b", "stpm_c", "recon_a", "recon_b", "recon_c"};
const char* const kScoreMapNames[RSTPM_MAPS] = {"score map stpm_a",  "score map stpm_b",
                                                "score map stpm_c",  "score map recon_a",
                                                "score map recon_b", "score map recon_c"};
const char* const kAngleMapNames[2] = {"angle map stpm_c", "angle map recon_c"};

std::string kernel_names(const char* (*list)(size_t)) {
    std::string names;
    for (size_t i = 0; list(i) != nullptr; ++i) names += (i == 0 ? "" : ", ") + std::string(list(i));
    return names;
}

std::string requested_kernel(const char* keyword) {
    if (keyword != nullptr) return "kernel '" + std::string(keyword) + "'";
    const char* variable = std::getenv("RSTPM_EDGE_KERNEL");
    return "kernel '" + std::string(variable == nullptr ? "" : variable) +
           "' (from the environment variable RSTPM_EDGE_KERNEL)";
}

void raise_on_error(rstpm_status status, const char* kernel = nullptr) {
    switch (status) {
        case RSTPM_OK: return;
        case RSTPM_BAD_SIZE:
            throw py::value_error("every map size and the output size must lie in 1.." +
                                  std::to_string(static_cast<int>(RSTPM_MAX_SIDE)));
        case RSTPM_BAD_STATISTICS:
            throw py::value_error(
                "mean, std and weights must be finite, every std positive and no denormal number, |mean| at "
                "most 1e12 and |weight / std| at most 1e24; map_weight and coarse_weight must lie in "
                "0..1e12, "
                "and |bias| at most 1e12");
        case RSTPM_BAD_SMOOTHING:
            throw py::value_error(
                "smoothing_sigma must be 0 (off) or from 0.01 to 64 output pixels, and at most the output's "
                "size; the product of mode 'paper' is not smoothed");
        case RSTPM_UNKNOWN_KERNEL:
            throw py::value_error("unknown " + requested_kernel(kernel) + "; kernels are " +
                                  kernel_names(rstpm_known_kernel));
        case RSTPM_UNSUPPORTED_KERNEL:
            throw py::value_error(
                requested_kernel(kernel) +
                " does not run on this processor; available here: " + kernel_names(rstpm_available_kernel));
        case RSTPM_NO_MEMORY: throw std::bad_alloc();
        case RSTPM_BAD_ARGUMENT:
        case RSTPM_BAD_VERSION: break;
    }
    throw py::value_error(rstpm_status_message(status));
}

std::string type_name(py::handle object) { return py::str(py::type::of(object).attr("__name__")); }

std::string shape_text(const py::array& array) {
    std::string text = "(";
    for (py::ssize_t i = 0; i < array.ndim(); ++i)
        text += (i == 0 ? "" : ", ") + std::to_string(array.shape(i));
    return text + (array.ndim() == 1 ? ",)" : ")");
}

// A C-contiguous array of T with shape (batch, height, width); batch -1 takes any. `name` is only made into a
// string when something is wrong.
template <typename T>
py::array require_array(py::handle object, const char* name, const char* dtype, py::ssize_t batch, int height,
                        int width) {
    if (!py::isinstance<py::array>(object))
        throw py::type_error(std::string(name) + " must be a NumPy array of " + dtype + ", not " +
                             type_name(object));
    py::array array = py::reinterpret_borrow<py::array>(object);
    static const int type_number = py::dtype::of<T>().num();
    const bool native_order = array.dtype().byteorder() == '=' || array.dtype().byteorder() == '|';
    if (array.dtype().num() != type_number || !native_order)
        throw py::type_error(std::string(name) + " must have dtype " + dtype + ", not " +
                             std::string(py::str(array.dtype())));
    if (array.ndim() != 3 || (batch >= 0 && array.shape(0) != batch) || array.shape(1) != height ||
        array.shape(2) != width)
        throw py::value_error(std::string(name) + " must have shape (" +
                              (batch < 0 ? std::string("N") : std::to_string(batch)) + ", " +
                              std::to_string(height) + ", " + std::to_string(width) + "), not " +
                              shape_text(array));
    if (!(array.flags() & py::array::c_style))
        throw py::value_error(std::string(name) + " must be C-contiguous");
    if (!(array.flags() & py::detail::npy_api::NPY_ARRAY_ALIGNED_))
        throw py::value_error(std::string(name) + " must be aligned to its items");
    return array;
}

template <typename T>
T* writable_data(py::array& array, const char* name) {
    if (!array.writeable()) throw py::value_error(std::string(name) + " must be writable");
    return static_cast<T*>(array.mutable_data());
}

// A new (batch, height, width) array that starts on a cache line: vector stores then never straddle two.
py::array_t<float> new_output(py::ssize_t batch, int height, int width) {
    const size_t bytes = std::max<size_t>(1, static_cast<size_t>(batch) * height * width) * sizeof(float);
    void* memory = std::aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (memory == nullptr) throw std::bad_alloc();
    py::capsule owner(memory, [](void* p) { std::free(p); });
    return py::array_t<float>({batch, static_cast<py::ssize_t>(height), static_cast<py::ssize_t>(width)},
                              static_cast<float*>(memory), owner);
}

void copy_six(const std::vector<double>& values, const char* name, double* to) {
    if (values.size() != RSTPM_MAPS)
        throw py::value_error(std::string(name) + " must have 6 values, one per map, not " +
                              std::to_string(values.size()));
    std::copy(values.begin(), values.end(), to);
}

void copy_coarse(const std::vector<double>& values, std::int32_t count, const char* name, double* to) {
    if (static_cast<std::int32_t>(values.size()) != count)
        throw py::value_error(std::string(name) + " of the coarsest level must have " +
                              std::to_string(count) + " values, not " + std::to_string(values.size()));
    std::copy(values.begin(), values.end(), to);
}

void set_sizes(const std::vector<std::pair<int, int>>& map_sizes, std::pair<int, int> size,
               rstpm_scorer_config* config) {
    if (map_sizes.size() != RSTPM_LEVELS)
        throw py::value_error("map_sizes must have 3 (height, width) pairs, one per level, not " +
                              std::to_string(map_sizes.size()));
    for (int l = 0; l < RSTPM_LEVELS; ++l) {
        config->level_height[l] = map_sizes[l].first;
        config->level_width[l] = map_sizes[l].second;
    }
    config->height = size.first;
    config->width = size.second;
}

std::int32_t mode_named(const std::string& mode) {
    if (mode != "normalized" && mode != "paper")
        throw py::value_error("mode must be 'normalized' or 'paper', not '" + mode + "'");
    return mode == "paper" ? RSTPM_PAPER : RSTPM_NORMALIZED;
}

// Results of a call: on the stack, so that a call for a few images allocates nothing.
struct Results {
    explicit Results(py::ssize_t count) {
        if (count > kOnStack) on_heap = std::make_unique<rstpm_score[]>(count);
    }
    rstpm_score* data() { return on_heap != nullptr ? on_heap.get() : on_stack; }

    // (score, position, first image without a finite score or -1)
    std::tuple<py::array_t<float>, py::array_t<std::int32_t>, py::ssize_t> arrays(py::ssize_t batch) {
        py::array_t<float> score(batch);
        py::array_t<std::int32_t> position({batch, py::ssize_t{2}});
        float* score_data = score.mutable_data();
        std::int32_t* position_data = position.mutable_data();
        py::ssize_t nonfinite = -1;
        const rstpm_score* results = data();
        for (py::ssize_t n = batch - 1; n >= 0; --n) {
            score_data[n] = results[n].score;
            position_data[2 * n] = results[n].row;
            position_data[2 * n + 1] = results[n].column;
            if (results[n].nonfinite) nonfinite = n;
        }
        return {std::move(score), std::move(position), nonfinite};
    }

    static constexpr py::ssize_t kOnStack = 16;
    rstpm_score on_stack[kOnStack];
    std::unique_ptr<rstpm_score[]> on_heap;
};

// Mode, mean, std, weights and smoothing of six maps.
using Statistics =
    std::tuple<std::string, std::vector<double>, std::vector<double>, std::vector<double>, double>;

// Mean, std and weights of 2 or 4 maps of the coarsest level.
using CoarseStatistics = std::tuple<std::vector<double>, std::vector<double>, std::vector<double>>;
// The score maps' statistics, the coarsest level's, map_weight and bias.
using Scoring = std::tuple<Statistics, std::optional<CoarseStatistics>, double, double>;

class Scorer {
  public:
    // head is (mean, std, weight).
    Scorer(const std::vector<std::pair<int, int>>& map_sizes, std::pair<int, int> size,
           const Statistics& fusion, const std::optional<std::array<double, 3>>& head,
           const std::optional<Scoring>& scoring, const char* kernel) {
        config_.struct_size = sizeof config_;
        set_sizes(map_sizes, size, &config_);
        config_.mode = set_statistics(fusion, config_.mean, config_.std, config_.weight);
        config_.smoothing_sigma = std::get<4>(fusion);
        if (head.has_value()) {
            config_.has_head = 1;
            config_.head_mean = (*head)[0];
            config_.head_std = (*head)[1];
            config_.head_weight = (*head)[2];
        }
        if (scoring.has_value()) {
            const Statistics& statistics = std::get<0>(*scoring);
            config_.has_score_maps = 1;
            config_.score_mode =
                set_statistics(statistics, config_.score_mean, config_.score_std, config_.score_weight);
            config_.score_smoothing_sigma = std::get<4>(statistics);
            if (const auto& coarse = std::get<1>(*scoring); coarse.has_value()) set_coarse(*coarse);
            config_.map_weight = std::get<2>(*scoring);
            config_.bias = std::get<3>(*scoring);
        }
        config_.kernel = kernel;
        rstpm_scorer* scorer = nullptr;
        raise_on_error(rstpm_scorer_create(&config_, &scorer), kernel);
        scorer_.reset(scorer);
        config_.kernel = nullptr;  // the string belongs to the caller
    }

    // Returns (anomaly_map, score, position, first image without a finite score or -1).
    py::tuple run(const py::object& given, const std::optional<py::sequence>& masks, const py::object& out,
                  int threads) {
        if (!py::isinstance<py::sequence>(given))
            throw py::type_error("outputs must be a sequence of " + std::to_string(count()) +
                                 " arrays, not " + type_name(given));
        const auto outputs = py::reinterpret_borrow<py::sequence>(given);
        const int head = config_.has_head ? count() - 1 : -1;
        if (static_cast<int>(outputs.size()) != count())
            throw py::value_error("there must be " + std::to_string(count()) + " outputs, not " +
                                  std::to_string(outputs.size()));
        if (threads < 1) throw py::value_error("threads must be at least 1, not " + std::to_string(threads));
        py::object inputs[RSTPM_MAX_OUTPUTS];  // keeps them alive while the GIL is released
        const float* data[RSTPM_MAX_OUTPUTS];
        py::ssize_t batch = -1;
        for (int i = 0; i < count(); ++i) {
            const char* const name = i == head            ? "the head's map"
                                     : i < RSTPM_MAPS     ? kMapNames[i]
                                     : i < 2 * RSTPM_MAPS ? kScoreMapNames[i - RSTPM_MAPS]
                                                          : kAngleMapNames[i - 2 * RSTPM_MAPS];
            const std::int32_t level = rstpm_output_level(&config_, i);
            py::array array = require_array<float>(outputs[i], name, "float32", batch,
                                                   config_.level_height[level], config_.level_width[level]);
            batch = array.shape(0);
            data[i] = static_cast<const float*>(array.data());
            inputs[i] = std::move(array);
        }
        std::vector<py::array> kept;
        std::vector<const std::uint8_t*> mask_data;
        if (masks.has_value()) {
            if (static_cast<py::ssize_t>(masks->size()) != batch)
                throw py::value_error("masks must have one entry for each image");
            for (const py::handle mask : *masks) {
                mask_data.push_back(nullptr);
                if (mask.is_none()) continue;
                kept.push_back(
                    require_array<std::uint8_t>(mask, "a mask", "uint8", 1, config_.height, config_.width));
                mask_data.back() = static_cast<const std::uint8_t*>(kept.back().data());
            }
            if (static_cast<py::ssize_t>(mask_data.size()) != batch)  // a sequence may say what it likes
                throw py::value_error("masks must have one entry for each image");
        }
        py::array output =
            out.is_none() ? new_output(batch, config_.height, config_.width)
                          : require_array<float>(out, "out", "float32", batch, config_.height, config_.width);
        float* const output_data = writable_data<float>(output, "out");
        Results results(batch);
        rstpm_status status;
        {
            const py::gil_scoped_release release;
            status =
                rstpm_scorer_run(scorer_.get(), data, batch, mask_data.empty() ? nullptr : mask_data.data(),
                                 output_data, results.data(), threads);
        }
        raise_on_error(status);
        auto [score, position, nonfinite] = results.arrays(batch);
        return py::make_tuple(std::move(output), std::move(score), std::move(position), nonfinite);
    }

    const char* kernel() const { return rstpm_scorer_kernel(scorer_.get()); }
    const char* last_kernel() const { return rstpm_scorer_last_kernel(scorer_.get()); }

  private:
    static std::int32_t set_statistics(const Statistics& statistics, double* mean, double* std,
                                       double* weight) {
        copy_six(std::get<1>(statistics), "mean", mean);
        copy_six(std::get<2>(statistics), "std", std);
        copy_six(std::get<3>(statistics), "weights", weight);
        return mode_named(std::get<0>(statistics));
    }
    void set_coarse(const CoarseStatistics& coarse) {
        const auto& [mean, std, weights] = coarse;
        if (weights.size() != 2 && weights.size() != RSTPM_COARSE_MAPS)
            throw py::value_error("weights of the coarsest level must have 2 or 4 values, not " +
                                  std::to_string(weights.size()));
        config_.coarse_maps = static_cast<std::int32_t>(weights.size());
        copy_coarse(mean, config_.coarse_maps, "mean", config_.coarse_mean);
        copy_coarse(std, config_.coarse_maps, "std", config_.coarse_std);
        copy_coarse(weights, config_.coarse_maps, "weights", config_.coarse_weight);
    }
    int count() const { return rstpm_output_count(&config_); }

    struct Destroy {
        void operator()(rstpm_scorer* scorer) const { rstpm_scorer_destroy(scorer); }
    };
    rstpm_scorer_config config_{};
    std::unique_ptr<rstpm_scorer, Destroy> scorer_;
};

// Resizes image (H, W, C) into out (h, w, 3), RGB; returns the name of the kernel that ran. Rows may lie
// anywhere, but what is in one must be contiguous.
const char* resize(const py::object& image, const py::object& out, bool bgr, int threads,
                   const char* kernel) {
    const auto require_rows = [](const py::object& object, const char* name) {
        if (!py::isinstance<py::array_t<std::uint8_t>>(object))
            throw py::type_error(std::string(name) + " must be a NumPy array of uint8");
        py::array array = py::reinterpret_borrow<py::array>(object);
        if (array.ndim() != 3)
            throw py::value_error(std::string(name) + " must have three dimensions, not " +
                                  shape_text(array));
        // The stride along a dimension of one means nothing, and none does where there are no items.
        const bool contiguous =
            array.size() == 0 || ((array.shape(2) == 1 || array.strides(2) == 1) &&
                                  (array.shape(1) == 1 || array.strides(1) == array.shape(2)));
        if (!contiguous) throw py::value_error("the rows of " + std::string(name) + " must be contiguous");
        return array;
    };
    const auto side = [](py::ssize_t size) {
        return static_cast<std::int32_t>(
            std::min<py::ssize_t>(size, std::numeric_limits<std::int32_t>::max()));
    };
    py::array input = require_rows(image, "image"), output = require_rows(out, "out");
    if (input.shape(2) != 1 && input.shape(2) != 3 && input.shape(2) != 4)
        throw py::value_error("image must have shape (H, W, 1), (H, W, 3) or (H, W, 4), not " +
                              shape_text(input));
    if (output.shape(2) != 3)
        throw py::value_error("out must have shape (h, w, 3), not " + shape_text(output));
    if (threads < 1) throw py::value_error("threads must be at least 1, not " + std::to_string(threads));
    const rstpm_image source{sizeof(rstpm_image),
                             side(input.shape(2)),
                             static_cast<const std::uint8_t*>(input.data()),
                             input.strides(0),
                             side(input.shape(0)),
                             side(input.shape(1)),
                             bgr};
    std::uint8_t* const pixels = writable_data<std::uint8_t>(output, "out");
    const char* ran = nullptr;
    rstpm_status status;
    {
        const py::gil_scoped_release release;
        status = rstpm_resize(&source, pixels, output.strides(0), side(output.shape(0)),
                              side(output.shape(1)), threads, kernel, &ran);
    }
    if (status == RSTPM_BAD_SIZE)
        throw py::value_error("an image has sides in 1.." +
                              std::to_string(static_cast<int>(RSTPM_MAX_IMAGE_SIDE)) + ", and out in 1.." +
                              std::to_string(static_cast<int>(RSTPM_MAX_SIDE)));
    raise_on_error(status, kernel);
    return ran;
}

py::tuple available_kernels() {
    py::list names;
    for (size_t i = 0; rstpm_available_kernel(i) != nullptr; ++i) names.append(rstpm_available_kernel(i));
    return py::tuple(names);
}

const char* default_kernel() {
    const char* name = nullptr;
    raise_on_error(rstpm_default_kernel(&name));
    return name;
}

}  // namespace

void bind_kernels(py::module_& module) {
    module.def("available_kernels", &available_kernels);
    module.def("default_kernel", &default_kernel);
    module.def("resize", &resize, py::arg("image"), py::arg("out"), py::arg("bgr"), py::arg("threads") = 1,
               py::arg("kernel").none(true) = py::none());
    py::class_<Scorer>(module, "Scorer")
        .def(py::init<const std::vector<std::pair<int, int>>&, std::pair<int, int>, const Statistics&,
                      const std::optional<std::array<double, 3>>&, const std::optional<Scoring>&,
                      const char*>(),
             py::arg("map_sizes"), py::arg("size"), py::arg("fusion"), py::arg("head").none(true),
             py::arg("scoring").none(true), py::arg("kernel").none(true))
        .def("run", &Scorer::run, py::arg("outputs"), py::arg("masks").none(true), py::arg("out").none(true),
             py::arg("threads"))
        .def_property_readonly("kernel", &Scorer::kernel)
        .def_property_readonly("last_kernel", &Scorer::last_kernel);
}
