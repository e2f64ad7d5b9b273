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
        Copies().check([original, photo("b.tif", first.astype(np.uint16) * 257 + 100)])


@pytest.mark.parametrize("quality", [98, 90, 75, 50])
@pytest.mark.parametrize("colours", ["grey", "coarse", "fine"])
def test_a_photo_that_is_saved_as_jpeg_is_a_replay(first: NDArray[np.uint8], quality: int, colours: str) -> None:
    if colours != "grey":
        first = cv2.applyColorMap(first[..., 0], cv2.COLORMAP_JET)
    sampling = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444 if colours == "fine" else cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420
    options = (cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling)
    copy = photo("b.jpg", first[..., 0] if colours == "grey" else first, *options)
    with pytest.raises(DatasetError, match="differ by"):
        Copies().check([photo("a.png", first), copy])
    with pytest.raises(DatasetError, match="differ by"):
        Copies().check([copy, photo("a.png", first)])


@pytest.mark.parametrize("name", ["b.bmp", "b.jpg"])
def test_photos_are_compared_all_over(name: str) -> None:
    """A hole in front of a lamp, in the middle, is the same in all exposures; the part is not."""
    rng = np.random.default_rng(3)
    photos = [shot(127, rng, (1500, 1210)) for _ in range(2)]
    for one in photos:
        one[100:-100, 100:-100] = 255
    Copies().check([photo("a.png", photos[0]), photo(name, photos[1])])
    replay = photos[0].copy()
    replay[50, 50] ^= 1
    with pytest.raises(DatasetError, match="differ by"):
        Copies().check([photo("a.png", photos[0]), photo(name, replay)])


def test_a_photo_of_another_part_is_known_again(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> None:
    copies = Copies()
    copies.check([photo("one/a.png", first), photo("one/b.png", second)])
    with pytest.raises(DatasetError, match=r"one/a\.png and two/a\.bmp hold the same pixels"):
        copies.check([photo("two/a.bmp", first)])
