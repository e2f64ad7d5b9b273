// Memory that is lent out and taken back, so that calls at the same time never share any, and a call
// allocates only when more run at once than ever before.
#pragma once

#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace rstpm {

template <typename T>
class Pool {
  public:
    // One that lies idle, or what `make` makes.
    template <typename Make>
    std::unique_ptr<T> borrow(Make make) {
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            if (!idle_.empty()) {
                std::unique_ptr<T> found = std::move(idle_.back());
                idle_.pop_back();
                return found;
            }
        }
        return make();
    }

    void give_back(std::unique_ptr<T> item) {
        const std::lock_guard<std::mutex> lock(mutex_);
        idle_.push_back(std::move(item));
    }

  private:
    std::mutex mutex_;
    std::vector<std::unique_ptr<T>> idle_;
};

}  // namespace rstpm
