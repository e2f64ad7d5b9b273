"""Parts that several cameras see: which views belong together, and what the verdict of the part is."""

from __future__ import annotations

import dataclasses
import itertools
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from waiting import until

from rstpm_edge.sources.frames import utc_time
from rstpm_edge.station.event import Inspection
from rstpm_edge.station.feed import Feed
from rstpm_edge.station.part_feed import PartFeed
from rstpm_edge.station.parts import Joiner, Part, PartRule, inspection_of, verdict_of
from rstpm_edge.station.photos import rgb_of
from rstpm_edge.station.product import ProductName

pytestmark = pytest.mark.extra

VIEWS = ("top", "side")
VERDICTS = ("normal", "anomalous", "invalid", "failed")
numbers = itertools.count(1)


def view(
    origin: str, verdict: str = "normal", *, at: float | None = None, score: float = 0.5, **fields: Any
) -> Inspection:
    """What a line publishes; `at` is when the picture was taken."""
    told: dict[str, Any] = {"path": f"{origin}.png", "verdict": verdict, **fields}
    if at is not None:
        told["time"] = utc_time(1_000_000 + at)
    if verdict in ("normal", "anomalous"):
        told |= {"score": score, "threshold": 1.0, "p_value": 0.4, "alpha": 0.05, "rate_with_confidence": 0.1}
    if verdict == "failed":
        told["error"] = "Cannot read it."
    return Inspection(1_000_000 + (at or 0), origin, "bracket", "1", told, id=next(numbers))


def seen(parts: list[Part]) -> list[tuple[str, list[str]]]:
    return [(part.key, sorted(part.views)) for part in parts]


# The verdict


@pytest.mark.parametrize("top", VERDICTS)
@pytest.mark.parametrize("side", [*VERDICTS, None])
def test_the_verdict_of_a_part(top: str, side: str | None) -> None:
    part = Part("1", 0, 0, {"top": view("top", top)})
    if side is not None:
        part.views["side"] = view("side", side)
    verdict, worst = verdict_of(part, PartRule("part", VIEWS))
    both = {top, side}
    if "anomalous" in both:
        assert verdict == "anomalous"
    elif both & {"failed", None}:
        assert verdict == "failed"
    else:
        assert verdict == ("invalid" if "invalid" in both else "normal")
    told = inspection_of(part, PartRule("part", VIEWS), 5.0)
    assert told.verdict == verdict
    assert told.fields["path"] == "part 1"
    assert told.fields["views"]["top"]["verdict"] == top
    assert told.fields["views"]["side"]["verdict"] == (side or "missing")
    assert (told.p_value is None) == (verdict in ("failed", "invalid"))
    assert told.document["origin"] == "part"
    if side is None and verdict == "failed" and worst == "side":
        assert told.fields["error"] == "Cannot judge part 1: No picture of the view side came within 5 seconds."


def test_the_worst_view_is_shown() -> None:
    part = Part("1", 0, 0, {"top": view("top", score=0.3), "side": view("side", score=0.7)})
    told = inspection_of(part, PartRule("part", VIEWS), 5.0)
    assert (told.fields["view"], told.fields["score"], told.fields["alpha"]) == ("side", 0.7, None)
    part.views["top"] = view("top", "anomalous", score=1.5)
    part.views["side"] = view("side", "anomalous", score=3.0)
    assert verdict_of(part, PartRule("part", VIEWS)) == ("anomalous", "side")


def test_the_photo_of_a_part_has_the_bits_of_its_view() -> None:
    product = SimpleNamespace(name=ProductName("bracket", "1"), detector=SimpleNamespace(info=SimpleNamespace(bits=12)))
    station: Any = SimpleNamespace(loaded=lambda: [product])
    grey = np.full((8, 8, 3), 2047, np.uint16)
    views = {name: dataclasses.replace(view(name), photo=grey) for name in VIEWS}
    told = inspection_of(Part("1", 0, 0, views), PartRule("part", VIEWS), 5.0)
    shown = rgb_of(station, told, 1 << 20)
    assert shown is not None
    assert shown[0, 0].tolist() == [127, 127, 127]


# By time


