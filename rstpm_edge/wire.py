"""Just enough of the protobuf wire format to look into an ONNX file before a runtime loads it."""

from collections.abc import Iterator
from mmap import mmap

# Where tensors stand in a model, after onnx.proto: message → field number → message.
_FIELDS = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
_DATA_LOCATION = 14  # of TensorProto; 1 means that the numbers are in another file
_GRAPH, _METADATA = 7, 14  # of ModelProto; its metadata are messages of a key (1) and a value (2)
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def uses_external_data(model: bytes | mmap) -> bool:
    """Whether a tensor of this ONNX file keeps its numbers in a second file.

    ONNX Runtime would open that file, whatever it is. Damaged input counts as False: loading will tell.
    """
    try:
        return _search(memoryview(model), "model")
    except (IndexError, ValueError, RecursionError):
        return False


def graph_and_metadata(model: bytes | mmap) -> tuple[memoryview, dict[str, str]]:
    """The bytes of this ONNX file's graph, and the metadata that it carries.

    Raises ValueError where it is not an ONNX file, or one that was cut off.
    """
    graph: memoryview | None = None
    found: dict[str, str] = {}
    try:
        for field, value in _fields(memoryview(model)):
            if field == _GRAPH and isinstance(value, memoryview):
                graph = value
            if field == _METADATA and isinstance(value, memoryview):
                entry = {key: bytes(text).decode() for key, text in _fields(value) if isinstance(text, memoryview)}
                found[entry.get(1, "")] = entry.get(2, "")
    except IndexError as error:
        raise ValueError("it ends in the middle of a number") from error
    if graph is None:
        raise ValueError("it holds no graph")
    return graph, found


def _search(message: memoryview, kind: str) -> bool:
    if kind == "tensor":
        return (_DATA_LOCATION, 1) in _fields(message)
    inner = _FIELDS[kind]
    return any(
        _search(value, inner[field])
        for field, value in _fields(message)
        if field in inner and isinstance(value, memoryview)
    )


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        field, wire_type = tag >> 3, tag & 7
        if wire_type == _VARINT:
            value, position = _varint(message, position)
            yield field, value
        elif wire_type == _BYTES:
            length, position = _varint(message, position)
            if length > len(message) - position:
                raise ValueError("it was cut off")
            yield field, message[position : position + length]
            position += length
        elif wire_type in (_FIXED32, _FIXED64):
            position += 4 if wire_type == _FIXED32 else 8
        else:
            raise ValueError(f"it has a field of the unknown wire type {wire_type}")


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 64, 7):
        byte = message[position]
        value |= (byte & 0x7F) << shift
        position += 1
        if byte < 0x80:
            return value, position
    raise ValueError("it has a number of more than 64 bits")
