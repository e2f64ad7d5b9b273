// Any processor: the compiler's own four-wide vectors (SSE2, NEON, or scalars where there is neither).
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernel.hpp"

namespace rstpm {
namespace {

struct V {
    typedef float Reg __attribute__((vector_size(16)));
    static constexpr int lanes = 4;
    static constexpr const char* name = "generic";

    static Reg load(const float* from) {
        Reg value;
        std::memcpy(&value, from, sizeof value);
        return value;
    }
    static void store(float* to, Reg value) { std::memcpy(to, &value, sizeof value); }
    static Reg broadcast(float x) { return Reg{x, x, x, x}; }
    static Reg add(Reg a, Reg b) { return a + b; }
    static Reg subtract(Reg a, Reg b) { return a - b; }
    static Reg multiply(Reg a, Reg b) { return a * b; }
    static Reg multiply_add(Reg a, Reg b, Reg c) { return a * b + c; }
    static Reg maximum(Reg a, Reg b) { return a > b ? a : b; }  // b where a is NaN
    static bool any_greater(Reg a, Reg b) {
        const auto yes = a > b;
        return (yes[0] | yes[1] | yes[2] | yes[3]) != 0;
    }
    static bool any_equal(Reg a, Reg b) {
        const auto yes = a == b;
        return (yes[0] | yes[1] | yes[2] | yes[3]) != 0;
    }
    // source[index[i]]
    static Reg gather(const float* source, const std::int32_t* index) {
        return Reg{source[index[0]], source[index[1]], source[index[2]], source[index[3]]};
    }
    // source[pick[i]] and source[pick[i] + 1], where every pick is below lanes - 1
    typedef const std::int32_t* Pick;
    static Pick load_pick(const std::int32_t* pick) { return pick; }
    static void pick_pairs(const float* source, Pick pick, Reg* left, Reg* right) {
        *left = gather(source, pick);
        *right = gather(source + 1, pick);
    }
    static void store_greater(std::uint8_t* to, Reg a, Reg b) {
        for (int i = 0; i < lanes; ++i) to[i] = a[i] > b[i];
    }
    // to[i] = from[pick[i]], sixteen bytes that do not overlap
    static void shuffle_bytes(std::uint8_t* to, const std::uint8_t* from, const std::uint8_t* pick) {
        for (int i = 0; i < 16; ++i) to[i] = from[pick[i]];
    }
    // Four of the value's sixteen bytes, as the four bytes of `pick` say
    static std::uint32_t pack_bytes(Int4 value, std::uint32_t pick) {
        std::uint8_t bytes[16];
        std::memcpy(bytes, &value, sizeof value);
        std::uint32_t packed = 0;
        for (int i = 0; i < 4; ++i) packed |= std::uint32_t{bytes[(pick >> (8 * i)) & 15]} << (8 * i);
        return packed;
    }
};

#include "fusion_kernel.inl"
#include "resize_kernel.inl"

bool always() { return true; }

}  // namespace

const Kernel kGenericKernel = {V::name, V::lanes, always, fuse_rows, resize_rows};

}  // namespace rstpm