def test_pictures_that_are_taken_at_once_are_of_one_part() -> None:
    joiner = Joiner(PartRule("part", VIEWS, within=0.2))
    assert joiner.add(view("top", at=1.0), 0) == []
    assert seen(joiner.add(view("side", at=1.15), 0)) == [("1", ["side", "top"])]
    assert joiner.add(view("side", at=2.0), 1) == []
    assert joiner.add(view("top", at=2.3), 1) == []  # too late for that one
    assert seen(joiner.add(view("side", at=2.25), 1)) == [("3", ["side", "top"])]
    assert joiner.expire(5.9) == []
    assert seen(joiner.expire(6.1)) == [("2", ["side"])]
    assert joiner.expire(99) == []


def test_views_that_are_judged_late_still_find_their_part() -> None:
    joiner = Joiner(PartRule("part", VIEWS, within=0.2))
    for at in (1.0, 2.0, 3.0):
        assert joiner.add(view("top", at=at), at) == []
    keys = [seen(joiner.add(view("side", at=at), 4)) for at in (1.05, 2.05, 3.05)]
    assert keys == [[("1", ["side", "top"])], [("2", ["side", "top"])], [("3", ["side", "top"])]]


def test_each_picture_goes_to_the_nearest_part() -> None:
    joiner = Joiner(PartRule("part", VIEWS, within=0.2))
    joiner.add(view("top", at=1.0), 0)
    assert joiner.add(view("top", at=1.15), 0) == []  # the side of the first one is still judged
    assert seen(joiner.add(view("side", at=1.14), 0)) == [("2", ["side", "top"])]
    assert seen(joiner.add(view("side", at=1.01), 0)) == [("1", ["side", "top"])]


def test_without_a_time_of_the_picture_that_of_the_verdict_counts() -> None:
    joiner = Joiner(PartRule("part", VIEWS, within=0.2))
    joiner.add(Inspection(1_000_001.0, "top", "a", "1", {"verdict": "failed", "path": "x", "error": "no"}), 0)
    assert len(joiner.add(view("side", at=1.1), 0)) == 1


# By count


def test_the_nth_picture_of_each_camera() -> None:
    joiner = Joiner(PartRule("part", VIEWS, by="count"))
    assert joiner.add(view("top", frame=0), 0) == []
    assert joiner.add(view("top", frame=1), 0) == []
    assert seen(joiner.add(view("side", frame=0), 0)) == [("1", ["side", "top"])]
    assert seen(joiner.add(view("side", frame=1), 0)) == [("2", ["side", "top"])]
    # Frame 2 of the side was dropped or damaged: its part is not whole, and the next one is.
    assert joiner.add(view("top", frame=2), 0) == []
    assert joiner.add(view("top", frame=3), 0) == []
    assert seen(joiner.add(view("side", frame=3), 0)) == [("4", ["side", "top"]), ("3", ["top"])]


def test_a_first_picture_that_is_damaged_shifts_nothing() -> None:
    joiner = Joiner(PartRule("part", VIEWS, by="count"))
    joiner.add(view("top", frame=0), 0)
    joiner.add(view("top", frame=1), 0)
    assert seen(joiner.add(view("side", frame=1), 0)) == [("2", ["side", "top"]), ("1", ["top"])]


def test_a_camera_that_was_away_parts_the_views_until_somebody_realigns() -> None:
    joiner = Joiner(PartRule("part", VIEWS, by="count"))
    joiner.add(view("top", frame=0), 0)
    (part,) = joiner.lose("side")
    assert part.problem.startswith(
        "The camera side was away, so that its count is not that of the others: stop the line"
    )
    assert joiner.lose("side") == joiner.lose("top") == []
    for frame in (1, 2):
        (part,) = joiner.add(view("top", frame=frame), 0)
        assert part.problem == joiner.apart
        assert inspection_of(part, PartRule("part", VIEWS), 0).verdict == "failed"
    (part,) = joiner.add(view("side", "anomalous", frame=7), 0)
    assert inspection_of(part, PartRule("part", VIEWS), 0).verdict == "anomalous"
    joiner.realign()
    assert joiner.apart is None
    assert joiner.add(view("side", frame=8), 0) == []
    assert seen(joiner.add(view("top", frame=3), 0)) == [("1", ["side", "top"])]


