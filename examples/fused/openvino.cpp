// A fused model in OpenVINO:  fused_openvino model.onnx image.ppm...
//
// Images are PPM files of the model's input size. Prints a line for each: its score, and where it lies.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <exception>
#include <iostream>
#include <openvino/openvino.hpp>
#include <stdexcept>

#include "image.hpp"

int main(int count, char** arguments) {
    if (count < 3) {
        std::cerr << "usage: fused_openvino model.onnx image.ppm...\n";
        return 2;
    }
    try {
        ov::Core core;
        // Where a processor has bfloat16, OpenVINO would compute with three significant digits.
        ov::CompiledModel model =
            core.compile_model(arguments[1], "CPU", ov::hint::inference_precision(ov::element::f32));
        const ov::PartialShape shape = model.input("image").get_partial_shape();  // [N, height, width, 3]
        ov::InferRequest request = model.create_infer_request();
        for (int i = 2; i < count; ++i) {
            Image image = read_ppm(arguments[i]);
            const ov::Shape size{1, image.height, image.width, 3};
            if (!shape.compatible(size))
                throw std::runtime_error(std::string(arguments[i]) + " does not have the model's input size");
            request.set_tensor("image", ov::Tensor(ov::element::u8, size, image.pixels.data()));
            request.infer();
            const float score = request.get_tensor("score").data<float>()[0];
            if (!std::isfinite(score))
                throw std::runtime_error("the model gives no finite score: judge nothing by it");
            const ov::Tensor map = request.get_tensor("anomaly_map");  // [1, height, width]
            const float* const begin = map.data<float>();
            const std::size_t at = std::max_element(begin, begin + map.get_size()) - begin;
            std::printf("score %.9g row %zu column %zu\n", score, at / image.width, at % image.width);
        }
    } catch (const std::exception& error) {
        std::cerr << "fused_openvino: " << error.what() << '\n';
        return 1;
    }
    return 0;
}
