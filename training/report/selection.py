"""Which images the report shows, and what is left out first when there is no room for all of them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Literal, TypeVar

import numpy as np

from ..evaluation.evaluation import JudgedImage

PER_END = 2  # best images of a kind, and worst ones
Drawn = TypeVar("Drawn")


@dataclass(frozen=True)
class Pick:
    """Image `index`, one of the worst or best of its kind; `rank` 0 is the very worst or best."""

    index: int
    place: Literal["worst", "best"]
    rank: int


def worst_first(images: Sequence[JudgedImage], threshold: float) -> list[int]:
    """All images by how far the score lies on the right side of the threshold: those on the wrong side first."""

    def margin(i: int) -> float:
        above = images[i].score - threshold
        return -above if images[i].kind == "good" else above

    return sorted(range(len(images)), key=margin)


def ends(images: Sequence[JudgedImage], ordered: Sequence[int], per_end: int = PER_END) -> list[Pick]:
    """The worst images of each kind, then its best ones, the very worst and the very best first; none twice.

    `ordered` are all images, worst first.
    """
    picks: list[Pick] = []
    for chosen in _by_kind(images, ordered):
        worst = chosen[: min(per_end, (len(chosen) + 1) // 2)]
        best = chosen[len(worst) :][::-1][:per_end]
        picks += [Pick(i, "worst", rank) for rank, i in enumerate(worst)]
        picks += [Pick(i, "best", rank) for rank, i in enumerate(best)]
    return picks


def gallery_order(images: Sequence[JudgedImage], ordered: Sequence[int]) -> list[int]:
    """All images, of which `ordered` has the worst first, in the order in which they are given room.

    False rejects, missed defects, then the right ones, kind by turns, each kind's in random order, so that
    what has room is a fair sample of them.
    """
    wrong = [i for outcome in ("false reject", "missed") for i in ordered if images[i].outcome == outcome]
    right = [i for i in ordered if images[i].outcome == "right"]
    random = np.random.default_rng(0)
    shuffled = [random.permutation(chosen).tolist() for chosen in _by_kind(images, right)]
    return wrong + [i for turn in zip_longest(*shuffled) for i in turn if i is not None]


def fitting(items: Iterable[Drawn], size: Callable[[Drawn], int], room: float) -> Iterator[Drawn]:
    """The first items whose sizes add up to no more than `room`; no item after them is drawn."""
    for item in items:
        room -= size(item)
        if room < 0:
            return
        yield item


def _by_kind(images: Sequence[JudgedImage], indices: Iterable[int]) -> list[list[int]]:
    kinds: dict[str, list[int]] = {}
    for i in indices:
        kinds.setdefault(images[i].kind, []).append(i)
    return list(kinds.values())