def test_a_camera_that_comes_late_parts_the_views() -> None:
    joiner = Joiner(PartRule("part", VIEWS, by="count"))
    assert joiner.arrive("top") == joiner.arrive("side") == []
    assert joiner.apart is None
    joiner.add(view("top", frame=0), 0)
    assert len(joiner.arrive("side")) == 1
    assert joiner.apart is not None
    by_time = Joiner(PartRule("part", VIEWS))
    by_time.add(view("top", at=0.0), 0)
    assert by_time.arrive("side") == by_time.lose("side") == []
    assert by_time.apart is None


def test_what_has_no_number_fails() -> None:
    joiner = Joiner(PartRule("part", VIEWS, by="count"))
    (part,) = joiner.add(view("top"), 0)
    assert part.problem == "top.png has no name or number that tells its part."


# By name


def test_files_of_one_name() -> None:
    joiner = Joiner(PartRule("part", VIEWS, by="name"))
    assert joiner.add(view("top", path="/in/top/0017.png"), 0) == []
    assert joiner.add(view("top", path="/in/top/0018.png"), 0) == []
    assert seen(joiner.add(view("side", path="/in/side/0017.jpg"), 0)) == [("0017", ["side", "top"])]
    (again,) = joiner.add(view("top", path="/in/top/0018.png"), 0)
    assert (again.key, again.problem) == ("0018", "The next picture of the view top came first.")
    pattern = Joiner(PartRule("part", VIEWS, by="name", pattern=r"(?P<part>\d+)_(top|side)\.png"))
    pattern.add(view("top", path="17_top.png"), 0)
    assert seen(pattern.add(view("side", path="17_side.png"), 0)) == [("17", ["side", "top"])]
    (part,) = pattern.add(view("side", path="other.png"), 0)
    assert part.problem == "other.png has no name or number that tells its part."


# In a station


def test_the_feed_gets_one_verdict_for_the_part() -> None:
    feed, said, told = Feed(), list[str](), list[Any]()
    with (
        feed.subscribe("test") as all_of_them,
        PartFeed(feed, PartRule("part", VIEWS), report=said.append, reactions=[told.append]),
    ):
        now = time.time() - 1_000_000
        top = feed.publish(view("top", at=now))
        side = feed.publish(view("side", "anomalous", at=now + 0.01, score=2.0))
        feed.publish(view("request", at=now))  # of no camera
        found = [all_of_them.get(10) for _ in range(4)]
        part = found[-1]
        assert part is not None
        assert (part.origin, part.verdict, part.product) == ("part", "anomalous", "part")
        assert part.fields["views"]["top"]["id"] == top.id
        assert part.fields["views"]["side"]["id"] == side.id
        assert part.id > side.id
        assert told == [part.fields]
        feed.publish(view("top", at=now + 5))
    last = all_of_them.pending()[-1]
    assert last.fields["error"] == "Cannot judge part 2: The station was stopped."


def test_what_lines_judge_while_the_station_stops_has_its_part() -> None:
    feed, told = Feed(), list[Any]()
    with PartFeed(feed, PartRule("part", VIEWS), reactions=[told.append]):
        with feed.subscribe("test") as reader:
            feed.end_readers()
            assert reader.closed
        feed.publish(view("top", at=1.0))
        feed.publish(view("side", "anomalous", at=1.0, score=2.0))
    assert [fields["verdict"] for fields in told] == ["anomalous"]


def test_the_feed_tells_when_views_have_come_apart() -> None:
    feed, said = Feed(), list[str]()
    with PartFeed(feed, PartRule("part", VIEWS, by="count"), report=said.append) as parts:
        parts.tell_source("top", True)
        parts.tell_source("side", True)
        parts.tell_source("side", False)
        parts.tell_source("side", True)
        assert len(said) == 1
        assert said[0].startswith("Parts cannot be judged: The camera side was away")
        assert parts.apart is not None
        parts.realign()
        assert parts.apart is None


def test_parts_that_wait_too_long_are_told() -> None:
    feed = Feed()
    with feed.subscribe("test") as all_of_them, PartFeed(feed, PartRule("part", VIEWS, patience=0.1)):
        feed.publish(view("top"))
        all_of_them.get(10)
        until(lambda: bool(part := all_of_them.get(0.05)) and part.verdict == "failed")
