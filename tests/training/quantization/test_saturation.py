"""Products of 8-bit integers that some processors add in 16 bits: weights for which they fit, and what does not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tiny_network import MAPS, WEIGHTED, tiny_images
from workplace import command_line

from rstpm_edge import Detector
from rstpm_edge import cpu as processor
from rstpm_edge.engine import onnx_runtime
from rstpm_edge.engine.int8_check import open_exactly, probe, relative_error
from rstpm_edge.errors import ModelError
from rstpm_edge.training.graph.session import open_graph, run_maps
from rstpm_edge.training.quantization.activation_ranges import collect_ranges
from rstpm_edge.training.quantization.int8 import quantize, tensors_with_ranges
from rstpm_edge.training.quantization.int8_weights import plain_weights, safe_weights, weighted_nodes
from rstpm_edge.training.quantization.saturation import without_saturation

HASWELL = "processor\t: 0\nflags\t\t: fpu sse avx avx2 fma\n"
ZEN4 = "processor\t: 0\nflags\t\t: fpu sse avx2 avx512f avx512_vnni\n"
IMAGES = tiny_images(12)


@pytest.fixture(scope="module")
def ranges(graph: onnx.ModelProto) -> Any:
    return collect_ranges(graph, tensors_with_ranges(graph), IMAGES)["all values"]


@pytest.fixture
def cpuinfo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes Linux describe another processor."""

    def describe(text: str) -> None:
        (tmp_path / "cpuinfo").write_text(text)
        monkeypatch.setattr(processor, "_CPUINFO", tmp_path / "cpuinfo")

    return describe


def rounded(weights: NDArray[np.float32], limits: NDArray[np.float32]) -> NDArray[np.int64]:
    steps = (limits / 127).reshape(-1, *[1] * (weights.ndim - 1))
    return np.round(weights / steps).astype(np.int64)


def worst_sums(weights: NDArray[np.int64]) -> tuple[int, int]:
    """The lowest and highest sum of two products of neighbours along axis 1 with activations of up to 255."""
    first, second = 255 * weights[:, 0::2], 255 * weights[:, 1::2]
    return int((np.minimum(first, 0) + np.minimum(second, 0)).min()), int((np.maximum(first, 0) + second.clip(0)).max())


def quantized_weights(graph: onnx.ModelProto) -> list[NDArray[np.int64]]:
    """Those of convolutions with more than one input channel for each output."""
    stored = [tensor for tensor in graph.graph.initializer if tensor.data_type == TensorProto.INT8]
    found = [numpy_helper.to_array(tensor).astype(np.int64) for tensor in stored if len(tensor.dims) == 4]
    return [weights for weights in found if weights.shape[1] > 1]


@pytest.mark.parametrize("shape", [(16, 64, 1, 1), (8, 6, 3, 3)])
def test_neighbours_fit_into_16_bits(shape: tuple[int, ...]) -> None:
    weights = np.random.default_rng(0).standard_t(4, shape).astype(np.float32)
    largest = np.abs(weights).reshape(len(weights), -1).max(axis=1)
    fits = np.iinfo(np.int16)
    low, high = worst_sums(rounded(weights, largest))
    assert low < fits.min or high > fits.max  # as they are, they do not
    fitting, limits = without_saturation(weights, pairs=True)
    low, high = worst_sums(rounded(fitting, limits))
    assert fits.min <= low < high <= fits.max
    assert np.abs(rounded(fitting, limits)).max() <= 127

    def error(values: NDArray[np.float32], limits: NDArray[np.float32]) -> float:
        steps = (limits / 127).reshape(-1, 1, 1, 1)
        return float(np.square(rounded(values, limits) * steps - weights).sum())

    # Not far from all 8 bits, and less than half of what 7 bits do.
    assert error(fitting, limits) < min(
        3 * error(weights, largest), 0.6 * error(*without_saturation(weights, pairs=False))
    )


