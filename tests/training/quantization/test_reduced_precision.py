"""`rstpm-edge export --int8` and `--fp16`: from a run and its photos to a file for the detector, or a refusal."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from click.testing import Result
from numpy.typing import NDArray
from once import once
from onnx import TensorProto, helper
from simulated_time import SimulatedTime
from tiny_network import tiny_images
from workplace import Workplace, command_line, document, fill_workplace

from rstpm_edge import Detector
from rstpm_edge.engine.session import open_session
from rstpm_edge.model.metadata import METADATA_KEY, Bundle
from rstpm_edge.model.read_metadata import parse_bundle
from rstpm_edge.progress import Progress
from rstpm_edge.training.export import export as exporting
from rstpm_edge.training.export.export import SAFE_OPERATORS
from rstpm_edge.training.learning.run_config import load_config
from rstpm_edge.training.quantization import reduced_precision as reducing
from rstpm_edge.training.quantization.acceptance import Margins
from rstpm_edge.training.quantization.int8_weights import weighted_nodes
from rstpm_edge.training.quantization.integer_coverage import integer_share
from rstpm_edge.training.quantization.kept_in_float import Subject, Trial
from rstpm_edge.training.quantization.reduced_precision import LEAST_HELD_OUT, LEAST_LEARNED

RANGES: dict[str, Any] = {}  # taken once for all tests: they are of the same network and photos
EXPORTED: dict[tuple[str, ...], tuple[Path, Result]] = {}  # by the options, once for all tests too
WIDE = [argument for name in Margins.__dataclass_fields__ for argument in ("--margin", f"{name}=100")]


@pytest.fixture(scope="module")
def reducible(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A run on 44 photos, 33 of them to learn from, exported in float32; the photos are in `photos`."""

    def fill(folder: Path) -> None:
        (folder / "photos").mkdir()
        for i, image in enumerate(tiny_images(44)):
            large = cv2.resize(image, (80, 70), interpolation=cv2.INTER_CUBIC)
            cv2.imwrite(str(folder / "photos" / f"{i}.png"), large)
        options = ["--epochs", "4", "--size", "64", "--holdout", "0.25", "--device", "cpu"]
        fill_workplace(folder, folder / "photos", options)

    return Workplace(once(tmp_path_factory, "reducible", fill))


