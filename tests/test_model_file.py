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

from rstpm_edge import model_file
from rstpm_edge.bundle import CHECKSUM_KEY, METADATA_KEY
from rstpm_edge.detector import Detector
from rstpm_edge.errors import ModelError, RstpmEdgeError
from rstpm_edge.wire import graph_and_metadata, uses_external_data

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
    newer = make_bundle().to_json().replace('"schema_version": 1', '"schema_version": 2')
    fails(model_factory(document=newer), provider, "has schema version 2, .* upgrade rstpm-edge", capfd)


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
    stamp = model_file.checksum(graph.graph.SerializeToString(), document)
    helper.set_model_props(graph, {METADATA_KEY: document, CHECKSUM_KEY: stamp})
    content = bytearray(graph.SerializeToString())
    model.write_bytes(content)
    Detector(model, providers=provider)
    (scale,) = [tensor for tensor in graph.graph.initializer if tensor.name == "scale"]
    for place in (content.index(scale.raw_data), content.index(b'"scores": [') + len(b'"scores": [')):
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
    fails(path, provider, "keeps weights in a second file; export it again as one file", capfd)
    (tmp_path / "weights.bin").unlink()
    fails(path, provider, "keeps weights in a second file", capfd)


def test_external_data_is_found_wherever_a_tensor_may_stand() -> None:
    tensor = helper.make_tensor("t", TensorProto.FLOAT, [1], [1.0])
    external = onnx.TensorProto()
    external.CopyFrom(tensor)
    external.data_location = TensorProto.EXTERNAL

    def model(node_tensor: Any, inner: Any) -> bytes:
        constant = helper.make_node("Constant", [], ["c"], value=node_tensor)
        graph = helper.make_graph([], "inner", [], [], [inner])
        branch = helper.make_node("If", ["c"], ["d"], then_branch=graph, else_branch=graph)
        outer = helper.make_graph([constant, branch], "g", [], [], [tensor])
        return bytes(helper.make_model(outer).SerializeToString())

    assert not uses_external_data(model(tensor, tensor))
    assert uses_external_data(model(external, tensor))
    assert uses_external_data(model(tensor, external))
    assert not uses_external_data(b"\x80" * 10_000_000)  # a number without end


def test_the_metadata_of_a_file() -> None:
    model = onnx.ModelProto()
    model.graph.name = "g"
    helper.set_model_props(model, {"a": "first", "größe": "型" * 100, "empty": ""})
    content = bytes(model.SerializeToString())
    assert graph_and_metadata(content)[1] == {"a": "first", "größe": "型" * 100, "empty": ""}
    for damaged, message in (
        (content[:-1], "cut off"),
        (content[: len(content) - 300], "cut off"),
        (content + b"\x80", "ends in the middle of a number"),
        (content + b"\x0b", "unknown wire type 3"),
        (content + b"\x80" * 12, "more than 64 bits"),
        (b"", "no graph"),
        (b"\x08\x08", "no graph"),
        (content.replace("型".encode(), b"\xff\xff\xff"), "utf-8"),
    ):
        with pytest.raises(ValueError, match=message):
            graph_and_metadata(damaged)


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
    real = model_file.uses_external_data

    def replace_it(content: bytes) -> bool:
        model.with_name("new").write_bytes(other)
        model.with_name("new").replace(model)
        return real(content)

    def overwrite_it(content: bytes) -> bool:
        model.write_bytes(other)
        return real(content)

    monkeypatch.setattr(model_file, "uses_external_data", replace_it)
    assert Detector(model, providers=provider)(bad).is_anomalous
    monkeypatch.setattr(model_file, "uses_external_data", overwrite_it)
    with pytest.raises(ModelError, match="written to while it was being loaded"):
        Detector(model, providers=provider)


def test_a_model_where_there_is_no_proc(
    provider: str, model: Path, bad: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_file.os.path, "exists", lambda path: False)
    assert Detector(model, providers=provider)(bad).is_anomalous
