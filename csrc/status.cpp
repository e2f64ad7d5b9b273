// What the library says about itself: its version, and its statuses in words.
#include <cstdint>

#include "rstpm_edge.h"

extern "C" const char* rstpm_version() { return RSTPM_VERSION; }

extern "C" const char* rstpm_status_message(int32_t status) {
    switch (status) {
        case RSTPM_OK: return "no error";
        case RSTPM_BAD_SIZE:
            return "a size is not possible: sides of maps, of the fused map and of a resized image lie in "
                   "1..32768, those of a camera's image in 1..8388608, and all of it must fit into memory";
        case RSTPM_BAD_STATISTICS:
            return "mean, std and weight must be finite, every std positive and no denormal number, |mean| "
                   "at most 1e12 and |weight / std| at most 1e24; with a head, weight[0] must not be 0; "
                   "map_weight must lie in 0..1e12, and |bias| at most 1e12";
        case RSTPM_BAD_SMOOTHING:
            return "smoothing_sigma must be 0 (off) or from 0.01 to 64 output pixels, and at most the "
                   "output's size; the product of RSTPM_PAPER is not smoothed";
        case RSTPM_BAD_ARGUMENT:
            return "an argument is wrong: a null pointer, a negative batch, fewer than one thread, an "
                   "unknown mode, a head where the mode is no sum, coarse_maps other than 0, 2 and 4, a "
                   "threshold of NaN, a mask of zeros only, "
                   "channels other than 1, 3 and 4, or rows of the output that overlap";
        case RSTPM_UNKNOWN_KERNEL:
            return "no kernel has this name: rstpm_known_kernel lists them; the name may come from the "
                   "environment variable RSTPM_EDGE_KERNEL";
        case RSTPM_UNSUPPORTED_KERNEL:
            return "this kernel does not run on this processor: rstpm_available_kernel lists those that do; "
                   "the name may come from the environment variable RSTPM_EDGE_KERNEL";
        case RSTPM_NO_MEMORY: return "memory ran out";
        case RSTPM_BAD_VERSION:
            return "struct_size is not what this library expects: set it to the size of the structure, and "
                   "compile with the header of the library that is loaded";
        default: return "unknown status";
    }
}
