// Asks the processor itself: __builtin_cpu_supports reads a table of the compiler's run-time library, and in
// that of zig, which builds the wheels, the table is empty.
#include "processor.hpp"

#if defined(__x86_64__)

#include <cpuid.h>

namespace rstpm {
namespace {

struct Features {
    bool avx2, avx512;
};

// Which registers the operating system saves when it switches between programs (XCR0).
unsigned saved_registers() {
    unsigned low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

Features ask() {
    constexpr unsigned kYmm = 0x06, kZmm = 0xe6;  // SSE and AVX state; these and the three of AVX-512
    unsigned eax, ebx, ecx, edx;
    if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !(ecx & bit_OSXSAVE)) return {};
    const unsigned saved = saved_registers();
    const bool fma = ecx & bit_FMA;
    if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) return {};
    constexpr unsigned kAvx512 = bit_AVX512F | bit_AVX512BW | bit_AVX512VL;
    return {(saved & kYmm) == kYmm && fma && (ebx & bit_AVX2),
            (saved & kZmm) == kZmm && (ebx & kAvx512) == kAvx512};
}

// Once: in a virtual machine each question takes microseconds.
const Features& features() {
    static const Features answer = ask();
    return answer;
}

}  // namespace

bool has_avx2() { return features().avx2; }
bool has_avx512() { return features().avx512; }

}  // namespace rstpm

#endif
