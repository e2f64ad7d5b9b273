"""ONNX bytes: our look into the file. What passes it, protobuf's own reader reads the same."""

from __future__ import annotations

from pathlib import Path

import onnx
from bundles import make_bundle, make_model
from fuzz_folder import folder_of
from fuzz_sentences import check_sentence
from onnx import helper

from rstpm_edge.errors import ModelError
from rstpm_edge.model.goldens import parse_goldens
from rstpm_edge.model.metadata import METADATA_KEY
from rstpm_edge.model.model_file import golden_entries, opened, stamps
from rstpm_edge.model.onnx_check import check_onnx
from rstpm_edge.model.onnx_file import split_onnx
from rstpm_edge.model.onnx_schema import OPERATORS
from rstpm_edge.model.read_metadata import parse_bundle


def _file() -> Path:
    return folder_of("onnx") / "model.onnx"


def seeds() -> list[bytes]:
    """Small models: stamped and not, with a fused score, with goldens, with constants that ask for sizes."""
    bundle = make_bundle()
    plain = make_model(bundle)
    fused = make_model(bundle, fused=True)
    stamped = make_model(bundle)
    entries = {METADATA_KEY: bundle.to_json()}
    helper.set_model_props(stamped, {**entries, **stamps(plain.SerializeToString(), bundle.to_json())})
    golden = make_model(bundle)
    helper.set_model_props(golden, {**entries, **golden_entries('{"schema_version": 1}')})
    shape = helper.make_tensor("s", onnx.TensorProto.INT64, [2], [3, 4])
    nodes = [
        helper.make_node("Constant", [], ["c"], value_ints=[1, 2]),
        helper.make_node("Expand", ["c", "s"], ["e"]),
        helper.make_node("ConstantOfShape", ["s"], ["y"]),
    ]
    sized = helper.make_model(helper.make_graph(nodes, "g", [], [], [shape]))
    helper.set_model_props(sized, entries)
    return [bytes(one.SerializeToString()) for one in (plain, fused, stamped, golden, sized)]


def check(data: bytes) -> bool:
    """Parts of a file that protobuf, where it takes it, finds as ours does; and a ModelError with a sentence."""
    try:
        file = split_onnx(data)
        check_onnx(file)
    except ValueError:
        pass  # `opened` makes a sentence of it
    else:
        model = onnx.load_from_string(data)
        assert {entry.key: entry.value for entry in model.metadata_props} == dict(file.metadata)
        assert not any(tensor.data_location for tensor in model.graph.initializer)
        assert {node.op_type for node in model.graph.node} <= OPERATORS
    path = _file()
    with open(path, "wb") as file_on_disk:
        file_on_disk.write(data)
    try:
        with opened(path) as found:
            document, goldens = found.document, found.goldens
        parse_bundle(document)
        if goldens is not None:
            parse_goldens(goldens)
    except ModelError as error:
        check_sentence(error)
    return True
