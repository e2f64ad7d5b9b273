"""What cameras of GigE Vision and USB3 Vision send, as arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from rstpm_edge.errors import ImageError
from rstpm_edge.sources.aravis.pixels import FORMATS, to_array

CODES = {found.name: code for code, found in FORMATS.items()}
# Of each pattern, which of blue, green and red (0, 1, 2) the pixels of its first two rows see.
MOSAICS = {"RG": ((2, 1), (1, 0)), "GR": ((1, 2), (0, 1)), "GB": ((1, 0), (2, 1)), "BG": ((0, 1), (1, 2))}


def sent(values: list[int] | NDArray[Any], bits: int, layout: str) -> NDArray[np.uint8]:
    """Samples as a camera packs them, written bit by bit from the standard's pictures."""
    if layout == "plain":
        return np.frombuffer(np.asarray(values, np.uint8 if bits == 8 else "<u2").tobytes(), np.uint8)
    if layout == "p":
        number = sum(int(value) << index * bits for index, value in enumerate(values))
        return np.frombuffer(number.to_bytes((len(values) * bits + 7) // 8, "little"), np.uint8)
    packed = []
    for first, second in zip(values[::2], [*values[1::2], 0], strict=False):
        low = bits - 8
        packed += [first >> low, first & ((1 << low) - 1) | (second & ((1 << low) - 1)) << 4, second >> low]
    return np.asarray(packed, np.uint8)


@pytest.mark.parametrize("name", [name for name in CODES if name.startswith("Mono")])
def test_grey(name: str) -> None:
    found = FORMATS[CODES[name]]
    white = (1 << found.bits) - 1
    values = np.random.default_rng(0).integers(0, white + 1, 6 * 4)
    values[:2] = (white, 0)
    content = sent(values, found.bits, found.layout)
    assert len(content) == found.bytes_of(6, 4)
    image = to_array(content, CODES[name], 6, 4)
    assert image.dtype == (np.uint8 if found.bits == 8 else np.uint16)
    np.testing.assert_array_equal(image, values.reshape(4, 6))


def test_an_odd_number_of_packed_samples() -> None:
    for name in ("Mono12Packed", "Mono12p", "Mono10Packed", "Mono10p"):
        found = FORMATS[CODES[name]]
        values = [1, 513, 1023]
        content = sent([*values, 0], found.bits, found.layout)
        np.testing.assert_array_equal(to_array(content, CODES[name], 3, 1), [values])


@pytest.mark.parametrize("name", [name for name in CODES if name.startswith("Bayer")])
def test_mosaics(name: str) -> None:
    found = FORMATS[CODES[name]]
    white = (1 << found.bits) - 1
    colour = [white, white // 2, white // 4]
    mosaic = np.empty((8, 8), np.int64)
    for row in (0, 1):
        for column in (0, 1):
            mosaic[row::2, column::2] = colour[MOSAICS[name[5:7]][row][column]]
    image = to_array(sent(mosaic.reshape(-1), found.bits, found.layout), CODES[name], 8, 8)
    assert image.dtype == (np.uint8 if found.bits == 8 else np.uint16)
    np.testing.assert_array_equal(image, np.broadcast_to(colour, (8, 8, 3)))


@pytest.mark.parametrize(
    ("name", "pixel"),
    [
        ("RGB8", (3, 2, 1)),
        ("BGR8", (1, 2, 3)),
        ("RGBa8", (3, 2, 1, 9)),
        ("BGRa8", (1, 2, 3, 9)),
        ("RGB10", (3, 2, 1)),
        ("BGR12", (1, 2, 3)),
        ("RGB16", (3, 2, 1)),
        ("BGR16", (1, 2, 3)),
    ],
)
def test_colours(name: str, pixel: tuple[int, ...]) -> None:
    found = FORMATS[CODES[name]]
    image = to_array(sent(list(pixel) * 6, found.bits, "plain"), CODES[name], 3, 2)
    assert image.dtype == (np.uint8 if found.bits == 8 else np.uint16)
    np.testing.assert_array_equal(image, np.broadcast_to((1, 2, 3), (2, 3, 3)))


def test_luma_and_chroma() -> None:
    for name, pair in (("YUV422_8", (200, 128, 200, 128)), ("YUV422_8_UYVY", (128, 200, 128, 200))):
        image = to_array(np.array(pair * 4, np.uint8), CODES[name], 4, 2)
        assert image.shape == (2, 4, 3)
        assert np.ptp(image) == 0  # grey
        assert image[0, 0, 0] > 190


def test_the_array_is_a_copy() -> None:
    for name in ("Mono8", "Mono16", "BayerRG8", "RGB8"):
        content = np.full(FORMATS[CODES[name]].bytes_of(4, 4), 7, np.uint8)
        image = to_array(content, CODES[name], 4, 4)
        before = image.copy()
        content[:] = 0
        np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize(
    ("code", "size", "message"),
    [
        (0x01080002, 64, "the pixel format 0x01080002 is not known"),
        (CODES["Mono12"], 63, "an image of 8×4 in Mono12 has 64 bytes, but 63 came"),
    ],
)
def test_what_is_no_image(code: int, size: int, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        to_array(np.zeros(size, np.uint8), code, 8, 4)


def test_what_lies_behind_the_image_is_left_out() -> None:
    assert to_array(np.zeros(100, np.uint8), CODES["Mono8"], 8, 4).shape == (4, 8)
