// What the module `rstpm_edge._native` holds, a file each.
#pragma once

#include <pybind11/pybind11.h>

void bind_kernels(pybind11::module_& module);
void bind_compressed_lengths(pybind11::module_& module);
void bind_decoder_log(pybind11::module_& module);
