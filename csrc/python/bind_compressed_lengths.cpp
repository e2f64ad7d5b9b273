// Python's way to the exact lengths of compressed image data.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "bindings.hpp"
#include "compressed_lengths.hpp"

namespace py = pybind11;

namespace {

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
        components[i].most = std::max<std::int64_t>(std::get<3>(parts[i]), 0);
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

void bind_compressed_lengths(py::module_& module) {
    module.def("lzw_length", &decoded_length<&rstpm::lzw_length>, py::arg("data"), py::arg("most"));
    module.def("packbits_length", &decoded_length<&rstpm::packbits_length>, py::arg("data"), py::arg("most"));
    module.def("scan_end", &scan_end, py::arg("data"), py::arg("at"));
    module.def("is_whole_scan", &is_whole_scan, py::arg("data"), py::arg("components"), py::arg("units"),
               py::arg("restart_interval"), py::arg("only_dc") = false, py::arg("refines") = false);
    py::class_<rstpm::ProgressiveComponent>(module, "ProgressiveComponent")
        .def(py::init<size_t>(), py::arg("blocks"))
        .def("is_whole_scan", &is_whole_ac_scan, py::arg("data"), py::arg("table"), py::arg("first"),
             py::arg("last"), py::arg("refines"), py::arg("restart_interval"));
}
