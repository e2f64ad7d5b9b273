"""What of an archive is still to be judged, by what the part files say."""

import os
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rstpm_edge.errors import ImageError
from rstpm_edge.image.decode import read_encoded


@dataclass(frozen=True)
class Pending:
    """`items` are to be judged; rows of the images `stale` (Arrow array of paths) say nothing of them any more."""

    items: Any
    stale: Any


def pending(items: Any, known: Any) -> Pending:
    """`items` of the archive, less those that `known` (`Parts.known`) has a row of with the same content.

    The same size and version (time, entity tag) are taken for the same content. Where the version alone is another,
    the content's hash decides, for files on this machine; elsewhere the image is judged again. So is one whose row has
    no hash: its content could not be read.
    """
    if not len(known):
        return Pending(items, pa.array([], pa.string()))
    at = pc.index_in(items["path"], value_set=known["path"])
    has_row = pc.is_valid(at).to_numpy(zero_copy_only=False)
    rows = known.take(at.combine_chunks() if isinstance(at, pa.ChunkedArray) else at)
    hashed = pc.is_valid(rows["sha256"]).to_numpy(zero_copy_only=False)
    same_size = _equal(rows["size"], items["size"])
    same = has_row & hashed & same_size & _equal(rows["version"], items["version"])
    for index in np.flatnonzero(has_row & hashed & same_size & ~same):
        same[index] = _content(items.slice(int(index), 1).to_pylist()[0]) == rows["sha256"][int(index)].as_py()
    return Pending(items.filter(pa.array(~same)), items["path"].filter(pa.array(has_row & ~same)).combine_chunks())


def _equal(first: Any, second: Any) -> Any:
    return pc.fill_null(pc.equal(first, second), False).to_numpy(zero_copy_only=False)


def _content(item: dict[str, Any]) -> str | None:
    """The hash of a file on this machine; None for others."""
    location = os.fsdecode(item["location"])
    if item["column"] or "://" in location:
        return None
    try:
        return sha256(read_encoded(location)).hexdigest()
    except ImageError:
        return None
