"""A TOML file that a user writes: its errors name the line and the key."""

import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from rstpm_edge.errors import UsageError
from rstpm_edge.printable import without_password

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_HEADER = re.compile(r"\s*\[+\s*(.+?)\s*\]+\s*(?:#.*)?")
_KEY = re.compile(r"\s*([A-Za-z0-9_\"'.-]+)\s*=")
_OPTION = re.compile(r"^(?:Invalid value for '--[^']*': |--\S+ )")


class TomlFile:
    """A file that is read; `self.bad` makes the error that names a place in it.

    `table` of the methods is a section, such as camera.top; empty for the top of the file.
    """

    def __init__(self, path: Path) -> None:
        """Raises UsageError for a file that cannot be read, or is no TOML."""
        self.path = path
        try:
            text = path.read_text(encoding="utf-8")
            self.content: dict[str, Any] = tomllib.loads(text)
        except OSError as error:
            raise UsageError(f"Cannot read {path}: {error.strerror}.") from error
        except UnicodeDecodeError as error:
            raise UsageError(f"Cannot read {path}: it is no UTF-8.") from error
        except tomllib.TOMLDecodeError as error:
            raise UsageError(f"{path} is no TOML: {error}.") from error
        self._lines = _places(text)

    def bad(self, key: str, problem: str) -> UsageError:
        """The error of a key, such as camera.top.roi."""
        return UsageError(f"{self.place(key)} {problem}.")

    def place(self, key: str) -> str:
        """Where a key stands, for messages."""
        line = self._lines.get(key) or self._lines.get(key.rpartition(".")[0])
        return f"{self.path}{'' if line is None else f', line {line}'}: {key}"

    def check_keys(self, table: str, values: Mapping[str, Any], known: set[str]) -> None:
        """Raises UsageError for a key that is not among the known ones."""
        for key in values:
            if key not in known:
                raise self.bad(_key(table, key), f"is not known; there are {', '.join(sorted(known))}")

    def text(self, table: str, values: Mapping[str, Any], key: str) -> str:
        """A text that is not empty. Raises UsageError."""
        value = values[key]
        if not isinstance(value, str) or not value or "\0" in value:
            raise self.bad(_key(table, key), "is a text in quotes")
        return value

    def flag(self, table: str, values: Mapping[str, Any], key: str) -> bool:
        """True or false; false where there is no such key. Raises UsageError."""
        value = values.get(key, False)
        if not isinstance(value, bool):
            raise self.bad(_key(table, key), f"is true or false, not {value!r}")
        return value

    def number(self, table: str, values: Mapping[str, Any], key: str) -> float | None:
        """A number; None where there is no such key. Raises UsageError."""
        value = values.get(key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float)) or value != value):
            raise self.bad(_key(table, key), f"is a number, not {value!r}")
        return None if value is None else float(value)

    def typed(self, table: str, values: Mapping[str, Any], key: str, kind: Any) -> Any:
        """What is typed after the option of this name, which has the type `kind`. Raises UsageError."""
        if key not in values:
            return None
        value = values[key]
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise self.bad(_key(table, key), f"is a text in quotes or a number, not {value!r}")
        convert: Callable[..., Any] = kind.convert
        return self.converted(_key(table, key), lambda: convert(str(value), None, None))

    def converted(self, key: str, convert: Callable[[], Any]) -> Any:
        """What `convert` gives; what it says against an option is said of the key. Raises UsageError."""
        try:
            return convert()
        except (UsageError, click.UsageError) as error:
            said = error.format_message() if isinstance(error, click.UsageError) else str(error)
            raise self.bad(key, _OPTION.sub("", without_password(said)).removesuffix(".")) from error


def _key(table: str, key: str) -> str:
    return f"{table}.{key}" if table else key


def _places(text: str) -> dict[str, int]:
    """The line of each key and section, as far as they are written in the usual way."""
    found, table = dict[str, int](), ""
    for number, line in enumerate(text.splitlines(), 1):
        header, key = _HEADER.fullmatch(line), _KEY.match(line)
        if header:
            table = re.sub(r"[\"'\s]", "", header[1])
            for end in range(1, table.count(".") + 2):  # [camera.top] begins camera, too
                found.setdefault(".".join(table.split(".")[:end]), number)
        elif key:
            name = re.sub(r"[\"']", "", key[1])
            found.setdefault(f"{table}.{name}" if table else name, number)
    return found
