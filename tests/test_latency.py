"""What `rstpm-edge bench` and the scripts that compare and time measure, and that they measure the right thing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from bundles import ModelFactory, make_bundle, make_model
from checkout import ROOT
from numpy.typing import NDArray
from workplace import command_line

import rstpm_edge.image.preprocess
import rstpm_edge.postprocess.postprocessor
import rstpm_edge.preprocessor
from rstpm_edge.engine import openvino as session_openvino
from rstpm_edge.errors import ImageError, ModelError, ProviderError, UsageError
from rstpm_edge.latency import KERNEL_VARIABLE, WARM_UP_CALLS, measure_latency, peak_memory
from rstpm_edge.native import kernels

STEPS = ("decode_ms", "preprocess_ms", "network_ms", "postprocess_ms")
DELAY = 0.01


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images ONNX Runtime was given, call by call."""
    seen: list[int] = []

    class Noting(onnxruntime.InferenceSession):  # type: ignore[misc]
        def run(self, names: Any, inputs: dict[str, NDArray[np.uint8]]) -> Any:
            seen.append(len(inputs["image"]))
            return super().run(names, inputs)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Noting)
    return seen


def delayed(function: Callable[..., Any]) -> Callable[..., Any]:
    def run(*arguments: Any, **keywords: Any) -> Any:
        time.sleep(DELAY)
        return function(*arguments, **keywords)

    return run


def json_of(*arguments: object) -> dict[str, Any]:
    run = command_line("bench", *arguments, "--json")
    assert (run.exit_code, run.stderr) == (0, "")
    found: dict[str, Any] = json.loads(run.stdout)
    return found


def test_the_figures_of_files(model: Path, photos: Path) -> None:
    result = json_of(photos, "--model", model, "--threads", 1, "--runs", 30, "--provider", "cpu")
    for name in (*STEPS, "total_ms", "overhead_ms"):
        timing = result[name]
        assert 0 < timing["min"] <= timing["median"] <= timing["p95"] <= timing["p99"], name
    # The steps of each call add up to its total. Whatever the machine does, that leaves the smallest total between the
    # sums of the steps' minima and of their 95th percentiles: of 30 calls at least 22 are below all four of those.
    assert sum(result[name]["min"] for name in STEPS) <= result["total_ms"]["min"] * (1 + 1e-9)
    assert result["total_ms"]["min"] <= sum(result[name]["p95"] for name in STEPS)
    assert result["images_per_second"] == pytest.approx(1000 / result["total_ms"]["median"])
    assert result["anomalous"] == pytest.approx(1 / 3)  # of 1.png, 10.png and sub/2.jpg
    assert (result["files"], result["frame_size"], result["input_size"]) == (3, None, [64, 64])
    assert (result["runs"], result["batch"]) == (30, 1)


def test_what_the_figures_depend_on_is_recorded(model: Path) -> None:
    environment = json_of("--model", model, "--threads", 1, "--runs", 1)["environment"]
    assert environment["threads"] == 1
    assert environment["providers"] == ["CPUExecutionProvider"]
    assert environment["kernel"] == kernels().active
    assert environment["onnxruntime"] == onnxruntime.__version__
    assert environment["numpy"] == np.__version__
    assert all(environment[name] for name in ("cpu", "cores", "os", "python", "opencv", "rstpm_edge"))


def test_polite_threads(model: Path) -> None:
    run = command_line("bench", "--model", model, "--runs", 1, "--threads", 2, "--polite")
    assert "2 polite threads" in run.stdout
    assert json_of("--model", model, "--runs", 1, "--polite")["environment"]["polite"] is True
    assert json_of("--model", model, "--runs", 1)["environment"]["polite"] is False


def test_peak_memory_is_that_of_this_process(model: Path) -> None:
    result = json_of("--model", model, "--runs", 1)
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    assert 0.5 * resident / 1e6 < result["peak_memory_mb"] <= peak_memory() / 1e6


