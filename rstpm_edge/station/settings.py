"""What a station takes at most, and whom it serves."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Of requests.

    `body` is the most bytes of one that brings images, `json_body` of any other. `workers` are judged at once, and
    `waiting` more wait for that. `body_seconds` is how long a request may take to arrive. `batch` is the most images of
    one request. `readers` may read the verdicts as they come. `photos` are the bytes that photos and maps of the last
    verdicts may take in memory.
    """

    body: int = 64 << 20
    json_body: int = 1 << 16
    workers: int = 2
    waiting: int = 16
    body_seconds: float = 20.0
    batch: int = 64
    readers: int = 32
    pixels: int = 1 << 28  # as `read_image` has it
    photos: int = 128_000_000
