#include "dispatch.hpp"

#include <cstddef>
#include <cstdlib>
#include <cstring>

namespace rstpm {
namespace {

const Kernel* const kKernels[] = {
    &kGenericKernel,
#if defined(__aarch64__)
    &kNeonKernel,
#endif
#if defined(__x86_64__)
    &kAvx2Kernel,
    &kAvx512Kernel,
#endif
};

// Names that exist on some processor: asking for one of them elsewhere is "unsupported", not "unknown".
const char* const kNames[] = {"generic", "neon", "avx2", "avx512"};

}  // namespace

rstpm_status choose_kernel(const char* name, const Kernel** kernel) {
    *kernel = nullptr;
    if (name == nullptr) name = std::getenv("RSTPM_EDGE_KERNEL");
    if (name == nullptr || *name == '\0') {
        for (const Kernel* candidate : kKernels)
            if (candidate->supported()) *kernel = candidate;
        return RSTPM_OK;  // the generic kernel is always there
    }
    for (const Kernel* candidate : kKernels) {
        if (std::strcmp(candidate->name, name) != 0) continue;
        if (!candidate->supported()) return RSTPM_UNSUPPORTED_KERNEL;
        *kernel = candidate;
        return RSTPM_OK;
    }
    for (const char* known : kNames)
        if (std::strcmp(known, name) == 0) return RSTPM_UNSUPPORTED_KERNEL;
    return RSTPM_UNKNOWN_KERNEL;
}

}  // namespace rstpm

extern "C" const char* rstpm_known_kernel(size_t index) {
    return index < sizeof(rstpm::kNames) / sizeof(rstpm::kNames[0]) ? rstpm::kNames[index] : nullptr;
}

extern "C" const char* rstpm_available_kernel(size_t index) {
    for (const rstpm::Kernel* kernel : rstpm::kKernels)
        if (kernel->supported() && index-- == 0) return kernel->name;
    return nullptr;
}

extern "C" rstpm_status rstpm_default_kernel(const char** name) {
    if (name == nullptr) return RSTPM_BAD_ARGUMENT;
    const rstpm::Kernel* kernel = nullptr;
    const rstpm_status status = rstpm::choose_kernel(nullptr, &kernel);
    *name = kernel == nullptr ? nullptr : kernel->name;
    return status;
}
