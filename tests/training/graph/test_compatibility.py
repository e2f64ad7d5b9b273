"""What keeps a graph from TensorRT and OpenVINO: nothing in what is exported, and each thing where it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper
from workplace import Workplace

from rstpm_edge.model.metadata import Fusion
from rstpm_edge.model.onnx_schema import OPERATORS
from rstpm_edge.training.export.export import SAFE_OPERATORS
from rstpm_edge.training.graph.compatibility import obstacles
from rstpm_edge.training.graph.fusion_nodes import add_fusion


def graph(*nodes: NodeProto, kind: int = TensorProto.FLOAT, **constants: Any) -> onnx.ModelProto:
    """`image` [N, 8, 8, 3] of type `kind` → `y`, by these nodes."""
    image = helper.make_tensor_value_info("image", kind, ["N", 8, 8, 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    return helper.make_model(
        helper.make_graph(nodes, "g", [image], [y], tensors), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )


def node(operator: str, inputs: str, output: str = "y", **attributes: Any) -> NodeProto:
    return helper.make_node(operator, inputs.split(), [output], f"the {operator}", **attributes)


# The paper's preset is exported, and asked the same, in test_export.py.


@pytest.mark.parametrize("fused", [False, True])
def test_nothing_stands_in_the_way_of_the_edge_preset(workplace: Workplace, fused: bool) -> None:
    model = onnx.load(workplace.model)
    if fused:
        add_fusion(model, Fusion("normalized", smoothing_sigma=4.0), None, (64, 96))
    assert obstacles(model) == []
    assert {item.op_type for item in model.graph.node} <= SAFE_OPERATORS
    (first,) = [item for item in model.graph.node if "image" in item.input]
    assert first.op_type == "Cast"


def test_what_is_safe_is_loaded_too() -> None:
    assert SAFE_OPERATORS <= OPERATORS


def test_a_graph_that_every_runtime_takes() -> None:
    cast = node("Cast", "image", "x", to=TensorProto.FLOAT)
    assert obstacles(graph(cast, node("Clip", "x low high"), kind=TensorProto.UINT8, low=0.0, high=6.0)) == []


@pytest.mark.parametrize("axes", [[0, 3, 1, 2], [0, 1, 2, 3]])
def test_uint8_goes_to_a_cast_only(axes: list[int]) -> None:
    moved, cast = node("Transpose", "image", "x", perm=axes), node("Cast", "x", to=TensorProto.FLOAT)
    assert obstacles(graph(moved, cast, kind=TensorProto.UINT8)) == [
        "the Transpose computes in UINT8.",
        "the Transpose takes uint8, which only a cast may.",
    ]


def test_integers_are_not_computed_with() -> None:
    shape, gathered = node("Shape", "image", "shape"), node("Gather", "shape first", "one")
    found = obstacles(graph(shape, gathered, node("Expand", "image shape"), first=np.array([0])))
    assert "the Shape computes in INT64." in found
    assert "the Gather computes in INT64." in found


def test_shapes_depend_on_the_batch_in_the_first_place_only() -> None:
    flat = node("Reshape", "image all", "x")
    found = obstacles(graph(flat, node("Transpose", "x", perm=[1, 0]), all=np.array([-1, 3])))
    assert found == ["The shape of y depends on more than the size of the batch."]
    baked = obstacles(graph(node("Reshape", "image all"), all=np.array([1, -1])))
    assert baked == ["The shape of y depends on more than the size of the batch."]


def test_shapes_are_known() -> None:
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", "H", 8, 3])
    model = graph(node("Relu", "image"))
    model.graph.input[0].CopyFrom(image)
    assert obstacles(model) == ["The shape of y depends on more than the size of the batch."]


def test_nothing_is_decided_at_run_time() -> None:
    inner = helper.make_graph(
        [helper.make_node("Relu", ["image"], ["z"])], "b", [], [helper.make_tensor_value_info("z", 1, None)]
    )
    choice = node("If", "yes", then_branch=inner, else_branch=inner)
    assert "the If decides at run time what to compute." in obstacles(graph(choice, yes=np.array(True)))


@pytest.mark.parametrize(
    "nodes",
    [
        (node("ReduceMax", "image", "low", keepdims=0), node("Clip", "image low")),
        (node("Relu", "weights", "w"), node("Transpose", "image", "x", perm=[0, 3, 1, 2]), node("Conv", "x w")),
    ],
)
def test_what_the_engine_is_built_for_is_constant(nodes: tuple[NodeProto, ...]) -> None:
    found = obstacles(graph(*nodes, weights=np.zeros((2, 3, 1, 1), np.float32)))
    operator = nodes[-1].op_type
    assert found == [f"the {operator} takes computed values where {operator} should have constants."]


def test_pools_give_no_indices() -> None:
    pool = helper.make_node("MaxPool", ["image"], ["y", "where"], "the MaxPool", kernel_shape=[2, 1])
    assert "the MaxPool gives indices." in obstacles(graph(pool))


@pytest.mark.parametrize(
    ("attributes", "fine"),
    [
        ({}, True),
        ({"mode": "linear", "coordinate_transformation_mode": "half_pixel"}, True),
        ({"mode": "cubic"}, False),
        ({"coordinate_transformation_mode": "tf_crop_and_resize"}, False),
    ],
)
def test_ways_to_resize(attributes: dict[str, str], fine: bool) -> None:
    resize = helper.make_node("Resize", ["image", "roi", "scales"], ["y"], "the Resize", **attributes)
    constants = {"roi": np.zeros(8, np.float32), "scales": np.array([1, 2, 2, 1], np.float32)}
    assert obstacles(graph(resize, **constants)) == ([] if fine else ["the Resize resizes in a way of its own."])
