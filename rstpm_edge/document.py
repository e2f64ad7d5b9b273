"""Reading a JSON document that nobody vouches for: each value is of the type and size that was agreed on.

Every function raises ValueError, in a phrase that names the field and is safe to print.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from rstpm_edge import __version__

MOST_TEXT = 5000  # characters; a path has up to 4096
_MOST_ITEMS, _MOST_DEPTH = 1000, 4  # of a summary for people


class NewerError(ValueError):
    """A document of a later schema; the phrase says what reads it, and follows on the document's name."""


def load(document: str) -> Any:
    """What the JSON holds. Names that come twice and numbers that JSON does not know are refused."""
    return json.loads(document, parse_constant=_refuse_constant, object_pairs_hook=_object)


def schema_version(loaded: Any, newest: int, first: int | None = None) -> int:
    """The version of the schema that a document is written in, which says how all else in it is read.

    `newest` is the last one that is known, and `first` that of documents without a number. A newer document says under
    "needs" which release reads it. Raises NewerError for one, and ValueError where there is no such number.
    """
    if not isinstance(loaded, dict):
        raise ValueError("it is no object")
    version = whole(loaded.get("schema_version", first), "the schema version", 1, 10**6)
    if version > newest:
        needs = loaded.get("needs")
        told = isinstance(needs, str) and re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,4}){1,3}", needs)
        raise NewerError(
            f"has schema version {version}, but this rstpm-edge, {__version__}, reads up to {newest}: it needs "
            f"{f'rstpm-edge ≥ {needs}' if told else 'a newer rstpm-edge'}"
        )
    return version


def fields(value: Any, name: str, required: Sequence[str], optional: Sequence[str] = ()) -> Mapping[str, Any]:
    """An object with these fields and no others."""
    if not isinstance(value, dict):
        raise ValueError(f"{name} is no object")
    for field in required:
        if field not in value:
            raise ValueError(f"{name} has no {field}")
    for field in value:
        if field not in required and field not in optional:
            raise ValueError(f"{name} has an unknown field {shown(field)}")
    return value


def number(value: Any, name: str, least: float, most: float) -> float:
    """A finite number from `least` to `most`."""
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not least <= value <= most:
        raise ValueError(f"{name} is no number from {least:g} to {most:g}")
    return float(value)


def numbers(value: Any, name: str, count: int, least: float, most: float) -> tuple[float, ...]:
    """So many of them."""
    if not isinstance(value, list) or len(value) != count:
        raise ValueError(f"{name} is no list of {count} numbers")
    return tuple(number(one, name, least, most) for one in value)


def whole(value: Any, name: str, least: int, most: int) -> int:
    """A whole number from `least` to `most`."""
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ValueError(f"{name} is no whole number from {least} to {most}")
    return value


def text(value: Any, name: str, most: int = MOST_TEXT) -> str:
    """Characters that can be printed, on one line, up to `most` of them."""
    if not isinstance(value, str) or len(value) > most or not value.isprintable():
        raise ValueError(f"{name} is no text of up to {most} characters that can be printed")
    return value


def choice(value: Any, name: str, choices: Sequence[str]) -> Any:
    """One of these words."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} is {shown(value)}, not one of {', '.join(choices)}")
    return value


def summary(value: Any, name: str) -> Mapping[str, Any]:
    """An object for people: texts, finite numbers, lists and objects of them, not too deep and not too many."""
    if not isinstance(value, dict):
        raise ValueError(f"{name} is no object")
    _count_items(value, name, _MOST_DEPTH)
    return value


def shown(value: Any) -> str:
    """A value in an error's sentence: short, and nothing in it that a terminal obeys."""
    try:
        written = ascii(value)
    except ValueError:  # a whole number of more digits than Python prints
        return "a huge number"
    return written if len(written) <= 60 else written[:57] + "..."


def _count_items(value: Any, name: str, depth: int) -> int:
    if isinstance(value, str):
        text(value, name)
        return 1
    if value is None or isinstance(value, bool):
        return 1
    if isinstance(value, (int, float)):
        if not abs(value) < 1 << 63 and not (isinstance(value, float) and math.isfinite(value)):
            raise ValueError(f"{name} holds a number that is too large")
        return 1
    if depth == 0:
        raise ValueError(f"{name} is nested too deep")
    if isinstance(value, dict):
        for key in value:
            text(key, name, 200)
        value = list(value.values())
    count = 1 + sum(_count_items(one, name, depth - 1) for one in value)
    if count > _MOST_ITEMS:
        raise ValueError(f"{name} holds more than {_MOST_ITEMS} values")
    return count


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name comes twice in it")
    return found
