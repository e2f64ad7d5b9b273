// Python's way to what FFmpeg complains about.
#include <pybind11/pybind11.h>

#include "bindings.hpp"
#include "decoder_log.hpp"

namespace py = pybind11;

void bind_decoder_log(py::module_& module) {
    module.def("listen_to_ffmpeg", &rstpm::listen_to_ffmpeg, py::arg("path"));
    module.def("complaints_in_thread", &rstpm::complaints_in_thread);
    module.def("complaints_in_process", &rstpm::complaints_in_process);
}
