"""Tiny model files for tests, made without torch: each map says how far the picture is from mid-grey.

A pixel of value v gives |v - 127| / 128 in all maps, averaged over the cells of a level. With the default
statistics (mean 0, std 1, weights 1) a flat picture of that value therefore scores 6 * |v - 127| / 128.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from rstpm_edge.calibration import Calibration
from rstpm_edge.model.metadata import EMBEDDING, METADATA_KEY, Bundle, Fusion, Teacher

TEACHERS = (
    Teacher("first", "tests", "0" * 64, "Apache-2.0"),
    Teacher("second", "tests", "1" * 64, "Apache-2.0"),
)


def make_bundle(**changes: Any) -> Bundle:
    """The document of a model whose threshold is 0.99 and whose typical good image scores 0.5."""
    bundle = Bundle(
        preset="test",
        height=64,
        width=64,
        resize="stretch",
        strides=(4, 8, 16),
        fusion=Fusion(),
        calibration=Calibration(0.01, tuple(i / 100 for i in range(1, 100))),
        teachers=TEACHERS,
        package_version="0.1.0",
        training={"epochs": 3},
    )
    return dataclasses.replace(bundle, **changes)


def make_model(
    bundle: Bundle,
    *,
    document: str | None = None,
    scale: float = 1 / 128,
    input_name: str = "image",
    input_type: int = TensorProto.UINT8,
    batch: str | int = "N",
    leave_out: str = "",
    fused: bool = False,
) -> onnx.ModelProto:
    """The model of `bundle`; the keywords spoil it in one way or another."""
    size = (bundle.height, bundle.width)
    nodes = [
        helper.make_node("Cast", [input_name], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float"], ["grey"], axes=[3], keepdims=0),  # (N, H, W)
        helper.make_node("Sub", ["grey", "middle"], ["centred"]),
        helper.make_node("Abs", ["centred"], ["distance"]),
        helper.make_node("Mul", ["distance", "scale"], ["anomaly"]),
        helper.make_node("Unsqueeze", ["anomaly", "one"], ["plane"]),  # (N, 1, H, W)
    ]
    constants = [
        numpy_helper.from_array(np.float32(127), "middle"),
        numpy_helper.from_array(np.float32(scale), "scale"),
        numpy_helper.from_array(np.array([1], np.int64), "one"),
    ]
    outputs = []
    names = bundle.output_names
    for name in names:
        stride = int(name.split("_")[1])
        cell = {"kernel_shape": [stride, stride], "strides": [stride, stride]}
        nodes.append(helper.make_node("AveragePool", ["plane"], [f"{name}_plane"], **cell))
        nodes.append(helper.make_node("Squeeze", [f"{name}_plane", "one"], [name]))
        shape = [batch, size[0] // stride, size[1] // stride]
        if name != leave_out:
            outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    if fused:
        nodes.append(helper.make_node("ReduceMax", ["anomaly"], ["score"], axes=[1, 2], keepdims=0))
        nodes.append(helper.make_node("Identity", ["anomaly"], ["anomaly_map"]))
        outputs.append(helper.make_tensor_value_info("anomaly_map", TensorProto.FLOAT, [batch, *size]))
        outputs.append(helper.make_tensor_value_info("score", TensorProto.FLOAT, [batch]))
    if EMBEDDING in bundle.graph_outputs:  # the mean of each channel
        nodes.append(helper.make_node("ReduceMean", ["float"], [EMBEDDING], axes=[1, 2], keepdims=0))
        if leave_out != EMBEDDING:
            outputs.append(helper.make_tensor_value_info(EMBEDDING, TensorProto.FLOAT, [batch, 3]))
    image = helper.make_tensor_value_info(input_name, input_type, [batch, *size, 3])
    graph = helper.make_graph(nodes, "test", [image], outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {METADATA_KEY: bundle.to_json() if document is None else document})
    return model


def write_model(path: Path, bundle: Bundle | None = None, **spoiled: Any) -> Path:
    """Write the model of `bundle` (the default one if None)."""
    path.write_bytes(make_model(bundle or make_bundle(), **spoiled).SerializeToString())
    return path


ModelFactory = Callable[..., Path]
