"""What is done to a graph when it is exported."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from rstpm_edge.training.graph.onnx_graph import IR_VERSION, OPSET, _sum_by_convolution
from rstpm_edge.training.graph.session import open_graph

pytestmark = pytest.mark.training


@pytest.mark.parametrize(
    ("axes", "keepdims", "operator"), [([1], 1, "Conv"), ([1], 0, "ReduceSum"), ([2], 1, "ReduceSum")]
)
def test_a_sum_over_channels_is_a_convolution_and_gives_the_same(axes: list[int], keepdims: int, operator: str) -> None:
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 7, 4, 5])
    squares = helper.make_tensor_value_info("squares", TensorProto.FLOAT, ["N", 7, 4, 5])
    graph = helper.make_graph(
        [
            helper.make_node("Mul", ["image", "image"], ["squares"], "Mul"),
            helper.make_node("ReduceSum", ["squares", "axes"], ["sum"], "ReduceSum", keepdims=keepdims),
        ],
        "sum",
        [image],
        [helper.make_tensor_value_info("sum", TensorProto.FLOAT, ["N", *[None] * (2 + keepdims)])],
        [numpy_helper.from_array(np.array(axes, np.int64), "axes")],
        value_info=[squares],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    _sum_by_convolution(model.graph)
    assert [node.op_type for node in model.graph.node] == ["Mul", operator]
    values = np.random.default_rng(0).normal(size=(2, 7, 4, 5)).astype(np.float32)
    (found,) = open_graph(model).run(None, {"image": values})
    np.testing.assert_allclose(found, (values**2).sum(tuple(axes), keepdims=bool(keepdims)), rtol=1e-5)
