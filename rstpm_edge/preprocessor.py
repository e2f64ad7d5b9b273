"""From an image to what a model takes: the first of the three steps that every image goes through."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rstpm_edge.image.decode import read_stored
from rstpm_edge.image.grid import Grid
from rstpm_edge.image.in_memory import Picture, as_array
from rstpm_edge.image.mask import Mask, stored_mask
from rstpm_edge.image.preprocess import Channels, InputFormat, check_array
from rstpm_edge.image.roi import Roi
from rstpm_edge.input_check import InputCheck, Notify
from rstpm_edge.model.metadata import Bundle
from rstpm_edge.native import kernels
from rstpm_edge.validity_check import ValidityCheck

ImageLike: TypeAlias = NDArray[Any] | str | os.PathLike[str] | bytes | bytearray | memoryview | Picture


@dataclass(frozen=True, eq=False)
class Photo:
    """An image in memory: `pixels` as `to_rgb` takes them, with their order of channels, and a name for messages."""

    pixels: NDArray[Any]
    channels: Channels
    name: object = "the image"


@dataclass(frozen=True, eq=False)
class InputBatch:
    """N images as a model takes them.

    `pixels` are (N, H, W, 3) uint8 RGB. `grids` say how each lies on its photo, `ignored` which of its cells (H, W)
    have no part in the score; None for none. `invalid` says why one cannot be judged, by how it was taken, None for
    those that can; it is None where images are compared with nothing. `light` are `Validity.light_p_value` of them.
    """

    pixels: NDArray[np.uint8]
    grids: tuple[Grid, ...]
    ignored: tuple[NDArray[np.bool_] | None, ...]
    invalid: tuple[str | None, ...] | None = None
    light: tuple[float | None, ...] | None = None


class Preprocessor:
    """Reads images, checks them against what `bundle` was trained on, and brings them to its input.

    channels, roi, allow_size_change, notify: those of `Detector`. mask: where anomalies count; "model" is the one that
    the model was exported with, if any. threads: how many may share the work on a large image.
    Safe to share between threads.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        channels: Channels = "bgr",
        roi: Roi | Literal["model"] | None = "model",
        mask: Mask | Literal["model"] | None = "model",
        allow_size_change: bool = False,
        notify: Notify | None = None,
        threads: int = 1,
    ) -> None:
        self._channels = channels
        self._format = InputFormat(bundle.size, bundle.resize, bundle.bits)
        self._check = InputCheck(bundle, roi=roi, allow_size_change=allow_size_change, notify=notify)
        # Limits are of the part that was learned from: whoever judges another one has none.
        of_model = roi == bundle.roi if not isinstance(roi, str) else True
        limits = bundle.validity if of_model else None
        self._validity = None if limits is None else ValidityCheck(limits, bundle.profile)
        self._threads, self._kernel = threads, kernels().active
        if isinstance(mask, str):
            mask = None if bundle.mask is None else stored_mask(bundle.mask)
        # Photos of one camera all have one size.
        self._cells = None if mask is None else lru_cache(maxsize=4)(mask.ignored)

    @property
    def masked(self) -> bool:
        """Whether a mask says where anomalies count."""
        return self._cells is not None

    def load(self, image: ImageLike) -> Photo:
        """Read and decode an image file, or take what is in memory. Raises ImageError."""
        if isinstance(image, (str, os.PathLike)):
            return Photo(read_stored(image), "bgr", image)  # in OpenCV's order: `to_input` turns it at no cost
        return Photo(*as_array(image, self._channels))  # before it is cropped: a camera that fails gives None

    def prepare(self, photo: Photo, out: NDArray[np.uint8] | None = None) -> tuple[NDArray[np.uint8], Grid]:
        """The model's input (H, W, 3) uint8 RGB for one photo, written to `out` if given, and how it lies on the photo.

        Raises ImageError for what is no image, for a photo that the ROI reaches beyond, and for one so unlike those
        that were learned from that its verdict would mean nothing.
        """
        pixels = check_array(photo.pixels, str(photo.name))
        roi = self._check.part_of(pixels, photo.name)
        row, grid = self._format.prepare(
            pixels, roi, photo.name, channels=photo.channels, out=out, threads=self._threads, kernel=self._kernel
        )
        self._check.look_at_colours(row[grid.placement.window], pixels, photo.name)
        return row, grid

    def ignored(self, grid: Grid) -> NDArray[np.bool_] | None:
        """Cells of the input (H, W) that the mask leaves out; None without a mask. UsageError where it does not fit."""
        return None if self._cells is None else self._cells(grid, self._format.size)

    def batch(self, photos: Iterable[Photo], *, room: int = 1) -> InputBatch:
        """Prepare photos, of which one at a time is held. `room` says how many to expect; more are taken too.

        Raises as `prepare` and `ignored` do.
        """
        pixels = np.empty((room, *self._format.size, 3), np.uint8)
        grids: list[Grid] = []
        for photo in photos:
            if len(grids) == len(pixels):
                pixels = np.concatenate([pixels, np.empty_like(pixels)])
            grids.append(self.prepare(photo, pixels[len(grids)])[1])
        batch = InputBatch(pixels[: len(grids)], tuple(grids), tuple(map(self.ignored, grids)))
        if self._validity is None:
            return batch
        looks = [self._validity.look(row[grid.placement.window]) for row, grid in zip(batch.pixels, grids, strict=True)]
        return replace(
            batch, invalid=tuple(one.reason for one in looks), light=tuple(one.light_p_value for one in looks)
        )
