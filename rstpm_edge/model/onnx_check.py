"""Whether an ONNX file holds anything that `export` does not write; asked before a runtime loads it."""

from collections.abc import Iterator

from rstpm_edge.model.onnx_file import OnnxFile
from rstpm_edge.model.onnx_schema import FIELDS, OPERATORS, OWN_DOMAINS, SIZED, ForeignError, known_fields, refused
from rstpm_edge.model.protobuf import Reader, varint

_MOST_ITEMS = 1 << 28  # numbers in a tensor that a constant asks for: 1 GB of float32
_MOST_SIDES = 64  # numbers that say a size
_INT64 = 7


def check_onnx(file: OnnxFile) -> None:
    """Look through a file for what `export` does not write.

    Raises ForeignError for that, and ValueError for bytes that are written as no writer does.
    """
    if file.unknown:
        raise ForeignError(f"it has parts that rstpm-edge does not write (field {file.unknown[0]})")
    if any(domain not in OWN_DOMAINS for domain in file.domains):
        raise ForeignError("it asks for operators that are not ONNX's own")
    _Walk().graph(file.graph)


class _Walk:
    """Through one file, with what was seen on the way."""

    def __init__(self) -> None:
        self._reader = Reader()
        self._asked: list[tuple[str, str]] = []  # operators that make as many numbers as a constant says, and its name
        self._constants: dict[str, list[memoryview | int]] = {}  # whole numbers by name: packed, or one

    def graph(self, graph: memoryview) -> None:
        for one in known_fields(self._reader, graph, "graph"):
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
        for one in known_fields(self._reader, node, "node"):
            if one.number == 1:
                inputs.append(one.text)
            elif one.number == 2:
                outputs.append(one.text)
            elif one.number == 4:
                operator = one.text
            elif one.number == 7 and one.text not in OWN_DOMAINS:
                raise ForeignError("it has operators that are not ONNX's own")
            elif one.number == 5:
                for part in known_fields(self._reader, one.message, "attribute"):
                    if part.number == 5:
                        whole_numbers += self._tensor(part.message)
                    elif part.number in (3, 8) and part.value is not None:
                        whole_numbers.append(part.value)
        if operator not in OPERATORS:
            raise ForeignError(f"it has an operator that rstpm-edge does not take, {operator[:40]!a}")
        if operator == "Constant":
            self._constants.update(dict.fromkeys(outputs, whole_numbers))
        if operator in SIZED and len(inputs) > SIZED[operator]:
            self._asked.append((operator, inputs[SIZED[operator]]))

    def _tensor(self, tensor: memoryview) -> list[memoryview | int]:
        """What may be its whole numbers."""
        name = ""
        kind = 0
        whole_numbers: list[memoryview | int] = []
        for one in known_fields(self._reader, tensor, "tensor"):
            if one.number == 2 and isinstance(one.value, int):
                kind = one.value
            elif one.number == 8:
                name = one.text
            elif one.number == 14 and one.value != 0:
                raise refused("tensor", one.number)
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
        """A message that holds nothing but what `FIELDS` says; it is as deep as that table."""
        for one in known_fields(self._reader, message, kind):
            inner = FIELDS[kind][one.number].removesuffix("*")
            if inner not in ("", "."):
                self._plain(one.message, inner)


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
            one, position = varint(value, position)
            yield one
