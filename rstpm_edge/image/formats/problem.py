"""What every format's module needs."""

from rstpm_edge.errors import ImageError

DAMAGED = "the file is truncated or damaged; copy it again"


class Problem(ImageError):
    """What is wrong with an encoded image: a phrase that goes on after "Cannot read photo.png: "."""


def damaged() -> Problem:
    return Problem(DAMAGED)


def refuse_lost_blocks(payload: bytes | memoryview) -> None:
    """Raise Problem where compressed data holds a long run of zeros, as a block that a disk or a copy lost.

    For formats whose data carries no checksum: a decoder takes the zeros for pixels. No coder writes such a run.
    """
    if bytes(512) in bytes(payload):
        raise damaged()
