"""The parts of an ONNX file: its graph, its metadata, its bytes but for those; before a runtime loads it."""

from collections.abc import Mapping
from dataclasses import dataclass
from mmap import mmap

from rstpm_edge.model.onnx_schema import known_fields
from rstpm_edge.model.protobuf import Reader, delimited

# Fields of a model after onnx.proto.
_MODEL = (1, 2, 3, 4, 5, 6, 7, 8, 14)
_GRAPH, _OPSET, _METADATA = 7, 8, 14


@dataclass(frozen=True)
class OnnxFile:
    """The parts of an ONNX file.

    `stamped` are its bytes in their order, but for the metadata; `graph` is among them.
    """

    graph: memoryview
    metadata: Mapping[str, str]
    stamped: tuple[memoryview, ...]
    unknown: tuple[int, ...]  # fields that a newer format may have
    domains: tuple[str, ...]  # of the operators that it says to use


def split_onnx(model: bytes | mmap) -> OnnxFile:
    """The parts of an ONNX file, unknown ones of a newer format among them; the graph is not looked into.

    Raises ValueError where it is not an ONNX file, was cut off, or is written as no writer does.
    """
    whole, reader = memoryview(model), Reader()
    graph: memoryview | None = None
    metadata: dict[str, str] = {}
    domains: list[str] = []
    stamped: list[memoryview] = []
    unknown: list[int] = []
    seen: set[int] = set()
    for one in reader.fields(whole):
        if one.number not in _MODEL:
            unknown.append(one.number)
        elif one.number in seen and one.number not in (_OPSET, _METADATA):
            raise ValueError(f"it has field {one.number} of a model twice")  # and runtimes merge them
        seen.add(one.number)
        if one.number != _METADATA:
            stamped.append(whole[one.start : one.end])
        if one.number == _GRAPH:
            graph = one.message
        elif one.number == _OPSET:
            domains.append(_texts(reader, one.message, "opset").get(1, ""))
        elif one.number == _METADATA:
            entry = _texts(reader, one.message, "entry")
            if entry.get(1, "") in metadata:
                raise ValueError("its metadata has one name twice")
            metadata[entry.get(1, "")] = entry.get(2, "")
    if graph is None:
        raise ValueError("it holds no graph")
    return OnnxFile(graph, metadata, tuple(stamped), tuple(unknown), tuple(domains))


def with_metadata(file: OnnxFile, metadata: Mapping[str, str]) -> bytes:
    """The bytes of a file with this metadata in the place of its own; all others stay as they are."""
    parts: list[bytes | memoryview] = list(file.stamped)
    for key, value in metadata.items():
        entry = b"".join(delimited(number, text.encode()) for number, text in ((1, key), (2, value)))
        parts.append(delimited(_METADATA, entry))
    return b"".join(parts)


def _texts(reader: Reader, message: memoryview, kind: str) -> dict[int, str]:
    """The texts of a message by their field."""
    return {one.number: one.text for one in known_fields(reader, message, kind) if isinstance(one.value, memoryview)}
