"""A network of four convolutions, named as an exported one: small enough to quantize in a moment."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

MAPS = ("stpm_8", "recon_8")
SIZE = 32
WEIGHTED = ["teacher1/stem/Conv", "teacher1/deep/Conv", "student1/body/Conv", "student1/head/Conv"]


def tiny_network(*, loud: float = 1.0) -> onnx.ModelProto:
    """`image` uint8 [N, 32, 32, 3] -> `stpm_8` and `recon_8`, float32 [N, 16, 16]: what the student is off by.

    `loud` multiplies one channel of teacher1/deep, and divides the weights of student1/body that it meets: nothing
    changes in float, but 8 bits that must reach from one channel's largest value to another's smallest lose the latter.
    """
    rng = np.random.default_rng(0)
    weights: dict[str, NDArray[np.float32]] = {
        "teacher1/stem": 0.3 * rng.standard_normal((8, 3, 3, 3), np.float32),
        "teacher1/deep": 0.3 * rng.standard_normal((8, 1, 3, 3), np.float32),
        "student1/body": 0.3 * rng.standard_normal((8, 8, 1, 1), np.float32),
        "student1/head": 0.3 * rng.standard_normal((8, 8, 1, 1), np.float32),
    }
    weights["teacher1/deep"][0] *= loud
    weights["student1/body"][:, 0] /= loud
    constants = {f"{name}/weight": value for name, value in weights.items()}
    constants |= {f"{name}/bias": np.full(len(value), 0.1, np.float32) for name, value in weights.items()}
    constants["teacher1/deep/bias"][0] *= loud
    constants |= {"low": np.float32(0), "high": np.float32(6), "normalize1/mean": np.float32(127)}
    constants |= {"normalize1/std": np.float32(64), "axes": np.array([1], np.int64)}
    constants |= {f"maps/{name}/scale": np.float32(scale) for name, scale in zip(MAPS, (0.05, 0.1), strict=True)}

    def node(operator: str, name: str, *inputs: str, **attributes: object) -> NodeProto:
        output = name.split("/")[1] if name.endswith("/out") else f"{name}_output"
        return helper.make_node(operator, inputs, [output], name, **attributes)  # type: ignore[arg-type]

    def conv(layer: str, data: str, **attributes: object) -> NodeProto:
        return node("Conv", f"{layer}/Conv", data, f"{layer}/weight", f"{layer}/bias", **attributes)

    nodes = [
        node("Cast", "Cast", "image", to=TensorProto.FLOAT),
        node("Transpose", "Transpose", "Cast_output", perm=[0, 3, 1, 2]),
        node("Sub", "normalize1/Sub", "Transpose_output", "normalize1/mean"),
        node("Div", "normalize1/Div", "normalize1/Sub_output", "normalize1/std"),
        conv("teacher1/stem", "normalize1/Div_output", strides=[2, 2], pads=[1, 1, 1, 1]),
        node("Clip", "teacher1/act/Clip", "teacher1/stem/Conv_output", "low", "high"),
        conv("teacher1/deep", "teacher1/act/Clip_output", pads=[1, 1, 1, 1], group=8),
        conv("student1/body", "teacher1/deep/Conv_output"),
        node("Relu", "student1/act/Relu", "student1/body/Conv_output"),
        conv("student1/head", "student1/act/Relu_output"),
    ]
    for name in MAPS:
        nodes += [
            node("Sub", f"maps/{name}/Sub", "student1/head/Conv_output", "teacher1/act/Clip_output"),
            node("Mul", f"maps/{name}/Mul", f"maps/{name}/Sub_output", f"maps/{name}/Sub_output"),
            node("ReduceSum", f"maps/{name}/ReduceSum", f"maps/{name}/Mul_output", "axes", keepdims=0),
            node("Mul", f"maps/{name}/out", f"maps/{name}/ReduceSum_output", f"maps/{name}/scale"),
        ]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", SIZE // 2, SIZE // 2]) for name in MAPS]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", SIZE, SIZE, 3])
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "rstpm", [image], outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def tiny_images(count: int) -> list[NDArray[np.uint8]]:
    """Pictures (32, 32, 3) with something to see: smooth waves and a little noise."""
    rng = np.random.default_rng(1)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    found = []
    for _ in range(count):
        wave = np.sin(rows / rng.uniform(2, 6) + rng.uniform(0, 6)) + np.sin(columns / rng.uniform(2, 6))
        channels = [127 + 40 * wave * rng.uniform(0.5, 1.5) + rng.normal(0, 4, wave.shape) for _ in range(3)]
        found.append(np.stack(channels, 2).clip(0, 255).astype(np.uint8))
    return found
