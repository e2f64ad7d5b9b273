"""A fuzzer's bytes as choices: which of these, a number from here to there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, TypeVar

T = TypeVar("T")

# What a JSON value may be that nobody expects: ends of ranges, other types, texts that a terminal obeys.
ODD_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 3, 255, 8192, 8193, 2**31, 2**63, 2**64, -(2**63), 10**15, 10**400),
    *(0.0, -0.0, 0.5, 1e-320, 1.2e-38, 1e12, 1e24, 3.4e38, 3.5e38, 1e308, -1e308, 0.1 + 0.2),
    *("", "a", "\x00", "\x1b[2J", "line\nbreak", "é‮", "\ud800", "9" * 5000, "x" * 6000, "{}", "normalized", "paper"),
    *([], [[]], [0] * 7, [None] * 6, {}, {"": {}}, {"a": [1, 2]}),
)
ODD_TEXTS = (
    "NaN",
    "Infinity",
    "-Infinity",
    "1e999",
    "-1e999",
    "1e-999",
    "9" * 5000,
    "[" * 2000 + "]" * 2000,
    "01",
    "'a'",
)


class Choices:
    """Takes choices from bytes, in their order; where they end, the first of each choice."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    @property
    def left(self) -> bool:
        return self._at < len(self._data)

    def whole(self, least: int, most: int) -> int:
        """A whole number; few bytes for a small range."""
        size = max(1, ((most - least).bit_length() + 7) // 8)
        return least + int.from_bytes(self.take(size).ljust(size, b"\0"), "little") % (most - least + 1)

    def one_of(self, values: Sequence[T]) -> T:
        return values[self.whole(0, len(values) - 1)]

    def take(self, count: int) -> bytes:
        taken = self._data[self._at : self._at + count]
        self._at += count
        return taken

    def rest(self) -> bytes:
        return self.take(len(self._data))

    def odd_json(self, value: Any) -> str:
        """A document like `value`, with up to four parts of it changed."""
        raw: list[str] = []
        for _ in range(self.whole(0, 4)):
            value = self._changed(value, raw, 8)
        document = json.dumps(value)
        for number, text in enumerate(raw):  # what json.dumps would not write
            document = document.replace(f'"raw {number}"', text)
        if self.whole(0, 15) == 15:  # and a cut, or more at the end
            document = document[: self.whole(0, len(document))] + self.one_of(("", "}", "\0", "{}", " "))
        return document

    def _changed(self, value: Any, raw: list[str], depth: int) -> Any:
        if depth and isinstance(value, dict) and value and self.whole(0, 7):
            key = self.one_of(sorted(value))
            how = self.whole(0, 15)
            if how == 0:
                return {name: one for name, one in value.items() if name != key}
            if how == 1:
                return {**value, self.one_of(("unknown", "needs", "threshold", "outline", "")): value[key]}
            return {**value, key: self._changed(value[key], raw, depth - 1)}
        if depth and isinstance(value, list) and value and self.whole(0, 7):
            at = self.whole(0, len(value) - 1)
            how = self.whole(0, 15)
            if how == 0:
                return value[:at] + value[at + 1 :]
            if how == 1:
                return [*value, value[at]]
            return [*value[:at], self._changed(value[at], raw, depth - 1), *value[at + 1 :]]
        how = self.whole(0, 7)
        if how == 0:
            raw.append(self.one_of(ODD_TEXTS))
            return f"raw {len(raw) - 1}"
        if how == 1 and isinstance(value, (int, float)):
            return value * self.one_of((-1, 2, 10, 1000, 0.5, 1e30)) if abs(value) < 1e300 else 0
        if how == 2 and isinstance(value, str):
            return value[: self.whole(0, len(value))] + self.take(self.whole(0, 8)).decode("latin-1")
        return self.one_of(ODD_VALUES)
