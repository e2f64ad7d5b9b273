"""Which of the images that are to be trained on should not be: defective, double, out of focus, unreadable.

rstpm-edge audit DATA        # see `rstpm-edge audit --help`
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from rstpm_edge.errors import DatasetError, ImageError, UsageError
from rstpm_edge.image.decode import read_stored
from rstpm_edge.image.duplicates import find_duplicates, fingerprint
from rstpm_edge.image.grid import Grid
from rstpm_edge.image.placement import ResizePolicy
from rstpm_edge.image.preprocess import InputFormat, to_rgb
from rstpm_edge.image.roi import Roi, crop
from rstpm_edge.progress import Progress, Report

from ..data.images import Seen, about_left_out, good_images, ignore, training_folder
from ..data.learned_photos import PhotoCounter
from ..learning.options import TrainingOptions, check_options
from ..model.presets import EDGE
from ..model.rstpm import RSTPM
from .image_quality import Measures, Remark, judge_quality, measure_quality
from .outliers import CELL, Ranking, rank_photos

MINIMUM_IMAGES = 10  # fewer cannot say what is usual
CLEAR = 0.05  # a good set would hold an image as unusual as this one in at most so many cases

# What each stage takes, about, of one minute on photos of a megapixel.
PLAN = {"reading": 25.0, "teacher": 25.0, "comparing": 10.0}


@dataclass(frozen=True)
class Photo:
    """A readable image of the set. `grid` is how the model's input lies on it, or on its ROI."""

    path: Path
    measures: Measures
    fingerprint: bytes
    grid: Grid


@dataclass(frozen=True)
class Named:
    """An image to look at, and why.

    `row` is its place in Audit.photos; None where it cannot be read. A ranked image has a `rank` (from 1), the
    `position` (x, y) of what is most unusual in it, in its pixels, a `score`, and `expected`: the number of images so
    unusual that a set of this size would hold if all were good.
    """

    path: Path
    remarks: tuple[Remark, ...]
    suspicious: bool  # more than just the most unusual of a set, which every set has
    row: int | None = None
    rank: int | None = None
    score: float | None = None
    expected: float | None = None
    position: tuple[int, int] | None = None
    twin: Path | None = None  # the first image of which this one is a copy


@dataclass(frozen=True, eq=False)
class Audit:
    """What an audit found: ranked images first, then those that are named for another reason, unreadable ones last.

    `folder` is where the images lie. `ranking` is None where there were fewer than ten different images to compare.
    """

    folder: Path
    images: int
    photos: tuple[Photo, ...]
    roi: Roi | None
    size: tuple[int, int]  # height, width of the model's input
    named: tuple[Named, ...]
    ranking: Ranking | None
    minutes: float
    left_out: tuple[str, ...] = ()  # sentences on files in the folder, or below it, that were not looked at
    bits: int = 16  # of 16-bit values, how many are used

    @property
    def suspicious(self) -> int:
        """How many images should be looked at before training."""
        return sum(named.suspicious for named in self.named)

    def name(self, path: Path) -> str:
        """What an image is called: in folders below, several may have one name."""
        return _name_in(self.folder, path)

    @property
    def unreadable(self) -> int:
        """How many images cannot be read."""
        return self.images - len(self.photos)


