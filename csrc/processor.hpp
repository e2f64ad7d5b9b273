// What this processor, and the operating system on it, can run.
#pragma once

namespace rstpm {

#if defined(__x86_64__)
bool has_avx2();    // with FMA
bool has_avx512();  // F, BW and VL
#endif

}  // namespace rstpm
