"""Which photos are held out for the calibration: by the seed, and never beside a copy that was learned from."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rstpm_edge.image.duplicates import Duplicates


def split(
    count: int, holdout: float, seed: int, copies: Sequence[Duplicates] = ()
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows that are held out, a share `holdout` of different photos, and rows that are learned from; each ascending,
    never empty.

    Of photos that are copies of each other all are learned from, or one is held out and the others are left aside: a
    part that was learned from says nothing of new ones, and one that is held out counts once. Where that would leave
    fewer than two to learn from, each photo is taken for itself.
    """
    order = np.random.default_rng(seed).permutation(count)
    held = wanted_count(count, holdout)
    group = np.arange(count)
    for same in copies:
        group[list(same.rows)] = same.rows[0]
    sizes = np.bincount(group, minlength=count)
    wanted = max(1, held * np.count_nonzero(sizes) // count)
    chosen: dict[int, int] = {}  # groups that are held out, and the row that stands for each
    left = count
    for row in order:
        if len(chosen) == wanted:
            break
        if group[row] not in chosen and left - sizes[group[row]] >= 2:
            chosen[int(group[row])] = int(row)
            left -= sizes[group[row]]
    if not chosen:
        return np.sort(order[:held]), np.sort(order[held:])
    return np.sort(list(chosen.values())), np.flatnonzero(~np.isin(group, list(chosen)))


def wanted_count(count: int, holdout: float) -> int:
    """How many of so many photos a share `holdout` is: one at least, and two are left."""
    return min(max(1, round(count * holdout)), count - 2)


def about_copies(copies: Sequence[Duplicates], held_out: NDArray[np.int64], learned: NDArray[np.int64]) -> str:
    """What to tell of the copies, and of what `split` did with them."""
    photos = sum(len(same.rows) for same in copies)
    groups = "one group" if len(copies) == 1 else f"{len(copies)} groups"
    held = "one held-out image" if len(held_out) == 1 else f"{len(held_out)} held-out images"
    if any(np.isin(same.rows, held_out).any() and np.isin(same.rows, learned).any() for same in copies):
        return (
            f"{photos} photos are the same or nearly so: some are held out beside copies that were learned from, and "
            "the false-reject rate below means nothing. Take photos of different parts."
        )
    return (
        f"{photos} photos are the same or nearly so, in {groups}. All of a group are learned from, or one "
        f"is held out, which makes {held}; `rstpm-edge audit` names them."
    )
