"""station.toml: several cameras of one station, and which views make a part."""

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rstpm_edge.cli.common import real
from rstpm_edge.cli.parameter_types import EVERY, RATE, ROI_OR_FULL
from rstpm_edge.cli.serve.options import ServeOptions
from rstpm_edge.errors import UsageError
from rstpm_edge.printable import without_password

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from rstpm_edge.station.parts import PartRule

ONLY = "line"  # the name of the only line, where the source is no such file
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")
TAKEN = ("request",)  # an origin of verdicts that is no camera
_HEADER = re.compile(r"\s*\[+\s*(.+?)\s*\]+\s*(?:#.*)?")
_KEY = re.compile(r"\s*([A-Za-z0-9_\"'.-]+)\s*=")


@dataclass(frozen=True)
class Camera:
    """A camera, or another source, and how its pictures are judged.

    own: otherwise than the station's options say. place: where in a file it stands, for messages; empty for none.
    """

    name: str
    options: ServeOptions
    own: bool = False
    place: str = ""


@dataclass(frozen=True)
class StationPlan:
    """What is served: the options of the station, its cameras, and which of them see one part."""

    options: ServeOptions
    cameras: tuple[Camera, ...] = ()
    part: "PartRule | None" = None


def plan_station(options: ServeOptions) -> StationPlan:
    """What was typed: no source, one, or a file of cameras. Raises UsageError where something in that cannot be."""
    if len(options.sources) == 1 and options.sources[0].lower().endswith(".toml"):
        return read_station_file(options)
    return StationPlan(options, (Camera(ONLY, options),) if options.sources else ())


def read_station_file(options: ServeOptions) -> StationPlan:
    """The plan in the file that is the only source of `options`.

    Raises UsageError, with the line and the key, where something in it cannot be.
    """
    for name in ("product", "every", "watch", "settle", "drift", "drift_state", "journal"):
        if getattr(options, name) not in (None, False):
            if name == "journal":
                raise UsageError("--journal is for one watched folder, not for a file of several cameras.")
            typed = name.replace("_", "-")
            raise UsageError(f"--{typed} belongs into a section of {options.sources[0]}, one for each camera.")
    file = _File(Path(options.sources[0]))
    return file.plan(options)


