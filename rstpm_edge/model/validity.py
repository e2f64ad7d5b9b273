"""What a photo must be like for a verdict on it to mean anything: limits that were learned from good photos."""

import base64
import binascii
import zlib
from bisect import bisect_left
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rstpm_edge import document as read

MOST_PHOTOS, MOST_CHANNELS = 1024, 8192  # of a reference
MOST_LIGHT = 1_000_000
_MOST_TEXT = 1 << 23


@dataclass(frozen=True)
class Novelty:
    """Good photos that others are compared with as a whole, by the model's embedding of `channels` numbers.

    The distance of two embeddings is the root mean square of their difference. Those of so many `photos` are kept in
    `vectors`: rows of little-endian float16, deflated, in base64. A photo is unlike all of them where its distance to
    the nearest is above `limit`.
    """

    photos: int
    channels: int
    limit: float
    vectors: str

    def unpacked(self) -> NDArray[np.float32]:
        """The vectors, (photos, channels). Raises ValueError where they are not what the numbers say."""
        length = 2 * self.photos * self.channels
        try:
            inflate = zlib.decompressobj()
            content = inflate.decompress(base64.b64decode(self.vectors, validate=True), length + 1)
        except (zlib.error, binascii.Error) as error:
            raise ValueError("the good photos' vectors are damaged") from error
        if len(content) != length or not inflate.eof:
            raise ValueError("the good photos' vectors are of another size")
        found = np.frombuffer(content, "<f2").astype(np.float32).reshape(self.photos, self.channels)
        if not np.isfinite(found).all():
            raise ValueError("the good photos' vectors are not finite")
        return found


def pack_vectors(vectors: NDArray[np.float32]) -> str:
    """What `Novelty.unpacked` gives back, to half a float16's step."""
    return base64.b64encode(zlib.compress(vectors.astype("<f2").tobytes(), 9)).decode()


@dataclass(frozen=True)
class Validity:
    """Limits of an image of the model's input, in the figures of `ExposureAndFocus`: beyond one, it is INVALID.

    `brightness` has the least and the highest; `contrast` and `detail` must not be lower, `white` and `black` not
    higher. `novelty` is None where images are not compared as a whole. `light` are the brightnesses, ascending, of the
    held-out photos: no limit, but what a run of images is compared with (`drift`). None are known of files from before.
    """

    brightness: tuple[float, float]
    contrast: float
    detail: float
    white: float
    black: float
    novelty: Novelty | None = None
    light: tuple[float, ...] = ()

    def light_p_value(self, brightness: float) -> float | None:
        """How often a good image is at least as bright, in (0, 1]: (1 + how many held-out ones are) / (n + 1).

        None where nothing is known of them.
        """
        if not self.light:
            return None
        return (1 + len(self.light) - bisect_left(self.light, brightness)) / (len(self.light) + 1)


def parse_validity(value: Any) -> Validity:
    """What `dataclasses.asdict` made of it, and JSON of that. Raises ValueError."""
    required = ("brightness", "contrast", "detail", "white", "black", "novelty")
    found = read.fields(value, "the validity", required, ("light",))
    low, high = read.numbers(found["brightness"], "the brightness's limits", 2, 0, 256)
    if low > high:
        raise ValueError("the brightness's limits are not in order")
    light = found.get("light", [])
    if not isinstance(light, list) or len(light) > MOST_LIGHT:
        raise ValueError(f"the held-out photos' brightnesses are no list of up to {MOST_LIGHT} numbers")
    levels = tuple(read.number(one, "a held-out photo's brightness", 0, 256) for one in light)
    if any(before > after for before, after in pairwise(levels)):
        raise ValueError("the held-out photos' brightnesses are not ascending")
    return Validity(
        brightness=(low, high),
        contrast=read.number(found["contrast"], "the contrast's limit", 0, 256),
        detail=read.number(found["detail"], "the detail's limit", -100, 100),
        white=read.number(found["white"], "the limit of white", 0, 1),
        black=read.number(found["black"], "the limit of black", 0, 1),
        novelty=None if found["novelty"] is None else parse_novelty(found["novelty"]),
        light=levels,
    )


def parse_novelty(value: Any) -> Novelty:
    """What `dataclasses.asdict` made of it, and JSON of that. Raises ValueError."""
    found = read.fields(value, "the novelty", ("photos", "channels", "limit", "vectors"))
    novelty = Novelty(
        photos=read.whole(found["photos"], "the number of good photos", 1, MOST_PHOTOS),
        channels=read.whole(found["channels"], "the number of channels", 1, MOST_CHANNELS),
        limit=read.number(found["limit"], "the novelty's limit", 0, 1e9),
        vectors=read.text(found["vectors"], "the good photos' vectors", _MOST_TEXT),
    )
    novelty.unpacked()
    return novelty
