"""Every implementation of the score, held to the same committed numbers; the C library is in test_c_scores.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkout import ROOT
from score_vectors import FILE, Vector, load

from rstpm_edge.errors import ModelError
from rstpm_edge.native import kernels
from rstpm_edge.postprocess.reference import score_outputs
from rstpm_edge.postprocess.scoring import Scorer

VECTORS = load()
each = pytest.mark.parametrize("vector", VECTORS, ids=[vector.name for vector in VECTORS])


@each
def test_the_reference(vector: Vector) -> None:
    found = score_outputs(vector.outputs, vector.fusion, vector.score_fusion, vector.size, vector.counts)
    if vector.finite:
        vector.check(*(one[0] for one in found))
    else:
        assert not np.isfinite(found[1][0])


@each
@pytest.mark.parametrize("kernel", kernels().available)
def test_each_kernel(vector: Vector, kernel: str) -> None:
    scorer = Scorer(vector.fusion, vector.score_fusion, vector.levels, vector.size, kernel=kernel)
    ignored = None if vector.counts is None else [~vector.counts]
    if vector.finite:
        found = scorer(vector.outputs, ignored)
        vector.check(found.anomaly_map[0], found.score[0], found.position[0])
        assert scorer.kernel == kernel
    else:
        with pytest.raises(ModelError, match="NaN or infinite"):
            scorer(vector.outputs, ignored)


def fused_graph(vector: Vector) -> bytes:
    """The outputs as inputs of a graph, and the fusion that `export --fused` appends behind them."""
    import onnx
    from onnx import TensorProto, helper

    from rstpm_edge.training.graph.fusion_nodes import add_fusion

    nodes, inputs, outputs = [], [], []
    for name, values in zip(vector.names, vector.outputs.flat(), strict=True):
        nodes.append(helper.make_node("Identity", [f"in_{name}"], [name]))
        shape = ["N", *values.shape[1:]]
        inputs.append(helper.make_tensor_value_info(f"in_{name}", TensorProto.FLOAT, shape))
        outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    graph = helper.make_graph(nodes, "vector", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    add_fusion(model, vector.fusion, vector.score_fusion, vector.size)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def in_onnxruntime(model: bytes, inputs: dict[str, Any]) -> tuple[Any, Any]:
    import onnxruntime

    anomaly_map, score = onnxruntime.InferenceSession(model).run(["anomaly_map", "score"], inputs)
    return anomaly_map, score


def in_openvino(model: bytes, inputs: dict[str, Any]) -> tuple[Any, Any]:
    openvino = pytest.importorskip("openvino")
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(model), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = compiled(inputs)
    return found["anomaly_map"], found["score"]


@pytest.mark.parametrize("vector", [pytest.param(v, id=v.name) for v in VECTORS if v.counts is None])
@pytest.mark.training
@pytest.mark.parametrize("runtime", [in_onnxruntime, in_openvino])
def test_the_fused_graph(vector: Vector, runtime: Any) -> None:
    """It takes no mask."""
    inputs = {f"in_{name}": values for name, values in zip(vector.names, vector.outputs.flat(), strict=True)}
    anomaly_map, score = runtime(fused_graph(vector), inputs)
    if vector.finite:
        vector.check(anomaly_map[0], score[0])
    else:
        assert np.isnan(score[0])


@pytest.mark.checkout
def test_the_file_is_what_its_script_writes(tmp_path: Path) -> None:
    file = str(tmp_path / "scores.json")
    code = f"import score_vectors as s; from pathlib import Path; s.FILE = Path({file!r}); s.main()"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT / "tools")
    old, new = FILE.read_text().splitlines(), (tmp_path / "scores.json").read_text().splitlines()
    assert [line for line in new if "expected" not in line] == [line for line in old if "expected" not in line]
