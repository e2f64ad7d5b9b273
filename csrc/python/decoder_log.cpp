#include "decoder_log.hpp"

#include <dlfcn.h>

#include <atomic>
#include <cstdarg>
#include <cstring>

namespace rstpm {
namespace {

// Of libavutil/log.h; FFmpeg has kept these values and signatures through all its versions.
constexpr int kError = 16, kInfo = 32;
using Callback = void (*)(void*, int, const char*, va_list);

std::atomic<Callback> print{nullptr};  // FFmpeg's own, which prints what its log level lets through
std::atomic<uint64_t> in_process{0};
thread_local uint64_t in_thread = 0;

bool contains_any(const char* text, const char* const* words) {
    for (; *words != nullptr; ++words)
        if (std::strstr(text, *words) != nullptr) return true;
    return false;
}

bool is_damage(const char* source, int level, const char* format) {
    // Mere remarks about what was made up, and errors on which no pixel depends: cheap cameras write them
    // wrongly.
    static const char* const kConcealed[] = {"conceal", "EOI missing", "overread", "orrupt", nullptr};
    static const char* const kHarmless[] = {"APP fields", "ICC", "SEI", "film grain", "Film grain", nullptr};
    const bool decoder = std::strcmp(source, "AVCodecContext") == 0;
    if (!decoder && std::strcmp(source, "AVFormatContext") != 0) return false;
    if (level > kError && !contains_any(format, kConcealed)) return false;
    return !contains_any(format, kHarmless);
}

void listen(void* context, int level, const char* format, va_list values) {
    level &= 0xff;  // above is a colour
    if (level <= kInfo && context != nullptr) {
        // A context starts with a pointer to its class, and that with the class's name.
        const char* const* type = *static_cast<const char* const**>(context);
        if (type != nullptr && *type != nullptr && is_damage(*type, level, format)) {
            ++in_thread;
            in_process.fetch_add(1);
        }
    }
    if (Callback forward = print.load()) forward(context, level, format, values);
}

}  // namespace

bool listen_to_ffmpeg(const char* path) {
    void* library = dlopen(path, RTLD_LAZY | RTLD_NOLOAD);
    if (library == nullptr) return false;
    void* set = dlsym(library, "av_log_set_callback");
    void* forward = dlsym(library, "av_log_default_callback");
    dlclose(library);  // OpenCV keeps it loaded
    if (set == nullptr || forward == nullptr) return false;
    print.store(reinterpret_cast<Callback>(forward));
    reinterpret_cast<void (*)(Callback)>(set)(&listen);
    return true;
}

uint64_t complaints_in_thread() { return in_thread; }

uint64_t complaints_in_process() { return in_process.load(); }

}  // namespace rstpm
