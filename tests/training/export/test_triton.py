"""A model repository for Triton: its configuration is one of the published schema, and what the graph is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from bundles import make_bundle, write_model
from google.protobuf import text_format
from traced import traced_already
from triton_schema import parse_config
from workplace import Workplace, command_line

from rstpm_edge import Detector
from rstpm_edge.errors import OutputError, UsageError
from rstpm_edge.training.export.triton import config_text, new_version

TYPES = {onnx.TensorProto.UINT8: "TYPE_UINT8", onnx.TensorProto.FLOAT: "TYPE_FP32"}


def add(folder: Path, name: str = "bracket", **bundle: object) -> Path:
    with new_version(folder, name) as version:
        write_model(version.model, make_bundle(**bundle), fused=True)
    return version.model


@pytest.mark.training
def test_a_repository_of_a_real_model(workplace: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each tensor of the configuration is one of the graph, and the file judges as any other."""
    monkeypatch.setattr("rstpm_edge.training.export.export.to_onnx", traced_already(workplace.model))
    said = command_line("export", workplace.run, "--triton", tmp_path / "models", "--triton-name", "bracket")
    assert said.exit_code == 0, said.stderr
    model = tmp_path / "models" / "bracket" / "1" / "model.onnx"
    assert said.stdout.startswith(f"{model} (")
    assert sorted(path.name for path in model.parent.parent.iterdir()) == ["1", "config.pbtxt"]
    config = parse_config((model.parent.parent / "config.pbtxt").read_text())
    assert (config.name, config.backend, config.max_batch_size) == ("bracket", "onnxruntime", 8)
    graph = onnx.load(model).graph
    known = {tensor.name: tensor.type.tensor_type for tensor in (*graph.input, *graph.output)}
    for tensor in (*config.input, *config.output):
        shape = list(tensor.reshape.shape) if tensor.HasField("reshape") else list(tensor.dims)
        batch, *rest = known[tensor.name].shape.dim
        assert batch.dim_param == "N"
        assert [one.dim_value for one in rest] == shape
        kinds = type(tensor).DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number
        assert kinds[tensor.data_type].name == TYPES[known[tensor.name].elem_type]
    assert [tensor.name for tensor in config.input] == [tensor.name for tensor in graph.input]
    detector = Detector(model, threads=1)
    assert float(config.parameters["threshold"].string_value) == detector.threshold
    assert config.parameters["sha256"].string_value == detector.sha256
    (warmup,) = config.model_warmup
    assert list(warmup.inputs["image"].dims) == list(config.input[0].dims)
    image = np.full((config.max_batch_size, *config.input[0].dims), 127, np.uint8)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    score, anomaly_map = session.run([one.name for one in config.output][::-1], {"image": image})
    assert score.shape == (8,)
    assert anomaly_map.shape == (8, *config.output[0].dims)


def test_versions(tmp_path: Path) -> None:
    assert add(tmp_path) == tmp_path / "bracket" / "1" / "model.onnx"
    first = parse_config((tmp_path / "bracket" / "config.pbtxt").read_text())
    (tmp_path / "bracket" / "9").mkdir()
    (tmp_path / "bracket" / "notes").mkdir()
    scores = tuple(i / 50 for i in range(1, 100))
    assert add(tmp_path, calibration=make_bundle().calibration.__class__(0.05, scores)).parent.name == "10"
    second = parse_config((tmp_path / "bracket" / "config.pbtxt").read_text())
    assert first.parameters["threshold"].string_value != second.parameters["threshold"].string_value
    assert first.input == second.input
    assert (tmp_path / "bracket" / "1" / "model.onnx").is_file()


def test_versions_of_other_tensors(tmp_path: Path) -> None:
    add(tmp_path)
    config = (tmp_path / "bracket" / "config.pbtxt").read_bytes()
    with pytest.raises(UsageError, match=r"The versions of bracket in .* give another `triton_name`"):
        add(tmp_path, width=96)
    assert sorted(path.name for path in (tmp_path / "bracket").iterdir()) == ["1", "config.pbtxt"]
    assert (tmp_path / "bracket" / "config.pbtxt").read_bytes() == config


def test_what_goes_wrong_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="refused"), new_version(tmp_path, "bracket"):
        raise RuntimeError("refused")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "bracket" / ".new").mkdir(parents=True)  # of a process that was killed
    (tmp_path / "bracket" / ".new" / "model.onnx").write_bytes(b"half")
    add(tmp_path)
    assert sorted(path.name for path in (tmp_path / "bracket").iterdir()) == ["1", "config.pbtxt"]


@pytest.mark.parametrize("name", ["", "..", "a/b", ".new", "a b"])
def test_names_that_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="`triton_name` has up to 100 letters"), new_version(tmp_path / "m", name):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file")
    with pytest.raises(OutputError, match="Cannot create the folder"), new_version(tmp_path / "models", "bracket"):
        pass


def test_the_schema_finds_what_is_wrong() -> None:
    text = config_text("bracket", make_bundle(), "0" * 64)
    assert parse_config(text).name == "bracket"
    for word, other in (("TYPE_UINT8", "TYPE_BYTE"), ("dims", "shape"), ("max_batch_size: 8", 'max_batch_size: "8"')):
        with pytest.raises(text_format.ParseError):
            parse_config(text.replace(word, other))


@pytest.mark.training
@pytest.mark.parametrize(
    "options", [("-o", "model.onnx", "--triton", "models"), ("--triton-name", "bracket"), ("--triton", "m", "-o", "x")]
)
def test_options_that_go_together(options: tuple[str, ...]) -> None:
    result = command_line("export", "run", *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "Error: Give either --output or --triton, with --triton-name for the latter.\n"
