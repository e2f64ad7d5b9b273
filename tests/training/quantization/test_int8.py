"""Fewer bits: what is quantized and how, what stays in float, and what that does to the maps."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType
from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from tiny_network import MAPS, WEIGHTED, tiny_images, tiny_network

from rstpm_edge.engine.int8_check import relative_error
from rstpm_edge.training.graph.compatibility import obstacles
from rstpm_edge.training.graph.session import open_graph, run_maps
from rstpm_edge.training.quantization import kept_in_float
from rstpm_edge.training.quantization.activation_ranges import collect_ranges
from rstpm_edge.training.quantization.fp16 import to_fp16
from rstpm_edge.training.quantization.int8 import quantize, tensors_with_ranges
from rstpm_edge.training.quantization.int8_weights import safe_weights, weighted_nodes
from rstpm_edge.training.quantization.integer_coverage import integer_share
from rstpm_edge.training.quantization.kept_in_float import Subject, Trial, blocks, keep_sensitive

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
    low, high = ranges["all values"][name]
    assert (low, high) == (values.min(), values.max())
    for method in ("percentile 99.99", "percentile 99.999", "entropy"):
        cut_low, cut_high = ranges[method][name]
        assert low <= cut_low < cut_high <= high
    assert ranges["percentile 99.99"][name][1] <= ranges["percentile 99.999"][name][1]


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


@pytest.mark.parametrize("symmetric", [False, True])
def test_weights_that_a_node_in_float_shares_stay(graph: onnx.ModelProto, ranges: Any, symmetric: bool) -> None:
    shared = onnx.ModelProto()
    shared.CopyFrom(graph)
    name = "student1/body/weight"
    body, head = (node for node in shared.graph.node if node.name in ("student1/body/Conv", "student1/head/Conv"))
    head.input[1] = name
    weights = {node: replace(one, values=one.values / 2) for node, one in safe_weights(shared).items()}
    small = quantize(shared, ranges["all values"], [body.name], symmetric=symmetric, weights=weights)
    onnx.checker.check_model(small, full_check=True)
    np.testing.assert_array_equal(constants(small)[name], constants(graph)[name])
    (kept,) = (node for node in small.graph.node if node.name == head.name)
    (moved,) = (node for node in small.graph.node if node.name == body.name)
    assert kept.input[1] == name
    assert moved.input[1] != name
    both = quantize(shared, ranges["all values"], [body.name, head.name], symmetric=symmetric)
    onnx.checker.check_model(both, full_check=True)
    open_graph(both)


def by_onnx_runtime(graph: onnx.ModelProto, ranges: Any, nodes: list[str], symmetric: bool) -> onnx.ModelProto:
    """What ONNX Runtime's own quantizer makes of a graph whose weights are as `safe_weights` has them."""
    copy = onnx.shape_inference.infer_shapes(graph)
    tensors = {tensor.name: tensor for tensor in copy.graph.initializer}
    overrides = {}
    for node in graph.graph.node:
        if node.name in nodes:
            weights = safe_weights(graph)[node.name]
            tensors[node.input[1]].CopyFrom(numpy_helper.from_array(weights.values, node.input[1]))
            overrides[node.input[1]] = [
                {"axis": weights.axis, "rmin": -127 * step, "rmax": 127 * step} for step in weights.steps
            ]
    data = {name: TensorData(lowest=low, highest=high) for name, (low, high) in ranges.items()}
    options: dict[str, Any] = {"TensorQuantOverrides": overrides}
    if symmetric:
        options |= {"ActivationSymmetric": True, "AddQDQPairToWeight": True, "QuantizeBias": False}
        options["OpTypesToExcludeOutputQuantization"] = ["Conv", "Gemm", "Clip", "Relu"]
    quantizer = QDQQuantizer(
        copy,
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QInt8 if symmetric else QuantType.QUInt8,
        tensors_range=TensorsData(CalibrationMethod.MinMax, data),
        nodes_to_quantize=[*nodes, *(node.name for node in graph.graph.node if node.op_type in ("Clip", "Relu"))],
        nodes_to_exclude=[],
        op_types_to_quantize=["Conv", "Gemm", "Clip", "Relu"],
        extra_options=options,
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    made: onnx.ModelProto = quantizer.model.model
    made.ir_version = graph.ir_version
    return made


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("nodes", [WEIGHTED, WEIGHTED[:1], WEIGHTED[1:3], WEIGHTED[1::2]])
def test_it_is_what_onnx_runtime_s_quantizer_writes(
    graph: onnx.ModelProto, ranges: Any, nodes: list[str], symmetric: bool
) -> None:
    ours = quantize(graph, ranges["percentile 99.99"], nodes, symmetric=symmetric)
    theirs = by_onnx_runtime(graph, ranges["percentile 99.99"], nodes, symmetric)

    def operators(made: onnx.ModelProto) -> Counter[str]:
        return Counter(node.op_type for node in made.graph.node)

    def stored(made: onnx.ModelProto) -> Counter[Any]:
        return Counter((str(value.dtype), value.tobytes()) for value in constants(made).values())

    assert operators(ours) == operators(theirs)
    assert stored(ours) == stored(theirs)
    for mine, other in zip(maps(ours), maps(theirs), strict=True):
        np.testing.assert_array_equal(mine, other)


def test_a_bias_that_is_large_beside_its_weights_fits_into_32_bits(graph: onnx.ModelProto, ranges: Any) -> None:
    """As that of a channel that has died: its steps would be too small to count to it."""
    dead = onnx.ModelProto()
    dead.CopyFrom(graph)
    for tensor in dead.graph.initializer:
        if tensor.name == "student1/body/weight":
            weights = numpy_helper.to_array(tensor).copy()
            weights[2] *= 1e-12
            tensor.CopyFrom(numpy_helper.from_array(weights, tensor.name))
    small = quantize(dead, ranges["all values"], WEIGHTED)
    assert relative_error(maps(dead), maps(small)) < 0.1
    values = constants(small)
    counts, steps = values["student1/body/bias_quantized"], values["student1/body/bias_scale"]
    np.testing.assert_allclose(counts * steps.astype(np.float64), values.get("student1/body/bias", 0.1), rtol=1e-3)


def test_constants_that_two_nodes_share_are_stored_for_each() -> None:
    rng = np.random.default_rng(0)
    values = {"w": rng.standard_normal((4, 4, 1, 1)), "b": rng.standard_normal(4)}
    nodes = [
        helper.make_node("Conv", [data, "w", "b"], [output], f"{output}/Conv")
        for data, output in (("x", "y"), ("y", "z"))
    ]
    port = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4, 8, 8]) for name in ("x", "z")]
    stored = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in values.items()]
    nodes = [helper.make_node("Relu", ["x"], ["relu"], "Relu"), *nodes]
    nodes[1].input[0] = "relu"
    model = helper.make_model(
        helper.make_graph(nodes, "g", port[:1], port[1:], stored),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    wide = {name: (np.float32(-9), np.float32(9)) for name in ("relu", "y", "z")}
    small = quantize(model, wide, weighted_nodes(model))
    onnx.checker.check_model(small, full_check=True)
    data = {"x": rng.standard_normal((1, 4, 8, 8)).astype(np.float32)}
    (before,), (after,) = (
        onnxruntime.InferenceSession(m.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, data)
        for m in (model, small)
    )
    assert np.corrcoef(before.ravel(), after.ravel())[0, 1] > 0.99


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
    return Subject(graph, MAPS, IMAGES[:4], maps, symmetric=False, weights=safe_weights(graph))


def keep(graph: onnx.ModelProto, ranges: Any, share: float, **keywords: Any) -> tuple[tuple[str, ...], Trial, Subject]:
    """Aim at a share of the error of the whole graph in 8 bits; gives what is kept, what is left, and the subject."""
    harmed = subject(graph)
    everything = harmed.quantized(ranges, WEIGHTED)
    options = {"seconds": 60.0, **keywords}
    return *keep_sensitive(harmed, ranges, everything, target=share * everything.error, **options), harmed


def test_what_does_most_harm_stays_in_float() -> None:
    graph = tiny_network(loud=300.0)
    ranges = collect_ranges(graph, tensors_with_ranges(graph), IMAGES)["all values"]
    assert list(blocks(graph)) == ["teacher1/stem", "teacher1/deep", "student1/body", "student1/head"]
    kept, left, harmed = keep(graph, ranges, 1 / 3)
    assert set(kept) == {"teacher1/deep", "student1/body"}  # before and behind the loud channel
    assert left.error <= harmed.quantized(ranges, WEIGHTED).error / 3
    expected = harmed.quantized(ranges, ["teacher1/stem/Conv", "student1/head/Conv"])
    assert (left.error, left.graph) == (expected.error, expected.graph)


def test_the_search_tells_how_far_it_is() -> None:
    graph = tiny_network(loud=300.0)
    ranges = collect_ranges(graph, tensors_with_ranges(graph), IMAGES)["all values"]
    told: list[tuple[int, int]] = []
    keep(graph, ranges, 1e-6, progress=lambda *piece: told.append(piece))
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert {total for _, total in told} == {6}  # four blocks, of which two may stay in float
    assert told[:4] == [(1, 6), (2, 6), (3, 6), (4, 6)]
    assert told[-1] == (6, 6)


def test_where_nothing_does_harm_nothing_stays(graph: onnx.ModelProto, ranges: Any) -> None:
    kept, left, harmed = keep(graph, ranges["all values"], 1.0)
    assert (kept, left.error) == ((), harmed.quantized(ranges["all values"], WEIGHTED).error)


def test_at_most_half_stays_and_the_search_ends(graph: onnx.ModelProto, ranges: Any) -> None:
    kept, left, harmed = keep(graph, ranges["all values"], 0.0)
    assert len(kept) == 2
    assert left.error > 0
    kept, left, harmed = keep(graph, ranges["all values"], 0.0, seconds=0.0)
    assert (kept, left.error) == ((), harmed.quantized(ranges["all values"], WEIGHTED).error)


def test_a_search_that_ends_early_gives_the_graph_of_what_it_keeps(
    graph: onnx.ModelProto, ranges: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only one block is measured, and without it the error would still be far off."""
    seconds = iter([0.0, 0.0, 100.0])
    monkeypatch.setattr(kept_in_float, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    kept, left, harmed = keep(graph, ranges["all values"], 0.0)
    assert kept == ("teacher1/stem",)
    assert left.graph == harmed.quantized(ranges["all values"], WEIGHTED[1:]).graph


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
