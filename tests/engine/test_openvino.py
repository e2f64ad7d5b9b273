"""OpenVINO's own runtime behind the detector: the same numbers, and none of its side effects."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import ModelFactory
from numpy.typing import NDArray
from workplace import Workplace, command_line

from rstpm_edge.detector import Detector
from rstpm_edge.engine import openvino as session_openvino
from rstpm_edge.engine.session import open_session
from rstpm_edge.errors import ModelError, ProviderError
from rstpm_edge.image.decode import read_image
from rstpm_edge.image.preprocess import to_input

Image = NDArray[np.uint8]
pytestmark = pytest.mark.extra


@pytest.fixture(scope="module")
def inputs(parts: Path) -> Image:
    """Pictures of parts with and without a defect, as the model of `workplace` takes them: (N, 64, 96, 3)."""
    files = sorted((parts / "test").rglob("*.png"))
    return np.stack([to_input(read_image(path), (64, 96), "stretch")[0] for path in files])


# The numbers


@pytest.mark.parametrize("polite", [False, True])
def test_a_real_model_gives_the_same_maps(workplace: Workplace, inputs: Image, polite: bool) -> None:
    expected = open_session(workplace.model, threads=1).run(inputs)
    session = open_session(workplace.model, providers="openvino", threads=1, polite=polite)
    assert (session.providers, session.precision) == (("OpenVINO CPU",), "f32")
    for maps in (session.run(inputs), session.run(inputs[:1]), session.run(inputs)):  # sizes of batches may change
        for given, wanted in zip(maps.flat(), expected.flat(), strict=True):
            assert given.dtype == np.float32
            np.testing.assert_allclose(given, wanted[: len(given)], atol=1e-4, rtol=0)


def test_lower_precision_is_used_only_when_asked(workplace: Workplace, inputs: Image) -> None:
    exact = open_session(workplace.model, providers="openvino", threads=1)
    fast = open_session(workplace.model, providers=[("openvino", {"precision": "bf16"})], threads=1)
    assert exact.precision == "f32"  # also where the processor has bf16, which OpenVINO itself would take
    maps = exact.run(inputs).flat(), fast.run(inputs).flat()
    difference = max(np.abs(a - b).max() for a, b in zip(*maps, strict=True))
    # What it is computed in is what the session says; a processor without bf16 stays with f32.
    assert fast.precision in ("bf16", "f32")
    assert difference < 3  # of maps of angles, whose unit is about a deviation
    assert (difference > 1e-4) == (fast.precision == "bf16")


def test_verdicts_are_those_of_onnx_runtime(model: Path, good: Image, bad: Image) -> None:
    reference, detector = Detector(model), Detector(model, providers="openvino")
    for image in (good, bad):
        wanted, given = reference(image), detector(image)
        assert given.score == pytest.approx(wanted.score, rel=1e-5, abs=1e-6)
        assert [region.box for region in given.regions] == [region.box for region in wanted.regions]
    scores = [result.score for result in detector.predict_batch([good, bad] * 5, batch_size=4)]
    assert scores == pytest.approx([detector(good).score, detector(bad).score] * 5)


def test_the_fused_variant_loads_too(model_factory: ModelFactory, bad: Image) -> None:
    detector = Detector(model_factory(fused=True), providers="openvino")
    assert detector(bad).score == pytest.approx(Detector(model_factory())(bad).score)


def test_results_share_no_memory(model: Path) -> None:
    session = open_session(model, providers="openvino", threads=1)
    first = session.run(np.zeros((1, 64, 64, 3), np.uint8)).flat()
    before = [six.copy() for six in first]
    session.run(np.full((1, 64, 64, 3), 127, np.uint8))
    for six, kept in zip(first, before, strict=True):
        np.testing.assert_array_equal(six, kept)


def test_threads_share_a_detector(model: Path, good: Image, bad: Image) -> None:
    detector = Detector(model, providers="openvino", threads=1)
    expected = [detector(good).score, detector(bad).score]
    with ThreadPoolExecutor(6) as pool:
        scores = list(pool.map(lambda image: detector(image).score, [good, bad] * 60))
    assert scores == expected * 60


def test_a_model_that_gives_no_numbers(model_factory: ModelFactory, bad: Image) -> None:
    detector = Detector(model_factory(scale=float("nan")), providers="openvino")
    with pytest.raises(ModelError, match="NaN or infinite"):
        detector(bad)


# Options


def properties(detector: Detector) -> Any:
    return detector._slot.model.running().session._inference._compiled.get_property


def test_what_openvino_is_told(model: Path) -> None:
    get = properties(Detector(model, providers="openvino", threads=2))
    assert get("INFERENCE_NUM_THREADS") == 2
    assert get("NUM_STREAMS") == 1
    assert str(get("PERFORMANCE_HINT")).endswith("LATENCY")
    assert get("ENABLE_CPU_PINNING") is False
    own = {"INFERENCE_NUM_THREADS": 1, "ENABLE_CPU_PINNING": True}
    get = properties(Detector(model, providers=[("openvino", own)], threads=2))
    assert get("INFERENCE_NUM_THREADS") == 1  # what the user says holds
    assert get("ENABLE_CPU_PINNING") is True


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"NONSENSE": 1}, "cannot be loaded with openvino: .*Unsupported property NONSENSE"),
        ({"INFERENCE_NUM_THREADS": "two"}, "cannot be loaded with openvino: Wrong value for property"),
        ({"device": "TOASTER"}, 'cannot be loaded with openvino: Device with "TOASTER" name is not registered'),
    ],
)
def test_options_that_openvino_does_not_have(
    model: Path, options: dict[str, Any], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ProviderError, match=message) as caught:
        Detector(model, providers=[("openvino", options)])
    assert len(str(caught.value).splitlines()) == 1
    assert capfd.readouterr() == ("", "")


def test_compiled_models_are_kept_where_the_user_says(model: Path, bad: Image, tmp_path: Path) -> None:
    folder = tmp_path / "engines"
    expected = Detector(model, providers="openvino")(bad).score
    for content in (None, b"", b"rubbish", bytes(20_000)):  # what a power cut may leave
        for file in folder.glob("*/*"):
            file.write_bytes(content or b"")
        assert Detector(model, providers="openvino", engine_cache=folder)(bad).score == expected
        assert len(list(folder.glob("*/*"))) == 1
    assert sorted(os.listdir(tmp_path)) == ["engines", "model.onnx"]


def test_an_openvino_that_cannot_be_loaded(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise ImportError("libopenvino.so: cannot open shared object file: No such file or directory")

    monkeypatch.setattr(session_openvino.importlib, "import_module", fail)
    message = r"OpenVINO is installed but cannot be loaded: libopenvino\.so: .* No such file or directory\.$"
    with pytest.raises(ProviderError, match=message):
        Detector(model, providers="openvino")


# Side effects


QUIET = {"ORT_DISABLE_TELEMETRY", "CI", "TF_BUILD", "JENKINS_URL"}  # where the runtimes themselves report nothing
WATCHED = """
import sys
seen = []
sys.addaudithook(lambda event, arguments: seen.append(event) if event.startswith("socket.") else None)
import numpy as np
from rstpm_edge import Detector
Detector({model!r}, providers="openvino", threads=1)(np.zeros((64, 64, 3), np.uint8))
assert not [name for name in sys.modules if name.split(".")[0] == "openvino_telemetry"]
import openvino_telemetry  # other code may still have it
print(seen)
"""


def test_openvino_reports_to_nobody_and_writes_nothing(model: Path, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    environment = {key: value for key, value in os.environ.items() if key not in QUIET}
    environment["HOME"] = str(tmp_path / "home")
    command = [sys.executable, "-W", "error", "-c", WATCHED.format(model=str(model))]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (run.returncode, run.stdout, run.stderr) == (0, "[]\n", "")
    assert sorted(os.listdir(tmp_path)) == ["home", "model.onnx"]
    assert os.listdir(tmp_path / "home") == []


# On the command line


def test_infer_judges_as_with_onnx_runtime(model: Path, photos: Path) -> None:
    def verdicts(*arguments: object) -> list[tuple[str, bool]]:
        run = command_line("infer", photos, "--model", model, "--json", *arguments)
        assert (run.exit_code, run.stderr) == (1, "")
        lines = [json.loads(line) for line in run.stdout.splitlines()]
        return [(line["path"], line["is_anomalous"]) for line in lines]

    assert verdicts("--provider", "openvino") == verdicts()


def test_bench_and_info_say_what_ran(model: Path) -> None:
    arguments = ["--model", model, "--provider", "openvino:precision=f32", "--json"]
    environment = json.loads(command_line("bench", "--runs", 1, *arguments).stdout)["environment"]
    assert environment["providers"] == ["OpenVINO CPU"]
    assert environment["precision"] == "f32"
    assert environment["openvino"] == session_openvino.version()
    assert environment["openvino"][:2] == "20"
    runtime = json.loads(command_line("info", *arguments).stdout)["runtime"]
    assert runtime["in_use"] == ["OpenVINO CPU"]
    assert runtime["precision"] == "f32"
    assert "openvino" in runtime["providers"]
    table = command_line("bench", "--runs", 1, *arguments[:-1]).stdout
    assert "openvino cpu in f32" in table
    assert f"; openvino {session_openvino.version()}, " in table
    assert "OpenVINO CPU in f32 in use" in command_line("info", *arguments[:-1]).stdout


def test_evaluate_runs_what_it_is_told(workplace: Workplace, parts: Path, tmp_path: Path) -> None:
    figures = []
    for provider in ("cpu", "openvino"):
        file = tmp_path / f"{provider}.json"
        run = command_line("evaluate", parts, "--model", workplace.model, "--provider", provider, "--json", file)
        assert run.exit_code == 0, run.stderr
        figures.append(json.loads(file.read_text())["both"])
    assert figures[0] == pytest.approx(figures[1], abs=1e-4)
    run = command_line("evaluate", parts, "--model", workplace.model, "--provider", "abacus")
    assert run.exit_code == 2
    assert "no execution provider 'abacus'" in run.stderr