def test_without_known_neighbours_no_two_are_too_large() -> None:
    weights = np.random.default_rng(0).standard_normal((8, 3, 3, 3)).astype(np.float32)
    same, limits = without_saturation(weights, pairs=False)
    assert same is weights
    assert np.abs(rounded(same, limits)).max() == 64


def test_channels_of_zeros_and_of_one_large_pair() -> None:
    weights = np.zeros((3, 4, 1, 1), np.float32)
    weights[1, :2, 0, 0] = 1, 1
    weights[2, :, 0, 0] = -1, 1, 0.5, -0.25  # of two signs: they fit
    fitting, limits = without_saturation(weights, pairs=True)
    assert not fitting[0].any()
    assert np.isfinite(limits).all()
    low, high = worst_sums(rounded(fitting, limits))
    assert -32768 <= low < high <= 32767
    np.testing.assert_array_equal(fitting[2], weights[2])
    assert limits[2] == 1
    steps = (limits / 127).reshape(-1, 1, 1, 1)
    np.testing.assert_allclose(rounded(fitting, limits) * steps, weights, atol=0.02)


@pytest.mark.parametrize("symmetric", [False, True])
def test_what_is_exported_saturates_nowhere(graph: onnx.ModelProto, ranges: Any, symmetric: bool) -> None:
    small = quantize(graph, ranges, WEIGHTED, symmetric=symmetric)
    if symmetric:  # there weights stay floats, in front of their quantizers
        values = {tensor.name: numpy_helper.to_array(tensor) for tensor in small.graph.initializer}
        found = [
            rounded(values[f"{name}/weight"], 127 * values[f"{name}/weight_scale"])
            for name in ("teacher1/stem", "student1/body", "student1/head")
        ]
    else:
        found = quantized_weights(small)
    assert len(found) == 3
    for weights in found:
        if weights.shape[1] % 2:
            assert np.abs(weights).max() == 64
        else:
            low, high = worst_sums(weights)
            assert -32768 <= low < high <= 32767
            assert np.abs(weights).max() > 64


def test_those_that_stay_in_float_stay_as_they_were(graph: onnx.ModelProto, ranges: Any) -> None:
    small = quantize(graph, ranges, WEIGHTED[:1], weights=safe_weights(graph))
    before, after = ({t.name: t for t in g.graph.initializer} for g in (graph, small))
    for name in ("student1/body/weight", "student1/head/weight", "teacher1/deep/weight"):
        assert before[name].raw_data == after[name].raw_data


def test_products_of_matrices_have_7_bits() -> None:
    rng = np.random.default_rng(0)
    constants = {"a/weight": rng.standard_normal((8, 6)), "b/weight": rng.standard_normal((5, 8))}
    nodes = [
        helper.make_node("Gemm", ["x", "a/weight"], ["y"], "a/Gemm", transB=1),
        helper.make_node("Gemm", ["y", "b/weight"], ["z"], "b/Gemm", transB=1),
    ]
    port = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [2, size]) for n, size in (("x", 6), ("z", 5))]
    made = helper.make_graph(
        nodes, "g", port[:1], port[1:], [numpy_helper.from_array(v.astype(np.float32), n) for n, v in constants.items()]
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    assert weighted_nodes(model) == ["a/Gemm", "b/Gemm"]
    wide = {name: (np.float32(-9), np.float32(9)) for name in ("x", "y", "z")}
    small = quantize(model, wide, ["a/Gemm", "b/Gemm"])
    stored = [numpy_helper.to_array(t) for t in small.graph.initializer if len(t.dims) == 2]
    assert len(stored) == 2
    assert {int(np.abs(weights.astype(int)).max()) for weights in stored} == {64}


# What is computed here


def saturating(graph: onnx.ModelProto, ranges: Any) -> onnx.ModelProto:
    """As files were until they saturated nowhere."""
    return quantize(graph, ranges, WEIGHTED, weights=plain_weights(graph))


def test_floats_stand_for_integers(graph: onnx.ModelProto, ranges: Any) -> None:
    """What the check compares with is right on any processor; on this one, what is exported is close to it."""
    small = quantize(graph, ranges, WEIGHTED)
    exact = run_maps(open_exactly(small.SerializeToString(), 1), MAPS, IMAGES)
    assert relative_error(exact, run_maps(open_graph(small), MAPS, IMAGES)) < 0.05
    old = saturating(graph, ranges)
    exact = run_maps(open_exactly(old.SerializeToString(), 1), MAPS, IMAGES)
    assert relative_error(run_maps(open_graph(graph), MAPS, IMAGES), exact) < 0.05


class Wrong:
    """An inference session on a processor that computes noise."""

    def __init__(self, inference: Any, share: float) -> None:
        self._inference, self._share = inference, share

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inference, name)

    def run(self, names: list[str], feed: dict[str, NDArray[np.uint8]]) -> list[NDArray[np.float32]]:
        rng = np.random.default_rng(1)
        maps = self._inference.run(names, feed)
        return [m + self._share * m.std() * rng.standard_normal(m.shape, np.float32) for m in maps]


