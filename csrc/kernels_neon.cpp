// 64-bit Arm, where NEON is always there: four lanes.
#if defined(__aarch64__)

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

#include "kernel.hpp"

namespace rstpm {
namespace {

struct V {
    typedef float32x4_t Reg;
    static constexpr int lanes = 4;
    static constexpr const char* name = "neon";

    static Reg load(const float* from) { return vld1q_f32(from); }
    static void store(float* to, Reg value) { vst1q_f32(to, value); }
    static Reg broadcast(float x) { return vdupq_n_f32(x); }
    static Reg add(Reg a, Reg b) { return vaddq_f32(a, b); }
    static Reg subtract(Reg a, Reg b) { return vsubq_f32(a, b); }
    static Reg multiply(Reg a, Reg b) { return vmulq_f32(a, b); }
    static Reg multiply_add(Reg a, Reg b, Reg c) { return vfmaq_f32(c, a, b); }
    static Reg maximum(Reg a, Reg b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }  // b where a is NaN
    static bool any_greater(Reg a, Reg b) { return vmaxvq_u32(vcgtq_f32(a, b)) != 0; }
    static bool any_equal(Reg a, Reg b) { return vmaxvq_u32(vceqq_f32(a, b)) != 0; }
    static Reg gather(const float* source, const std::int32_t* index) {
        Reg value = vld1q_dup_f32(source + index[0]);
        value = vld1q_lane_f32(source + index[1], value, 1);
        value = vld1q_lane_f32(source + index[2], value, 2);
        return vld1q_lane_f32(source + index[3], value, 3);
    }
    // A table look-up of bytes: float i is bytes 4 i .. 4 i + 3.
    struct Pick {
        uint8x16_t left, right;
    };
    static Pick load_pick(const std::int32_t* pick) {
        const uint32x4_t first = vmulq_n_u32(vreinterpretq_u32_s32(vld1q_s32(pick)), 0x04040404u);
        const uint32x4_t left = vaddq_u32(first, vdupq_n_u32(0x03020100u));
        const uint32x4_t right = vaddq_u32(left, vdupq_n_u32(0x04040404u));
        return {vreinterpretq_u8_u32(left), vreinterpretq_u8_u32(right)};
    }
    static void pick_pairs(const float* source, Pick pick, Reg* left, Reg* right) {
        const uint8x16_t window = vreinterpretq_u8_f32(load(source));
        *left = vreinterpretq_f32_u8(vqtbl1q_u8(window, pick.left));
        *right = vreinterpretq_f32_u8(vqtbl1q_u8(window, pick.right));
    }
    static void store_greater(std::uint8_t* to, Reg a, Reg b) {
        const uint16x4_t words = vmovn_u32(vshrq_n_u32(vcgtq_f32(a, b), 31));
        const uint8x8_t bytes = vmovn_u16(vcombine_u16(words, words));
        const std::uint32_t packed = vget_lane_u32(vreinterpret_u32_u8(bytes), 0);
        for (int i = 0; i < lanes; ++i) to[i] = static_cast<std::uint8_t>(packed >> (8 * i));
    }
    static void shuffle_bytes(std::uint8_t* to, const std::uint8_t* from, const std::uint8_t* pick) {
        vst1q_u8(to, vqtbl1q_u8(vld1q_u8(from), vld1q_u8(pick)));
    }
    static std::uint32_t pack_bytes(Int4 value, std::uint32_t pick) {
        const uint8x16_t order = vreinterpretq_u8_u32(vdupq_n_u32(pick));
        const uint8x16_t bytes = vqtbl1q_u8(vreinterpretq_u8_s32(value), order);
        return vgetq_lane_u32(vreinterpretq_u32_u8(bytes), 0);
    }
};

#include "fusion_kernel.inl"
#include "resize_kernel.inl"

bool always() { return true; }

}  // namespace

const Kernel kNeonKernel = {V::name, V::lanes, always, fuse_rows, resize_rows};

}  // namespace rstpm

#endif
