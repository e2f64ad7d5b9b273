"""The anomaly map as a file for other programs: 16-bit PNG, or float32 as NumPy stores it."""

import io
import json
import struct
import zlib

import cv2
import numpy as np

from rstpm_edge.result import Result

THRESHOLD_VALUE = 4096  # so a map may rise 15 times as far above the threshold as a good image lies below it


def encode_png(result: Result) -> bytes:
    """The map at the image's size as a 16-bit grey PNG whose values mean the same for every image of a model.

    0 is the score of a typical good image (and all below it), 4096 the threshold, linear between and beyond,
    up to 65535. A text chunk "rstpm_edge" holds {"offset": o, "scale": s}: anomaly = o + s * value.
    """
    offset, scale = png_scale(result)
    values = np.rint((result.anomaly_map.astype(np.float64) - offset) / scale)
    encoded = cv2.imencode(".png", np.clip(values, 0, 65535).astype(np.uint16))[1].tobytes()
    text = b"tEXtrstpm_edge\0" + json.dumps({"offset": offset, "scale": scale}, allow_nan=False).encode()
    chunk = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
    header = 8 + 25  # signature and IHDR, which must stay first
    return encoded[:header] + chunk + encoded[header:]


def encode_npy(result: Result) -> bytes:
    """The map at the image's size, (H, W) float32, as numpy.load reads it."""
    buffer = io.BytesIO()
    np.save(buffer, result.anomaly_map, allow_pickle=False)
    return buffer.getvalue()


def png_scale(result: Result) -> tuple[float, float]:
    """Offset and scale of `encode_png`."""
    return result.threshold - result.span, result.span / THRESHOLD_VALUE
