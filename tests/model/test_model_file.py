"""Model files that are missing, damaged, foreign or changed, whatever runtime is to load them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from bundles import ModelFactory, make_bundle, make_model
from numpy.typing import NDArray
from onnx import TensorProto, helper

from rstpm_edge.detector import Detector
from rstpm_edge.errors import ModelError, RstpmEdgeError
from rstpm_edge.model import model_file
from rstpm_edge.model.metadata import CHECKSUM_KEY, METADATA_KEY
from rstpm_edge.model.onnx_file import OnnxFile

Image = NDArray[np.uint8]


@pytest.fixture(params=["cpu", pytest.param("openvino", marks=pytest.mark.extra)])
def provider(request: pytest.FixtureRequest) -> str:
    """The runtimes that read model files themselves."""
    return str(request.param)


def fails(path: Path, provider: str, message: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        Detector(path, providers=provider)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""  # the runtime said nothing of its own


def test_files_that_are_no_models(
    provider: str, tmp_path: Path, model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fails(tmp_path / "none.onnx", provider, "There is no model file .*none.onnx; `rstpm-edge export` makes one", capfd)
    fails(tmp_path, provider, "is a folder", capfd)
    fails(model / "below", provider, "Not a directory", capfd)
    content = model.read_bytes()
    for damaged in (
        b"",
        b"random bytes" * 99,
        b"\xff" * 9999,
        bytes(9999),
        content[:9],
        content[:-9],
        b"\x0a" + content,
    ):
        model.write_bytes(damaged)
        fails(model, provider, "is damaged, or not an ONNX file: ", capfd)


def test_every_truncation_is_an_error_of_ours(provider: str, model: Path) -> None:
    content = model.read_bytes()
    for length in range(0, len(content) - 1, 97):
        model.write_bytes(content[:length])
        with pytest.raises(RstpmEdgeError):
            Detector(model, providers=provider)


def test_foreign_and_newer_models(
    provider: str, model_factory: ModelFactory, capfd: pytest.CaptureFixture[str]
) -> None:
    foreign = make_model(make_bundle())
    del foreign.metadata_props[:]
    path = model_factory()
    path.write_bytes(foreign.SerializeToString())
    fails(path, provider, "was not exported by rstpm-edge", capfd)
    fails(model_factory(document="{}"), provider, "metadata is damaged", capfd)
    newer = make_bundle().to_json().replace('"schema_version": 4', '"schema_version": 5')
    fails(model_factory(document=newer), provider, "has schema version 5, .* needs rstpm-edge ≥ .*; upgrade", capfd)


@pytest.mark.parametrize(
    ("spoiled", "message"),
    [
        ({"input_name": "picture"}, "The input of"),
        ({"input_type": TensorProto.FLOAT}, "The input of"),
        ({"batch": 1}, "The input of"),
        ({"document": make_bundle(height=128).to_json()}, "The input of"),
        ({"leave_out": "recon_8"}, "The output recon_8 of"),
        ({"document": make_bundle(strides=(4, 8, 32)).to_json()}, "The output stpm_32 of"),
    ],
    ids=["name", "type", "fixed batch", "size", "no output", "strides"],
)
def test_graphs_that_are_not_what_their_metadata_says(
    provider: str, model_factory: ModelFactory, spoiled: Any, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    fails(model_factory(**spoiled), provider, message + ".* metadata; export the model again", capfd)


def test_a_weight_or_a_document_that_changed_is_noticed(
    provider: str, model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    graph = onnx.load(model)
    document = graph.metadata_props[0].value
    graph.producer_version = "1.2"
    (scale,) = [tensor for tensor in graph.graph.initializer if tensor.name == "scale"]
    stamps = model_file.stamps(graph.SerializeToString(), document)
    old = {CHECKSUM_KEY: stamps[CHECKSUM_KEY]}  # a file from before: it tells of the graph only
    for stamp in (stamps, old):
        helper.set_model_props(graph, {METADATA_KEY: document, **stamp})
        content = bytearray(graph.SerializeToString())
        model.write_bytes(content)
        Detector(model, providers=provider)
        places = [content.index(scale.raw_data), content.index(b'"scores": [') + len(b'"scores": [')]
        for place in (*places, content.index(b"1.2")) if stamp is stamps else places:
            content[place] ^= 1
            model.write_bytes(content)
            fails(model, provider, "has been changed since it was exported, or is damaged: copy it again", capfd)
            content[place] ^= 1


def test_external_data_is_refused_also_where_it_would_be_found(
    provider: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "external.onnx"
    model = make_model(make_bundle())
    (scale,) = [tensor for tensor in model.graph.initializer if tensor.name == "scale"]
    (tmp_path / "weights.bin").write_bytes(scale.raw_data)
    onnx.external_data_helper.set_external_data(scale, "weights.bin")
    scale.ClearField("raw_data")
    path.write_bytes(model.SerializeToString())
    monkeypatch.chdir(tmp_path)  # where ONNX Runtime would look
    fails(path, provider, "keeps weights in a second file; export it again", capfd)
    (tmp_path / "weights.bin").unlink()
    fails(path, provider, "keeps weights in a second file", capfd)


@pytest.mark.parametrize("kind", ["pipe", "device", "sparse"])
def test_a_model_that_is_no_regular_file(
    kind: str, provider: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model.onnx"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        with open(path, "wb") as file:
            file.truncate(3 << 30)
    fails(path, provider, "is larger than 2 GB" if kind == "sparse" else "is a pipe or a device", capfd)


def test_a_newer_file_is_called_newer_whatever_else_it_has(
    provider: str, model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    graph = onnx.load(model)
    document = graph.metadata_props[0].value.replace('"schema_version": 4', '"schema_version": 5, "strides": NaN')
    graph.functions.add().name = "new"
    graph.graph.node[0].domain = "new"
    helper.set_model_props(graph, {METADATA_KEY: document})
    model.write_bytes(graph.SerializeToString() + b"\xa0\x06\x01")  # and a field 100
    fails(model, provider, "has schema version 5, .* needs rstpm-edge ≥ .*; upgrade", capfd)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda graph: graph.functions.add(), "parts that rstpm-edge does not write"),
        (lambda graph: graph.training_info.add(), "parts that rstpm-edge does not write"),
        (lambda graph: graph.opset_import.add(domain="com.microsoft", version=1), "not ONNX's own"),
        (lambda graph: setattr(graph.graph.node[0], "domain", "ai.onnx.ml"), "not ONNX's own"),
        (lambda graph: setattr(graph.graph.node[0], "op_type", "Loop"), "an operator that rstpm-edge does not take"),
    ],
    ids=["function", "training", "domain", "operator's domain", "loop"],
)
def test_what_export_does_not_write_is_refused(
    change: Any, message: str, provider: str, model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    graph = onnx.load(model)
    change(graph)
    model.write_bytes(graph.SerializeToString())
    fails(model, provider, f"is none that rstpm-edge exports: .*{message}.*; export it again", capfd)


def test_a_model_on_a_path_with_odd_characters(provider: str, model: Path, bad: Image) -> None:
    odd = model.with_name("Modèle – größe 型.onnx")
    shutil.copy(model, odd)
    assert Detector(odd, providers=provider)(bad).is_anomalous
    raw = os.fsencode(model.with_name("no utf-8 ")) + b"\xff\n.onnx"
    shutil.copy(model, raw)
    assert Detector(os.fsdecode(raw), providers=provider)(bad).is_anomalous


def test_a_model_that_is_replaced_while_it_is_loaded(
    provider: str, model: Path, model_factory: ModelFactory, bad: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was looked at is what runs; a file that is written to is refused."""
    other = model_factory("other.onnx", scale=float("nan")).read_bytes()
    real = model_file.check_onnx

    def replace_it(file: OnnxFile) -> None:
        model.with_name("new").write_bytes(other)
        model.with_name("new").replace(model)
        real(file)

    def overwrite_it(file: OnnxFile) -> None:
        model.write_bytes(other)
        real(file)

    monkeypatch.setattr(model_file, "check_onnx", replace_it)
    assert Detector(model, providers=provider)(bad).is_anomalous
    monkeypatch.setattr(model_file, "check_onnx", overwrite_it)
    with pytest.raises(ModelError, match="written to while it was being loaded"):
        Detector(model, providers=provider)


def test_a_model_where_there_is_no_proc(
    provider: str, model: Path, bad: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_file.os.path, "exists", lambda path: False)
    assert Detector(model, providers=provider)(bad).is_anomalous
