"""From the bytes that a camera of GigE Vision or USB3 Vision sends to an array, by the names of GenICam's PFNC.

The numbers are those of the Pixel Format Naming Convention 2.4 of EMVA.
"""

from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from rstpm_edge.errors import ImageError

# How samples lie in bytes: each in its own 8 or 16 bits; "p": bit after bit, the lowest first; "packed": GigE Vision's
# own way, two samples in three bytes, their highest bits in the first and the last.
Layout = Literal["plain", "p", "packed"]


@dataclass(frozen=True)
class PixelFormat:
    """`bits` of each sample, `channels` of each pixel, and what OpenCV calls the way to BGR; None for grey and BGR."""

    name: str
    bits: int
    channels: int = 1
    layout: Layout = "plain"
    conversion: int | None = None

    def bytes_of(self, width: int, height: int) -> int:
        """What an image takes."""
        samples = width * height * self.channels
        if self.layout == "plain":
            return samples * (1 if self.bits == 8 else 2)
        return (samples * (12 if self.layout == "packed" else self.bits) + 7) // 8


def _formats() -> dict[int, PixelFormat]:
    formats = {
        0x01080001: PixelFormat("Mono8", 8),
        0x01100003: PixelFormat("Mono10", 10),
        0x01100005: PixelFormat("Mono12", 12),
        0x01100025: PixelFormat("Mono14", 14),
        0x01100007: PixelFormat("Mono16", 16),
        0x010C0004: PixelFormat("Mono10Packed", 10, layout="packed"),
        0x010C0006: PixelFormat("Mono12Packed", 12, layout="packed"),
        0x010A0046: PixelFormat("Mono10p", 10, layout="p"),
        0x010C0047: PixelFormat("Mono12p", 12, layout="p"),
        0x02180014: PixelFormat("RGB8", 8, 3, conversion=cv2.COLOR_RGB2BGR),
        0x02180015: PixelFormat("BGR8", 8, 3),
        0x02200016: PixelFormat("RGBa8", 8, 4, conversion=cv2.COLOR_RGBA2BGR),
        0x02200017: PixelFormat("BGRa8", 8, 4, conversion=cv2.COLOR_BGRA2BGR),
        0x0210001F: PixelFormat("YUV422_8_UYVY", 8, 2, conversion=cv2.COLOR_YUV2BGR_UYVY),
        0x02100032: PixelFormat("YUV422_8", 8, 2, conversion=cv2.COLOR_YUV2BGR_YUYV),
    }
    for bits, rgb in ((10, 0x02300018), (12, 0x0230001A), (16, 0x02300033)):
        formats[rgb] = PixelFormat(f"RGB{bits}", bits, 3, conversion=cv2.COLOR_RGB2BGR)
        formats[rgb + 1 if bits < 16 else 0x0230004B] = PixelFormat(f"BGR{bits}", bits, 3)
    # Two bits of the red, green and blue of the first two rows; OpenCV has names of its own for the same four letters.
    for order, (pattern, conversion) in enumerate(
        (
            ("GR", cv2.COLOR_BayerGRBG2BGR),
            ("RG", cv2.COLOR_BayerRGGB2BGR),
            ("GB", cv2.COLOR_BayerGBRG2BGR),
            ("BG", cv2.COLOR_BayerBGGR2BGR),
        )
    ):
        for bits, first in ((8, 0x01080008), (10, 0x0110000C), (12, 0x01100010), (16, 0x0110002E)):
            formats[first + order] = PixelFormat(f"Bayer{pattern}{bits}", bits, conversion=conversion)
        for bits, first in ((10, 0x010C0026), (12, 0x010C002A)):
            name = f"Bayer{pattern}{bits}Packed"
            formats[first + order] = PixelFormat(name, bits, layout="packed", conversion=conversion)
        # Here they are in the order of the alphabet.
        turn = ("BG", "GB", "GR", "RG").index(pattern)
        for bits, first in ((10, 0x010A0052), (12, 0x010C0053)):
            name = f"Bayer{pattern}{bits}p"
            formats[first + 2 * turn] = PixelFormat(name, bits, layout="p", conversion=conversion)
    return formats


FORMATS = _formats()


def to_array(content: NDArray[np.uint8], code: int, width: int, height: int) -> NDArray[Any]:
    """An image (H, W) grey or (H, W, 3) BGR, uint8, or uint16 with 2^bits - 1 for white.

    `content` has the bytes, and may have more behind them. Bayer patterns are demosaiced bilinearly. Raises ImageError
    for a format that is not known, and where there are too few bytes.
    """
    found = FORMATS.get(code)
    if found is None:
        raise ImageError(f"the pixel format {code:#010x} is not known")
    size = found.bytes_of(width, height)
    if width < 1 or height < 1 or len(content) < size:
        raise ImageError(f"an image of {width}×{height} in {found.name} has {size} bytes, but {len(content)} came")
    content = content[:size]
    samples = width * height * found.channels
    if found.layout == "plain":
        values: NDArray[Any] = content if found.bits == 8 else content.view("<u2")
    elif found.layout == "packed":
        values = _packed(content, samples, found.bits)
    else:
        values = _bit_after_bit(content, samples, found.bits)
    shape = (height, width) if found.channels == 1 else (height, width, found.channels)
    image = values.reshape(shape)
    # A copy in any case: the camera fills these bytes again.
    return image.copy() if found.conversion is None else np.asarray(cv2.cvtColor(image, found.conversion))


def _packed(content: NDArray[np.uint8], samples: int, bits: int) -> NDArray[np.uint16]:
    triples = _padded(content, 3).astype(np.uint16)
    low = bits - 8
    mask = (1 << low) - 1
    pairs = np.empty((len(triples), 2), np.uint16)
    pairs[:, 0] = triples[:, 0] << low | triples[:, 1] & mask
    pairs[:, 1] = triples[:, 2] << low | triples[:, 1] >> 4 & mask
    return pairs.reshape(-1)[:samples]


def _bit_after_bit(content: NDArray[np.uint8], samples: int, bits: int) -> NDArray[np.uint16]:
    count = {10: 4, 12: 2}[bits]  # samples in a whole number of bytes
    groups = _padded(content, count * bits // 8).astype(np.uint16)
    values = np.empty((len(groups), count), np.uint16)
    for index in range(count):
        byte, shift = divmod(index * bits, 8)
        values[:, index] = (groups[:, byte] >> shift | groups[:, byte + 1] << (8 - shift)) & ((1 << bits) - 1)
    return values.reshape(-1)[:samples]


def _padded(content: NDArray[np.uint8], group: int) -> NDArray[np.uint8]:
    missing = -len(content) % group
    return np.pad(content, (0, missing)).reshape(-1, group)
