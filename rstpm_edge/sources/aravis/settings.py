"""A camera of Aravis as it is typed: aravis:NAME, and how it is to be set."""

import re
from dataclasses import dataclass

from rstpm_edge.errors import UsageError

PREFIX = "aravis:"
FREE, SOFTWARE = "off", "software"  # beside these, a trigger is the name of a line
_FORM = (
    "A camera of Aravis is aravis:NAME, and after it any of ,format=Mono8 ,size=1920x1080 ,exposure=5000 ,gain=6 "
    ",fps=10 ,trigger=software or trigger=Line1, and GenICam features as ,BalanceWhiteAuto=Off"
)
_NUMBER = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,6})?", re.ASCII)
_SIZE = re.compile(r"([0-9]{1,5})x([0-9]{1,5})", re.ASCII)
_WORD = re.compile(r"[A-Za-z0-9_]{1,64}", re.ASCII)
_FEATURE = re.compile(r"[A-Z][A-Za-z0-9_]{0,63}", re.ASCII)
_VALUE = re.compile(r"[-+A-Za-z0-9_.]{1,64}", re.ASCII)


@dataclass(frozen=True)
class AravisSettings:
    """Which camera, and how it is to be set. None: it stays as the camera has it.

    `name` is the camera's ID, serial number, or address, as Aravis takes them; empty where none was given.
    `pixel_format` is a name of GenICam's PFNC, such as "Mono12". `size` is (width, height). `exposure` is in µs, `gain`
    in the camera's unit (decibels, or raw numbers), `rate` in frames a second. `trigger` is "off" for a camera that
    runs freely, "software" where each frame is asked for, or the line that a sensor is wired to. `features` are GenICam
    features and their values.
    """

    name: str
    pixel_format: str | None = None
    size: tuple[int, int] | None = None
    exposure: float | None = None
    gain: float | None = None
    rate: float | None = None
    trigger: str = FREE
    features: tuple[tuple[str, str], ...] = ()


def parse_settings(source: str) -> AravisSettings:
    """Read "aravis:NAME,format=Mono12,exposure=5000". Raises UsageError."""
    name, *parts = source.removeprefix(PREFIX).split(",")
    if "\0" in name:
        raise UsageError(f"{_FORM}; the name has a null byte.")
    typed: dict[str, str] = {}
    for part in parts:
        key, equals, value = part.partition("=")
        if not equals or not value:
            raise UsageError(f"{_FORM}, not {part!r}.")
        if key in typed:
            raise UsageError(f"The camera {PREFIX}{name} has {key} twice.")
        typed[key] = value
    features = tuple((key, value) for key, value in typed.items() if _FEATURE.fullmatch(key))
    for key, value in features:
        if not _VALUE.fullmatch(value):
            raise UsageError(f"The GenICam feature {key} takes a number or a word, not {value!r}.")
    words = {key: typed.pop(key) for key in ("format", "trigger") if key in typed}
    for key, value in words.items():
        if not _WORD.fullmatch(value):
            example = "Mono8, as the camera calls it" if key == "format" else "off, software or Line1"
            raise UsageError(f"{key} is a word, such as {example}, not {value!r}.")
    numbers = {key: _number(key, typed.pop(key)) for key in ("exposure", "gain", "fps") if key in typed}
    size = _size(typed.pop("size")) if "size" in typed else None
    for key, _ in features:
        typed.pop(key)
    if typed:
        raise UsageError(f"{_FORM}, not {next(iter(typed))!r}.")
    trigger = words.get("trigger", FREE)
    if trigger.lower() in (FREE, SOFTWARE):
        trigger = trigger.lower()
    if "fps" in numbers and trigger not in (FREE, SOFTWARE):
        raise UsageError(f"fps does not go with trigger={trigger}: the signals on that line say when frames are taken.")
    return AravisSettings(
        name, words.get("format"), size, numbers.get("exposure"), numbers.get("gain"), numbers.get("fps"), trigger,
        features,
    )  # fmt: skip


def _number(key: str, value: str) -> float:
    if not _NUMBER.fullmatch(value):
        raise UsageError(f"{key} is a number, such as {'5000' if key == 'exposure' else '6'}, not {value!r}.")
    if key != "gain" and float(value) == 0:
        raise UsageError(f"{key} is more than 0.")
    return float(value)


def _size(value: str) -> tuple[int, int]:
    match = _SIZE.fullmatch(value)
    if not match or "0" in match.groups():
        raise UsageError(f"size is width and height in pixels, such as 1920x1080, not {value!r}.")
    return int(match[1]), int(match[2])
