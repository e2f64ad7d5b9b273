"""One verdict for a part that several cameras see."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import PurePath
from typing import Any, Literal, TypeAlias

from rstpm_edge.station.event import Inspection

By: TypeAlias = Literal["time", "count", "name"]

ANY_NAME = r"(?P<part>.+)\.[^.]+"  # what stands before the extension
# Which verdict of a view is that of the part: the first of these that any has. What is not seen is not good.
ORDER = ("anomalous", "failed", "missing", "invalid", "normal")


@dataclass(frozen=True)
class PartRule:
    """Which views make a part.

    name: the origin of its verdict. views: the names of lines. by: pictures belong to one part that were taken within
    `within` seconds of each other, which must be less than half of the time between two parts; or that are the n-th of
    each camera; or whose files have one name, of which `pattern` has the group "part". patience: seconds after its
    first view in which a part may become whole.
    """

    name: str
    views: tuple[str, ...]
    by: By = "time"
    within: float = 0.1
    patience: float = 5.0
    pattern: str = ANY_NAME


@dataclass
class Part:
    """The views of a part that have come, by the names of their lines. `problem` says why the others will not."""

    key: str
    began: float
    at: float  # when its first picture was taken; or its number
    views: dict[str, Inspection] = field(default_factory=dict)
    problem: str = ""


class Joiner:
    """Puts views together. `now` is the time of the caller's clock, in seconds, and only ever grows."""

    def __init__(self, rule: PartRule) -> None:
        self._rule = rule
        self._pattern = re.compile(rule.pattern)
        self._open: list[Part] = []
        self._made = 0
        self._first = dict.fromkeys(rule.views, 0)  # of each view, the number of the picture of the first part
        self._next: dict[str, int] = {}  # and that of the picture to come, once there was one
        self.apart: str | None = None  # why nobody knows any more which pictures belong together

    def add(self, view: Inspection, now: float) -> list[Part]:
        """Take a view; gives the parts that are whole by it, or will never be."""
        number = view.fields.get("frame")
        if isinstance(number, int):
            self._next[view.origin] = number + 1
        if self.apart is not None:
            return [Part(self._new_key(), now, 0.0, {view.origin: view}, self.apart)]
        place = self._place_of(view)
        if place is None:
            problem = f"{view.fields.get('path')} has no name or number that tells its part."
            return [Part(self._new_key(), now, 0.0, {view.origin: view}, problem)]
        done: list[Part] = []
        found = self._found(view.origin, place)
        if found is not None and view.origin in found.views:  # the next one of that name
            found.problem = f"The next picture of the view {view.origin} came first."
            done, found = self._close([found]), None
        if found is None:
            key, at = place
            found = Part(key or self._new_key(), now, at)
            self._open.append(found)
        found.views[view.origin] = view
        if len(found.views) == len(self._rule.views):
            self._open.remove(found)
            done.append(found)
        if self._rule.by == "count":  # pictures of a camera come in their order: an earlier one will come no more
            late = [part for part in self._open if part.at < place[1] and view.origin not in part.views]
            done += self._close(late)
        return done

    def expire(self, now: float) -> list[Part]:
        """The parts that have waited for too long."""
        return self._close([part for part in self._open if now - part.began > self._rule.patience])

    def close(self, why: str) -> list[Part]:
        """All that are not whole, since `why`."""
        for part in self._open:
            part.problem = why
        return self._close(list(self._open))

    def lose(self, view: str) -> list[Part]:
        """The camera of a view was lost: with it the count of its pictures, where that tells the part."""
        return self._part_company(f"The camera {view} was away")

    def arrive(self, view: str) -> list[Part]:
        """The camera of a view is there, at first or again; too late where others have taken pictures already."""
        late = view not in self._next and self._next
        return self._part_company(f"The camera {view} came after the first picture of another one") if late else []

    def realign(self) -> list[Part]:
        """Begin to count anew: the next picture of each camera is of one part."""
        done = self.close("The views were realigned.")
        self._first.update(self._next)
        self.apart = None
        return done

    def _part_company(self, why: str) -> list[Part]:
        if self._rule.by != "count" or self.apart is not None:
            return []
        self.apart = f"{why}, so that its count is not that of the others: stop the line, empty it, and realign."
        return self.close(self.apart)

    def _place_of(self, view: Inspection) -> tuple[str, float] | None:
        """Its part's key, empty for one that has none yet; and its time, or number."""
        rule, fields = self._rule, view.fields
        if rule.by == "name":
            found = self._pattern.fullmatch(PurePath(str(fields.get("path", ""))).name)
            return (found["part"], 0.0) if found else None
        if rule.by == "count":
            number = fields.get("frame")
            if not isinstance(number, int):
                return None
            index = number - self._first[view.origin]
            return str(index + 1), float(index)
        return "", taken(view)

    def _found(self, view: str, place: tuple[str, float]) -> Part | None:
        """The part that waits for this picture: by time, the nearest one."""
        key, at = place
        if self._rule.by != "time":
            return next((part for part in self._open if part.key == key), None)
        near = [part for part in self._open if view not in part.views and abs(part.at - at) <= self._rule.within]
        return min(near, key=lambda part: abs(part.at - at), default=None)

    def _close(self, parts: Iterable[Part]) -> list[Part]:
        done = list(parts)
        for part in done:
            self._open.remove(part)
        return done

    def _new_key(self) -> str:
        self._made += 1
        return str(self._made)


