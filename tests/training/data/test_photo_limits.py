"""Beyond what a photo is badly taken, learned from good photos."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rstpm_edge.image.exposure_and_focus import ExposureAndFocus
from rstpm_edge.training.data.photo_limits import limits_of

USUAL = ExposureAndFocus(brightness=120, contrast=30, white=0.0, black=0.0, detail=-4.0)


def test_limits_lie_beyond_the_outermost_photos() -> None:
    dark, bright = replace(USUAL, brightness=60, contrast=15), replace(USUAL, brightness=160, white=0.2, detail=-5)
    found = limits_of([USUAL, dark, bright])
    assert found.brightness == (40, 240)
    assert found.contrast == 5
    assert found.detail == pytest.approx(-5 - 1.3863, abs=1e-3)
    assert (found.white, found.black) == (0.6, 0.5)
    assert found.novelty is None


def test_what_is_learned_as_clipped_stays_allowed() -> None:
    """As a part on a black ground, or in front of a lamp."""
    found = limits_of([replace(USUAL, black=1.0, white=0.0, contrast=0.0, brightness=0)])
    assert (found.black, found.white, found.contrast, found.brightness) == (1, 0.5, 0, (0, 0))
    assert limits_of([replace(USUAL, brightness=250)]).brightness[1] == 256
