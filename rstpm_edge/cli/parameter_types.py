"""What is typed after an option, as the value that it means.

Each type raises UsageError, in one sentence that names the option. `convert(text, None, None)` reads a text outside of
the command line.
"""

import math
import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rstpm_edge.errors import UsageError
from rstpm_edge.image.input_profile import BITS as BIT_DEPTHS
from rstpm_edge.image.roi import ROI_FORM, Roi, check_roi

if TYPE_CHECKING:
    from rstpm_edge.engine.providers import Provider
    from rstpm_edge.sources.frames import Every


class TextType(click.ParamType):  # type: ignore[type-arg]
    """Text that `parse` reads. Where it gives None, the sentence is that the option `expects` something else.

    `name` is that of the option, or of the one that has this type where several do.
    """

    def __init__(self, name: str, expects: str, parse: Callable[[str], Any]) -> None:
        self.name = name
        self._expects = expects
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):  # a default that is a value already
            return value
        parsed = self._parse(value)
        if parsed is None:
            option = f"--{self.name}" if param is None else param.opts[0]
            raise UsageError(f"{option} {self._expects}, not {value!r}.")
        return parsed


class BitsType(click.Choice):  # type: ignore[type-arg]
    """The bits that 16-bit photos use, or None for `auto`."""

    def __init__(self) -> None:
        super().__init__(["auto", *map(str, BIT_DEPTHS)])

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        text = super().convert(value, param, ctx)
        return None if text == "auto" else int(text)


class SizeType(TextType):
    """Pixels of a model's input, or None for `auto`."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return None if value == "auto" else super().convert(value, param, ctx)


class NumberRange(click.FloatRange):
    """A number within limits; without an upper one, too, it is finite."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):  # NaN is neither below a limit nor above one
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


def _rate(text: str) -> float | None:
    text = text.strip()
    try:
        return float(Decimal(text[:-1]) / 100) if text.endswith("%") else float(text)
    except (ValueError, ArithmeticError):
        return None


def _size(text: str) -> tuple[int, int] | None:
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.strip().isdecimal() for part in parts):
        return None
    return int(parts[0]), int(parts[-1])


def _frame_size(text: str) -> tuple[int, int] | None:
    match = re.fullmatch(r"(\d{1,9})[x×](\d{1,9})", text.strip().lower())
    return None if match is None else (int(match[2]), int(match[1]))


def _roi(text: str) -> Roi | None:
    values = text.replace(" ", "").split(",")
    if len(values) != 4 or not all(re.fullmatch(r"-?[0-9]{1,9}", value) for value in values):
        return None
    return check_roi(map(int, values))


def _every(text: str) -> "Every | None":
    from rstpm_edge.sources.frames import Every  # which takes NumPy

    if re.fullmatch(r"[0-9]{1,9}", text) and int(text):
        return Every(frames=int(text))
    if re.fullmatch(r"[0-9]{0,9}\.?[0-9]{1,9}s", text) and float(text[:-1]):
        return Every(seconds=float(text[:-1]))
    return None


def _pair(text: str) -> tuple[str, str] | None:
    name, equals, value = (part.strip() for part in text.partition("="))
    return (name, value) if name and equals and value else None


def _provider(text: str) -> "Provider | None":
    name, colon, listed = text.partition(":")
    if not colon:
        return name
    options = {}
    for pair in listed.split(","):
        key, equals, value = pair.partition("=")
        if not (name and key and equals):
            return None
        options[key] = value
    return name, options


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _seeds(text: str) -> tuple[int, ...] | None:
    parts = [part.strip() for part in text.split(",")]
    if len(parts) > 1 and not parts[-1]:
        parts = parts[:-1]
    if not all(part.isdecimal() and part.isascii() for part in parts):
        return None
    numbers = tuple(int(part) for part in parts)
    if "," in text:
        return numbers
    if not 1 <= numbers[0] <= 1000:
        raise UsageError(f"--seeds must be from 1 to 1000, not {text}; a seed alone is written {text},")
    return tuple(range(numbers[0]))


FILE = click.Path(path_type=Path)  # or a folder, there already or not
# A rate, such as 0.05 or 5%. Which ones are possible is told by those who take it.
RATE = TextType("rate", "is a rate, such as 0.05 or 5%", _rate)
# Seconds without a change after which a file is judged.
SETTLE = NumberRange(0, 3600)
# Pixels of a model's input: (height, width).
SIZE = TextType("size", "is a number of pixels or HEIGHTxWIDTH, such as 256 or 256x512", _size)
SIZE_OR_AUTO = SizeType("size", "is auto, a number of pixels, or HEIGHTxWIDTH, such as 256 or 256x512", _size)
# Pixels of a photo, whose width everybody says first; (height, width) all the same.
FRAME_SIZE = TextType("frame", "is WIDTHxHEIGHT in pixels, such as 1920x1080", _frame_size)
# (x, y, width, height).
ROI = TextType("roi", f"is {ROI_FORM}", _roi)
# The same, or "full".
ROI_OR_FULL = TextType("roi", f"is {ROI_FORM}, or full", lambda text: "full" if text == "full" else _roi(text))
# Path, or "full".
MASK_OR_FULL = TextType("mask", "is a file", lambda text: "full" if text in ("full", "none") else Path(text))
# `Every`: 10 frames, or 0.5s.
EVERY = TextType("every", "is a number of frames or a time, such as 10 or 0.5s", _every)
# int, or None for auto.
BITS = BitsType()
# (name, value).
WEIGHTS = TextType("weights", "takes NAME=FILE, such as resnet18=resnet18.pth", _pair)
OVERRIDE = TextType("set", "takes NAME=VALUE, such as fusion=paper", _pair)
MARGIN = TextType("margin", "takes NAME=VALUE, such as auroc=0.01", _pair)
# As `Detector` takes one: tensorrt:precision=f16,batch=4 is ("tensorrt", {"precision": "f16", "batch": "4"}).
PROVIDER = TextType("provider", "is NAME or NAME:OPTION=VALUE, such as tensorrt:precision=f16", _provider)
# Names with commas between them.
NAMES = TextType("names", "takes names with commas between them", _names)
# 3 is seeds 0, 1, 2; 3, is seed 3 alone; 0,4 are two seeds.
SEEDS = TextType("seeds", "is a number of seeds, or the seeds with commas between them", _seeds)
