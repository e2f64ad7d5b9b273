"""Fixtures that several files of tests share."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from bundles import Bundle, ModelFactory, make_bundle, write_model
from numpy.typing import NDArray

from rstpm_edge.detector import Detector


@pytest.fixture
def model_factory(tmp_path: Path) -> ModelFactory:
    """Writes a tiny model; keywords are fields of its document, or what `bundles.make_model` takes."""
    fields = set(Bundle.__dataclass_fields__)

    def write(name: str = "model.onnx", **keywords: Any) -> Path:
        changes = {key: keywords.pop(key) for key in list(keywords) if key in fields}
        return write_model(tmp_path / name, make_bundle(**changes), **keywords)

    return write


@pytest.fixture
def model(model_factory: ModelFactory) -> Path:
    """A model file that works."""
    return model_factory()


@pytest.fixture
def detector(model: Path) -> Detector:
    return Detector(model, threads=1)


@pytest.fixture
def good() -> NDArray[np.uint8]:
    """A picture of a normal part."""
    return np.full((120, 160, 3), 127, np.uint8)


@pytest.fixture
def bad(good: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The same part with a white spot at rows 30…59 and columns 80…119."""
    image = good.copy()
    image[30:60, 80:120] = 255
    return image


@pytest.fixture
def photos(tmp_path: Path, bad: NDArray[np.uint8]) -> Path:
    """A folder with 1.png and 10.png (normal) and sub/2.jpg (anomalous)."""
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for name in ("1.png", "10.png"):
        cv2.imwrite(str(folder / name), np.full((50, 70), 127, np.uint8))
    cv2.imwrite(str(folder / "sub" / "2.jpg"), bad)
    return folder


@pytest.fixture
def huge_png() -> bytes:
    """The start of a PNG file that claims 60000×60000 pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
