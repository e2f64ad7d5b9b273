"""The last verdicts, in memory that does not grow."""

import mmap
import threading
from collections import OrderedDict
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rstpm_edge.station.event import Inspection

COPIED = 8 << 20  # bytes at most: to copy more takes milliseconds of each part, and only a few that large are kept


class Recent:
    """A tap of the feed that keeps the last `entries` verdicts.

    The newest ones also keep their result, with its map, and their photo, as long as all of that is below `bytes`; the
    last one in any case.
    """

    def __init__(self, entries: int = 1000, bytes: int = 128 << 20) -> None:
        self._entries, self._bytes = entries, bytes
        self._lock = threading.Lock()
        self._kept: OrderedDict[int, Inspection] = OrderedDict()
        self._heavy: OrderedDict[int, int] = OrderedDict()  # bytes of those that have a photo or result
        self._sum = 0

    def add(self, inspection: Inspection) -> None:
        """Take one more."""
        inspection = _apart(inspection)
        size = _size(inspection)
        with self._lock:
            self._kept[inspection.id] = inspection
            if size:
                self._heavy[inspection.id] = size
                self._sum += size
            while len(self._heavy) > 1 and self._sum > self._bytes:
                self._lighten()
            while len(self._kept) > self._entries:
                oldest, _ = self._kept.popitem(last=False)
                self._sum -= self._heavy.pop(oldest, 0)

    def get(self, number: int) -> Inspection | None:
        """The one with this id; None where it is not kept any more."""
        with self._lock:
            return self._kept.get(number)

    def last(self, most: int = 100) -> list[Inspection]:
        """The newest ones, newest first."""
        with self._lock:
            kept = list(self._kept.values())
        return kept[: -most - 1 : -1]

    def since(self, number: int) -> list[Inspection]:
        """Those with a higher id, oldest first."""
        with self._lock:
            return [one for one in self._kept.values() if one.id > number]

    def _lighten(self) -> None:
        number, size = self._heavy.popitem(last=False)
        self._sum -= size
        self._kept[number] = self._kept[number].light()


def _apart(inspection: Inspection) -> Inspection:
    """The same, with copies of photo and map in pages of their own.

    A thousand of them, of many sizes, come and go for as long as a station runs. In the heap, what is small and stays
    settles in between: 8 to 10 MB more, with nothing more in use.
    """
    photo, result = inspection.photo, inspection.result
    if isinstance(photo, np.ndarray):
        photo = _in_pages(photo)
    elif photo:
        photo = _in_pages(np.frombuffer(photo, np.uint8)).data
    return replace(inspection, photo=photo, result=result and replace(result, model_map=_in_pages(result.model_map)))


def _in_pages(array: NDArray[Any]) -> NDArray[Any]:
    if array.nbytes > COPIED:
        return array
    pages = mmap.mmap(-1, max(array.nbytes, 1), access=mmap.ACCESS_COPY)  # goes back to the system with the last view
    copy = np.frombuffer(pages, array.dtype, array.size).reshape(array.shape)
    copy[...] = array
    copy.flags.writeable = False
    return copy


def _size(inspection: Inspection) -> int:
    photo, result = inspection.photo, inspection.result
    of_photo = 0 if photo is None else len(photo) if isinstance(photo, bytes) else photo.nbytes
    return of_photo + (0 if result is None else result.model_map.nbytes)
