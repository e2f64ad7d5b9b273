"""protobuf's wire format, read as strictly as it is written by all writers, and a little of writing it.

Parsers differ in what they make of bytes that no writer gives: numbers with needless zeros, groups, fields of number 0.
What one of them overlooks another may obey, so nothing of that passes. All functions raise ValueError for it.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MOST_FIELDS = 2_000_000  # some 20,000 are usual; so many are looked at in seconds


class Field(NamedTuple):  # made twenty thousand times a file, and faster than a dataclass
    """A field of a message, whose bytes go from `start` to `end` there."""

    number: int
    start: int
    end: int
    value: int | memoryview | None  # None for a number of a fixed size

    @property
    def message(self) -> memoryview:
        """The bytes of a message, or of a text."""
        if not isinstance(self.value, memoryview):
            raise ValueError("it has a number where a message should be")
        return self.value

    @property
    def text(self) -> str:
        """The text."""
        return bytes(self.message).decode()


class Reader:
    """Through the messages of one file, of which it takes so many fields at most."""

    def __init__(self) -> None:
        self._left = _MOST_FIELDS

    def fields(self, message: memoryview) -> Iterator[Field]:
        """The fields of a message in their order."""
        position, end = 0, len(message)
        while position < end:
            self._left -= 1
            if self._left < 0:
                raise ValueError(f"it has more than {_MOST_FIELDS} parts")
            start = position
            tag, position = varint(message, position)
            number, wire_type = tag >> 3, tag & 7
            if not 0 < number < 1 << 29:
                raise ValueError("it has a field of an impossible number")
            value: int | memoryview | None = None
            if wire_type == _BYTES:
                length, position = varint(message, position)
                if length > end - position:
                    raise ValueError("it was cut off")
                value = message[position : position + length]
                position += length
            elif wire_type == _VARINT:
                value, position = varint(message, position)
            elif wire_type in (_FIXED32, _FIXED64):
                position += 4 if wire_type == _FIXED32 else 8
                if position > end:
                    raise ValueError("it was cut off")
            else:
                raise ValueError(f"it has a field of the unknown wire type {wire_type}")
            yield Field(number, start, position, value)


def varint(message: memoryview, position: int) -> tuple[int, int]:
    """The number at `position`, and where the next one begins."""
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


def check_packed(values: memoryview, size: int | None) -> None:
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


def delimited(number: int, content: bytes) -> bytes:
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
