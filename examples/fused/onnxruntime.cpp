// A fused model in ONNX Runtime:  fused_onnxruntime model.onnx image.ppm...
//
// Images are PPM files of the model's input size. Prints a line for each: its score, and where it lies.
#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <iostream>
#include <stdexcept>

#include "image.hpp"

int main(int count, char** arguments) {
    if (count < 3) {
        std::cerr << "usage: fused_onnxruntime model.onnx image.ppm...\n";
        return 2;
    }
    try {
        const Ort::Env environment(ORT_LOGGING_LEVEL_ERROR, "fused_onnxruntime");
        Ort::Session session(environment, arguments[1], Ort::SessionOptions());
        const Ort::MemoryInfo memory = Ort::MemoryInfo::CreateCpu(OrtDeviceAllocator, OrtMemTypeDefault);
        const char* const inputs[] = {"image"};
        const char* const outputs[] = {"score", "anomaly_map"};
        for (int i = 2; i < count; ++i) {
            Image image = read_ppm(arguments[i]);
            const std::array<std::int64_t, 4> shape = {1, static_cast<std::int64_t>(image.height),
                                                       static_cast<std::int64_t>(image.width), 3};
            const Ort::Value input = Ort::Value::CreateTensor<std::uint8_t>(
                memory, image.pixels.data(), image.pixels.size(), shape.data(), shape.size());
            const auto results = session.Run(Ort::RunOptions(), inputs, &input, 1, outputs, 2);
            const float score = results[0].GetTensorData<float>()[0];
            if (!std::isfinite(score))
                throw std::runtime_error("the model gives no finite score: judge nothing by it");
            const float* const map = results[1].GetTensorData<float>();  // [1, height, width]
            const std::size_t at = std::max_element(map, map + image.height * image.width) - map;
            std::printf("score %.9g row %zu column %zu\n", score, at / image.width, at % image.width);
        }
    } catch (const std::exception& error) {
        std::cerr << "fused_onnxruntime: " << error.what() << '\n';
        return 1;
    }
    return 0;
}
