"""The good photos, brought to the model's input, and what they were like."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rstpm_edge.errors import DatasetError
from rstpm_edge.image.colours import Colours, measure_colours
from rstpm_edge.image.exposure_and_focus import ExposureAndFocus, measure_exposure_and_focus
from rstpm_edge.image.input_profile import BITS, MOST_SIZES, ONE_ASPECT, InputProfile, Size, aspects, describe_sizes
from rstpm_edge.image.placement import Placement, ResizePolicy
from rstpm_edge.image.roi import Roi
from rstpm_edge.model.validity import Validity

from .images import load_inputs
from .photo_limits import limits_of

NEAR = 0.8  # of the highest value of a range: a set that comes so far up uses it


@dataclass(frozen=True, eq=False)
class LearnedPhotos:
    """Photos brought to the model's input, and what they are like.

    `inputs` are (N, H, W, 3) uint8 RGB, `paths` and `brightness` (grey levels) have N each. `problems` are sentences on
    files that could not be read. `limits` say beyond what another photo is not like these; without novelty and light.
    """

    inputs: NDArray[np.uint8]
    paths: list[Path]
    problems: list[str]
    profile: InputProfile
    limits: Validity
    brightness: NDArray[np.float64]


class PhotoCounter:
    """Counts what photos are like; it is shown one after the other."""

    def __init__(self) -> None:
        self.sizes: Counter[Size] = Counter()
        self.deep = 0  # photos whose values are 16 bits wide
        self._highest = 0
        self._lowest_bits = 0
        self._colours: list[Colours] = []
        self._taken: list[ExposureAndFocus] = []

    def add(self, photo: NDArray[Any], inputs: NDArray[np.uint8], placement: Placement) -> None:
        """Take note of a photo as it is stored, and of what became of it at the model's input, (H, W, 3) RGB."""
        self.sizes[photo.shape[0], photo.shape[1]] += 1
        self._colours.append(measure_colours(inputs[placement.window]))
        self._taken.append(measure_exposure_and_focus(inputs[placement.window]))
        if photo.dtype == np.uint16:
            self.deep += 1
            self._highest = max(self._highest, int(photo.max()))
            self._lowest_bits |= int(np.bitwise_or.reduce(photo, axis=None)) & 15

    def bits(self) -> int:
        """How many bits the values use: as few as the brightest pixel of all 16-bit photos takes.

        Values that are all multiples of 16 are those of a camera that puts its bits to the top, unless they end near
        what fewer bits can hold.
        """
        if not self.deep:
            return 8
        bits = next(bits for bits in BITS if self._highest < 1 << bits)
        if bits == 14 and self._lowest_bits == 0 and self._highest < NEAR * (1 << bits):
            return 16
        return bits

    def profile(self, bits: int, roi: Roi | None = None) -> InputProfile:
        """What was counted. `bits` is what 16-bit values were scaled by, `roi` the part that was taken."""
        brightness = np.array([photo.brightness for photo in self._colours])
        tint = np.array([photo.tint for photo in self._colours])
        return InputProfile(
            photos=len(self._colours),
            sizes=_kept(self.sizes),
            depth=16 if self.deep else 8,
            bits=bits if self.deep else 8,
            brightness=(_rounded(brightness.mean()), _rounded(brightness.std())),
            chroma=_rounded(np.mean([photo.chroma for photo in self._colours])),
            tint=tuple(map(_rounded, tint.mean(axis=0))),
            tint_std=tuple(map(_rounded, tint.std(axis=0))),
            roi=roi,
        )

    def brightness(self) -> NDArray[np.float64]:
        """Of each photo, in grey levels."""
        return np.array([photo.brightness for photo in self._taken])

    def limits(self) -> Validity:
        """Beyond what another photo is not like them."""
        return limits_of(self._taken)


def load_learned(
    paths: Sequence[Path],
    size: tuple[int, int],
    resize: ResizePolicy,
    *,
    roi: Roi | None = None,
    skip_unreadable: bool = False,
    bits: int | None = None,
    allow_size_change: bool = False,
    warn: Callable[[str], None] = lambda sentence: None,
    progress: Callable[[int], None] = lambda done: None,
) -> LearnedPhotos:
    """`load_inputs`, and what the photos are like. `bits` of None are found from the photos themselves.

    Raises DatasetError as `load_inputs` does, for photos of several sizes that one ROI is to be taken from, unless that
    is allowed, and for values beyond `bits`. `warn` gets sentences about photos that differ in shape or depth,
    and `progress` the number of photos that are read.
    """

    def load(bits: int) -> tuple[NDArray[np.uint8], list[Path], list[str], PhotoCounter]:
        counter = PhotoCounter()
        loaded = load_inputs(
            paths,
            size,
            resize,
            roi=roi,
            skip_unreadable=skip_unreadable,
            bits=bits,
            seen=counter.add,
            progress=progress,
        )
        return *loaded, counter

    inputs, kept, problems, counter = load(bits or 16)
    found = counter.bits()
    if bits is None and counter.deep:
        warn(_about_bits(found))
        if found != 16:  # known only now that all are read
            inputs, kept, problems, counter = load(found)
    elif bits is not None and counter.deep and found > bits:
        raise DatasetError(
            f"There are values beyond {(1 << bits) - 1}, the highest of {bits} bits: leave out `bits={bits}`, or give "
            f"`bits={found}`."
        )
    if counter.deep and counter.deep < len(kept):
        warn(f"{counter.deep} of {len(kept)} photos hold 16-bit values, the others 8-bit ones; photos should be alike.")
    about = _about_sizes(counter.sizes, resize, roi)
    if about and roi is not None and not allow_size_change:
        raise DatasetError(f"{about} Give photos of one size, or `allow_size_change`.")
    if about:
        warn(about)
    profile = counter.profile(bits or found, roi)
    return LearnedPhotos(inputs, kept, problems, profile, counter.limits(), counter.brightness())


def _about_bits(bits: int) -> str:
    if bits == 16:
        return "The photos use all 16 bits: 65535 is taken for white; `bits` says otherwise."
    return f"The photos use {bits} bits of 16: {(1 << bits) - 1} is taken for white; `bits` says otherwise."


def _about_sizes(sizes: Counter[Size], resize: ResizePolicy, roi: Roi | None) -> str | None:
    if len(sizes) == 1:
        return None
    common = sizes.most_common(3)
    listed = ", ".join(f"{count} of {describe_sizes((size,))}" for size, count in common)
    more = f" and {len(sizes) - 3} other sizes" if len(sizes) > 3 else ""
    if roi is not None:
        return f"One ROI, in pixels, is taken from photos of several sizes ({listed}{more})."
    low, high = aspects(tuple(sizes))
    if resize == "letterbox" or high / low <= ONE_ASPECT:
        return None
    return (
        f"The photos have several shapes ({listed}{more}), each of which is squeezed to the model's input: "
        "`resize=letterbox` keeps them."
    )


def _kept(sizes: Counter[Size]) -> tuple[Size, ...]:
    common = [size for size, _ in sizes.most_common()]
    if len(common) <= MOST_SIZES:
        return tuple(common)
    shape = sorted(common, key=lambda size: size[1] / size[0])
    area = sorted(common, key=lambda size: size[0] * size[1])
    extremes = {shape[0], shape[-1], area[0], area[-1]}
    others = [size for size in common if size not in extremes][: MOST_SIZES - len(extremes)]
    return tuple(size for size in common if size in extremes or size in others)


def _rounded(value: Any) -> float:
    return round(float(value), 3)
