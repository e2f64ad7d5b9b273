// The module `rstpm_edge._native`.
#include <pybind11/pybind11.h>

#include "bindings.hpp"

PYBIND11_MODULE(_native, module) {
    module.doc() = "Kernels; use rstpm_edge.postprocess and rstpm_edge.image.";
    module.attr("INTERFACE") = 4;  // goes up with any change of rstpm_edge/_native.pyi; native.py compares it
    bind_kernels(module);
    bind_compressed_lengths(module);
    bind_decoder_log(module);
}
