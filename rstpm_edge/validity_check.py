"""Whether an image can be judged at all, by how it was taken: why it is INVALID, or nothing."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rstpm_edge.image.colours import looks_exchanged, measure_colours, share_in_colour
from rstpm_edge.image.exposure_and_focus import BLACK, WHITE, ExposureAndFocus, measure_exposure_and_focus
from rstpm_edge.image.input_profile import GREY, InputProfile
from rstpm_edge.model.validity import Validity

MOSTLY = 0.5  # of the pixels: what is smaller may be a defect
IN_COLOUR_LEARNED = 3 * GREY  # a mean chroma above it is that of photos in colour


class Look(NamedTuple):
    """Why an image is INVALID, None where nothing speaks against it; and `Validity.light_p_value` of it."""

    reason: str | None
    light_p_value: float | None


class ValidityCheck:
    """Compares images, as the model sees them, with limits that were learned from good photos.

    `profile` says what those were like in colour. Safe to share between threads.
    """

    def __init__(self, validity: Validity, profile: InputProfile | None) -> None:
        self._limits, self._profile = validity, profile

    def look(self, image: NDArray[np.uint8]) -> Look:
        """What is said of an image (H, W, 3) RGB, a model's input without its padding."""
        found = measure_exposure_and_focus(image)
        reason = self._of_exposure(found) or self._of_focus(found) or self._of_colours(image)
        return Look(reason, self._limits.light_p_value(found.brightness))

    def _of_exposure(self, found: ExposureAndFocus) -> str | None:
        low, high = self._limits.brightness
        if not low <= found.brightness <= high:
            word = "underexposed" if found.brightness < low else "overexposed"
            return f"{word}: its mean grey level is {found.brightness:.0f}, and {low:.0f} to {high:.0f} are allowed"
        for share, limit, word, what in (
            (found.white, self._limits.white, "overexposed", f"burnt out, at {WHITE} of 255 or above"),
            (found.black, self._limits.black, "underexposed", f"drowned, at {BLACK} of 255 or below"),
        ):
            if share > limit:
                return f"{word}: {share:.0%} of it is {what}, and {limit:.0%} is allowed"
        return None

    def _of_focus(self, found: ExposureAndFocus) -> str | None:
        if found.contrast < self._limits.contrast:
            return (
                f"empty: its grey levels deviate by {found.contrast:.2g} from their mean, and "
                f"{self._limits.contrast:.2g} is the least that is allowed"
            )
        if found.detail < self._limits.detail:
            weaker = np.exp(self._limits.detail - found.detail)
            return f"out of focus: its fine detail is {weaker:.3g} times weaker than the least that is allowed"
        return None

    def _of_colours(self, image: NDArray[np.uint8]) -> str | None:
        if self._profile is None:
            return None
        if self._profile.chroma < GREY:
            in_colour = share_in_colour(image) > MOSTLY
            return "in colour, where the model learned from grey photos" if in_colour else None
        if self._profile.chroma <= IN_COLOUR_LEARNED:
            return None
        colours = measure_colours(image)
        if colours.chroma < GREY / 2:
            return "grey, where the model learned from photos in colour"
        if looks_exchanged(colours.tint, self._profile):
            return "of the wrong channel order: red and blue look exchanged"
        return None
