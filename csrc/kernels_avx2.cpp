// x86-64 with AVX2 and FMA: eight lanes.
#if defined(__x86_64__)

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
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif

struct V {
    typedef __m256 Reg;
    static constexpr int lanes = 8;
    static constexpr const char* name = "avx2";

    static Reg load(const float* from) { return _mm256_loadu_ps(from); }
    static void store(float* to, Reg value) { _mm256_storeu_ps(to, value); }
    static Reg broadcast(float x) { return _mm256_set1_ps(x); }
    static Reg add(Reg a, Reg b) { return _mm256_add_ps(a, b); }
    static Reg subtract(Reg a, Reg b) { return _mm256_sub_ps(a, b); }
    static Reg multiply(Reg a, Reg b) { return _mm256_mul_ps(a, b); }
    static Reg multiply_add(Reg a, Reg b, Reg c) { return _mm256_fmadd_ps(a, b, c); }
    static Reg maximum(Reg a, Reg b) { return _mm256_max_ps(a, b); }  // b where a is NaN
    static bool any_greater(Reg a, Reg b) { return _mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GT_OQ)) != 0; }
    static bool any_equal(Reg a, Reg b) { return _mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_EQ_OQ)) != 0; }
    static __m256i load_index(const std::int32_t* index) {
        return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(index));
    }
    static Reg gather(const float* source, const std::int32_t* index) {
        return _mm256_i32gather_ps(source, load_index(index), 4);
    }
    struct Pick {
        __m256i left, right;
    };
    static Pick load_pick(const std::int32_t* pick) {
        const __m256i left = load_index(pick);
        return {left, _mm256_add_epi32(left, _mm256_set1_epi32(1))};
    }
    static void pick_pairs(const float* source, Pick pick, Reg* left, Reg* right) {
        const Reg window = load(source);
        *left = _mm256_permutevar8x32_ps(window, pick.left);
        *right = _mm256_permutevar8x32_ps(window, pick.right);
    }
    static void store_greater(std::uint8_t* to, Reg a, Reg b) {
        const __m256i yes = _mm256_castps_si256(_mm256_cmp_ps(a, b, _CMP_GT_OQ));
        const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(yes), _mm256_extracti128_si256(yes, 1));
        const __m128i bytes = _mm_and_si128(_mm_packs_epi16(words, words), _mm_set1_epi8(1));
        _mm_storel_epi64(reinterpret_cast<__m128i*>(to), bytes);
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

const Kernel kAvx2Kernel = {V::name, V::lanes, has_avx2, fuse_rows, resize_rows};

}  // namespace rstpm

#endif
