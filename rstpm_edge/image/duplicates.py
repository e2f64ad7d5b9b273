"""Photos that are in a set twice: the same file under another name, saved again, or taken again of a part at rest."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE = 128
DETAIL = 4.0  # pixels of that size: what is coarser, light above all, parts have in common
# On the magnetic tiles, of which many show one tile under several lights, one pair of 475 reaches 0.95: the same photo
# taken twice. JPEG at quality 75, noise, another size or exposure leave a copy above it.
SAME = 0.95
FAINTEST = 0.1  # grey levels of detail, root mean square: what is fainter is rounding
VIEW = 5  # more photos than this that are all alike are a view of the product, not copies


@dataclass(frozen=True)
class Duplicates:
    """Rows, ascending, of photos that are the same; `exact` where every pixel is."""

    rows: tuple[int, ...]
    exact: bool


def fingerprint(image: NDArray[np.uint8]) -> bytes:
    """The same for images (H, W, 3) uint8 whose pixels are all the same, whatever file format holds them."""
    shape = repr(image.shape).encode()
    return hashlib.blake2b(np.ascontiguousarray(image).tobytes() + shape, digest_size=16).digest()


def find_duplicates(fingerprints: Sequence[bytes], inputs: NDArray[np.uint8]) -> list[Duplicates]:
    """Groups of photos of one set that are the same, in the order of their first rows.

    `inputs` (N, H, W, 3) uint8 RGB are the photos, brought to one size. A group that joins exact copies to one that is
    nearly the same counts as not exact.
    """
    return find_alike(fingerprints, [fine_detail(image) for image in inputs])


def fine_detail(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What tells a photo (H, W, 3) RGB from others of its product, (SIDE, SIDE): 64 kB, however large the photo."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    return small - cv2.GaussianBlur(small, (0, 0), DETAIL)


def find_alike(fingerprints: Sequence[bytes], details: Sequence[NDArray[np.float32]]) -> list[Duplicates]:
    """`find_duplicates` of photos of which the `fine_detail` is known."""
    exact: dict[bytes, list[int]] = {}
    for row, digest in enumerate(fingerprints):
        exact.setdefault(digest, []).append(row)
    copies = [tuple(rows) for rows in exact.values()]
    firsts = [rows[0] for rows in copies]
    own_details = _without_common([details[row] for row in firsts])
    groups = []
    for members in _alike(own_details):
        if len(members) > VIEW:
            # A fixed part in front of a fixed camera: take away what they share, and look again.
            own = own_details[members] - own_details[members].mean(0)
            groups += [[members[i] for i in inner] for inner in _alike(own)]
        else:
            groups.append(members)
    joined = {i for members in groups for i in members}
    groups += [[i] for i, rows in enumerate(copies) if len(rows) > 1 and i not in joined]
    found = [Duplicates(tuple(sorted(r for i in group for r in copies[i])), len(group) == 1) for group in groups]
    return sorted(found, key=lambda group: group.rows)


def _without_common(details: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """(N, SIDE²), without what all images have in common."""
    rows = np.array(details, np.float32).reshape(len(details), SIDE * SIDE)
    if len(rows) > VIEW:  # the mean of two or three is mostly themselves
        rows -= rows.mean(0)
    return rows


def _alike(details: NDArray[np.float32], block: int = 256) -> list[list[int]]:
    """Groups of two and more rows of (N, D) that hang together by correlations of at least SAME."""
    length = np.linalg.norm(details, axis=1, keepdims=True)
    unit = details / np.maximum(length, FAINTEST * SIDE)  # rows without any detail are like nothing
    group_of = list(range(len(unit)))  # by row; joined as pairs are found
    for start in range(0, len(unit), block):
        for row, other in np.argwhere(unit[start : start + block] @ unit.T >= SAME).tolist():
            first, second = _root(group_of, start + row), _root(group_of, other)
            group_of[max(first, second)] = min(first, second)
    joined: dict[int, list[int]] = {}
    for row in range(len(unit)):
        joined.setdefault(_root(group_of, row), []).append(row)
    return [group for group in joined.values() if len(group) > 1]


def _root(group_of: list[int], row: int) -> int:
    """The first row of a row's group."""
    while group_of[row] != row:
        group_of[row] = group_of[group_of[row]]
        row = group_of[row]
    return row
