"""The exported file: its graph, what it says about itself, and how it judges; also with the fusion inside."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from bundles import make_bundle
from exported_names import MAPS, SIZE, STRIDES
from numpy.typing import NDArray
from onnx import TensorProto, helper
from workplace import Workplace, document

from rstpm_edge import Detector
from rstpm_edge.engine import openvino as session_openvino
from rstpm_edge.image.decode import read_image
from rstpm_edge.image.preprocess import to_input
from rstpm_edge.model.metadata import (
    CHECKSUM_KEY,
    FILE_CHECKSUM_KEY,
    METADATA_KEY,
    CoarseCells,
    Fusion,
    HeadMap,
    ScoreFusion,
)
from rstpm_edge.model.outputs import ModelOutputs
from rstpm_edge.model.read_metadata import parse_bundle
from rstpm_edge.postprocess.reference import score as reference
from rstpm_edge.training.export import export as exporting
from rstpm_edge.training.export.export import SAFE_OPERATORS, export
from rstpm_edge.training.graph.fusion_nodes import add_fusion
from rstpm_edge.training.learning.run_config import load_config
from rstpm_edge.training.learning.run_summary import load_summary


def session(content: bytes | str) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])


def test_inputs_and_outputs(graph: onnx.ModelProto) -> None:
    def declared(value: onnx.ValueInfoProto) -> tuple[str, int, list[str | int]]:
        kind = value.type.tensor_type
        return value.name, kind.elem_type, [d.dim_param or d.dim_value for d in kind.shape.dim]

    assert [declared(value) for value in graph.graph.input] == [("image", TensorProto.UINT8, ["N", *SIZE, 3])]
    assert [declared(value) for value in graph.graph.output] == [
        (name, TensorProto.FLOAT, ["N", SIZE[0] // stride, SIZE[1] // stride])
        for name, stride in zip(MAPS, (*STRIDES * 4, 32, 32, 8), strict=True)
    ] + [("embedding", TensorProto.FLOAT, ["N", 112])]


def test_what_it_learned_tells_what_is_invalid(workplace: Workplace, parts: Path) -> None:
    detector = Detector(workplace.model)
    novelty = load_summary(workplace.run).novelty
    limits = load_config(workplace.run).limits
    assert limits is not None
    assert len(limits.light) == len(load_config(workplace.run).holdout)
    assert novelty is not None
    assert detector.info.validity == dataclasses.replace(limits, novelty=novelty)
    photos = [path for path in parts.rglob("*.png") if "ground_truth" not in path.parts]
    assert {detector(path).invalid_reason for path in photos} == {None}  # neither good parts nor defects
    photo = read_image(photos[0])
    other = np.random.default_rng(0).integers(0, 256, photo.shape, np.uint8)
    for unlike in (np.zeros_like(photo), np.full_like(photo, 255), cv2.GaussianBlur(photo, (0, 0), 6), other):
        assert detector(np.asarray(unlike, np.uint8)).verdict == "invalid"


def test_versions_and_operators(graph: onnx.ModelProto) -> None:
    assert [(entry.domain, entry.version) for entry in graph.opset_import] == [("", 17)]
    assert graph.ir_version == 8
    assert graph.producer_name == "rstpm-edge"
    operators = {node.op_type for node in graph.graph.node}
    assert operators <= SAFE_OPERATORS
    assert "BatchNormalization" not in operators
    assert not {node.domain for node in graph.graph.node} - {""}
    assert not graph.functions
    onnx.checker.check_model(graph, full_check=True)


def test_everything_has_a_readable_name(graph: onnx.ModelProto) -> None:
    nodes = [node.name for node in graph.graph.node]
    tensors = [tensor.name for tensor in graph.graph.initializer]
    assert len(set(nodes)) == len(nodes)
    assert len(set(tensors)) == len(tensors)
    for part in ("teacher1", "teacher2", "student1/stem", "student1/head_8", "student2/gate_16", "student2/head_32"):
        assert any(name.startswith(f"{part}/") for name in nodes), part
        assert any(name.startswith(f"{part}/") for name in tensors), part
    for name in ("student2/gate_16/score/weight", "student2/gate_32/score/bias", "student1/head_16/weight"):
        assert name in tensors
    for name in ("maps/stpm_8/prediction/Conv", "maps/recon_32/prediction/Conv", "maps/head/mix/0/Conv"):
        assert name in nodes
    values = [value for node in graph.graph.node for value in node.output]
    for name in (*nodes, *tensors, *values):
        assert re.fullmatch(r"[A-Za-z][\w/]*", name), name
        assert not re.search(r"\d{4}|^(val|node|getitem|convolution|add|mul)_\d+$", name), name


def test_the_image_is_scaled_by_the_first_weights(graph: onnx.ModelProto) -> None:
    constants = {tensor.name for tensor in graph.graph.initializer}
    used = {name for node in graph.graph.node for name in node.input}
    assert not [node.name for node in graph.graph.node if node.op_type == "Div" and node.input[1] in constants]
    assert constants <= used


def test_nothing_of_the_machine_is_in_the_file(workplace: Workplace, graph: onnx.ModelProto) -> None:
    content = workplace.model.read_bytes()
    places = [Path.home(), workplace.folder, Path(exporting.__file__).parent, Path(os.__file__).parent]
    for place in [str(path).encode() for path in places if len(str(path)) > 1]:
        assert place not in content, place
    written = onnx.load_from_string(content)
    for tensor in written.graph.initializer:
        tensor.ClearField("raw_data")  # whose bytes may spell anything
    content = written.SerializeToString()
    for word in (b".py", b"site-packages", b"Traceback", b"stack_trace", b"pkg.torch"):
        assert word not in content, word
    assert [entry.key for entry in graph.metadata_props] == [METADATA_KEY, CHECKSUM_KEY, FILE_CHECKSUM_KEY]
    described = [graph, graph.graph, *graph.graph.node, *graph.graph.initializer, *graph.graph.input]
    assert not [thing for thing in described if thing.doc_string]
    assert not [thing for thing in (graph.graph, *graph.graph.node) if thing.metadata_props]
    assert all(tensor.data_location == TensorProto.DEFAULT for tensor in graph.graph.initializer)


def test_the_document_is_that_of_the_run(workplace: Workplace, graph: onnx.ModelProto) -> None:
    bundle = parse_bundle(graph.metadata_props[0].value)
    config, summary = load_config(workplace.run), load_summary(workplace.run)
    assert (bundle.preset, bundle.height, bundle.width, bundle.resize) == ("edge", *SIZE, "stretch")
    assert bundle.strides == STRIDES
    assert bundle.fusion == summary.fusion
    assert bundle.calibration == summary.calibration
    assert tuple(teacher.sha256 for teacher in bundle.teachers) == summary.teacher_sha256
    assert [(teacher.name, teacher.license) for teacher in bundle.teachers] == [
        ("tf_efficientnet_lite0", "Apache-2.0"),
        ("tf_efficientnet_lite1", "Apache-2.0"),
    ]
    assert bundle.training["images"] == len(config.train) == 9
    assert bundle.training["holdout"] == len(config.holdout) == 3
    assert bundle.training["epochs"] == 2
    assert bundle.training["loss"] == pytest.approx(
        {"stpm": summary.losses[-1][0], "recon": summary.losses[-1][1]}, abs=1e-4
    )


def test_a_batch_gives_what_single_images_give(workplace: Workplace, images: list[NDArray[np.uint8]]) -> None:
    inputs = np.stack([to_input(image, SIZE, "stretch")[0] for image in images])
    runner = session(str(workplace.model))
    batch = runner.run(MAPS, {"image": inputs})
    for i in range(len(inputs)):
        for whole, single in zip(batch, runner.run(MAPS, {"image": inputs[i : i + 1]}), strict=True):
            np.testing.assert_allclose(whole[i : i + 1], single, atol=1e-5)


def test_a_detector_judges_images_of_other_sizes(workplace: Workplace, images: list[NDArray[np.uint8]]) -> None:
    detector = Detector(
        workplace.model, threads=1, channels="rgb", allow_size_change=True, notify=lambda sentence: None
    )
    for height, width in ((64, 96), (300, 200), (37, 501)):
        result = detector(cv2.resize(images[0], (width, height)))
        assert result.anomaly_map.shape == (height, width)
        assert np.isfinite(result.anomaly_map).all()


def test_held_out_images_score_what_the_calibration_says(workplace: Workplace, parts: Path) -> None:
    detector = Detector(workplace.model, threads=1)
    names = [photo.name for photo in load_config(workplace.run).holdout]
    scores = sorted(detector(parts / "train" / "good" / name).score for name in names)
    np.testing.assert_allclose(scores, detector.info.calibration.scores, rtol=1e-3, atol=1e-3)


# The fused variant


@pytest.mark.parametrize(("mode", "sigma"), [("normalized", 0.0), ("normalized", 3.0), ("paper", 0.0)])
@pytest.mark.parametrize("judged", [False, True], ids=["by the map", "by score maps"])
def test_the_fused_graph_agrees_with_the_reference(
    graph: onnx.ModelProto, images: list[NDArray[np.uint8]], mode: Any, sigma: float, judged: bool
) -> None:
    rng = np.random.default_rng(0)
    drawn = [[tuple(map(float, rng.uniform(0.2, 1.5, 6))) for _ in range(3)] for _ in range(2)]
    head = HeadMap(mean=-1.5, std=0.7, weight=0.4) if judged and mode == "normalized" else None
    fusion = Fusion(mode, *drawn[0], sigma, head)
    coarse = CoarseCells(*(row[:4] for row in drawn[0]))
    by_score_maps = ScoreFusion(Fusion("normalized", *drawn[1], 3.0), -2.0, coarse, map_weight=0.3)
    score_fusion = by_score_maps if judged else None
    bundle = make_bundle(fusion=fusion, score_fusion=score_fusion, height=SIZE[0], width=SIZE[1])
    model = onnx.ModelProto()
    model.CopyFrom(graph)
    add_fusion(model, fusion, score_fusion, SIZE)
    onnx.checker.check_model(model, full_check=True)
    assert {node.op_type for node in model.graph.node} <= SAFE_OPERATORS
    inputs = np.stack([to_input(image, SIZE, "stretch")[0] for image in images])
    *maps, anomaly_map, score = session(model.SerializeToString()).run(
        [*MAPS, "anomaly_map", "score"], {"image": inputs}
    )
    expected, expected_score = reference(ModelOutputs.named(MAPS, maps), bundle)
    assert anomaly_map.shape == (len(inputs), *SIZE)
    np.testing.assert_allclose(anomaly_map, expected, atol=1e-4)
    np.testing.assert_allclose(score, expected_score, atol=1e-4)


@pytest.mark.parametrize("mode", ["normalized", "paper"])
@pytest.mark.parametrize("runtime", ["onnxruntime", pytest.param("openvino", marks=pytest.mark.extra)])
def test_a_fused_graph_never_gives_a_number_for_maps_that_hold_nan(mode: Any, runtime: str) -> None:
    """Of a map of NaN, OpenVINO's maximum is the lowest number there is: the part would be good."""
    bundle = make_bundle(fusion=Fusion(mode), score_fusion=ScoreFusion(Fusion(), 1.0, CoarseCells(*[(0.5,) * 4] * 3)))
    names = [name for name in bundle.output_names if not name.startswith("head")]
    maps = [helper.make_tensor_value_info(f"in_{name}", TensorProto.FLOAT, ["N", 8, 8]) for name in names]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 8, 8]) for name in names]
    nodes = [helper.make_node("Identity", [f"in_{name}"], [name]) for name in names]
    model = helper.make_model(
        helper.make_graph(nodes, "g", maps, outputs), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    add_fusion(model, bundle.fusion, bundle.score_fusion, (64, 64))
    content = model.SerializeToString()
    if runtime == "openvino":
        core = session_openvino._openvino().Core()
        compiled = core.compile_model(core.read_model(content), "CPU")
        run = lambda feed: compiled(feed)["score"]  # noqa: E731
    else:
        loaded = session(content)
        run = lambda feed: loaded.run(["score"], feed)[0]  # noqa: E731
    feed = {f"in_{name}": np.ones((1, 8, 8), np.float32) for name in names}
    assert np.isfinite(run(feed)).all()
    for name in names:
        for value in (np.nan, np.inf):
            spoiled = feed | {f"in_{name}": feed[f"in_{name}"].copy()}
            spoiled[f"in_{name}"][0, 3, 5] = value
            assert not np.isfinite(run(spoiled)).any(), (name, value)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("sigma", [0.0, 4.0])
def test_the_fused_variant_agrees_with_the_detector(
    run_copy: Path, tmp_path: Path, images: list[NDArray[np.uint8]], sigma: float
) -> None:
    summary = document(run_copy / "summary.json")
    summary["fusion"]["smoothing_sigma"] = sigma
    (run_copy / "summary.json").write_text(json.dumps(summary))
    report = export(run_copy, tmp_path / "fused.onnx", fused=True)
    assert (report.rare_operators, report.obstacles) == ((), ())
    detector = Detector(tmp_path / "fused.onnx", threads=1, channels="rgb")
    runner = session(str(tmp_path / "fused.onnx"))
    for image in images:
        pixels = to_input(image, SIZE, "stretch")[0]
        (anomaly_map,), (score,) = runner.run(["anomaly_map", "score"], {"image": pixels[None]})
        result = detector(image)
        np.testing.assert_allclose(score, result.score, atol=1e-4, rtol=1e-4)
        np.testing.assert_allclose(anomaly_map, result.model_map, atol=1e-4, rtol=1e-4)
