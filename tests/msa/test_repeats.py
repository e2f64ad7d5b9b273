"""What is a repeat, and what is a replay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from reference_parts import shot

from rstpm_edge.errors import DatasetError
from rstpm_edge.image.decode import decode_stored
from rstpm_edge.msa.repeats import Copies, Exposure, exposure


def photo(name: str, pixels: NDArray[Any], *options: int, comment: bytes = b"") -> Exposure:
    content = cv2.imencode(Path(name).suffix, pixels, options)[1].tobytes() + comment
    return exposure(Path(name), content, decode_stored(content, name))


@pytest.fixture
def first() -> NDArray[np.uint8]:
    return shot(127, np.random.default_rng(1))


@pytest.fixture
def second() -> NDArray[np.uint8]:
    return shot(127, np.random.default_rng(2))


def jpeg(name: str, pixels: NDArray[Any], quality: int) -> Exposure:
    return photo(name, pixels, cv2.IMWRITE_JPEG_QUALITY, quality)


def test_two_exposures_of_a_part_at_rest_are_repeats(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> None:
    Copies().check([photo("a.png", first), photo("b.png", second)])
    Copies().check([jpeg("a.jpg", first, 90), jpeg("b.jpg", second, 90)])
    Copies().check([photo("a.png", first), photo("b.png", second[:32])])


def test_replays_of_a_photo(first: NDArray[np.uint8]) -> None:
    original = photo("a.png", first)
    noisy = first.copy()
    noisy[::7, ::7] ^= 1
    replays = {
        "are the same file": photo("b.png", first),
        "hold the same pixels": photo("b.bmp", first),
        r"differ by 0\.\d\d grey levels": photo("b.png", noisy),
    }
    for why, replay in replays.items():
        with pytest.raises(DatasetError, match=rf"a\.png and b\.\w+ {why}.*a replay is no repeat"):
            Copies().check([original, replay])
    with pytest.raises(DatasetError, match="differ by"):  # 16 bits of the same
        Copies().check([original, photo("b.tif", first.astype(np.uint16) * 257)])


@pytest.mark.parametrize("quality", [98, 90, 75, 50])
def test_a_photo_that_is_saved_as_jpeg_is_a_replay(first: NDArray[np.uint8], quality: int) -> None:
    copy = jpeg("b.jpg", first, quality)
    assert np.sqrt(np.mean((copy.middle - cv2.cvtColor(first, cv2.COLOR_BGR2GRAY)) ** 2)) > 0.35 or quality == 98
    with pytest.raises(DatasetError, match="differ by"):
        Copies().check([photo("a.png", first), copy])
    with pytest.raises(DatasetError, match="differ by"):
        Copies().check([copy, photo("a.png", first)])


def test_a_photo_of_another_part_is_known_again(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> None:
    copies = Copies()
    copies.check([photo("one/a.png", first), photo("one/b.png", second)])
    with pytest.raises(DatasetError, match=r"one/a\.png and two/a\.bmp hold the same pixels"):
        copies.check([photo("two/a.bmp", first)])
