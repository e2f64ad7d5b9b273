// Python bindings: validate, convert, release the GIL, compute. Nothing is computed here.
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

#include "decoder_log.hpp"
#include "encoded.hpp"
#include "rstpm_edge.h"

namespace py = pybind11;

namespace {

const char* const kMapNames[RSTPM_MAPS] = {"stpm_a", "stpm_b", "stpm_c", "recon_a", "recon_b", "recon_c"};
const char* const kScoreMapNames[RSTPM_MAPS] = {"score map stpm_a",  "score map stpm_b",
                                                "score map stpm_c",  "score map recon_a",
                                                "score map recon_b", "score map recon_c"};

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
                "most 1e12 and |weight / std| at most 1e24; map_weight must lie in 0..1e12, and |bias| at "
                "most "
                "1e12");
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

template <typename T>
void copy_six(const std::vector<T>& values, const char* name, T* to) {
    if (values.size() != RSTPM_MAPS)
        throw py::value_error(std::string(name) + " must have 6 values, one per map, not " +
                              std::to_string(values.size()));
    std::copy(values.begin(), values.end(), to);
}

template <typename Config>
void set_sizes(const std::vector<std::pair<int, int>>& map_sizes, std::pair<int, int> size, Config* config) {
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
template <typename Result>
struct Results {
    explicit Results(py::ssize_t count) {
        if (count > kOnStack) on_heap = std::make_unique<Result[]>(count);
    }
    Result* data() { return on_heap != nullptr ? on_heap.get() : on_stack; }

    // (score, position, first image without a finite score or -1)
    std::tuple<py::array_t<float>, py::array_t<std::int32_t>, py::ssize_t> arrays(py::ssize_t batch) {
        py::array_t<float> score(batch);
        py::array_t<std::int32_t> position({batch, py::ssize_t{2}});
        float* score_data = score.mutable_data();
        std::int32_t* position_data = position.mutable_data();
        py::ssize_t nonfinite = -1;
        const Result* results = data();
        for (py::ssize_t n = batch - 1; n >= 0; --n) {
            score_data[n] = results[n].score;
            position_data[2 * n] = results[n].row;
            position_data[2 * n + 1] = results[n].column;
            if (results[n].nonfinite) nonfinite = n;
        }
        return {std::move(score), std::move(position), nonfinite};
    }

    static constexpr py::ssize_t kOnStack = 16;
    Result on_stack[kOnStack];
    std::unique_ptr<Result[]> on_heap;
};

class Fusion {
  public:
    Fusion(const std::vector<std::pair<int, int>>& map_sizes, std::pair<int, int> size,
           const std::string& mode, const std::vector<float>& mean, const std::vector<float>& std,
           const std::vector<float>& weights, double smoothing_sigma, const char* kernel) {
        config_.struct_size = sizeof config_;
        set_sizes(map_sizes, size, &config_);
        config_.mode = mode_named(mode);
        copy_six(mean, "mean", config_.mean);
        copy_six(std, "std", config_.std);
        copy_six(weights, "weights", config_.weight);
        config_.smoothing_sigma = smoothing_sigma;
        config_.kernel = kernel;
        rstpm_fusion* plan = nullptr;
        raise_on_error(rstpm_fusion_create(&config_, &plan), kernel);
        plan_.reset(plan);
        config_.kernel = nullptr;  // the string belongs to the caller
    }

    // Returns (anomaly_map, score, position, first image without a finite map or -1).
    py::tuple run(const py::object& maps_object, const py::object& out, const py::object& mask,
                  const py::object& threshold, int threads) {
        if (!py::isinstance<py::sequence>(maps_object))
            throw py::type_error("maps must be a sequence of 6 arrays, not " + type_name(maps_object));
        const auto maps = py::reinterpret_borrow<py::sequence>(maps_object);
        if (maps.size() != RSTPM_MAPS)
            throw py::value_error(
                "maps must hold 6 arrays (stpm_a, stpm_b, stpm_c, recon_a, recon_b, recon_c), not " +
                std::to_string(maps.size()));
        if (mask.is_none() != threshold.is_none())
            throw py::value_error("mask and threshold must be given together");
        if (threads < 1) throw py::value_error("threads must be at least 1, not " + std::to_string(threads));

        py::array inputs[RSTPM_MAPS];  // keeps them alive while the GIL is released
        const float* data[RSTPM_MAPS];
        py::ssize_t batch = -1;
        for (int i = 0; i < RSTPM_MAPS; ++i) {
            const int level = i % RSTPM_LEVELS;
            inputs[i] = require_array<float>(maps[i], kMapNames[i], "float32", batch,
                                             config_.level_height[level], config_.level_width[level]);
            batch = inputs[i].shape(0);
            data[i] = static_cast<const float*>(inputs[i].data());
        }
        py::array output =
            out.is_none() ? new_output(batch, config_.height, config_.width)
                          : require_array<float>(out, "out", "float32", batch, config_.height, config_.width);
        float* const output_data = writable_data<float>(output, "out");
        py::array mask_array;
        std::uint8_t* mask_data = nullptr;
        float limit = 0.0f;
        if (!mask.is_none()) {
            mask_array =
                require_array<std::uint8_t>(mask, "mask", "uint8", batch, config_.height, config_.width);
            mask_data = writable_data<std::uint8_t>(mask_array, "mask");
            limit = threshold.cast<float>();
            if (std::isnan(limit)) throw py::value_error("threshold must be a number, not NaN");
        }

        Results<rstpm_image_result> results(batch);
        rstpm_status status;
        {
            const py::gil_scoped_release release;
            status = rstpm_fusion_run(plan_.get(), data, batch, output_data, results.data(), mask_data, limit,
                                      threads);
        }
        raise_on_error(status);
        auto [score, position, nonfinite] = results.arrays(batch);
        return py::make_tuple(std::move(output), std::move(score), std::move(position), nonfinite);
    }

    const char* kernel() const { return rstpm_fusion_kernel(plan_.get()); }
    const char* last_kernel() const { return rstpm_fusion_last_kernel(plan_.get()); }

  private:
    struct Destroy {
        void operator()(rstpm_fusion* plan) const { rstpm_fusion_destroy(plan); }
    };
    rstpm_fusion_config config_{};
    std::unique_ptr<rstpm_fusion, Destroy> plan_;
};

// Mode, mean, std, weights and smoothing of six maps.
using Statistics =
    std::tuple<std::string, std::vector<double>, std::vector<double>, std::vector<double>, double>;

class Scorer {
  public:
    // head is (mean, std, weight); scoring is the score maps' statistics, map_weight and bias.
    Scorer(const std::vector<std::pair<int, int>>& map_sizes, std::pair<int, int> size,
           const Statistics& fusion, const std::optional<std::array<double, 3>>& head,
           const std::optional<std::tuple<Statistics, double, double>>& scoring, const char* kernel) {
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
            config_.map_weight = std::get<1>(*scoring);
            config_.bias = std::get<2>(*scoring);
        }
        config_.kernel = kernel;
        rstpm_scorer* scorer = nullptr;
        raise_on_error(rstpm_scorer_create(&config_, &scorer), kernel);
        scorer_.reset(scorer);
        config_.kernel = nullptr;  // the string belongs to the caller
    }

    // Returns (anomaly_map, score, position, first image without a finite score or -1).
    py::tuple run(const py::sequence& outputs, const std::optional<py::sequence>& masks, int threads) {
        const int head = config_.has_head ? count() - 1 : -1;
        if (static_cast<int>(outputs.size()) != count())
            throw py::value_error("there must be " + std::to_string(count()) + " outputs, not " +
                                  std::to_string(outputs.size()));
        if (threads < 1) throw py::value_error("threads must be at least 1, not " + std::to_string(threads));
        py::array inputs[RSTPM_MAX_OUTPUTS];  // keeps them alive while the GIL is released
        const float* data[RSTPM_MAX_OUTPUTS];
        py::ssize_t batch = -1;
        for (int i = 0; i < count(); ++i) {
            const char* const name = i == head        ? "the head's map"
                                     : i < RSTPM_MAPS ? kMapNames[i]
                                                      : kScoreMapNames[i - RSTPM_MAPS];
            const int level = i % RSTPM_LEVELS;  // the head's is the finest
            inputs[i] = require_array<float>(outputs[i], name, "float32", batch, config_.level_height[level],
                                             config_.level_width[level]);
            batch = inputs[i].shape(0);
            data[i] = static_cast<const float*>(inputs[i].data());
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
        }
        py::array output = new_output(batch, config_.height, config_.width);
        float* const output_data = writable_data<float>(output, "out");
        Results<rstpm_score> results(batch);
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
    int count() const {
        return RSTPM_MAPS + (config_.has_score_maps ? RSTPM_MAPS : 0) + (config_.has_head ? 1 : 0);
    }

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

// Compressed data, as bytes or a memoryview.
struct Bytes {
    explicit Bytes(const py::buffer& buffer) : info(buffer.request()) {
        if (info.ndim != 1 || info.itemsize != 1 || info.strides[0] != 1)
            throw py::value_error("data must be contiguous bytes");
    }
    const std::uint8_t* data() const { return static_cast<const std::uint8_t*>(info.ptr); }
    size_t size() const { return static_cast<size_t>(info.size); }

    py::buffer_info info;
};

template <std::int64_t (*length)(const std::uint8_t*, size_t, std::int64_t)>
std::int64_t decoded_length(const py::buffer& buffer, std::int64_t most) {
    const Bytes bytes(buffer);
    const py::gil_scoped_release release;
    return length(bytes.data(), bytes.size(), most);
}

size_t scan_end(const py::buffer& buffer, size_t at) {
    const Bytes bytes(buffer);
    const py::gil_scoped_release release;
    return rstpm::scan_end(bytes.data(), bytes.size(), at);
}

using Table =
    std::pair<std::string, std::string>;  // counts and values; py::bytes convert to strings as they are

bool is_whole_scan(const py::buffer& buffer,
                   const std::vector<std::tuple<int, Table, Table, std::int64_t>>& parts, std::int64_t units,
                   std::int64_t restart_interval, bool only_dc, bool refines) {
    const auto text = [](const std::string& bytes) {
        return reinterpret_cast<const std::uint8_t*>(bytes.data());
    };
    std::vector<rstpm::JpegComponent> components(parts.size());
    for (size_t i = 0; i < parts.size(); ++i) {
        components[i].blocks = std::get<0>(parts[i]);
        components[i].most = std::get<3>(parts[i]);
        const Table& dc = std::get<1>(parts[i]);
        const Table& ac = std::get<2>(parts[i]);
        if (dc.first.size() != 16 || ac.first.size() != 16) throw py::value_error("a table has 16 counts");
        if (!components[i].dc.set(text(dc.first), text(dc.second), dc.second.size()) ||
            !components[i].ac.set(text(ac.first), text(ac.second), ac.second.size()))
            return false;
    }
    const rstpm::Coefficients coefficients = !only_dc  ? rstpm::Coefficients::kAll
                                             : refines ? rstpm::Coefficients::kNextBitOfDc
                                                       : rstpm::Coefficients::kFirstBitsOfDc;
    const Bytes bytes(buffer);
    const py::gil_scoped_release release;
    return rstpm::is_whole_scan(bytes.data(), bytes.size(), components, units, restart_interval,
                                coefficients);
}

bool is_whole_ac_scan(rstpm::ProgressiveComponent& component, const py::buffer& buffer, const Table& ac,
                      int first, int last, bool refines, std::int64_t restart_interval) {
    if (first < 1 || last < first || last > 63) return false;
    if (ac.first.size() != 16) throw py::value_error("a table has 16 counts");
    rstpm::HuffmanTable table;
    if (!table.set(reinterpret_cast<const std::uint8_t*>(ac.first.data()),
                   reinterpret_cast<const std::uint8_t*>(ac.second.data()), ac.second.size()))
        return false;
    const Bytes bytes(buffer);
    const py::gil_scoped_release release;
    return component.is_whole_scan(bytes.data(), bytes.size(), table, first, last, refines, restart_interval);
}

}  // namespace

PYBIND11_MODULE(_native, module) {
    module.doc() = "Kernels; use rstpm_edge.postprocess and rstpm_edge.image.";
    module.attr("INTERFACE") = 1;  // goes up with any change of rstpm_edge/_native.pyi; native.py compares it
    module.def("available_kernels", &available_kernels);
    module.def("default_kernel", &default_kernel);
    module.def("resize", &resize, py::arg("image"), py::arg("out"), py::arg("bgr"), py::arg("threads") = 1,
               py::arg("kernel").none(true) = py::none());
    module.def("listen_to_ffmpeg", &rstpm::listen_to_ffmpeg, py::arg("path"));
    module.def("complaints_in_thread", &rstpm::complaints_in_thread);
    module.def("complaints_in_process", &rstpm::complaints_in_process);
    module.def("lzw_length", &decoded_length<&rstpm::lzw_length>, py::arg("data"), py::arg("most"));
    module.def("packbits_length", &decoded_length<&rstpm::packbits_length>, py::arg("data"), py::arg("most"));
    module.def("scan_end", &scan_end, py::arg("data"), py::arg("at"));
    module.def("is_whole_scan", &is_whole_scan, py::arg("data"), py::arg("components"), py::arg("units"),
               py::arg("restart_interval"), py::arg("only_dc") = false, py::arg("refines") = false);
    py::class_<rstpm::ProgressiveComponent>(module, "ProgressiveComponent")
        .def(py::init<size_t>(), py::arg("blocks"))
        .def("is_whole_scan", &is_whole_ac_scan, py::arg("data"), py::arg("table"), py::arg("first"),
             py::arg("last"), py::arg("refines"), py::arg("restart_interval"));
    py::class_<Fusion>(module, "Fusion")
        .def(py::init<const std::vector<std::pair<int, int>>&, std::pair<int, int>, const std::string&,
                      const std::vector<float>&, const std::vector<float>&, const std::vector<float>&, double,
                      const char*>(),
             py::arg("map_sizes"), py::arg("size"), py::arg("mode"), py::arg("mean"), py::arg("std"),
             py::arg("weights"), py::arg("smoothing_sigma"), py::arg("kernel").none(true))
        .def("run", &Fusion::run, py::arg("maps"), py::arg("out").none(true), py::arg("mask").none(true),
             py::arg("threshold").none(true), py::arg("threads"))
        .def_property_readonly("kernel", &Fusion::kernel)
        .def_property_readonly("last_kernel", &Fusion::last_kernel);
    py::class_<Scorer>(module, "Scorer")
        .def(py::init<const std::vector<std::pair<int, int>>&, std::pair<int, int>, const Statistics&,
                      const std::optional<std::array<double, 3>>&,
                      const std::optional<std::tuple<Statistics, double, double>>&, const char*>(),
             py::arg("map_sizes"), py::arg("size"), py::arg("fusion"), py::arg("head").none(true),
             py::arg("scoring").none(true), py::arg("kernel").none(true))
        .def("run", &Scorer::run, py::arg("outputs"), py::arg("masks").none(true), py::arg("threads"))
        .def_property_readonly("kernel", &Scorer::kernel)
        .def_property_readonly("last_kernel", &Scorer::last_kernel);
}
