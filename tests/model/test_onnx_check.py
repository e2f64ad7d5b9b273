"""What passes the look into an ONNX file, byte by byte: only what a writer gives, and what export has a use for."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from bundles import make_bundle, make_model
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from rstpm_edge.model import protobuf
from rstpm_edge.model.onnx_check import check_onnx
from rstpm_edge.model.onnx_file import OnnxFile, split_onnx
from rstpm_edge.model.onnx_schema import ForeignError

SECOND_FILE = "keeps weights in a second file"
RUN_TIME = "decides at run time what to compute"
UNKNOWN = "parts that rstpm-edge does not write"


def look(content: bytes) -> OnnxFile:
    file = split_onnx(content)
    check_onnx(file)
    return file


def field(number: int, wire_type: int, content: bytes = b"") -> bytes:
    """A field by hand; the content of type 2 gets its length."""
    tag, out = number << 3 | wire_type, bytearray()
    for value in (tag, len(content)) if wire_type == 2 else (tag,):
        while value >= 0x80:
            out.append(value & 0x7F | 0x80)
            value >>= 7
        out.append(value)
    return bytes(out) + content


def model_of(tensor: bytes = b"", node: bytes = b"", graph: bytes = b"") -> bytes:
    """A model whose graph has these bytes in a tensor, in a node, or beside them."""
    inner = field(1, 2, field(4, 2, b"Relu") + node) + field(5, 2, field(8, 2, b"t") + tensor) + graph
    return field(7, 2, inner)


def test_what_is_written_passes() -> None:
    model = make_model(make_bundle(), fused=True)
    file = look(model.SerializeToString())
    assert bytes(file.graph) == model.graph.SerializeToString()
    assert (
        b"".join(file.stamped)
        == onnx.ModelProto(
            ir_version=model.ir_version, graph=model.graph, opset_import=model.opset_import
        ).SerializeToString()
    )
    assert look(model_of()).metadata == {}


@pytest.mark.parametrize("location", [b"\x01", b"\x81\x00", b"\x81\x80\x80\x80\x10", b"\x81\x80\x80\x80\x80\x01"])
def test_external_data_however_it_is_written(location: bytes) -> None:
    """Runtimes take the lower 32 bits of such a number, and numbers with needless zeros."""
    with pytest.raises(ValueError, match=f"{SECOND_FILE}|needless zeros"):
        look(model_of(tensor=field(14, 0, location)))
    look(model_of(tensor=field(14, 0, b"\x00")))


def test_the_names_of_other_files_are_refused_whatever_the_location_says() -> None:
    with pytest.raises(ForeignError, match=SECOND_FILE):
        look(model_of(tensor=field(13, 2, field(1, 2, b"location") + field(2, 2, b"/etc/passwd"))))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (model_of(tensor=field(99, 3) + field(14, 0, b"\x01") + field(99, 4)), "field 99|unknown wire type 3"),
        (model_of() + field(99, 3) + field(99, 4), "unknown wire type 3"),
        (model_of() + field(7, 2), "field 7 of a model twice"),
        (model_of() + b"\x08\x08\x08\x08", "field 1 of a model twice"),
        (model_of(tensor=field(14, 0, b"\x00") * 2), "field 14 of a tensor twice"),
        (model_of(node=field(5, 2, field(5, 2) + field(5, 2))), "field 5 of a attribute twice"),
        (model_of() + b"\x02\x00", "impossible number"),
        (model_of() + b"\x80\x80\x80\x80\x10\x00", "impossible number"),
        (model_of() + b"\x80\x00", "needless zeros"),
        (model_of() + b"\x08\x88\x00", "needless zeros"),
        (model_of() + b"\x08" + b"\xff" * 9 + b"\x02", "more than 64 bits"),
        (model_of() + b"\x80" * 12, "more than 64 bits"),
        (model_of() + b"\x80", "in the middle of a number"),
        (model_of() + b"\x0d\x00", "cut off"),
        (model_of()[:-1], "cut off"),
        (model_of(graph=field(5, 0, b"\x01")), "a number where a message should be"),
        (field(7, 0, b"\x01"), "a number where a message should be"),
        (model_of(graph=field(15, 2)), UNKNOWN),
        (model_of() + field(20, 2), UNKNOWN),
        (model_of() + field(25, 2), UNKNOWN),
        (model_of(node=field(5, 2, field(6, 2))), RUN_TIME),
        (model_of(node=field(5, 2, field(11, 2))), RUN_TIME),
        (model_of(node=field(5, 2, field(22, 2))), UNKNOWN),
        (model_of(node=field(5, 2, field(10, 2))), UNKNOWN),
        (model_of(node=field(5, 2, field(21, 2, b"x"))), UNKNOWN),
        (model_of(graph=field(11, 2, field(2, 2, field(4, 2)))), UNKNOWN),
        (b"", "no graph"),
        (b"\x08\x08", "no graph"),
        (model_of() + field(14, 2, field(1, 2, b"a")) * 2, "one name twice"),
        (model_of() + field(14, 2, field(1, 2, b"\xff")), "utf-8"),
    ],
)
def test_what_does_not_pass(content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        look(content)


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (field(4, 2, bytes(7)), "in the middle of a number"),  # float_data
        (field(10, 2, bytes(12)), "in the middle of a number"),  # double_data
        (field(1, 2, b"\x01\x80"), "in the middle of a number"),  # dims
        (field(7, 2, b"\x80" * 5), "in the middle of a number"),  # int64_data
        (field(5, 2, b"\x01" + b"\xff" * 10 + b"\x01"), "more than 64 bits"),  # int32_data
    ],
)
def test_numbers_in_a_row_that_protobuf_refuses(tensor: bytes, message: str) -> None:
    content = model_of(tensor=tensor)
    with pytest.raises(DecodeError):
        onnx.load_from_string(content)
    with pytest.raises(ValueError, match=message):
        look(content)


def test_numbers_in_a_row_that_protobuf_takes() -> None:
    for tensor in (
        field(4, 2, bytes(8)),
        field(7, 2, b"\xff" * 9 + b"\x01" + b"\x05"),
        field(5, 2),
        field(1, 2, b"\x80\x01"),
    ):
        onnx.load_from_string(model_of(tensor=tensor))
        look(model_of(tensor=tensor))


def onnx_model(*nodes: Any, **tensors: Any) -> bytes:
    constants = [numpy_helper.from_array(np.asarray(value), name) for name, value in tensors.items()]
    graph = helper.make_graph(list(nodes), "g", [], [], constants)
    return bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString())


def external() -> Any:
    tensor = helper.make_tensor("t", TensorProto.FLOAT, [1], [1.0])
    tensor.data_location = TensorProto.EXTERNAL
    return tensor


def attribute(**parts: Any) -> Any:
    node = helper.make_node("Relu", ["x"], ["y"])
    node.attribute.append(AttributeProto(name="a", **parts))
    return node


INNER = helper.make_graph([], "inner", [], [], [external()])
SPARSE = onnx.SparseTensorProto(values=external(), indices=external())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (onnx_model(helper.make_node("Constant", [], ["c"], value=external())), SECOND_FILE),
        (onnx_model(attribute(tensors=[external()])), UNKNOWN),
        (onnx_model(attribute(g=INNER)), RUN_TIME),
        (onnx_model(attribute(graphs=[INNER])), RUN_TIME),
        (onnx_model(attribute(sparse_tensor=SPARSE)), UNKNOWN),
        (onnx_model(attribute(sparse_tensors=[SPARSE])), UNKNOWN),
        (onnx_model(attribute(tp=onnx.TypeProto())), UNKNOWN),
        (onnx_model(helper.make_node("Loop", ["n", "c"], ["y"])), "does not take, 'Loop'"),
        (onnx_model(helper.make_node("Scan", ["n"], ["y"])), "does not take, 'Scan'"),
        (onnx_model(helper.make_node("\x1b[2K" * 99, ["n"], ["y"])), r"does not take, '\\x1b\[2K"),
        (onnx_model(helper.make_node("Relu", ["x"], ["y"], domain="com.microsoft")), "not ONNX's own"),
    ],
)
def test_tensors_and_graphs_wherever_they_may_stand(content: bytes, message: str) -> None:
    with pytest.raises(ForeignError, match=message):
        look(content)


@pytest.mark.parametrize("operator", ["ConstantOfShape", "Expand", "Tile"])
@pytest.mark.parametrize("way", ["initializer", "data", "value", "value_ints"])
def test_a_constant_that_asks_for_a_huge_tensor(operator: str, way: str) -> None:
    def content(shape: list[int]) -> bytes:
        node = helper.make_node(operator, ["s"] if operator == "ConstantOfShape" else ["x", "s"], ["y"])
        if way == "initializer":
            return onnx_model(node, s=np.array(shape, np.int64))
        tensor = helper.make_tensor("s", TensorProto.INT64, [len(shape)], shape)
        if way == "data":
            model = onnx.load_from_string(onnx_model(node))
            model.graph.initializer.append(tensor)
            return bytes(model.SerializeToString())
        given = {"value": tensor} if way == "value" else {"value_ints": shape}
        return onnx_model(helper.make_node("Constant", [], ["s"], **given), node)

    look(content([1, 64, 1024, 1024]))
    look(content([-1, 0, 1024]))
    with pytest.raises(ForeignError, match=f"its {operator} asks for a tensor of more than"):
        look(content([1 << 20, 1 << 20, 1]))


def test_a_file_of_nothing_but_parts_ends_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protobuf, "_MOST_FIELDS", 1000)
    with pytest.raises(ValueError, match="more than 1000 parts"):
        look(model_of(graph=field(5, 2) * 1001))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_byte_of_damage_ends_in_anything_but_a_sentence(data: Any) -> None:
    content = bytearray(make_model(make_bundle()).SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        look(bytes(content))
    except ValueError:
        return
    onnx.load_from_string(bytes(content))  # what passes, protobuf itself takes
