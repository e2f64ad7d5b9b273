"""station.toml: several cameras of one station, and which views make a part."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rstpm_edge.cli.common import real
from rstpm_edge.cli.parameter_types import EVERY, RATE, ROI_OR_FULL, SETTLE
from rstpm_edge.cli.serve.options import ServeOptions
from rstpm_edge.cli.toml_file import TomlFile
from rstpm_edge.errors import UsageError

if TYPE_CHECKING:
    from rstpm_edge.station.parts import PartRule

ONLY = "line"  # the name of the only line, where the source is no such file
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")
TAKEN = ("request",)  # an origin of verdicts that is no camera


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


class _File(TomlFile):
    """The plan that a file holds."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._drift_states = set[Path]()

    def plan(self, options: ServeOptions) -> StationPlan:
        known = {"models", "model", "camera", "part"}
        self.check_keys("", self.content, known)
        if "models" in self.content and "model" in self.content:
            raise self.bad("model", "goes without models: one of them")
        for key in ("models", "model"):
            if key in self.content:
                place: Any = {key: self.path.parent / self.text("", self.content, key), "registry": None}
                options = replace(options, **place)
        cameras = self.content.get("camera")
        if not isinstance(cameras, dict) or not cameras:
            raise self.bad("camera", "is missing: a section for each camera, such as [camera.top]")
        return StationPlan(
            options,
            tuple(self._camera(name, values, options) for name, values in cameras.items()),
            self._part(self.content["part"], list(cameras)) if "part" in self.content else None,
        )

    def _camera(self, name: str, values: Any, options: ServeOptions) -> Camera:
        table = f"camera.{name}"
        if not isinstance(values, dict):
            raise self.bad(table, f"is a section: [{table}]")
        if not NAME.fullmatch(name) or name in TAKEN:
            raise self.bad(table, "needs another name: letters, digits, _ and -, at most 40, and not request")
        known = {"source", "product", "roi", "mask", "threshold", "alpha", "allow_size_change"}
        self.check_keys(table, values, known | {"every", "watch", "settle", "drift", "drift_state"})
        if "source" not in values:
            raise self.bad(table, "has no source")
        watch = self.flag(table, values, "watch")
        changes: dict[str, Any] = {
            "sources": (self._source(table, values, watch),),
            "product": self.text(table, values, "product") if "product" in values else None,
            "every": self.typed(table, values, "every", EVERY),
            "drift": self.typed(table, values, "drift", RATE),
            "drift_state": self._drift_state(table, values),
            "settle": self._settle(table, values),
            "watch": watch,
        }
        own: dict[str, Any] = {}
        if "roi" in values:
            roi = values["roi"]
            text = ",".join(map(str, roi)) if isinstance(roi, list) else roi
            found = self.typed(table, {"roi": text}, "roi", ROI_OR_FULL)
            own["roi"] = None if found == "full" else found
        if "mask" in values:
            mask = self.text(table, values, "mask")
            own["mask"] = None if mask == "full" else self.path.parent / mask
        if "alpha" in values:
            own["alpha"] = self.typed(table, values, "alpha", RATE)
        if "threshold" in values:
            own["threshold"] = self.number(table, values, "threshold")
        if "allow_size_change" in values:
            own["allow_size_change"] = self.flag(table, values, "allow_size_change")
        return Camera(name, replace(options, **changes, **own), bool(own), self.place(table))

    def _settle(self, table: str, values: Mapping[str, Any]) -> float | None:
        seconds, limits = self.number(table, values, "settle"), (SETTLE.min or 0, SETTLE.max or 0)
        if seconds is not None and not limits[0] <= seconds <= limits[1]:
            raise self.bad(f"{table}.settle", f"is in seconds, {limits[0]} to {limits[1]}, not {seconds:g}")
        return seconds

    def _drift_state(self, table: str, values: Mapping[str, Any]) -> Path | None:
        """A path below the folder of the file, which no other camera has."""
        if "drift_state" not in values:
            return None
        if "drift" not in values:
            raise self.bad(f"{table}.drift_state", "goes with drift only")
        path = self.path.parent / self.text(table, values, "drift_state")
        if real(path) in self._drift_states:
            raise self.bad(f"{table}.drift_state", "is that of another camera: give each a file of its own")
        self._drift_states.add(real(path))
        return path

    def _source(self, table: str, values: Mapping[str, Any], watch: bool) -> str:
        """As it is typed; a path is below the folder of the file."""
        source = self.text(table, values, "source")
        below = self.path.parent / source
        return str(below) if watch or below.exists() else source

    def _part(self, values: Any, cameras: list[str]) -> "PartRule":
        from rstpm_edge.station.parts import PartRule

        if not isinstance(values, dict):
            raise self.bad("part", "is a section: [part]")
        self.check_keys("part", values, {"name", "views", "by", "within", "patience", "pattern"})
        views = values.get("views")
        if not isinstance(views, list) or len(set(map(str, views))) != len(views) or len(views) < 2:
            raise self.bad("part.views", 'names the cameras that see a part, two or more, such as ["top", "side"]')
        for view in views:
            if view not in cameras:
                raise self.bad("part.views", f"names {view!r}; there are {', '.join(cameras)}")
        name = self.text("part", values, "name") if "name" in values else "part"
        if not NAME.fullmatch(name) or name in (*TAKEN, *cameras):
            raise self.bad("part.name", "is letters, digits, _ and -, at most 40, and no name of a camera")
        by = values.get("by", "time")
        if by not in ("time", "count", "name"):
            raise self.bad("part.by", f"is time, count or name, not {by!r}")
        for key, needs in {"within": "time", "pattern": "name"}.items():
            if key in values and by != needs:
                raise self.bad(f"part.{key}", f'goes with by = "{needs}" only')
        rule = PartRule(name, tuple(views), by)
        within, patience = (self.number("part", values, key) for key in ("within", "patience"))
        for key, seconds in {"within": within, "patience": patience}.items():
            if seconds is not None and not 0 < seconds <= 3600:
                raise self.bad(f"part.{key}", f"is in seconds, more than 0 and at most 3600, not {seconds:g}")
        pattern = self._pattern(self.text("part", values, "pattern")) if "pattern" in values else rule.pattern
        return replace(rule, within=within or rule.within, patience=patience or rule.patience, pattern=pattern)

    def _pattern(self, text: str) -> str:
        try:
            found = re.compile(text)
        except re.error as error:
            raise self.bad("part.pattern", f"is no regular expression: {error}") from error
        if "part" not in found.groupindex:
            raise self.bad("part.pattern", r"has no group for the part: (?P<part>…), as in (?P<part>\d+)_top\.png")
        return text
