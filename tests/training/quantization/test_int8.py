"""Fewer bits: what is quantized and how, what stays in float, and what that does to the maps."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper
from tiny_network import MAPS, WEIGHTED, tiny_images, tiny_network

from rstpm_edge.engine.int8_check import relative_error
from rstpm_edge.training.graph.compatibility import obstacles
from rstpm_edge.training.graph.session import open_graph, run_maps
from rstpm_edge.training.quantization.activation_ranges import collect_ranges
from rstpm_edge.training.quantization.fp16 import to_fp16
from rstpm_edge.training.quantization.int8 import quantize, safe_weights, tensors_with_ranges, weighted_nodes
from rstpm_edge.training.quantization.integer_coverage import integer_share
from rstpm_edge.training.quantization.mixed_precision import Subject, blocks, keep_sensitive

IMAGES = tiny_images(12)


@pytest.fixture(scope="module")
def ranges(graph: onnx.ModelProto) -> Any:
    return collect_ranges(graph, tensors_with_ranges(graph), IMAGES)


def maps(graph: onnx.ModelProto) -> list[NDArray[np.float32]]:
    return run_maps(open_graph(graph), MAPS, IMAGES)


def constants(graph: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}


# Ranges


def test_ranges_are_those_of_the_images(graph: onnx.ModelProto, ranges: Any) -> None:
    observed = onnx.ModelProto()
    observed.CopyFrom(graph)
    name = "student1/head/Conv_output"
    observed.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    values = np.concatenate([open_graph(observed).run([name], {"image": image[None]})[0] for image in IMAGES])
    low, high = ranges["all values"][name].range_value
    assert (low, high) == (values.min(), values.max())
    for method in ("percentile 99.99", "percentile 99.999", "entropy"):
        cut_low, cut_high = ranges[method][name].range_value
        assert low <= cut_low < cut_high <= high
    assert ranges["percentile 99.99"][name].range_value[1] <= ranges["percentile 99.999"][name].range_value[1]


def test_nothing_is_printed(graph: onnx.ModelProto, capfd: pytest.CaptureFixture[str]) -> None:
    found = collect_ranges(graph, tensors_with_ranges(graph), IMAGES[:2])
    quantize(graph, found["entropy"], WEIGHTED)
    assert capfd.readouterr() == ("", "")


def test_progress_counts_the_images(graph: onnx.ModelProto) -> None:
    seen: list[int] = []
    collect_ranges(graph, tensors_with_ranges(graph), IMAGES[:3], progress=seen.append)
    assert seen == [1, 2, 3]


# INT8


def test_convolutions_are_quantized_per_channel(graph: onnx.ModelProto, ranges: Any) -> None:
    assert weighted_nodes(graph) == WEIGHTED
    small = quantize(graph, ranges["all values"], WEIGHTED)
    onnx.checker.check_model(small, full_check=True)
    values, producers = constants(small), {name: node for node in small.graph.node for name in node.output}
    for node in small.graph.node:
        if node.op_type != "Conv":
            continue
        data, weights, bias = (producers[name] for name in node.input)
        assert [item.op_type for item in (data, weights, bias)] == ["DequantizeLinear"] * 3
        stored, scales = values[weights.input[0]], values[weights.input[1]]
        assert stored.dtype == np.int8
        assert scales.shape == (len(stored),)
        assert len(set(scales.tolist())) == len(stored)  # each channel its own
        assert onnx.helper.get_attribute_value(weights.attribute[0]) == 0
        assert values[data.input[2]].dtype == np.uint8
        assert values[bias.input[0]].dtype == np.int32


def test_the_rest_stays_as_it_was(graph: onnx.ModelProto, ranges: Any) -> None:
    small = quantize(graph, ranges["all values"], WEIGHTED)
    for before, after in zip(
        (*graph.graph.input, *graph.graph.output), (*small.graph.input, *small.graph.output), strict=True
    ):
        assert before.SerializeToString() == after.SerializeToString()
    assert [(entry.domain, entry.version) for entry in small.opset_import] == [("", 17)]
    assert small.ir_version == 8
    quantizers = {name for node in small.graph.node if node.op_type.endswith("Linear") for name in node.output}
    for node in small.graph.node:
        if node.name.split("/")[0] in MAPS and not node.name.endswith("/Sub"):
            assert not quantizers.intersection(node.input), node.name
    before = graph.SerializeToString()
    quantize(graph, ranges["all values"], WEIGHTED)
    assert graph.SerializeToString() == before  # what was given is not changed


def test_maps_move_little(graph: onnx.ModelProto, ranges: Any) -> None:
    before = maps(graph)
    for method, of_method in ranges.items():
        error = relative_error(before, maps(quantize(graph, of_method, WEIGHTED)))
        assert 0.0005 < error < (0.3 if method == "entropy" else 0.1), method


def test_some_may_stay_in_float(graph: onnx.ModelProto, ranges: Any) -> None:
    small = quantize(graph, ranges["all values"], WEIGHTED[:1])
    stored = Counter(tensor.data_type for tensor in small.graph.initializer if len(tensor.dims) == 4)
    assert stored == {TensorProto.INT8: 1, TensorProto.FLOAT: 3}
    none = quantize(graph, ranges["all values"], [])
    for one, other in zip(maps(none), maps(graph), strict=True):
        np.testing.assert_array_equal(one, other)


def test_symmetric_is_what_tensorrt_takes(graph: onnx.ModelProto, ranges: Any) -> None:
    small = quantize(graph, ranges["all values"], WEIGHTED, symmetric=True)
    onnx.checker.check_model(small, full_check=True)
    assert obstacles(small) == []
    values = constants(small)
    around = [node for node in small.graph.node if node.op_type.endswith("Linear")]
    assert len(around) == 2 * 2 * len(WEIGHTED)  # a pair before each input of each convolution
    for node in around:
        assert values[node.input[2]].dtype == np.int8
        assert not values[node.input[2]].any()
    assert relative_error(maps(graph), maps(small)) < 0.1
    assert obstacles(quantize(graph, ranges["all values"], WEIGHTED)) == [
        "TensorRT takes signed integers with zero at 0 only: `rstpm-edge export --int8 --symmetric`."
    ]


# The share of integers


def test_the_share_of_integers(graph: onnx.ModelProto, ranges: Any) -> None:
    work = [16 * 16 * 8 * 27, 16 * 16 * 8 * 9, 16 * 16 * 8 * 8, 16 * 16 * 8 * 8]  # multiplications of the convolutions
    assert integer_share(graph).operators == integer_share(graph).multiplications == 0
    for count in (1, 3, 4):
        small = quantize(graph, ranges["all values"], WEIGHTED[:count])
        share = integer_share(small)
        others = [node for node in small.graph.node if not node.op_type.endswith("Linear")]
        assert share.operators == pytest.approx(count / len(others))
        assert share.multiplications == pytest.approx(sum(work[:count]) / sum(work))


def test_onnx_runtime_computes_that_share_in_integers(graph: onnx.ModelProto, ranges: Any, tmp_path: Path) -> None:
    small = quantize(graph, ranges["all values"], WEIGHTED[1:])
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(small.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found = Counter(node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node)
    assert found["QLinearConv"] == 3
    assert found["Conv"] + found["FusedConv"] == 1


# What stays in float


def test_the_relative_error_ignores_scale_and_shift() -> None:
    rng = np.random.default_rng(0)
    before = [rng.standard_normal((4, 5, 6), np.float32) for _ in range(2)]
    assert relative_error(before, [3 * m + 7 for m in before]) == pytest.approx(0, abs=1e-3)
    other = [rng.standard_normal((4, 5, 6), np.float32) for _ in range(2)]
    assert relative_error(before, other) == pytest.approx(1, abs=0.05)
    assert relative_error(before, [np.zeros_like(m) for m in before]) == 1
    noisy = [m + np.float32(0.1) * n for m, n in zip(before, other, strict=True)]
    assert relative_error(before, noisy) == pytest.approx(0.1, abs=0.02)


def subject(graph: onnx.ModelProto) -> Subject:
    maps = run_maps(open_graph(graph), MAPS, IMAGES[:4])
    return Subject(graph, MAPS, IMAGES[:4], maps, symmetric=False, safe=safe_weights(graph))


def test_what_does_most_harm_stays_in_float() -> None:
    graph = tiny_network(loud=300.0)
    ranges = collect_ranges(graph, tensors_with_ranges(graph), IMAGES)["all values"]
    assert list(blocks(graph)) == ["teacher1/stem", "teacher1/deep", "student1/body", "student1/head"]
    harmed = subject(graph)
    everything = harmed.error(ranges, WEIGHTED)
    kept, error = keep_sensitive(harmed, ranges, target=everything / 3, seconds=60)
    assert set(kept) == {"teacher1/deep", "student1/body"}  # before and behind the loud channel
    assert error <= everything / 3
    assert error == harmed.error(ranges, ["teacher1/stem/Conv", "student1/head/Conv"])


def test_the_search_tells_how_far_it_is() -> None:
    graph = tiny_network(loud=300.0)
    ranges = collect_ranges(graph, tensors_with_ranges(graph), IMAGES)["all values"]
    told: list[tuple[int, int]] = []
    keep_sensitive(subject(graph), ranges, target=0.001, seconds=60, progress=lambda *piece: told.append(piece))
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert {total for _, total in told} == {6}  # four blocks, of which two may stay in float
    assert told[:4] == [(1, 6), (2, 6), (3, 6), (4, 6)]
    assert told[-1] == (6, 6)


def test_where_nothing_does_harm_nothing_stays(graph: onnx.ModelProto, ranges: Any) -> None:
    kept, error = keep_sensitive(subject(graph), ranges["all values"], target=0.1, seconds=60)
    assert (kept, error) == ((), subject(graph).error(ranges["all values"], WEIGHTED))


def test_at_most_half_stays_and_the_search_ends(graph: onnx.ModelProto, ranges: Any) -> None:
    kept, error = keep_sensitive(subject(graph), ranges["all values"], target=0.0, seconds=60)
    assert len(kept) == 2
    assert error > 0
    kept, error = keep_sensitive(subject(graph), ranges["all values"], target=0.0, seconds=0.0)
    assert (kept, error) == ((), subject(graph).error(ranges["all values"], WEIGHTED))


# FP16


def test_half_has_16_bits_from_the_first_convolution_to_the_distances(graph: onnx.ModelProto) -> None:
    half = to_fp16(graph)
    onnx.checker.check_model(half, full_check=True)
    assert obstacles(half) == []
    inferred = onnx.shape_inference.infer_shapes(half)
    kinds = {value.name: value.type.tensor_type.elem_type for value in inferred.graph.value_info}
    for node in half.graph.node:
        where = node.name.split("/")[0]
        for name in node.output:
            if node.op_type != "Cast" and name in kinds:
                half_precision = where in ("teacher1", "student1")
                assert kinds[name] == (TensorProto.FLOAT16 if half_precision else TensorProto.FLOAT), node.name
    weights = [tensor for tensor in half.graph.initializer if len(tensor.dims) == 4]
    assert {tensor.data_type for tensor in weights} == {TensorProto.FLOAT16}
    assert len(weights) == 4
    casts = [node for node in half.graph.node if node.op_type == "Cast"]
    assert len(casts) == 1 + 1 + 2  # the image, into half precision, and both features out of it
    for before, after in zip(
        (*graph.graph.input, *graph.graph.output), (*half.graph.input, *half.graph.output), strict=True
    ):
        assert before.SerializeToString() == after.SerializeToString()
    assert relative_error(maps(graph), maps(half)) < 0.01


def test_sums_of_squares_do_not_overflow() -> None:
    graph = tiny_network()
    for tensor in graph.graph.initializer:
        if tensor.name == "student1/head/weight":
            tensor.CopyFrom(numpy_helper.from_array(1000 * numpy_helper.to_array(tensor), tensor.name))
    before = maps(graph)
    assert max(m.max() for m in before) > 65504
    assert relative_error(before, maps(to_fp16(graph))) < 0.01
