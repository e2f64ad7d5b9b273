"""What `export` writes over, refuses and tells; models of other backbones."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from exported_names import MAPS, SIZE
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from small_training import teach
from workplace import Workplace, document

from rstpm_edge import Detector
from rstpm_edge.cli.export import say_export
from rstpm_edge.errors import ExportError, OutputError, TrainingError
from rstpm_edge.image.decode import read_image
from rstpm_edge.model.metadata import (
    Fusion,
    ScoreFusion,
)
from rstpm_edge.model.read_metadata import parse_bundle
from rstpm_edge.training.export import export as exporting
from rstpm_edge.training.export.export import SAFE_OPERATORS, export
from rstpm_edge.training.graph.fusion_nodes import add_fusion
from rstpm_edge.training.learning import train
from rstpm_edge.training.model.presets import EDGE_SMALL, PAPER, preset_with_teachers


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("wrong", ["a little", "nan"])
def test_a_graph_that_disagrees_is_not_written(
    quick: onnx.ModelProto, run_copy: Path, older: Path, wrong: str, fused: bool
) -> None:
    tensor = next(tensor for tensor in quick.graph.initializer if tensor.name == "student2/head_16/weight")
    weights = numpy_helper.to_array(tensor).copy()
    weights[0] += 0.3 if wrong == "a little" else np.nan
    tensor.CopyFrom(numpy_helper.from_array(weights, tensor.name))
    with pytest.raises(ExportError, match=r"^ONNX Runtime and PyTorch disagree \(maps .*: nothing was written\. "):
        export(run_copy, older, fused=fused)


@pytest.mark.parametrize("by", ["fusion", "score fusion"])
def test_a_fusion_that_disagrees_is_not_written(
    quick: onnx.ModelProto, run_copy: Path, older: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    def wrong(model: onnx.ModelProto, fusion: Fusion, score_fusion: ScoreFusion, size: tuple[int, int]) -> None:
        other = dataclasses.replace(fusion, smoothing_sigma=fusion.smoothing_sigma + 0.5)
        add_fusion(model, fusion if by == "score fusion" else other, wrong_score_fusion(score_fusion), size)

    def wrong_score_fusion(score_fusion: ScoreFusion) -> ScoreFusion:
        return (
            dataclasses.replace(score_fusion, map_weight=score_fusion.map_weight + 0.1)
            if by == "score fusion"
            else score_fusion
        )

    monkeypatch.setattr(exporting, "add_fusion", wrong)
    with pytest.raises(ExportError, match="disagree"):
        export(run_copy, older, fused=True)


def test_a_graph_traced_for_one_image_is_traced_again_when_it_does_not_take_more(
    quick: onnx.ModelProto, run_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def to_onnx(model: Any, size: tuple[int, int], *, any_batch: bool = False) -> onnx.ModelProto:
        asked.append(any_batch)
        graph = onnx.ModelProto()
        graph.CopyFrom(quick)
        if not any_batch:  # what a tracer writes for a view of a batch of one
            first = graph.graph.node[0]
            first.input[0] = "baked"
            graph.graph.initializer.append(numpy_helper.from_array(np.array([1, *SIZE, 3]), "shape"))
            graph.graph.node.insert(0, helper.make_node("Reshape", ["image", "shape"], ["baked"], "bake"))
        return graph

    monkeypatch.setattr(exporting, "to_onnx", to_onnx)
    export(run_copy, tmp_path / "model.onnx")
    assert asked == [False, True]


@pytest.mark.usefixtures("quick")
def test_other_teachers_are_refused(run_copy: Path, older: Path) -> None:
    summary = document(run_copy / "summary.json")
    summary["teacher_sha256"][1] = "0" * 64
    (run_copy / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(ExportError, match="teachers' weights are not those that the run was trained with"):
        export(run_copy, older)


@pytest.mark.usefixtures("quick")
def test_without_samples_nothing_can_be_checked(run_copy: Path, older: Path) -> None:
    shutil.rmtree(run_copy / "samples")
    with pytest.raises(ExportError, match="samples holds no image, so the export cannot be checked"):
        export(run_copy, older)


def test_a_run_that_is_not_finished(run_copy: Path, older: Path) -> None:
    (run_copy / "checkpoint.safetensors").unlink()
    with pytest.raises(TrainingError, match=r"has no checkpoint; train again\.$"):
        export(run_copy, older)
    (run_copy / "summary.json").unlink()
    with pytest.raises(TrainingError, match=r"has not finished; go on with `rstpm-edge train --resume "):
        export(run_copy, older)
    with pytest.raises(TrainingError, match=r" is not a run of rstpm-edge\.$"):
        export(run_copy / "samples", older)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"fusion": 3}', '{"fusion": {"mode": 1, "surprise": 2}}'])
def test_a_damaged_summary(run_copy: Path, older: Path, content: str) -> None:
    (run_copy / "summary.json").write_text(content)
    with pytest.raises(TrainingError, match=r"summary\.json (is damaged|cannot be read).*\.$"):
        export(run_copy, older)


@pytest.mark.usefixtures("quick")
def test_outputs_that_cannot_be_written(run_copy: Path, tmp_path: Path) -> None:
    for output in (tmp_path / "missing" / "model.onnx", tmp_path):
        with pytest.raises(OutputError, match=rf"^Cannot write {output}: "):
            export(run_copy, output)


@pytest.mark.usefixtures("quick")
def test_a_new_model_replaces_the_older_one(run_copy: Path, tmp_path: Path, workplace: Workplace) -> None:
    output = tmp_path / "model.onnx"
    output.write_bytes(b"an older model")
    report = export(run_copy, output)
    assert (report.path, report.images, report.rare_operators) == (output, 6, ())
    assert set(report.operators) <= SAFE_OPERATORS
    assert 0 <= report.map_difference < 1e-4
    assert 0 <= report.score_difference < 1e-3
    assert output.read_bytes() == workplace.model.read_bytes()


# Other backbones


def test_a_backbone_with_squeeze_and_excitation(parts: Path, tmp_path: Path) -> None:
    preset = preset_with_teachers("edge", "mobilenetv3_small_050", None)
    files = sorted((parts / "train" / "good").iterdir())[:5]
    folder = teach(files, tmp_path / "run", preset=preset, epochs=1, weights={preset.teacher1: "random"})
    report = export(folder, tmp_path / "model.onnx")
    graph = onnx.load(tmp_path / "model.onnx")
    onnx.checker.check_model(graph, full_check=True)
    means = [node for node in graph.graph.node if node.op_type == "ReduceMean" and node.name.startswith("teacher1/")]
    assert len(means) > 1  # the squeeze
    assert report.map_difference < 1e-4


def test_the_small_preset(parts: Path, tmp_path: Path) -> None:
    files = sorted((parts / "train" / "good").iterdir())[:5]
    folder = teach(files, tmp_path / "run", preset=EDGE_SMALL, epochs=1, size=(128, 192))
    report = export(folder, tmp_path / "model.onnx")
    assert report.map_difference < 1e-4
    small = onnx.load(tmp_path / "model.onnx")
    assert set(report.operators) <= SAFE_OPERATORS
    assert [output.name for output in small.graph.output] == [*MAPS, "embedding"]
    poolings = [node for node in small.graph.node if node.op_type == "AveragePool"]
    assert len(poolings) == 1  # both teachers see the same reduced image
    result = Detector(tmp_path / "model.onnx")(files[0])
    assert result.anomaly_map.shape == read_image(files[0]).shape[:2]
    assert parse_bundle(small.metadata_props[0].value).preset == "edge-small"


# The paper's networks


def test_the_papers_networks_train_and_export(parts: Path, tmp_path: Path, images: list[NDArray[np.uint8]]) -> None:
    (tmp_path / "few").mkdir()
    for path in sorted((parts / "train" / "good").iterdir())[:5]:
        shutil.copy(path, tmp_path / "few")
    options = train.TrainingOptions(
        # A quarter of the channels of ResNet-50, which `make test-slow` takes: what decides the time, and nothing else.
        preset=dataclasses.replace(PAPER, teacher2="resnet34", batch_size=2),
        epochs=1,  # of two steps
        size=(64, 64),
        weights={"resnet18": "random", "resnet34": "random"},
    )
    model = tmp_path / "paper.onnx"
    try:
        folder = train.train(tmp_path / "few", options, train.Machine("cpu"), folder=tmp_path / "run")
        report = export(folder, model, fused=True)  # which compares it with PyTorch
        assert (report.rare_operators, report.obstacles) == ((), ())
        detector = Detector(model, threads=1, channels="rgb")
        result = detector(images[0])
    finally:  # hundreds of megabytes, which pytest would keep
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        model.unlink(missing_ok=True)
    assert detector.info.map_names == ("stpm_4", "stpm_8", "stpm_16", "recon_4", "recon_8", "recon_16")
    assert detector.info.fusion.mode == "paper"
    assert detector.info.teachers[1].source == "random"
    assert np.isfinite(result.anomaly_map).all()


def test_what_stands_in_the_way_of_other_runtimes_is_told(
    quick: onnx.ModelProto, workplace: Workplace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "refuse" not in workplace.said("export")[0]
    quick.graph.node.append(helper.make_node("MaxPool", [MAPS[0]], ["pooled", "where"], "pool", kernel_shape=[1]))
    report = export(workplace.run, tmp_path / "model.onnx")
    assert report.obstacles == ("pool gives indices.", "pool computes in INT64.")
    say_export(report)
    said = capsys.readouterr().out.splitlines()
    assert said[-1] == "TensorRT or OpenVINO may refuse this file, for 2 reasons: pool gives indices."
