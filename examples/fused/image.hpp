// The least of image files: binary PPM with 8 bits, which is RGB as the model takes it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

struct Image {
    std::size_t height = 0, width = 0;
    std::vector<std::uint8_t> pixels;  // height * width * 3, RGB
};

inline Image read_ppm(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::string magic;
    std::size_t most = 0;
    Image image;
    file >> magic >> image.width >> image.height >> most;
    file.get();  // the one byte between the header and the pixels
    if (!file || magic != "P6" || most != 255 || image.width > 1 << 15 || image.height > 1 << 15)
        throw std::runtime_error(path + " is not a binary PPM image of 8 bits (P6)");
    image.pixels.resize(image.height * image.width * 3);
    file.read(reinterpret_cast<char*>(image.pixels.data()),
              static_cast<std::streamsize>(image.pixels.size()));
    if (!file) throw std::runtime_error(path + " is truncated");
    return image;
}