def taken(view: Inspection) -> float:
    """When its picture was taken, in seconds since 1970; where nobody knows, when it was judged."""
    time = view.fields.get("time")
    return view.time if time is None else datetime.fromisoformat(time).timestamp()


def verdict_of(part: Part, rule: PartRule) -> tuple[str, str]:
    """The verdict of a part, and the view that it is of.

    Any view that is anomalous makes the part anomalous. Otherwise one that failed, is missing or invalid wins over
    normal ones: a part that was not seen whole is not good. Of several views with that verdict it is the one whose
    score is the highest beside its threshold.
    """
    of_views = {name: part.views[name].verdict if name in part.views else "missing" for name in rule.views}
    (verdict,) = [one for one in ORDER if one in of_views.values()][:1]
    worst = max((name for name in rule.views if of_views[name] == verdict), key=lambda name: _height(part, name))
    return ("failed" if verdict == "missing" else verdict), worst


def inspection_of(part: Part, rule: PartRule, now: float) -> Inspection:
    """The verdict of a part as a station tells it: that of its worst view, with what each view says."""
    verdict, worst = verdict_of(part, rule)
    view = part.views.get(worst)
    path = f"{rule.name} {part.key}"
    views = {name: _of_view(part.views.get(name)) for name in rule.views}
    if view is None:
        why = part.problem or f"No picture of the view {worst} came within {rule.patience:g} seconds."
        fields: dict[str, Any] = {"path": path, "verdict": verdict, "error": f"Cannot judge {path}: {why}"}
        return Inspection(now, rule.name, rule.name, "", {**fields, "views": views})
    # What a part's rate would be is not known: views are judged one by one.
    unknown = {"alpha": None, "rate_with_confidence": None} if "alpha" in view.fields else {}
    fields = {**view.fields, **unknown, "path": path, "verdict": verdict, "view": worst, "views": views}
    model = view.product, view.version
    return Inspection(now, rule.name, rule.name, "", fields, view.result, view.photo, model=model)


def _of_view(view: Inspection | None) -> Mapping[str, Any]:
    if view is None:
        return {"verdict": "missing"}
    kept = ("path", "frame", "time", "score", "p_value", "threshold", "invalid_reason", "error")
    return {"id": view.id, "verdict": view.verdict, **{key: view.fields[key] for key in kept if key in view.fields}}


def _height(part: Part, name: str) -> float:
    fields = part.views[name].fields if name in part.views else {}
    score, threshold = fields.get("score"), fields.get("threshold")
    if score is None or threshold is None:
        return 0.0
    return float(score / threshold) if threshold > 0 else float(score)
