#pragma once

#include "kernel.hpp"

namespace rstpm {

// Chooses by name; with no name by the environment variable RSTPM_EDGE_KERNEL; else the fastest one that this
// processor can run.
rstpm_status choose_kernel(const char* name, const Kernel** kernel);

}  // namespace rstpm