@pytest.fixture
def quick(reducible: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spares what takes long: tracing (the model has the graph), ranges again, sensitive blocks, and pauses."""
    traced = onnx.load(reducible.model)

    def to_onnx(*arguments: Any, **keywords: Any) -> onnx.ModelProto:
        copy = onnx.ModelProto()
        copy.CopyFrom(traced)
        del copy.metadata_props[:]
        return copy

    collect_ranges = reducing.collect_ranges

    def collect(*arguments: Any, **keywords: Any) -> Any:
        if not RANGES:
            RANGES.update(collect_ranges(*arguments, **keywords))
        return RANGES

    monkeypatch.setattr(exporting, "to_onnx", to_onnx)
    monkeypatch.setattr(reducing, "collect_ranges", collect)
    monkeypatch.setattr(reducing, "SECONDS", 0.0)
    monkeypatch.setattr(reducing, "time", SimulatedTime())  # pauses between measurements


@pytest.fixture
def int8(
    reducible: Workplace, quick: None, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., tuple[Path, Result]]:
    """`export --int8` with more options: the file, and what was said. Each is exported once; do not change the file."""

    def export(*options: str) -> tuple[Path, Result]:
        if options not in EXPORTED:
            path = tmp_path_factory.mktemp("int8") / "int8.onnx"
            EXPORTED[options] = path, command_line("export", reducible.run, "--int8", "-o", path, *WIDE, *options)
        return EXPORTED[options]

    return export


@pytest.fixture
def spoilable(reducible: Workplace, tmp_path: Path) -> tuple[Path, Path]:
    """Copies of the run and of its photos; the run knows where its copy lies."""
    photos = Path(shutil.copytree(reducible.root / "photos", tmp_path / "photos"))
    run = Path(shutil.copytree(reducible.run, tmp_path / "run"))
    config = document(run / "config.json")
    config["data"] = str(photos)
    (run / "config.json").write_text(json.dumps(config))
    return run, photos


def bundle_of(graph: onnx.ModelProto) -> Bundle:
    return parse_bundle(graph.metadata_props[0].value)


def held_out(place: Workplace) -> list[Path]:
    return [place.root / "photos" / photo.name for photo in load_config(place.run).holdout]


def measures(name: str) -> bool:
    """Whether a node or a constant belongs to what measures maps, distances and head, which stays in float32."""
    return name.startswith("maps/")


def check_contract(path: Path, place: Workplace, fused: bool) -> None:
    """All that a model file promises, whatever its precision."""
    graph, other = onnx.load(path), onnx.load(place.model)
    onnx.checker.check_model(graph, full_check=True)
    assert {node.op_type for node in graph.graph.node} <= SAFE_OPERATORS
    assert [(entry.domain, entry.version) for entry in graph.opset_import] == [("", 17)]
    assert (graph.ir_version, graph.producer_name) == (8, "rstpm-edge")
    assert [value.name for value in graph.graph.input] == ["image"]
    assert graph.graph.input[0] == other.graph.input[0]
    maps = len(other.graph.output)
    assert list(graph.graph.output)[:maps] == list(other.graph.output)
    assert [value.name for value in graph.graph.output][maps:] == (["anomaly_map", "score"] if fused else [])
    bundle = bundle_of(graph)
    photos = held_out(place)
    # With as many threads as export had: others add floats in another order, and where that rounds otherwise on the way
    # into 8 bits, a score of this network, which has hardly learned, moves by some percent.
    detector = Detector(path)
    scores = [detector(photo).score for photo in photos]
    # The calibration is that of this file, not of float32.
    np.testing.assert_allclose(sorted(scores), bundle.calibration.scores, rtol=1e-4, atol=1e-4)
    assert bundle.calibration.scores != bundle_of(other).calibration.scores
    if fused:
        session = open_session(path)
        for photo, score in zip(photos, scores, strict=True):
            preprocessor = detector._slot.model.running().preprocessor
            row, grid = preprocessor.prepare(preprocessor.load(photo))
            given, fused_map = session._inference.run(["score", "anomaly_map"], {"image": row[None]})
            assert given[0] == pytest.approx(score, rel=1e-3, abs=1e-3)
            drawn = detector(photo).model_map
            np.testing.assert_allclose(fused_map[0][grid.placement.window], drawn, rtol=1e-3, atol=1e-3)


# INT8


@pytest.mark.parametrize("fused", [False, True])
def test_int8(reducible: Workplace, int8: Callable[..., tuple[Path, Result]], fused: bool) -> None:
    path, result = int8(*(["--fused"] if fused else []))
    assert result.exit_code == 0, result.stderr
    check_contract(path, reducible, fused)
    graph = onnx.load(path)
    bundle = bundle_of(graph)
    assert (bundle.precision, bundle.saturation_free) == ("int8", True)
    assert set(bundle.precision_change) == {"auroc", "false_rejects", "score_shift", "recall"}
    stored = Counter(tensor.data_type for tensor in graph.graph.initializer if len(tensor.dims) == 4)
    convolutions = sum(node.op_type == "Conv" and not measures(node.name) for node in graph.graph.node)
    assert stored[TensorProto.INT8] == convolutions > 100
    assert path.stat().st_size < 0.4 * reducible.model.stat().st_size
    lines = result.stdout.splitlines()
    assert lines[0].split() == [
        *f"{len(held_out(reducible))} held-out good photos, 44 with a synthetic defect".split(),
        "float32",
        "this",
        "file",
        "allowed",
    ]
    assert lines[1].startswith("image AUROC, pseudo-defects ")
    assert lines[1].endswith(" -100")
    said = "\n".join(lines[len(bundle.precision_change) + 2 :])
    assert f"{path} ({path.stat().st_size / 1e6:.1f} MB, int8): in float32, it agrees with PyTorch on " in said
    assert "0 of 58 blocks stay in float. " in said
    assert "100% of the multiplications are integer." in said
    assert " ms in FP32, " in said
    assert " ms in INT8; this processor has " in said
    assert "export --int8 --symmetric" in said


@pytest.mark.extra
def test_openvino_runs_int8(reducible: Workplace, int8: Callable[..., tuple[Path, Result]]) -> None:
    path, result = int8()
    assert result.exit_code == 0, result.stderr
    photos = held_out(reducible)
    by = [
        [result.score for result in Detector(path, providers=name).predict_batch(photos, batch_size=1)]
        for name in ("cpu", "openvino")
    ]
    assert np.corrcoef(*by)[0, 1] > 0.9  # it rounds otherwise


@pytest.mark.usefixtures("quick")
def test_int8_for_tensorrt(reducible: Workplace, tmp_path: Path) -> None:
    path = tmp_path / "int8.onnx"
    result = command_line("export", reducible.run, "--int8", "--symmetric", "-o", path, *WIDE)
    assert result.exit_code == 0, result.stderr
    check_contract(path, reducible, fused=False)
    assert "refuse" not in result.stdout
    assert "INT8 for TensorRT is slow on a CPU" in result.stdout
    quantized = [tensor for tensor in onnx.load(path).graph.initializer if tensor.name.endswith("zero_point")]
    assert quantized
    assert {tensor.data_type for tensor in quantized} == {TensorProto.INT8}


def test_ranges_come_from_photos_learned_from_and_sensitive_blocks_stay_in_float(
    reducible: Workplace, quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[NDArray[np.uint8]] = []
    read: list[Path] = []
    collect_ranges, load_inputs = reducing.collect_ranges, reducing.load_inputs

    def collect(graph: Any, tensors: Any, images: Any, **keywords: Any) -> Any:
        seen.extend(images)
        return collect_ranges(graph, tensors, images, **keywords)

    def load(paths: Any, *arguments: Any, **keywords: Any) -> Any:
        read.extend(paths)
        return load_inputs(paths, *arguments, **keywords)

    def keep(subject: Subject, ranges: Any, everything: Trial, **keywords: Any) -> tuple[tuple[str, ...], Trial]:
        assert keywords["target"] == reducing.TARGET_ERROR
        assert len(subject.images) == reducing.MEASURED
        assert all(any(image is other for other in seen) for image in subject.images)
        kept = "teacher1/conv_stem", "teacher2/blocks/0/0"
        rest = [node for node in weighted_nodes(subject.graph) if not node.startswith(kept)]
        trial = subject.quantized(ranges, rest)
        assert integer_share(everything.graph).multiplications > integer_share(trial.graph).multiplications
        return kept, trial

    monkeypatch.setattr(reducing, "collect_ranges", collect)
    monkeypatch.setattr(reducing, "load_inputs", load)
    monkeypatch.setattr(reducing, "keep_sensitive", keep)
    path = tmp_path / "int8.onnx"
    result = command_line("export", reducible.run, "--int8", "-o", path, *WIDE)

    config, folder = load_config(reducible.run), reducible.root / "photos"
    expected = load_inputs([folder / photo.name for photo in config.train], config.size, config.resize)[0]
    assert len(seen) == len(expected) == 33
    assert {image.tobytes() for image in seen} == {image.tobytes() for image in expected}
    assert set(read) == {folder / photo.name for photo in (*config.train, *config.holdout)}

    assert "2 of 58 blocks stay in float: teacher1/conv_stem, teacher2/blocks/0/0." in result.stdout
    stored = {tensor.name: tensor.data_type for tensor in onnx.load(path).graph.initializer if len(tensor.dims) == 4}
    assert {name for name, kind in stored.items() if kind == TensorProto.FLOAT and not measures(name)} == {
        "teacher1/conv_stem/weight",
        "teacher2/blocks/0/0/conv_dw/weight",
        "teacher2/blocks/0/0/conv_pw/weight",
    }


@pytest.mark.slow
def test_the_papers_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(reducing, "SECONDS", 5.0)
    (tmp_path / "photos").mkdir()
    for i, image in enumerate(tiny_images(44)):
        cv2.imwrite(f"photos/{i}.png", image)
    random = ["--weights", "resnet18=random", "--weights", "resnet50=random"]
    short = ["--epochs", "1", "--size", "64", "--holdout", "0.25", "--set", "learning_rate=0.001"]
    try:
        trained = command_line("train", "photos", "--preset", "paper", *random, *short, "--device", "cpu")
        assert trained.exit_code == 0, trained.stderr
        result = command_line("export", "--int8", *WIDE)
        assert result.exit_code == 0, result.stderr
        detector = Detector("model.onnx", threads=1)
        assert (detector.info.precision, detector.info.fusion.mode) == ("int8", "paper")
        assert detector("photos/0.png").score > 0
        assert Path("model.onnx").stat().st_size < 200e6  # of 490
    finally:  # more than a gigabyte, which pytest would keep
        shutil.rmtree("runs", ignore_errors=True)
        Path("model.onnx").unlink(missing_ok=True)


# FP16


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("fused", [False, True])
def test_fp16(reducible: Workplace, tmp_path: Path, fused: bool) -> None:
    path = tmp_path / "fp16.onnx"
    result = command_line("export", reducible.run, "--fp16", "-o", path, *(["--fused"] if fused else []))
    assert result.exit_code == 0, result.stderr + result.stdout
    check_contract(path, reducible, fused)
    bundle = bundle_of(onnx.load(path))
    assert (bundle.precision, bundle.saturation_free) == ("fp16", False)
    if not fused:
        assert path.stat().st_size < 0.6 * reducible.model.stat().st_size
    assert "on a CPU FP16 saves space, not time" in result.stdout
    assert "refuse" not in result.stdout


# Whether a reduced model may be delivered


@pytest.mark.usefixtures("quick")
def test_what_moves_too_far_is_refused(reducible: Workplace, older: Path, tmp_path: Path) -> None:
    result = command_line("export", reducible.run, "--int8", "-o", older, *WIDE, "--margin", "verdict=0.000001")
    assert result.exit_code == 2
    lines = result.stdout.splitlines()
    (refused,) = [line for line in lines if line.endswith("too far")]
    assert refused.startswith("largest move of a good score ")
    assert len(lines) == 7  # the table and nothing more
    told = result.stderr.splitlines()[-1]
    assert told.startswith(
        "Error: The INT8 file would judge otherwise than FP32, so nothing was written: the score of "
    )
    assert "Stay with the FP32 file, or train on more good photos (11 were held out) and export again" in told
    proposed = told.split("--margin ")[1].split()[0]  # and that is enough
    again = command_line("export", reducible.run, "--int8", "-o", tmp_path / "again.onnx", *WIDE, "--margin", proposed)
    assert again.exit_code == 0, again.stderr


@pytest.mark.usefixtures("quick")
def test_maps_that_are_not_finite_are_refused(
    reducible: Workplace, older: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overflow(graph: onnx.ModelProto) -> onnx.ModelProto:
        for tensor in graph.graph.initializer:
            if tensor.name == "student1/head_8/bias":
                broken = onnx.numpy_helper.to_array(tensor) + np.float32(np.inf)
                tensor.CopyFrom(onnx.numpy_helper.from_array(broken, tensor.name))
        return graph

    monkeypatch.setattr(reducing, "to_fp16", overflow)
    result = command_line("export", reducible.run, "--fp16", "-o", older)
    assert result.exit_code == 2
    assert "In fp16 the maps are not finite: nothing was written." in result.stderr


# Progress


@pytest.mark.usefixtures("quick")
def test_progress_is_told_of_each_stage(reducible: Workplace, tmp_path: Path) -> None:
    told: list[Progress] = []
    wide = Margins(100, 100, 100)
    for precision in ("int8", "fp16"):
        told.clear()
        wanted = reducing.Reduction(precision=precision, margins=wide)  # type: ignore[arg-type]
        exporting.export(reducible.run, tmp_path / "model.onnx", reduction=wanted, report=told.append)
        stages = list(dict.fromkeys(progress.stage for progress in told))
        plan = reducing.PLANS[precision]  # type: ignore[index]
        assert [name for name in plan if name in stages] == stages
        for stage in set(stages) - {"sensitivity"}:
            counted = [(progress.done, progress.total) for progress in told if progress.stage == stage]
            assert counted == sorted(counted)
            assert len({total for _, total in counted}) == 1
            assert counted[-1][0] == counted[-1][1]


# Photos


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("precision", ["--int8", "--fp16"])
def test_photos_that_are_gone(spoilable: tuple[Path, Path], older: Path, precision: str) -> None:
    run, photos = spoilable
    photos.rename(photos.with_name("elsewhere"))
    result = command_line("export", run, precision, "-o", older)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == (
        f"Error: {precision[2:].upper()} needs the photos of the run, and there is no folder {photos}: put them back, "
        "or say where they are with --data FOLDER."
    )


@pytest.mark.usefixtures("quick")
def test_photos_may_be_elsewhere(spoilable: tuple[Path, Path], tmp_path: Path) -> None:
    run, photos = spoilable
    moved = tmp_path / "nas" / "train" / "good"  # and now in the MVTec AD layout
    moved.parent.mkdir(parents=True)
    photos.rename(moved)
    path = tmp_path / "fp16.onnx"
    result = command_line("export", run, "--fp16", "--data", tmp_path / "nas", "-o", path)
    assert result.exit_code == 0, result.stderr
    assert path.exists()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("change", "state"), [("remove", "missing"), ("replace", "another file")])
@pytest.mark.parametrize("which", ["train", "holdout"])
def test_photos_that_are_others(spoilable: tuple[Path, Path], older: Path, change: str, state: str, which: str) -> None:
    run, photos = spoilable
    name = getattr(load_config(run), which)[0][0]
    if change == "remove":
        (photos / name).unlink()
    else:
        cv2.imwrite(str(photos / name), np.zeros((5, 5), np.uint8))
    result = command_line("export", run, "--int8", "-o", older)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == (
        f"Error: {name} in {photos} is {state} since the run began; INT8 needs the run's own photos: say where they "
        "are with --data FOLDER."
    )


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("which", "least", "how"), [("train", LEAST_LEARNED, "learned from"), ("holdout", LEAST_HELD_OUT, "held out")]
)
def test_too_few_photos(spoilable: tuple[Path, Path], older: Path, which: str, least: int, how: str) -> None:
    run, _ = spoilable
    config = document(run / "config.json")
    config[which] = config[which][: least - 1]
    (run / "config.json").write_text(json.dumps(config))
    result = command_line("export", run, "--int8", "-o", older)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == (
        f"Error: INT8 needs at least {least} photos that were {how}, but the run has {least - 1}: train on more "
        "photos, or stay with FP32."
    )


# Options that do not go together


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["-o", "photo.png"], "-o does not write a picture: give it a name other than photo.png."),
        (["--int8", "--fp16"], "Give either --int8 or --fp16; each makes a file of its own."),
        (["--symmetric"], "--symmetric goes with --int8 only."),
        (["--fp16", "--symmetric"], "--symmetric goes with --int8 only."),
        (["--data", "photos"], "--data and --margin go with --int8 or --fp16 only; a float32 export needs neither."),
        (["--margin", "auroc=1"], "--data and --margin go with --int8 or --fp16 only; a float32 export needs neither."),
        (["--int8", "--margin", "auroc"], "--margin takes NAME=VALUE, such as auroc=0.01, not 'auroc'."),
        (["--int8", "--margin", "f1=1"], "--margin has no 'f1', only auroc, false_rejects, verdict."),
        (["--int8", "--margin", "auroc=-1"], "--margin auroc must be a finite number from 0 up, not '-1'."),
    ],
)
def test_wrong_options(options: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = command_line("export", *options)
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", f"Error: {says}\n")


def test_a_reduced_file_is_not_verified_against_pytorch(reducible: Workplace, tmp_path: Path) -> None:
    graph = onnx.load(reducible.model)
    entry = json.loads(graph.metadata_props[0].value)
    helper.set_model_props(graph, {METADATA_KEY: json.dumps({**entry, "precision": "fp16"})})
    onnx.save(graph, tmp_path / "fp16.onnx")
    photos = reducible.root / "photos"
    result = command_line("verify", photos, "--model", tmp_path / "fp16.onnx", "--run", reducible.run)
    assert result.exit_code == 2
    assert "is in fp16, which PyTorch does not compute in" in result.stderr
