"""Whether what is judged is like what was learned from: refused where it cannot be right, told once where it may be."""

import threading
import warnings
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rstpm_edge.errors import InvalidImageError
from rstpm_edge.image.colours import IN_COLOUR, looks_exchanged, measure_colours
from rstpm_edge.image.input_profile import GREY, ONE_ASPECT, InputProfile, Size, aspects, describe_sizes
from rstpm_edge.image.placement import place
from rstpm_edge.image.roi import Roi, scaled_roi
from rstpm_edge.model.metadata import Bundle

Notify: TypeAlias = Callable[[str], None]

ASPECT = 1.01  # aspect ratios that differ by less are those of rounded sizes
FIRST = 8  # images whose colours are looked at, which takes 0.2 ms each
FEW = 4095  # what cameras of 12 bits give, in values of 16
DIFFERENT = 16.0  # grey levels by which the brightness of another image may differ in any case
DETAIL = 0.97  # a photo with a smaller share of the detail that was learned from is told


class InputWarning(UserWarning):
    """Images are unlike those that the model learned from, and are judged all the same."""


def warn(sentence: str) -> None:
    """Raise an `InputWarning`, which Python shows once and lets users filter."""
    warnings.warn(sentence, InputWarning, stacklevel=2)


class InputCheck:
    """Compares photos with what a model learned from, and says which part of them it judges.

    roi: the part to judge; "model" is the one that was trained on.
    allow_size_change: judge photos that are refused without it: of another aspect ratio, or of a size that the model's
        ROI was not drawn on.
    notify: gets one sentence about each way in which photos differ, the first time that one does.

    Models from before profiles were kept have nothing to compare with.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        roi: Roi | Literal["model"] | None = "model",
        allow_size_change: bool = False,
        notify: Notify | None = None,
    ) -> None:
        self._size = bundle.size
        self._resize = bundle.resize
        self._bits = bundle.bits
        self._profile = bundle.profile
        # Of photos with limits, each in other colours is INVALID by itself.
        self._tells_colours = bundle.validity is None or not (isinstance(roi, str) or roi == bundle.roi)
        self._of_model = isinstance(roi, str)
        self._roi: Roi | None = bundle.roi if isinstance(roi, str) else roi
        self._allow = allow_size_change
        self._notify = warn if notify is None else notify
        self._told: set[str] = set()
        self._lock = threading.Lock()
        self._unseen = FIRST  # of the images whose colours are looked at
        self._known: dict[Size, Roi | None] = {}  # sizes that were looked at, and the part of them

    def part_of(self, photo: NDArray[Any], name: object = "the image") -> Roi | None:
        """The part of a photo (H, W, C) that is judged; None for all of it.

        Raises InvalidImageError for one so unlike those that were learned from that its verdict would mean nothing.
        """
        if self._profile is None:
            return self._roi
        self._look_at_range(photo, name, self._profile)
        size = (photo.shape[0], photo.shape[1])
        if size not in self._known:
            if len(self._known) >= 64:  # photos of one camera have one size
                self._known.clear()
            self._known[size] = self._find_roi(size, name, self._profile)
        return self._known[size]

    def look_at_colours(self, pixels: NDArray[np.uint8], photo: NDArray[Any], name: object = "the image") -> None:
        """Look at one of the first photos as the model sees it: `pixels` (h, w, 3) RGB."""
        if self._unseen > 0 and self._profile is not None:
            self._unseen -= 1
            self._compare_colours(pixels, photo, name, self._profile)

    def _find_roi(self, size: Size, name: object, profile: InputProfile) -> Roi | None:
        measures = f"{_first(name)} measures {size[1]}×{size[0]} pixels"
        learned = describe_sizes(profile.sizes)
        if self._of_model and self._roi is not None:
            if size in profile.sizes:
                return self._roi
            drawn_on = profile.one_size
            scaled = None if drawn_on is None else scaled_roi(self._roi, drawn_on, size)
            if scaled is not None:
                self._tell(
                    "size",
                    f"{measures}, and the model's ROI was drawn on {learned}: it is scaled with the photo, to "
                    f"{','.join(map(str, scaled))}.",
                )
                self._look_at_detail(scaled[:1:-1], name, profile)
                return scaled
            if not self._allow:
                raise InvalidImageError(
                    f"{measures}, but the model's ROI {','.join(map(str, self._roi))} is of photos of {learned}: judge "
                    "photos of that shape, or say where the part lies with another ROI. `allow_size_change` takes the "
                    "ROI as it is."
                )
            self._tell("size", f"{measures}; the model's ROI, which is of photos of {learned}, is taken as it is.")
            return self._roi
        if not self._of_model and self._roi is None and profile.roi is not None:
            return None  # all of the photo, against what was learned from: whoever asks for it knows
        part = size if self._roi is None else self._roi[:1:-1]
        if self._has_learned_aspect(part, size, name, profile):
            self._look_at_detail(part, name, profile)
        return self._roi

    def _has_learned_aspect(self, part: Size, photo: Size, name: object, profile: InputProfile) -> bool:
        parts = profile.parts
        (low, high), aspect = aspects(parts), part[1] / part[0]
        # Of a small part, a pixel more or less is a lot.
        if low * (part[0] - 1) <= part[1] + 1 and part[1] - 1 <= high * (part[0] + 1):
            return True
        apart = max(low / aspect, aspect / high)
        if apart <= ASPECT:
            return True
        what = f"{_first(name)} measures {photo[1]}×{photo[0]} pixels"
        if part != photo:
            what = f"The ROI of {part[1]}×{part[0]} pixels in {name}"
        squeezed = "" if self._resize == "letterbox" else ", and its shape is squeezed to the model's input"
        sentence = f"{what}; the model learned from {describe_sizes(parts)}{squeezed}"
        strict = self._resize == "stretch" and self._roi is None and high / low <= ONE_ASPECT and apart > ONE_ASPECT
        if strict and not self._allow:
            raise InvalidImageError(
                f"{sentence}: what is good would look anomalous. Give photos of the shape that was learned from, cut "
                "it out with a ROI, or train on such photos; `allow_size_change` judges it all the same."
            )
        self._tell("aspect", f"{sentence}. Scores are less to be trusted.")
        return False

    def _look_at_detail(self, part: Size, name: object, profile: InputProfile) -> None:
        """An image that is smaller than the input lacks detail, which a model that learned from larger ones misses."""
        known = [self._detail(size) for size in profile.parts]
        detail, learned = self._detail(part), describe_sizes(profile.parts)
        seen = f"{_first(name)}, of {part[1]}×{part[0]} pixels where the model learned from {learned}"
        if detail < DETAIL * min(known):
            self._tell("detail", f"{seen}, is enlarged to the model's input: it is less sharp than what was learned.")
        elif max(known) < DETAIL * detail:
            self._tell("detail", f"{seen}, is sharper than they were, which may look anomalous.")

    def _detail(self, size: Size) -> float:
        """Pixels of a photo for one of the input, at most 1: an input pixel shows no more."""
        placed = place(*size, self._size, self._resize)
        return min(1.0, size[0] / placed.height, size[1] / placed.width)

    def _look_at_range(self, photo: NDArray[Any], name: object, profile: InputProfile) -> None:
        """16-bit values must lie in the range that was learned from. Raises InvalidImageError."""
        white = (1 << self._bits) - 1
        if photo.dtype == np.uint16 and white < 65535:
            highest = int(photo[..., :3].max())  # alpha is dropped
            if highest > white:
                raise InvalidImageError(
                    f"{_first(name)} holds the value {highest}, but the model learned from {profile.bits} bits, which "
                    f"end at {white}: give values as they were learned, or train again on such photos."
                )

    def _compare_colours(
        self, pixels: NDArray[np.uint8], photo: NDArray[Any], name: object, profile: InputProfile
    ) -> None:
        """Tell of what the photo's type or channels explain."""
        colours = measure_colours(pixels)
        if about_bits := self._about_bits(colours.brightness, photo, _first(name), profile):
            self._tell("bits", about_bits)
            return  # what else is odd may come of that
        if not self._tells_colours:
            return
        if profile.chroma < GREY and colours.chroma > IN_COLOUR:
            self._tell("colour", f"{_first(name)} is in colour, where the model learned from grey photos.")
        elif profile.chroma > 3 * GREY and colours.chroma < GREY / 2:
            self._tell("colour", f"{_first(name)} is grey, where the model learned from photos in colour.")
        if looks_exchanged(colours.tint, profile):
            self._tell(
                "channels",
                f"Red and blue look exchanged in {name}, beside the photos that the model learned from: an array in "
                'RGB order takes Detector(channels="rgb"), one in OpenCV\'s order channels="bgr", and a file was '
                "written wrongly.",
            )

    def _about_bits(self, brightness: float, photo: NDArray[Any], name: str, profile: InputProfile) -> str | None:
        """What to tell of a photo whose values have another range than those that were learned from."""
        (usual, spread), white = profile.brightness, (1 << self._bits) - 1
        levels = f"{brightness:.0f} of 255; {usual:.0f} is usual"
        if photo.dtype == np.uint8:
            if profile.depth == 8:
                return None
            like = f"is as bright as they were ({levels})"
            if abs(brightness - usual) > max(4 * spread, DIFFERENT):
                like = f"has another brightness than they had ({levels}): its verdict means little"
            return (
                f"{name} has 8-bit values, where the model learned from {profile.bits} bits of 16; 255 is taken for "
                f"what {white} was, and it {like}."
            )
        highest = int(photo[..., :3].max())  # alpha is dropped
        if profile.depth == 8 and highest <= FEW:
            return (
                f"{name} holds 16-bit values of at most {highest}, where {white} is taken for white, and the model "
                f"learned from 8 bits: where it uses {max(highest.bit_length(), 8)} bits, scale it to 8 first, or "
                "train on such photos."
            )
        if profile.depth == 16 and highest <= white // 4 and brightness < usual / 2:
            return (
                f"{name} holds values of at most {highest} and is dark ({levels}), where the model learned from "
                f"{profile.bits} bits: does it use fewer?"
            )
        return None

    def _tell(self, kind: str, sentence: str) -> None:
        with self._lock:
            if kind in self._told:
                return
            self._told.add(kind)
        self._notify(sentence)


def _first(name: object) -> str:
    """The name of an image where a sentence begins; that of a file stays as it is."""
    return "The image" if name == "the image" else str(name)
