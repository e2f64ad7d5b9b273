"""Execution providers: their names, our defaults, and what ONNX Runtime is told. Those not installed are faked."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from bundles import ModelFactory
from numpy.typing import NDArray
from workplace import command_line

from rstpm_edge.cpu import usable_cores
from rstpm_edge.detector import Detector
from rstpm_edge.engine import onnx_runtime, providers
from rstpm_edge.engine.providers import available_providers, choose
from rstpm_edge.errors import OutputError, ProviderError, UsageError

Image = NDArray[np.uint8]
Given = list[tuple[str, dict[str, Any]]]


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Given]]:
    """Makes ONNX Runtime look like a build with these providers; returns what its sessions are given from then on.

    The sessions run on the CPU and say that they do not.
    """

    real = onnxruntime.InferenceSession

    def make(*names: str, version: str = onnxruntime.__version__) -> list[Given]:
        full = [f"{name}ExecutionProvider" for name in (*names, "CPU")]
        given: list[Given] = []

        class Fake(real):  # type: ignore[misc,valid-type]
            def __init__(self, source: Any, options: Any, *, providers: Given, enable_fallback: bool) -> None:
                given.append(providers)
                self.names = [name for name, _ in providers]
                super().__init__(source, options, providers=["CPUExecutionProvider"])

            def get_providers(self) -> list[str]:
                return self.names

        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: full)
        monkeypatch.setattr(onnxruntime, "InferenceSession", Fake)
        monkeypatch.setattr(onnxruntime, "__version__", version)
        return given

    return make


def without_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "has_openvino", lambda: False)


# Names


@pytest.mark.parametrize(
    "providers",
    [None, "cpu", ["cpu"], ["CPUExecutionProvider"], "CPU", [("cpu", {})], [("CPUExecutionProvider", {})]],
)
def test_providers_go_by_short_and_long_names(model: Path, providers: Any) -> None:
    assert Detector(model, providers=providers).providers == ("CPUExecutionProvider",)


@pytest.mark.parametrize("providers", ["tpu", ["NoSuchExecutionProvider"], [("nope", {})], ["cpu", "nope"]])
def test_an_unknown_provider_names_those_that_exist(model: Path, providers: Any) -> None:
    with pytest.raises(ProviderError, match=r"no execution provider '.*', only .*cpu\.$"):
        Detector(model, providers=providers)


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("cuda", "install onnxruntime-gpu in place of onnxruntime"),
        ("CUDAExecutionProvider", "install onnxruntime-gpu in place of onnxruntime"),
        ("tensorrt", "for a Jetson, docs/jetson.md says where to find it"),
        ("openvino", "pip install openvino"),
    ],
)
def test_a_provider_that_is_not_installed_comes_with_advice(
    model: Path, monkeypatch: pytest.MonkeyPatch, name: str, advice: str
) -> None:
    without_openvino(monkeypatch)
    with pytest.raises(ProviderError) as caught:
        Detector(model, providers=name)
    assert advice in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    run = command_line("infer", "none.png", "--model", model, "--provider", name)
    assert (run.exit_code, run.stdout) == (2, "")
    assert advice in run.stderr


@pytest.mark.extra
def test_what_is_installed(build: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    build("Tensorrt", "CUDA", "Azure")
    assert available_providers() == ["tensorrt", "cuda", "openvino", "azure", "cpu"]
    build("OpenVINO")
    assert available_providers() == ["openvino", "cpu"]
    without_openvino(monkeypatch)
    build("CUDA")
    assert available_providers() == ["cuda", "cpu"]


def test_a_provider_that_does_not_start(
    model: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    names = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: names)
    message = r"cannot be loaded with cuda: .*libonnxruntime_providers_cuda\.so: cannot open shared object file.*\.$"
    with pytest.raises(ProviderError, match=message):
        Detector(model, providers=["cuda", "cpu"])
    assert capfd.readouterr().out == ""


def test_why_a_provider_did_not_start(model: Path, build: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    build("Tensorrt", "CUDA")

    def fail(*arguments: Any, **keywords: Any) -> Any:
        where = "/onnxruntime_src/onnxruntime/python/onnxruntime_pybind_state.cc:729 void onnxruntime::Register(A&, B)"
        raise RuntimeError(f"{where} Please install TensorRT.\nmore")

    monkeypatch.setattr(onnxruntime, "InferenceSession", fail)
    with pytest.raises(
        ProviderError, match=r"loaded with tensorrt: .*libonnxruntime_providers_tensorrt\.so: cannot open"
    ):
        Detector(model, providers="tensorrt")
    monkeypatch.setattr(onnx_runtime.ctypes, "CDLL", lambda name: None)  # all libraries are there
    with pytest.raises(ProviderError, match=r"cannot be loaded with tensorrt: Please install TensorRT\.$"):
        Detector(model, providers="tensorrt")
    build("CUDA")
    monkeypatch.setattr(onnxruntime.InferenceSession, "get_providers", lambda self: ["CPUExecutionProvider"])
    with pytest.raises(ProviderError, match="started: its driver does not work, or there is no such device"):
        Detector(model, providers="cuda")


def test_cuda_is_found_among_pythons_packages(
    model: Path, build: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    build("CUDA", "Tensorrt")
    calls: list[str] = []
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: calls.append("loaded") or print("Failed to load"))
    monkeypatch.setattr(onnx_runtime.importlib.util, "find_spec", lambda name: object())
    Detector(model, providers="cpu")
    assert calls == []
    for provider in ("cuda", "tensorrt", "CUDAExecutionProvider"):
        Detector(model, providers=provider)
    assert len(calls) == 3
    monkeypatch.setattr(onnx_runtime.importlib.util, "find_spec", lambda name: None)
    Detector(model, providers="cuda")
    monkeypatch.delattr(onnxruntime, "preload_dlls")  # before 1.21
    Detector(model, providers="cuda")
    assert len(calls) == 3
    assert capfd.readouterr().out == ""


# What ONNX Runtime is told


def test_cuda_computes_in_full_precision_unless_asked(model: Path, bad: Image, build: Any) -> None:
    given = build("CUDA")
    detector = Detector(model, providers="cuda")
    assert given == [[("CUDAExecutionProvider", {"use_tf32": "0"})]]
    assert (detector.providers, detector.precision) == (("CUDAExecutionProvider",), "f32")
    assert detector(bad).is_anomalous
    assert Detector(model, providers=[("cuda", {"precision": "tf32", "device_id": 1})]).precision == "tf32"
    assert given[1] == [("CUDAExecutionProvider", {"use_tf32": "1", "device_id": 1})]
    Detector(model, providers=["cuda", "cpu"])
    assert given[2] == [("CUDAExecutionProvider", {"use_tf32": "0"}), ("CPUExecutionProvider", {})]
    given = build("CUDA", version="1.17.3")  # which does not know the option
    Detector(model, providers="cuda")
    assert given == [[("CUDAExecutionProvider", {})]]


def test_tensorrt_gets_one_profile_and_writes_nothing(
    model: Path, build: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = build("Tensorrt", "CUDA")
    Detector(model, providers="tensorrt")
    ((name, options), second) = given[0]
    assert name == "TensorrtExecutionProvider"
    assert second == ("CUDAExecutionProvider", {})  # for what TensorRT leaves out
    assert options == {
        "trt_fp16_enable": "0",
        "trt_int8_enable": "0",
        "trt_profile_min_shapes": "image:1x64x64x3",
        "trt_profile_opt_shapes": "image:1x64x64x3",
        "trt_profile_max_shapes": "image:8x64x64x3",
        "trt_engine_cache_enable": "0",
        "trt_timing_cache_enable": "0",
    }


@pytest.mark.parametrize(("precision", "f16", "int8"), [("f32", "0", "0"), ("f16", "1", "0"), ("int8", "1", "1")])
def test_precisions_of_tensorrt(model: Path, build: Any, precision: str, f16: str, int8: str) -> None:
    given = build("Tensorrt")
    own = {"precision": precision, "batch": "3", "trt_builder_optimization_level": 5, "trt_profile_opt_shapes": "mine"}
    detector = Detector(model, providers=[("tensorrt", own)])
    ((_, options),) = given[0]
    assert (options["trt_fp16_enable"], options["trt_int8_enable"]) == (f16, int8)
    assert options["trt_profile_max_shapes"] == "image:3x64x64x3"
    assert options["trt_builder_optimization_level"] == 5
    assert options["trt_profile_opt_shapes"] == "mine"  # what the user says holds
    assert not {"precision", "batch"} & set(options)
    assert detector.precision == precision


def test_engines_of_tensorrt_are_kept_where_the_user_says(model: Path, build: Any, tmp_path: Path) -> None:
    given = build("Tensorrt", "CUDA")
    folder = tmp_path / "deep" / "engines"
    Detector(model, providers="tensorrt", engine_cache=folder)
    options = given[0][0][1]
    own = folder / sha256(model.read_bytes()).hexdigest()
    assert own.is_dir()
    for kind in ("engine", "timing"):
        assert options[f"trt_{kind}_cache_enable"] == "1"
        assert options[f"trt_{kind}_cache_path"] == str(own)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="Cannot create the folder"):
        Detector(model, providers="tensorrt", engine_cache=tmp_path / "file" / "engines")
    with pytest.raises(UsageError, match="no engines of cuda to keep: leave engine_cache out"):
        Detector(model, providers="cuda", engine_cache=folder)
    with pytest.raises(UsageError, match="no engines of tensorrt to keep"):  # its own options do that
        Detector(model, providers="TensorrtExecutionProvider", engine_cache=folder)


def test_a_model_never_runs_the_engine_of_another_one(
    model: Path, model_factory: ModelFactory, build: Any, tmp_path: Path
) -> None:
    """ONNX Runtime takes an engine for that of any model with the same graph, whatever its weights."""
    given = build("Tensorrt")
    for file in (model, model_factory("other.onnx", scale=1 / 64), model):
        Detector(file, providers="tensorrt", engine_cache=tmp_path / "engines")
    first, other, again = (options["trt_engine_cache_path"] for ((_, options),) in given)
    assert first == again != other


def test_batches_above_the_profile_are_split(model: Path, build: Any, bad: Image, good: Image) -> None:
    build("Tensorrt")
    images = [bad, good, bad, good, bad, good, bad]
    expected = [result.score for result in Detector(model).predict_batch(images)]
    detector = Detector(model, providers=[("tensorrt", {"batch": 3})])
    seen: list[int] = []
    inference = detector._slot.model.running().session._inference
    run = inference.run

    def noting(names: Any, feed: dict[str, Image]) -> Any:
        seen.append(len(feed["image"]))
        return run(names, feed)

    inference.run = noting
    assert [result.score for result in detector.predict_batch(images, batch_size=7)] == expected
    assert seen == [3, 3, 1]


def test_long_names_come_with_onnx_runtimes_own_options_and_defaults(model: Path, build: Any) -> None:
    given = build("Tensorrt", "CUDA")
    names: list[Any] = ["TensorrtExecutionProvider", ("CUDAExecutionProvider", {"use_tf32": 1})]
    detector = Detector(model, providers=names)
    assert given == [[("TensorrtExecutionProvider", {}), ("CUDAExecutionProvider", {"use_tf32": 1})]]
    assert detector.precision is None
    assert Detector(model, providers=[("CUDAExecutionProvider", {"precision": "mine"})])
    assert given[1] == [("CUDAExecutionProvider", {"precision": "mine"})]


@pytest.mark.extra
def test_openvino_by_onnx_runtime_where_its_own_runtime_is_missing(
    model: Path, build: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given = build("OpenVINO")
    assert Detector(model, providers="openvino").providers == ("OpenVINO CPU",)
    assert given == []
    without_openvino(monkeypatch)
    detector = Detector(model, providers="openvino", threads=3)
    expected = {"device_type": "CPU", "precision": "FP32", "num_of_threads": "3"}
    assert given == [[("OpenVINOExecutionProvider", expected)]]
    assert detector.precision == "f32"
    Detector(model, providers=[("openvino", {"precision": "f16", "device": "GPU"})], engine_cache=tmp_path / "e")
    ((_, options),) = given[1]
    assert (options["device_type"], options["precision"]) == ("GPU", "FP16")
    assert options["cache_dir"] == str(tmp_path / "e" / sha256(model.read_bytes()).hexdigest())
    for precision in ("bf16", "f16"):
        message = rf"^{precision} takes OpenVINO's own runtime: pip install openvino"
        with pytest.raises(UsageError, match=message):
            Detector(model, providers=[("openvino", {"precision": precision})])


def test_bfloat16_of_arm_processors(model: Path, bad: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = "mlas.enable_gemm_fastmath_arm64_bfloat16"
    asked = [("cpu", {"precision": "bf16"})]
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    with pytest.raises(UsageError, match="on ARM64 processors only; on others, OpenVINO may"):
        Detector(model, providers=asked)
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    detector = Detector(model, providers=asked)
    assert (
        detector._slot.model.running().session._inference.get_session_options().get_session_config_entry(entry) == "1"
    )
    assert detector.precision == "bf16"
    assert detector(bad).is_anomalous
    options = Detector(model)._slot.model.running().session._inference.get_session_options()
    with pytest.raises(RuntimeError):  # not set
        options.get_session_config_entry(entry)


# Options


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ([], "list of execution providers is empty"),
        ([("cpu", {"precision": "f64"})], "precision of cpu is one of f32, bf16, but not 'f64'"),
        ([("cpu", {"precison": "f32", "x": "1"})], "cpu takes the option precision, but not 'precison', 'x'"),
        ([("cuda", {"precision": "int8"})], "precision of cuda is one of f32, tf32, but not 'int8'"),
        ([("tensorrt", {"precision": None})], "precision of tensorrt is one of f32, f16, int8, but not None"),
        ([("tensorrt", {"batch": "many"})], "batch of tensorrt must be a whole number of at least 1, but is 'many'"),
        ([("tensorrt", {"batch": 0})], "batch of tensorrt must be a whole number of at least 1, but is 0"),
        pytest.param(
            ["openvino", "cpu"],
            "goes with no other provider; ONNX Runtime's own is called OpenVINOExecutionProvider",
            marks=pytest.mark.extra,
        ),
    ],
)
def test_impossible_choices(build: Any, asked: Any, message: str) -> None:
    build("Tensorrt", "CUDA")
    with pytest.raises(UsageError, match=message):
        choose(asked)


def test_impossible_options(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="threads must be at least 1, but is 0"):
        Detector(model, threads=0)
    monkeypatch.setenv("RSTPM_EDGE_KERNEL", "quantum")
    with pytest.raises(UsageError, match="quantum"):
        Detector(model)


@pytest.mark.parametrize("polite", [False, True])
def test_threads_arena_and_spinning_are_set_explicitly(model: Path, bad: Image, polite: bool) -> None:
    detector = Detector(model, threads=2, polite=polite)
    options = detector._slot.model.running().session._inference.get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (2, 1)
    assert options.enable_cpu_mem_arena
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == ("0" if polite else "1")
    assert detector(bad).is_anomalous


def test_the_cores_that_may_be_used() -> None:
    assert 1 <= usable_cores() <= len(os.sched_getaffinity(0))
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert usable_cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)


# On the command line


@pytest.mark.parametrize("text", ["cpu:", "cpu:precision", "cpu:=f32", ":precision=f32", "cpu:precision=f32,"])
def test_text_that_is_no_provider(model: Path, text: str) -> None:
    run = command_line("info", "--model", model, "--provider", text)
    assert (run.exit_code, run.stdout) == (2, "")
    assert "NAME:OPTION=VALUE" in run.stderr


def test_the_command_line_hands_on_what_it_is_given(model: Path, build: Any, photos: Path, tmp_path: Path) -> None:
    given = build("Tensorrt")
    asked = ["--provider", "tensorrt:precision=f16", "--provider", "cpu", "--engine-cache", tmp_path / "engines"]
    assert command_line("infer", photos, "--model", model, *asked).exit_code == 1
    assert command_line("bench", "--model", model, "--runs", 1, *asked).exit_code == 0
    assert len(given) == 2
    for (name, options), second in given:
        assert name == "TensorrtExecutionProvider"
        assert options["trt_fp16_enable"] == "1"
        assert options["trt_engine_cache_path"].startswith(str(tmp_path / "engines"))
        assert second == ("CPUExecutionProvider", {})
