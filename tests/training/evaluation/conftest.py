"""Fixtures of the tests of evaluation."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest


@pytest.fixture
def spots(tmp_path: Path) -> Path:
    """Grey pictures that are good, darker ones that are not ("dark"), and white spots ("spot"); no masks."""
    levels = {"good": (127, 130, 133), "dark": (60, 90), "spot": (255,)}
    for kind, values in levels.items():
        (tmp_path / "data" / "test" / kind).mkdir(parents=True)
        for i, value in enumerate(values):
            image = np.full((80, 100, 3), 127 if kind == "spot" else value, np.uint8)
            if kind == "spot":
                image[20:50, 30:70] = value
            cv2.imwrite(str(tmp_path / "data" / "test" / kind / f"{i}.png"), image)
    return tmp_path / "data"