def audit(
    data: str | Path,
    *,
    below: bool = False,
    most: int = 10,
    size: tuple[int, int] = (256, 256),
    resize: ResizePolicy = "stretch",
    roi: Roi | None = None,
    weights: Mapping[str, str] | None = None,
    report: Report = lambda progress: None,
) -> Audit:
    """Look for images that should not be among the good ones of `data`; at most `most` for being unusual.

    With `below`, images in folders below are looked at, too, as a training on sessions that are folders takes them.
    `size`, `resize`, `roi` and `weights` as for training with the preset `edge`, whose teacher 1 is what looks.

    Raises DatasetError where fewer than ten images can be read, UsageError and WeightsError as training does.
    """
    started = time.monotonic()
    if most < 1:
        raise UsageError(f"`most` must be at least 1, not {most}.")
    check_options(TrainingOptions(size=size, resize=resize, roi=roi, weights=weights or {}))
    files, folder = good_images(data, below=below), training_folder(data)
    left_out = [] if below else about_left_out(folder)
    for sentence in left_out:
        report(Progress("skipped", 0, 0, warning=sentence))
    model = RSTPM(EDGE, weights)  # wrong weights are told before the work
    report(Progress("reading", 0, len(files), plan=PLAN))
    counter = PhotoCounter()
    photos, inputs, unreadable = _read(files, size, resize, roi, report, seen=counter.add)
    bits = counter.bits() if counter.deep else 16
    if bits != 16:  # known only now
        photos, inputs, unreadable = _read(files, size, resize, roi, report, bits=bits)
    if len(photos) < MINIMUM_IMAGES:
        example = f": {unreadable[0][1]}" if unreadable else "."
        raise DatasetError(
            f"{len(photos)} of the {len(files)} images in {folder} can be read, and an audit needs at least "
            f"{MINIMUM_IMAGES} to say what is usual{example}"
        )
    remarks = judge_quality([photo.measures for photo in photos])
    groups = np.arange(len(photos))
    for group in find_duplicates([photo.fingerprint for photo in photos], inputs):
        first, *copies = group.rows
        for row in copies:
            name = _name_in(folder, photos[first].path)
            kind, text = ("copy", f"a copy of {name}") if group.exact else ("duplicate", f"nearly the same as {name}")
            remarks[row].append(Remark(kind, text))
            groups[row] = first
    ranking = None
    if len(set(groups.tolist())) >= MINIMUM_IMAGES:
        model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
        plain = np.array([not reasons for reasons in remarks])
        ranking = rank_photos(
            model, inputs, groups, plain, lambda stage, done: report(Progress(stage, done, len(inputs)))
        )
    named = _name(photos, remarks, groups, ranking, most)
    named += [Named(path, (Remark("unreadable", problem),), suspicious=True) for path, problem in unreadable]
    minutes = (time.monotonic() - started) / 60
    return Audit(folder, len(files), tuple(photos), roi, size, tuple(named), ranking, minutes, tuple(left_out), bits)


def _name_in(folder: Path, path: Path) -> str:
    return path.relative_to(folder).as_posix()


def _read(
    files: Sequence[Path],
    size: tuple[int, int],
    resize: ResizePolicy,
    roi: Roi | None,
    report: Report,
    *,
    bits: int = 16,
    seen: Seen = ignore,
) -> tuple[list[Photo], NDArray[np.uint8], list[tuple[Path, str]]]:
    """The readable photos, brought to the model's input (N, H, W, 3), and what is wrong with the others."""
    photos, inputs, unreadable = [], [], []
    model_input = InputFormat(size, resize)
    for done, path in enumerate(files, start=1):
        try:
            stored = read_stored(path)
            image = to_rgb(stored, "bgr", str(path), bits)
            prepared, grid = model_input.prepare(image, roi, path)
            part = crop(image, roi, path)
        except ImageError as error:
            unreadable.append((path, str(error)))
        else:
            seen(stored, prepared, grid.placement)
            inputs.append(prepared)
            photos.append(Photo(path, measure_quality(image, part), fingerprint(part), grid))
        report(Progress("reading", done, len(files)))
    return photos, np.stack(inputs) if inputs else np.empty((0, *size, 3), np.uint8), unreadable


def _name(
    photos: Sequence[Photo],
    remarks: Sequence[Sequence[Remark]],
    groups: NDArray[np.int64],
    ranking: Ranking | None,
    most: int,
) -> list[Named]:
    named: list[Named] = []
    if ranking is not None:
        rows = [row for row in ranking.order() if groups[row] == row][:most]  # a copy is named as such
        for place, row in enumerate(rows, start=1):
            position = _position(photos[row], ranking, row)
            unusual = Remark("unusual", f"unlike the others, most at ({position[0]}, {position[1]})")
            expected = float(ranking.expected[row])
            reasons = (unusual, *remarks[row])
            suspicious = expected < CLEAR or bool(remarks[row])
            score = float(ranking.scores[row])
            named.append(Named(photos[row].path, reasons, suspicious, row, place, score, expected, position))
    ranked = {one.row for one in named}
    for row, reasons_of_row in enumerate(remarks):
        if reasons_of_row and row not in ranked:
            twin = photos[groups[row]].path if groups[row] != row else None
            named.append(Named(photos[row].path, tuple(reasons_of_row), suspicious=True, row=row, twin=twin))
    return named


def _position(photo: Photo, ranking: Ranking, row: int) -> tuple[int, int]:
    cell = np.unravel_index(int(ranking.maps[row].argmax()), ranking.maps.shape[1:])
    return photo.grid.pixel(*(int(i) * CELL + CELL // 2 for i in cell))
