"""An ONNX file, looked into before a runtime loads it: enough of protobuf's wire format, and no more than we write.

Parsers differ in what they make of bytes that no writer gives: numbers with needless zeros, groups, messages that come
twice and are merged. What one of them overlooks another may obey, so nothing of that passes. Nor does what `export` has
no use for: tensors in other files, functions, operators that loop, branch, or come from elsewhere.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from mmap import mmap
from typing import NamedTuple

import numpy as np

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MOST_FIELDS = 2_000_000  # some 20,000 are usual; so many are looked at in seconds
_MOST_ITEMS = 1 << 28  # numbers in a tensor that a constant asks for: 1 GB of float32
_MOST_SIDES = 64  # numbers that say a size
_INT64 = 7


class ForeignError(ValueError):
    """A file that may well be sound ONNX, but none that this package writes, or one that asks for other files."""


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


# After onnx.proto: message → field number → what it is. A name of a message for one that may come once, with * for any
# number of times; "." for a value that may come once, "*" for any number of times. All others are refused.
_FIELDS: Mapping[str, Mapping[int, str]] = {
    "graph": {1: "node*", 2: ".", 5: "tensor*", 10: ".", 11: "value*", 12: "value*", 13: "value*"},
    "node": {1: "*", 2: "*", 3: ".", 4: ".", 5: "attribute*", 6: ".", 7: "."},
    "attribute": {1: ".", 2: ".", 3: ".", 4: ".", 5: "tensor", 7: "*", 8: "*", 9: "*", 13: ".", 20: "."},
    "tensor": {1: "*", 2: ".", 4: "*", 5: "*", 6: "*", 7: "*", 8: ".", 9: ".", 10: "*", 11: "*", 12: ".", 14: "."},
    "value": {1: ".", 2: "type", 3: "."},
    "type": {1: "tensor type", 6: "."},
    "tensor type": {1: ".", 2: "shape"},
    "shape": {1: "dimension*"},
    "dimension": {1: ".", 2: ".", 3: "."},
    "opset": {1: ".", 2: "."},
    "entry": {1: ".", 2: "."},
}
# Numbers that may stand in a row without tags: bytes of each, or None for those of any length (varints).
_PACKED: Mapping[tuple[str, int], int | None] = {
    ("attribute", 7): 4,
    ("attribute", 8): None,
    ("tensor", 1): None,
    ("tensor", 4): 4,
    ("tensor", 5): None,
    ("tensor", 7): None,
    ("tensor", 10): 8,
    ("tensor", 11): None,
}
_MODEL = (1, 2, 3, 4, 5, 6, 7, 8, 14)
_GRAPH, _OPSET, _METADATA = 7, 8, 14
_OWN_DOMAINS = ("", "ai.onnx")
# What some of the others would be, for the sentence.
_OTHER_FILE = {("tensor", 13), ("tensor", 14)}  # external_data, data_location
_STEERING = {("attribute", 6), ("attribute", 11)}  # graphs: those of Loop, Scan and If

# All that computes numbers from numbers, in a time and to a size that the shapes say, in opset 17. Not among them: what
# loops or branches, what draws random numbers, sequences, strings, and what finds its own sizes.
OPERATORS = frozenset(
    """
    Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization BitShift Cast CastLike
    Ceil Celu Clip Concat Constant ConstantOfShape Conv ConvInteger ConvTranspose Cos Cosh CumSum DepthToSpace
    DequantizeLinear Div DynamicQuantizeLinear Einsum Elu Equal Erf Exp Expand EyeLike Flatten Floor Gather
    GatherElements GatherND Gelu Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool Greater GreaterOrEqual GridSample
    GroupNormalization HardSigmoid HardSwish Hardmax Identity InstanceNormalization IsInf IsNaN LRN LayerNormalization
    LeakyRelu Less LessOrEqual Log LogSoftmax LpNormalization LpPool MatMul MatMulInteger Max MaxPool Mean
    MeanVarianceNormalization Min Mish Mod Mul Neg Not OneHot Or PRelu Pad Pow QLinearConv QLinearMatMul QuantizeLinear
    Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
    ReduceSumSquare Relu Reshape Resize Round ScatterElements ScatterND Selu Shape Sigmoid Sign Sin Sinh Size Slice
    Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Swish Tan Tanh ThresholdedRelu Tile TopK Transpose
    Trilu Unsqueeze Where Xor
    """.split()  # noqa: SIM905, a hundred lines otherwise
)
# Operators that make as many numbers as a constant says: the input with it.
_SIZED = {"ConstantOfShape": 0, "Expand": 1, "OneHot": 1, "Pad": 1, "Range": 1, "Resize": 3, "Tile": 1}


def split(model: bytes | mmap) -> OnnxFile:
    """The parts of an ONNX file, unknown ones of a newer format among them; the graph is not looked into.

    Raises ValueError where it is not an ONNX file, was cut off, or is written as no writer does.
    """
    whole, walk = memoryview(model), _Walk()
    graph: memoryview | None = None
    metadata: dict[str, str] = {}
    domains: list[str] = []
    stamped: list[memoryview] = []
    unknown: list[int] = []
    seen: set[int] = set()
    for one in walk.fields(whole):
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
            domains.append(walk.texts(one.message, "opset").get(1, ""))
        elif one.number == _METADATA:
            entry = walk.texts(one.message, "entry")
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
        entry = b"".join(_delimited(number, text.encode()) for number, text in ((1, key), (2, value)))
        parts.append(_delimited(_METADATA, entry))
    return b"".join(parts)


def check(file: OnnxFile) -> None:
    """Look through a file for what `export` does not write.

    Raises ForeignError for that, and ValueError for bytes that are written as no writer does.
    """
    if file.unknown:
        raise ForeignError(f"it has parts that rstpm-edge does not write (field {file.unknown[0]})")
    if any(domain not in _OWN_DOMAINS for domain in file.domains):
        raise ForeignError("it asks for operators that are not ONNX's own")
    _Walk().graph(file.graph)


class _Field(NamedTuple):  # made twenty thousand times a file, and faster than a dataclass
    number: int
    start: int
    end: int
    value: int | memoryview | None  # None for a number of a fixed size

    @property
    def message(self) -> memoryview:
        if not isinstance(self.value, memoryview):
            raise ValueError("it has a number where a message should be")
        return self.value

    @property
    def text(self) -> str:
        return bytes(self.message).decode()


class _Walk:
    """Through one file, with what was seen on the way."""

    def __init__(self) -> None:
        self._left = _MOST_FIELDS
        self._asked: list[tuple[str, str]] = []  # operators that make as many numbers as a constant says, and its name
        self._constants: dict[str, list[memoryview | int]] = {}  # whole numbers by name: packed, or one

    def graph(self, graph: memoryview) -> None:
        for one in self._known(graph, "graph"):
            if one.number == 1:
                self._node(one.message)
            elif one.number == 5:
                self._tensor(one.message)
            elif one.number in (11, 12, 13):
                self._plain(one.message, "value")
        for operator, name in self._asked:
            if _product(self._constants.get(name, [])) > _MOST_ITEMS:
                raise ForeignError(f"its {operator} asks for a tensor of more than {_MOST_ITEMS} numbers")

    def _node(self, node: memoryview) -> None:
        inputs: list[str] = []
        outputs: list[str] = []
        operator = ""
        whole_numbers: list[memoryview | int] = []
        for one in self._known(node, "node"):
            if one.number == 1:
                inputs.append(one.text)
            elif one.number == 2:
                outputs.append(one.text)
            elif one.number == 4:
                operator = one.text
            elif one.number == 7 and one.text not in _OWN_DOMAINS:
                raise ForeignError("it has operators that are not ONNX's own")
            elif one.number == 5:
                for part in self._known(one.message, "attribute"):
                    if part.number == 5:
                        whole_numbers += self._tensor(part.message)
                    elif part.number in (3, 8) and part.value is not None:
                        whole_numbers.append(part.value)
        if operator not in OPERATORS:
            raise ForeignError(f"it has an operator that rstpm-edge does not take, {operator[:40]!a}")
        if operator == "Constant":
            self._constants.update(dict.fromkeys(outputs, whole_numbers))
        if operator in _SIZED and len(inputs) > _SIZED[operator]:
            self._asked.append((operator, inputs[_SIZED[operator]]))

    def _tensor(self, tensor: memoryview) -> list[memoryview | int]:
        """What may be its whole numbers."""
        name = ""
        kind = 0
        whole_numbers: list[memoryview | int] = []
        for one in self._known(tensor, "tensor"):
            if one.number == 2 and isinstance(one.value, int):
                kind = one.value
            elif one.number == 8:
                name = one.text
            elif one.number == 14 and one.value != 0:
                raise _refused("tensor", one.number)
            elif one.number == 7 and one.value is not None:
                whole_numbers.append(one.value)
            elif one.number == 9 and len(one.message) <= 8 * _MOST_SIDES:
                raw = one.message
                whole_numbers += [int.from_bytes(raw[i : i + 8], "little") for i in range(0, len(raw), 8)]
        if kind == _INT64:
            self._constants[name] = whole_numbers
            return whole_numbers
        return []

    def _plain(self, message: memoryview, kind: str) -> None:
        """A message that holds nothing but what `_FIELDS` says; it is as deep as that table."""
        for one in self._known(message, kind):
            inner = _FIELDS[kind][one.number].removesuffix("*")
            if inner not in ("", "."):
                self._plain(one.message, inner)

    def texts(self, message: memoryview, kind: str) -> dict[int, str]:
        """The texts of a message by their field."""
        return {one.number: one.text for one in self._known(message, kind) if isinstance(one.value, memoryview)}

    def _known(self, message: memoryview, kind: str) -> Iterator[_Field]:
        """Fields that a message of this kind may have. Raises ForeignError for others."""
        allowed = _FIELDS[kind]
        seen: set[int] = set()
        for one in self.fields(message):
            what = allowed.get(one.number)
            if what is None:
                raise _refused(kind, one.number)
            if one.number in seen and not what.endswith("*"):
                raise ValueError(f"it has field {one.number} of a {kind} twice")  # and runtimes merge them
            seen.add(one.number)
            if (kind, one.number) in _PACKED and isinstance(one.value, memoryview):
                _check_packed(one.value, _PACKED[kind, one.number])
            yield one

    def fields(self, message: memoryview) -> Iterator[_Field]:
        position, end = 0, len(message)
        while position < end:
            self._left -= 1
            if self._left < 0:
                raise ValueError(f"it has more than {_MOST_FIELDS} parts")
            start = position
            tag, position = _varint(message, position)
            number, wire_type = tag >> 3, tag & 7
            if not 0 < number < 1 << 29:
                raise ValueError("it has a field of an impossible number")
            value: int | memoryview | None = None
            if wire_type == _BYTES:
                length, position = _varint(message, position)
                if length > end - position:
                    raise ValueError("it was cut off")
                value = message[position : position + length]
                position += length
            elif wire_type == _VARINT:
                value, position = _varint(message, position)
            elif wire_type in (_FIXED32, _FIXED64):
                position += 4 if wire_type == _FIXED32 else 8
                if position > end:
                    raise ValueError("it was cut off")
            else:
                raise ValueError(f"it has a field of the unknown wire type {wire_type}")
            yield _Field(number, start, position, value)


def _refused(kind: str, number: int) -> ForeignError:
    if (kind, number) in _OTHER_FILE:
        return ForeignError("it keeps weights in a second file")
    if (kind, number) in _STEERING:
        return ForeignError("it decides at run time what to compute")
    return ForeignError(f"it has parts that rstpm-edge does not write (field {number} of a {kind})")


def _product(values: list[memoryview | int]) -> int:
    """Of whole numbers; those that are inferred, 0 and -1, count as one."""
    product = 1
    for value in values[:_MOST_SIDES]:
        for one in [value] if isinstance(value, int) else _packed(value):
            product *= one if 0 < one < 1 << 63 else 1
    return product


def _packed(value: memoryview) -> Iterator[int]:
    position = 0
    for _ in range(_MOST_SIDES):
        if position < len(value):
            one, position = _varint(value, position)
            yield one


def _check_packed(values: memoryview, size: int | None) -> None:
    """Raises ValueError where the last number is cut off, or one is too long: protobuf's own reader takes neither."""
    if size is not None:
        if len(values) % size:
            raise ValueError("it ends in the middle of a number")
        return
    last_bytes = np.flatnonzero(np.frombuffer(values, np.uint8) < 0x80)  # of each number
    if len(values) and (not len(last_bytes) or last_bytes[-1] != len(values) - 1):
        raise ValueError("it ends in the middle of a number")
    if np.diff(last_bytes, prepend=-1).max(initial=0) > 10:
        raise ValueError("it has a number of more than 64 bits")


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        try:
            byte = message[position]
        except IndexError:
            raise ValueError("it ends in the middle of a number") from None
        value |= (byte & 0x7F) << shift
        position += 1
        if byte < 0x80:
            if value >> 64:
                break
            if byte == 0 and shift:
                raise ValueError("it has a number with needless zeros")
            return value, position
    raise ValueError("it has a number of more than 64 bits")


def _delimited(number: int, content: bytes) -> bytes:
    """A field that holds bytes, a text or a message."""
    return _encoded(number << 3 | _BYTES) + _encoded(len(content)) + content


def _encoded(value: int) -> bytes:
    """A number in as few bytes of seven bits as it takes."""
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)
