"""The feed: order and numbers of verdicts, readers that are slow, and what is kept."""

from __future__ import annotations

import mmap
import threading
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from rstpm_edge.result import Result
from rstpm_edge.station.event import Inspection
from rstpm_edge.station.feed import Feed
from rstpm_edge.station.recent import Recent
from rstpm_edge.station.shift import Shift

EMPTY = np.zeros((10, 10), np.float32)
RESULT = Result(0.0, 1.0, 1.0, None, None, 0.5, (0, 0), (), (0, 0, 1, 1), (1, 1), EMPTY)


def inspection(verdict: str = "normal", photo: bytes | None = None, product: str = "bolt") -> Inspection:
    return Inspection(0.0, "line", product, "1", {"verdict": verdict, "p_value": 0.5}, photo=photo)


def test_a_slow_reader_loses_the_oldest_and_holds_up_nobody() -> None:
    feed = Feed()
    with feed.subscribe("slow", room=3) as slow, feed.subscribe("quick", room=100) as quick:
        published = [feed.publish(inspection()).id for _ in range(10)]
        assert [one.id for one in slow.pending()] == published[-3:]
        assert [one.id for one in quick.pending()] == published
        assert (slow.dropped, quick.dropped) == (7, 0)
    feed.publish(inspection())
    assert feed.dropped == {"slow": 7, "quick": 0}
    assert feed.subscribers == 0


def test_numbers_grow_across_restarts_and_where_the_clock_goes_back() -> None:
    times = iter([100.0, 100.0, 50.0])
    feed = Feed(now=lambda: next(times))
    assert [feed.publish(inspection()).id for _ in range(3)] == [100_000, 100_001, 100_002]
    assert Feed(now=lambda: 101.0).publish(inspection()).id == 101_000
    after = Feed(now=lambda: 50.0)  # a machine that begins with a clock of the past
    assert after.newest == 0
    after.go_on_from(101_000)
    assert after.newest == 101_000
    assert after.publish(inspection()).id == 101_001


def test_taps_see_all_in_the_order_of_numbers() -> None:
    seen: list[int] = []
    feed = Feed([lambda one: seen.append(one.id)])
    threads = [threading.Thread(target=lambda: [feed.publish(inspection()) for _ in range(200)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 800
    assert seen == sorted(set(seen))


def test_the_end_wakes_readers() -> None:
    feed = Feed()
    woken: list[int] = []
    subscription = feed.subscribe("reader", wake=lambda: woken.append(1))
    reader = threading.Thread(target=lambda: woken.append(0 if subscription.get(30) is None else 2))
    reader.start()
    feed.close()
    reader.join(30)
    assert sorted(woken) == [0, 1]
    assert subscription.closed
    assert feed.subscribe("late").closed


def test_photos_are_kept_as_long_as_they_fit() -> None:
    recent = Recent(entries=5, bytes=250)
    feed = Feed([recent.add])
    numbers = [feed.publish(inspection(photo=bytes(100))).id for _ in range(7)]
    assert [one.id for one in recent.last()] == numbers[:1:-1]
    assert [one.photo is not None for one in recent.last()] == [True, True, False, False, False]
    assert recent.get(numbers[0]) is None
    assert [one.id for one in recent.since(numbers[4])] == numbers[5:]
    large = feed.publish(inspection(photo=bytes(1000)))
    assert [one.photo is not None for one in recent.last(2)] == [True, False]
    kept = recent.get(large.id)
    assert kept is not None
    assert kept.photo == large.photo


@pytest.mark.parametrize("photo", [np.arange(48, dtype=np.uint16).reshape(2, 8, 3)[:, ::2], b"what a JPEG holds"])
def test_what_is_kept_lies_in_pages_of_its_own(photo: NDArray[np.uint16] | bytes) -> None:
    """In the heap, small things that stay would settle between photos that come and go."""
    recent = Recent()
    number = Feed([recent.add]).publish(replace(inspection(), photo=photo, result=RESULT)).id
    kept = recent.get(number)
    assert kept is not None
    assert kept.photo is not None
    assert kept.result is not None
    np.testing.assert_array_equal(np.asarray(kept.photo), np.asarray(memoryview(photo)))  # type: ignore[arg-type]
    np.testing.assert_array_equal(kept.result.model_map, EMPTY)
    assert not kept.result.model_map.flags.writeable
    assert isinstance(owner(kept.photo), mmap.mmap)
    assert isinstance(owner(kept.result.model_map), mmap.mmap)


def test_a_large_photo_is_not_copied() -> None:
    pixels = np.zeros((2000, 2000, 3), np.uint8)
    recent = Recent()
    kept = recent.get(Feed([recent.add]).publish(replace(inspection(), photo=pixels)).id)
    assert kept is not None
    assert kept.photo is pixels


def test_an_empty_photo_is_kept_as_it_is() -> None:
    recent = Recent()
    kept = recent.get(Feed([recent.add]).publish(inspection(photo=b"")).id)
    assert kept is not None
    assert kept.photo == b""


def owner(held: object) -> object:
    """What the memory of an array or a view of one belongs to."""
    while isinstance(held, np.ndarray | memoryview):
        held = held.base if isinstance(held, np.ndarray) else held.obj
    return held


def test_maps_count_as_photos_do() -> None:
    recent = Recent(bytes=500)
    feed = Feed([recent.add])
    for _ in range(3):
        feed.publish(Inspection(0.0, "line", "bolt", "1", {"verdict": "normal"}, RESULT))
    assert [one.result is not None for one in recent.last()] == [True, False, False]


def test_a_shift() -> None:
    times = iter([10.0, 20.0])
    shift = Shift(now=lambda: next(times))
    for verdict, product in (("normal", "bolt"), ("anomalous", "bolt"), ("normal", "nut")):
        shift.add(inspection(verdict, product=product))
    assert shift.counts().total() == {"normal": 2, "anomalous": 1, "invalid": 0, "failed": 0}
    assert shift.counts().total(product="nut")["normal"] == 1
    assert shift.counts().total(origin="request")["normal"] == 0
    ended = shift.begin()
    assert (ended.since, ended.total()["normal"]) == (10.0, 2)
    assert (shift.counts().since, shift.counts().total()["normal"]) == (20.0, 0)