def test_peak_memory_is_what_was_held_at_most() -> None:
    """In a small process: this one may have held gigabytes, and would have to hold more."""
    code = (
        "import numpy as np\nfrom rstpm_edge.latency import peak_memory\nbefore = peak_memory()\n"
        "np.ones(before + (64 << 20), np.uint8)\nassert peak_memory() >= before + (64 << 20)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("size", [None, "100x50"])
def test_a_frame_in_memory_is_not_decoded(model: Path, size: str | None) -> None:
    result = json_of("--model", model, "--runs", 2, *(["--frame", size] if size else []))
    assert result["decode_ms"] is None
    assert result["files"] == 0
    assert result["frame_size"] == ([50, 100] if size else [64, 64])


@pytest.mark.parametrize(
    ("step", "function"),
    [
        ("decode_ms", "read_stored"),
        ("preprocess_ms", "to_input"),
        ("network_ms", "run"),
        ("postprocess_ms", "judge"),
    ],
)
def test_time_is_charged_to_the_step_that_takes_it(
    model: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, step: str, function: str
) -> None:
    if function == "run":

        class Slow(onnxruntime.InferenceSession):  # type: ignore[misc]
            run = delayed(onnxruntime.InferenceSession.run)

        monkeypatch.setattr(onnxruntime, "InferenceSession", Slow)
    else:
        module = {
            "read_stored": rstpm_edge.preprocessor,
            "to_input": rstpm_edge.image.preprocess,
            "judge": rstpm_edge.postprocess.postprocessor,
        }[function]
        monkeypatch.setattr(module, function, delayed(getattr(module, function)))
    result = measure_latency(model, [photos / "sub" / "2.jpg"], runs=3, threads=1)
    slow = [name for name in STEPS if getattr(result, name).min >= 1000 * DELAY]
    assert slow == [step]
    assert result.total_ms.min >= 1000 * DELAY
    assert (result.overhead_ms.min >= 1000 * DELAY) == (step in ("preprocess_ms", "postprocess_ms"))


@pytest.mark.extra
def test_all_parts_of_a_batch_are_network(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenVINO takes one image at a time."""
    run = session_openvino.OpenVINOSession.run
    monkeypatch.setattr(session_openvino.OpenVINOSession, "run", delayed(run))
    result = measure_latency(model, runs=3, batch=3, providers="openvino", threads=1)
    assert result.network_ms.min >= 3 * 1000 * DELAY
    assert result.preprocess_ms.min < 1000 * DELAY


def test_the_first_calls_do_not_count(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    class SlowAtFirst(onnxruntime.InferenceSession):  # type: ignore[misc]
        def run(self, *arguments: Any) -> Any:
            calls.append(time.sleep(1.5 if len(calls) == 0 else 0))
            return super().run(*arguments)

    monkeypatch.setattr(onnxruntime, "InferenceSession", SlowAtFirst)
    result = measure_latency(model, runs=5, threads=1)
    assert len(calls) == WARM_UP_CALLS + 5
    assert result.total_ms.p99 < 1200


def test_images_are_judged_in_batches(model: Path, photos: Path, batches: list[int]) -> None:
    result = json_of(photos, "--model", model, "--batch", 4, "--runs", 3)
    assert set(batches) == {4}
    assert batches[-3:] == [4] * result["runs"]
    assert result["batch"] == 4
    assert result["images_per_second"] == pytest.approx(4000 / result["total_ms"]["median"])
    assert 0 < result["anomalous"] < 1


@pytest.mark.parametrize("kernel", kernels().available)
def test_the_kernel_asked_for_is_the_one_that_runs(model: Path, monkeypatch: pytest.MonkeyPatch, kernel: str) -> None:
    monkeypatch.setenv(KERNEL_VARIABLE, "generic")
    assert measure_latency(model, runs=1, kernel=kernel).environment.kernel == kernel
    assert os.environ[KERNEL_VARIABLE] == "generic"
    monkeypatch.delenv(KERNEL_VARIABLE)
    measure_latency(model, runs=1, kernel=kernel)
    assert KERNEL_VARIABLE not in os.environ


def test_a_threshold_decides_whether_regions_are_extracted(model: Path, photos: Path) -> None:
    good = photos / "1.png"
    assert json_of(good, "--model", model, "--runs", 1)["anomalous"] == 0
    assert json_of(good, "--model", model, "--runs", 1, "--threshold", -1)["anomalous"] == 1


def test_the_table_says_the_same(model: Path, photos: Path) -> None:
    run = command_line("bench", photos, "--model", model, "--runs", 2, "--batch", 2)
    assert run.exit_code == 0
    for text in ("3 files", "2 calls", "ms per batch of 2", "median", "p95", "p99", "images per second", "peak memory"):
        assert text in run.stdout
    rows = {line.split()[0]: line.split()[1:] for line in run.stdout.splitlines() if line}
    assert all(len(rows[step.removesuffix("_ms")]) == 4 for step in (*STEPS, "total"))
    assert "decode                –\n" in command_line("bench", "--model", model, "--runs", 1).stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--kernel", "abacus"], f"There is no kernel 'abacus' here; choose one of {', '.join(kernels().available)}."),
        (["--provider", "abacus"], "has no execution provider 'abacus'"),
        (["--model", "none.onnx"], "There is no model file none.onnx"),
        (["none.png"], "Cannot read none.png: No such file or directory."),
        (["damaged.png"], "Cannot read damaged.png: it is not a PNG, JPEG, BMP or TIFF image."),
        (["empty"], "There are no images in the folder empty."),
        (["photos", "--frame", "64x64"], "Give either IMAGEs or --frame"),
        (["--frame", "64"], "--frame is WIDTHxHEIGHT in pixels, such as 1920x1080, not '64'."),
        (["--frame", "0x64"], "A frame has at least one and at most 268,435,456 pixels, not 0×64."),
        (["--frame", "99999x99999"], "pixels, not 99999×99999."),
        (["--threshold", "nan"], "The threshold must be a finite number"),
    ],
)
def test_wrong_use_gives_one_sentence(
    model: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(model.parent)
    Path("empty").mkdir()
    Path("damaged.png").write_text("no image")
    run = command_line("bench", *arguments)
    assert run.exit_code == 2
    assert run.stdout == ""
    assert run.stderr.startswith("Error: ")
    assert message in run.stderr
    assert run.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [["--batch", "0"], ["--runs", "0"], ["--threads", "0"]])
def test_counts_are_at_least_one(model: Path, arguments: list[str]) -> None:
    run = command_line("bench", "--model", model, *arguments)
    assert run.exit_code == 2
    assert arguments[0] in run.stderr


def test_errors_are_those_of_the_package(model: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no kernel"):
        measure_latency(model, kernel="abacus")
    with pytest.raises(ProviderError):
        measure_latency(model, providers=["abacus"])
    with pytest.raises(ImageError):
        measure_latency(model, [tmp_path / "none.png"])
    with pytest.raises(ModelError):
        measure_latency(tmp_path / "none.onnx")


def tool(name: str, *arguments: object) -> dict[str, Any]:
    """What a script of tools/ prints with --json."""
    command = [sys.executable, str(ROOT / "tools" / name), *map(str, arguments), "--json"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    found: dict[str, Any] = json.loads(run.stdout)
    return found


def test_the_script_for_starts(model: Path) -> None:
    result = tool("bench_start.py", "--model", model, "--rounds", 1)
    assert all(0 < result[name] < 60_000 for name in ("import_ms", "import_detector_ms", "infer_ms"))
    assert 30 < result["peak_memory_mb"] < 1000
    packages = result["packages_mb"]
    assert {"rstpm-edge", "numpy", "onnxruntime", "opencv-python-headless", "click"} <= set(packages)
    assert not {"torch", "onnx", "timm"} & set(packages)
    assert all(size > 0 for size in packages.values())
    assert result["install_mb"] == pytest.approx(sum(packages.values()))


@pytest.mark.extra
def test_the_script_for_runtimes_compares_them(model: Path, photos: Path) -> None:
    image = photos / "sub" / "2.jpg"
    options = ["--model", model, "--image", image, "--rounds", 2, "--calls", 3, "--threads", 1]
    found = tool("bench_runtimes.py", "cpu", "openvino", "openvino:precision=bf16", *options)["runtimes"]
    assert list(found) == ["cpu", "openvino", "openvino:precision=bf16"]
    for row in found.values():
        assert 0 < row["min_ms"] <= row["median_ms"]
        assert row["load_ms"] > 0
        assert row["cpu_ms"] > 0
    assert found["cpu"]["to_first"] == 0
    assert found["openvino"]["to_first"] < 1e-5
    assert found["openvino:precision=bf16"]["to_first"] < 0.1
    other = model.with_name("other.onnx")
    other.write_bytes(model.read_bytes())
    both = tool("bench_runtimes.py", "cpu", *options, "--model", other)["runtimes"]
    assert list(both) == [f"{model} cpu", f"{other} cpu"]
    for providers, message in (
        (["abacus"], "no execution provider 'abacus'"),
        (["cpu", "cpu"], "each provider and each model once"),
    ):
        command = [sys.executable, str(ROOT / "tools" / "bench_runtimes.py"), "--model", str(model), *providers]
        run = subprocess.run(command, capture_output=True, text=True)
        assert run.returncode in (1, 2)
        assert message in run.stderr
        assert "Traceback" not in run.stderr


def test_the_script_for_peers_times_ours_alone(model_factory: ModelFactory, tmp_path: Path) -> None:
    network = make_model(make_bundle(height=256, width=256))
    weights = onnx.numpy_helper.from_array(np.zeros((8, 1, 3, 3), np.float32), "weights")
    network.graph.initializer.append(weights)
    convolution = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
    network.graph.node.append(onnx.helper.make_node("Conv", ["plane", "weights"], ["more"], **convolution))
    model = tmp_path / "model.onnx"
    model.write_bytes(network.SerializeToString())
    evaluation = tmp_path / "evaluation.json"
    evaluation.write_text(json.dumps({"both": {"image_auroc": 0.97}}))
    options = ["--no-peers", "--rounds", 1, "--calls", 2, "--threads", 1, "--evaluation", evaluation, "--best", model]
    result = tool("bench_peers.py", "--model", model, *options)
    assert result["network_gmacs"] == pytest.approx(128 * 128 * 8 * 9 / 1e9)  # (1, 8, 128, 128), a sum of nine each
    assert result["network_gflops"] == pytest.approx(2000 * result["network_gmacs"] / result["network_ms"])
    assert result["sgemm_gflops"] > 0.1
    assert result["auroc"] == 0.97
    for name in ("detector", "detector_best", "network"):
        assert 0 < result["min_ms"][name] <= result[f"{name}_ms"]
    for name in ("anomalib_openvino_ms", "stfpm_onnxruntime_ms", "efficientad_s_ms"):
        assert result[name] is None


def test_the_script_for_peers_goes_on_without_anomalib(model_factory: ModelFactory, tmp_path: Path) -> None:
    model = model_factory(height=256, width=256)
    (tmp_path / "file").touch()  # where no environment can be made
    command = [sys.executable, str(ROOT / "tools" / "bench_peers.py"), "--model", str(model), "--json"]
    command += ["--venv", str(tmp_path / "file"), "--rounds", "1", "--calls", "1"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stderr.splitlines()[-1].startswith("Without anomalib: anomalib cannot be installed: ")
    result = json.loads(run.stdout)
    assert result["anomalib_openvino_ms"] is None
    assert result["detector_ms"] > 0