@pytest.fixture
def int8(model_factory: Callable[..., Path]) -> Path:
    return model_factory(precision="int8")


def compute_wrongly(monkeypatch: pytest.MonkeyPatch, share: float) -> None:
    load = onnx_runtime.load
    monkeypatch.setattr(onnx_runtime, "load", lambda *model, **how: Wrong(load(*model, **how), share))


def test_what_is_computed_wrongly_is_refused(
    int8: Path, cpuinfo: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cpuinfo(HASWELL)
    assert Detector(int8, threads=1).info.precision == "int8"
    compute_wrongly(monkeypatch, 0.5)
    with pytest.raises(ModelError, match=r"computes the 8-bit model .* wrongly in ONNX Runtime: .*export --int8"):
        Detector(int8, threads=1)
    photo = tmp_path / "photo.png"
    cv2.imwrite(str(photo), np.full((64, 64, 3), 200, np.uint8))
    for command in (["infer", photo], ["info"], ["bench", "--runs", "2"]):
        told = command_line(*command, "--model", int8)
        assert (told.exit_code, told.stdout) == (2, "")
        assert told.stderr.startswith("Error: This processor computes the 8-bit model ")
        assert "use the FP32 file here." in told.stderr


@pytest.mark.parametrize(
    ("saturation_free", "noise", "wrong"),
    [(False, 0.1, False), (False, 0.3, True), (True, 0.3, False), (True, 1.0, True)],
)
def test_little_noise_is_rounding(
    model_factory: Callable[..., Path],
    cpuinfo: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    saturation_free: bool,
    noise: float,
    wrong: bool,
) -> None:
    path = model_factory(precision="int8", saturation_free=saturation_free)
    cpuinfo(HASWELL)
    compute_wrongly(monkeypatch, noise)
    if wrong:
        with pytest.raises(ModelError, match=r"40% is allowed" if saturation_free else r"17% is allowed"):
            Detector(path, threads=1)
    else:
        assert Detector(path, threads=1).info.saturation_free is saturation_free


def test_only_files_in_8_bits_where_there_are_no_dot_products(
    int8: Path, model: Path, cpuinfo: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    compute_wrongly(monkeypatch, 0.5)
    cpuinfo(HASWELL)
    Detector(model, threads=1)
    cpuinfo(ZEN4)
    Detector(int8, threads=1)


def test_the_probe_is_always_the_same_and_full_of_contrast() -> None:
    for size in ((64, 64), (100, 37), (1, 1)):
        image = probe(*size)
        assert (image.shape, image.dtype) == ((*size, 3), np.uint8)
        np.testing.assert_array_equal(image, probe(*size))
    image = probe(64, 96)
    assert (image.min(), image.max()) == (0, 255)
    assert image.std() > 60