class _File:
    """A file that is read; `self.bad` makes the error that names a place in it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            text = path.read_text(encoding="utf-8")
            self._content: dict[str, Any] = tomllib.loads(text)
        except OSError as error:
            raise UsageError(f"Cannot read {path}: {error.strerror}.") from error
        except UnicodeDecodeError as error:
            raise UsageError(f"Cannot read {path}: it is no UTF-8.") from error
        except tomllib.TOMLDecodeError as error:
            raise UsageError(f"{path} is no TOML: {error}.") from error
        self._lines = _places(text)
        self._drift_states = set[Path]()

    def plan(self, options: ServeOptions) -> StationPlan:
        known = {"models", "model", "camera", "part"}
        self._check_keys("", self._content, known)
        if "models" in self._content and "model" in self._content:
            raise self.bad("model", "goes without models: one of them")
        for key in ("models", "model"):
            if key in self._content:
                place: Any = {key: self._path.parent / self._text("", self._content, key), "registry": None}
                options = replace(options, **place)
        cameras = self._content.get("camera")
        if not isinstance(cameras, dict) or not cameras:
            raise self.bad("camera", "is missing: a section for each camera, such as [camera.top]")
        return StationPlan(
            options,
            tuple(self._camera(name, values, options) for name, values in cameras.items()),
            self._part(self._content["part"], list(cameras)) if "part" in self._content else None,
        )

    def bad(self, key: str, problem: str) -> UsageError:
        """The error of a key, such as camera.top.roi."""
        return UsageError(f"{self._place(key)} {problem}.")

    def _place(self, key: str) -> str:
        line = self._lines.get(key) or self._lines.get(key.rpartition(".")[0])
        return f"{self._path}{'' if line is None else f', line {line}'}: {key}"

    def _camera(self, name: str, values: Any, options: ServeOptions) -> Camera:
        table = f"camera.{name}"
        if not isinstance(values, dict):
            raise self.bad(table, f"is a section: [{table}]")
        if not NAME.fullmatch(name) or name in TAKEN:
            raise self.bad(table, "needs another name: letters, digits, _ and -, at most 40, and not request")
        known = {"source", "product", "roi", "mask", "threshold", "alpha", "allow_size_change"}
        self._check_keys(table, values, known | {"every", "watch", "settle", "drift", "drift_state"})
        if "source" not in values:
            raise self.bad(table, "has no source")
        watch = self._flag(table, values, "watch")
        changes: dict[str, Any] = {
            "sources": (self._source(table, values, watch),),
            "product": self._text(table, values, "product") if "product" in values else None,
            "every": self._typed(table, values, "every", EVERY),
            "drift": self._typed(table, values, "drift", RATE),
            "drift_state": self._drift_state(table, values),
            "settle": self._number(table, values, "settle"),
            "watch": watch,
        }
        own: dict[str, Any] = {}
        if "roi" in values:
            roi = values["roi"]
            text = ",".join(map(str, roi)) if isinstance(roi, list) else roi
            found = self._typed(table, {"roi": text}, "roi", ROI_OR_FULL)
            own["roi"] = None if found == "full" else found
        if "mask" in values:
            mask = self._text(table, values, "mask")
            own["mask"] = None if mask == "full" else self._path.parent / mask
        if "alpha" in values:
            own["alpha"] = self._typed(table, values, "alpha", RATE)
        if "threshold" in values:
            own["threshold"] = self._number(table, values, "threshold")
        if "allow_size_change" in values:
            own["allow_size_change"] = self._flag(table, values, "allow_size_change")
        return Camera(name, replace(options, **changes, **own), bool(own), self._place(table))

    def _drift_state(self, table: str, values: Mapping[str, Any]) -> Path | None:
        """A path below the folder of the file, which no other camera has."""
        if "drift_state" not in values:
            return None
        if "drift" not in values:
            raise self.bad(f"{table}.drift_state", "goes with drift only")
        path = self._path.parent / self._text(table, values, "drift_state")
        if real(path) in self._drift_states:
            raise self.bad(f"{table}.drift_state", "is that of another camera: give each a file of its own")
        self._drift_states.add(real(path))
        return path

    def _source(self, table: str, values: Mapping[str, Any], watch: bool) -> str:
        """As it is typed; a path is below the folder of the file."""
        source = self._text(table, values, "source")
        below = self._path.parent / source
        return str(below) if watch or below.exists() else source

    def _part(self, values: Any, cameras: list[str]) -> "PartRule":
        from rstpm_edge.station.parts import PartRule

        if not isinstance(values, dict):
            raise self.bad("part", "is a section: [part]")
        self._check_keys("part", values, {"name", "views", "by", "within", "patience", "pattern"})
        views = values.get("views")
        if not isinstance(views, list) or len(set(map(str, views))) != len(views) or len(views) < 2:
            raise self.bad("part.views", 'names the cameras that see a part, two or more, such as ["top", "side"]')
        for view in views:
            if view not in cameras:
                raise self.bad("part.views", f"names {view!r}; there are {', '.join(cameras)}")
        name = self._text("part", values, "name") if "name" in values else "part"
        if not NAME.fullmatch(name) or name in (*TAKEN, *cameras):
            raise self.bad("part.name", "is letters, digits, _ and -, at most 40, and no name of a camera")
        by = values.get("by", "time")
        if by not in ("time", "count", "name"):
            raise self.bad("part.by", f"is time, count or name, not {by!r}")
        for key, needs in {"within": "time", "pattern": "name"}.items():
            if key in values and by != needs:
                raise self.bad(f"part.{key}", f'goes with by = "{needs}" only')
        rule = PartRule(name, tuple(views), by)
        within, patience = (self._number("part", values, key) for key in ("within", "patience"))
        for key, seconds in {"within": within, "patience": patience}.items():
            if seconds is not None and not 0 < seconds <= 3600:
                raise self.bad(f"part.{key}", f"is in seconds, more than 0 and at most 3600, not {seconds:g}")
        pattern = self._pattern(self._text("part", values, "pattern")) if "pattern" in values else rule.pattern
        return replace(rule, within=within or rule.within, patience=patience or rule.patience, pattern=pattern)

    def _pattern(self, text: str) -> str:
        try:
            found = re.compile(text)
        except re.error as error:
            raise self.bad("part.pattern", f"is no regular expression: {error}") from error
        if "part" not in found.groupindex:
            raise self.bad("part.pattern", r"has no group for the part: (?P<part>…), as in (?P<part>\d+)_top\.png")
        return text

    def _check_keys(self, table: str, values: Mapping[str, Any], known: set[str]) -> None:
        for key in values:
            if key not in known:
                raise self.bad(
                    f"{table}.{key}" if table else key, f"is not known; there are {', '.join(sorted(known))}"
                )

    def _text(self, table: str, values: Mapping[str, Any], key: str) -> str:
        value = values[key]
        if not isinstance(value, str) or not value or "\0" in value:
            raise self.bad(f"{table}.{key}" if table else key, "is a text in quotes")
        return value

    def _flag(self, table: str, values: Mapping[str, Any], key: str) -> bool:
        value = values.get(key, False)
        if not isinstance(value, bool):
            raise self.bad(f"{table}.{key}", f"is true or false, not {value!r}")
        return value

    def _number(self, table: str, values: Mapping[str, Any], key: str) -> float | None:
        value = values.get(key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float)) or value != value):
            raise self.bad(f"{table}.{key}", f"is a number, not {value!r}")
        return None if value is None else float(value)

    def _typed(self, table: str, values: Mapping[str, Any], key: str, kind: Any) -> Any:
        """What is typed after the option of this name."""
        if key not in values:
            return None
        value = values[key]
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise self.bad(f"{table}.{key}", f"is a text in quotes or a number, not {value!r}")
        convert: Callable[..., Any] = kind.convert
        try:
            return convert(str(value), None, None)
        except (UsageError, click.UsageError) as error:
            problem = re.sub(r"^--\S+ ", "", without_password(str(error))).removesuffix(".")
            raise self.bad(f"{table}.{key}", problem) from error


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
