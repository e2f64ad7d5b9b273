// What FFmpeg complains about while it decodes a video, which OpenCV keeps to itself.
#pragma once

#include <cstdint>

namespace rstpm {

// Listens to the copy of FFmpeg whose libavutil was loaded from `path`; false if there is none. May be called
// again: OpenCV sets a listener of its own when it opens its first video.
bool listen_to_ffmpeg(const char* path);

// How often FFmpeg has met damage, in this thread and in all threads: counts that only ever grow.
uint64_t complaints_in_thread();
uint64_t complaints_in_process();

}  // namespace rstpm
