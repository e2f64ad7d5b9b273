// One call's work, split over threads that live as long as it takes.
#pragma once

#include <exception>
#include <functional>
#include <thread>
#include <vector>

namespace rstpm {

// Calls run(part), which must not throw, for every part below `parts`: the first in the calling thread, each
// of the others in one of its own, or in the calling thread where no more threads are to be had.
template <typename Run>
void in_parallel(int parts, const Run& run) {
    std::vector<std::thread> workers;
    workers.reserve(parts);
    int started = 1;
    try {
        for (; started < parts; ++started) workers.emplace_back(std::cref(run), started);
    } catch (const std::exception&) {
    }
    run(0);
    for (int part = started; part < parts; ++part) run(part);
    for (std::thread& worker : workers) worker.join();
}

}  // namespace rstpm
