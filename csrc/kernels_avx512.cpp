// x86-64 with AVX-512 F, BW and VL: sixteen lanes.
#if defined(__x86_64__)

// GCC 12 takes the "undefined" operands in its own intrinsics for mistakes (GCC bug 105593).
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernel.hpp"
#include "processor.hpp"

namespace rstpm {
namespace {

// From here on functions are compiled for the wider instruction set, so nothing of the standard library may
// be included or instantiated.
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl")
#endif

struct V {
    typedef __m512 Reg;
    static constexpr int lanes = 16;
    static constexpr const char* name = "avx512";

    static Reg load(const float* from) { return _mm512_loadu_ps(from); }
    static void store(float* to, Reg value) { _mm512_storeu_ps(to, value); }
    static Reg broadcast(float x) { return _mm512_set1_ps(x); }
    static Reg add(Reg a, Reg b) { return _mm512_add_ps(a, b); }
    static Reg subtract(Reg a, Reg b) { return _mm512_sub_ps(a, b); }
    static Reg multiply(Reg a, Reg b) { return _mm512_mul_ps(a, b); }
    static Reg multiply_add(Reg a, Reg b, Reg c) { return _mm512_fmadd_ps(a, b, c); }
    static Reg maximum(Reg a, Reg b) { return _mm512_max_ps(a, b); }  // b where a is NaN
    static bool any_greater(Reg a, Reg b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ) != 0; }
    static bool any_equal(Reg a, Reg b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ) != 0; }
    static Reg gather(const float* source, const std::int32_t* index) {
        return _mm512_i32gather_ps(_mm512_loadu_si512(index), source, 4);
    }
    struct Pick {
        __m512i left, right;
    };
    static Pick load_pick(const std::int32_t* pick) {
        const __m512i left = _mm512_loadu_si512(pick);
        return {left, _mm512_add_epi32(left, _mm512_set1_epi32(1))};
    }
    static void pick_pairs(const float* source, Pick pick, Reg* left, Reg* right) {
        const Reg window = load(source);
        *left = _mm512_permutexvar_ps(pick.left, window);
        *right = _mm512_permutexvar_ps(pick.right, window);
    }
    static void store_greater(std::uint8_t* to, Reg a, Reg b) {
        const __m128i bytes = _mm_maskz_set1_epi8(_mm512_cmp_ps_mask(a, b, _CMP_GT_OQ), 1);
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to), bytes);
    }
    static void shuffle_bytes(std::uint8_t* to, const std::uint8_t* from, const std::uint8_t* pick) {
        const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
        const __m128i order = _mm_loadu_si128(reinterpret_cast<const __m128i*>(pick));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm_shuffle_epi8(bytes, order));
    }
    static std::uint32_t pack_bytes(Int4 value, std::uint32_t pick) {
        const __m128i order = _mm_cvtsi32_si128(static_cast<int>(pick));
        const __m128i bytes = _mm_shuffle_epi8(reinterpret_cast<__m128i>(value), order);
        return static_cast<std::uint32_t>(_mm_cvtsi128_si32(bytes));
    }
};

#include "fusion_kernel.inl"
#include "resize_kernel.inl"

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

}  // namespace

const Kernel kAvx512Kernel = {V::name, V::lanes, has_avx512, fuse_rows, resize_rows};

}  // namespace rstpm

#endif
