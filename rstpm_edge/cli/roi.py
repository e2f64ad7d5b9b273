"""`rstpm-edge roi`: a picture, or a page to draw on, from which a ROI and a mask come."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rstpm_edge.cli.parameter_types import FILE, ROI
from rstpm_edge.cli.terminal import say
from rstpm_edge.errors import SourceError, UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from rstpm_edge.image.roi import Roi

PICTURES = (".png", ".jpg", ".jpeg")
WAIT = 10.0  # seconds for the first frame of a camera


@click.command()
@click.argument("source", metavar="PHOTO")
@click.option("-o", "--output", type=FILE, metavar="FILE", help="The picture to write.  [default: roi.png]")
@click.option("--page", type=FILE, metavar="FILE.html", help="Write a page to draw on instead, for any browser.")
@click.option("--roi", "chosen", type=ROI, metavar="X,Y,W,H", help="Draw this part in.")
@click.option("--mask", type=FILE, metavar="FILE", help="Draw in what this mask ignores.")
def roi(source: str, output: Path | None, page: Path | None, chosen: "Roi | None", mask: Path | None) -> None:
    """Show where the pixels of a photo are, to choose --roi and --mask of train and infer.

    The picture shows the photo with a grid; its numbers are the photo's own pixels. The page needs no network: drag a
    rectangle and copy the option, or draw what does not count and save it as a mask.

    PHOTO may also be a folder (its first photo; pictures that this command wrote are none), a video, a camera or a
    stream (the first frame).

    \b
    Examples:
      rstpm-edge roi photos/good/1.png
      rstpm-edge roi photos/good/1.png --roi 320,180,1280,720 --mask mask.png -o check.png
      rstpm-edge roi camera:0 --page roi.html
    """
    from rstpm_edge.atomic_files import write_bytes
    from rstpm_edge.cli.common import images_below
    from rstpm_edge.image.decode import read_image
    from rstpm_edge.image.mask import load_mask
    from rstpm_edge.image.roi import crop
    from rstpm_edge.outputs.roi_page import page_of
    from rstpm_edge.outputs.roi_picture import draw_grid, encode_roi_picture, is_roi_picture
    from rstpm_edge.printable import without_password
    from rstpm_edge.sources.files import kind_of

    if page is not None and (output is not None or mask is not None):
        raise UsageError("--page goes with --roi only; masks are drawn on it, and it is the only file that is written.")
    if page is not None and page.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--page writes an HTML file: name it as one, such as roi.html, not {page}.")
    picture = output or Path("roi.png")
    if picture.suffix.lower() not in PICTURES:
        raise UsageError(f"--output writes a PNG or JPEG picture: name it as one, such as roi.png, not {picture}.")
    written = page or picture
    images = images_below(Path(source)) if kind_of(source) == "folder" else []
    first = next((image for image in images if not is_roi_picture(image)), None)
    if images and first is None:
        raise UsageError(f"There are no photos in the folder {source}, but pictures that `rstpm-edge roi` wrote.")
    # A picture of an earlier call in that folder is no photo, and may be written over.
    if not (images and is_roi_picture(written)) and _is_one_of(written, images or [Path(source)]):
        what = f"a photo in {source}" if images else "the photo itself"
        raise UsageError(f"{written} is {what}: give the picture another name.")
    if mask is not None and _is_one_of(written, [mask]):
        raise UsageError(f"{written} is the mask: give the picture another name.")
    photo, name = _first_image(source) if first is None else (read_image(first, channels="bgr"), str(first))
    height, width = photo.shape[:2]
    crop(photo, chosen, name)
    if page is not None:
        write_bytes(page, page_of(photo, without_password(name), chosen).encode())
        say(f"{page}: open it in a browser; drag a rectangle, or draw what does not count.")
        return
    drawn = draw_grid(photo, chosen, None if mask is None else load_mask(mask))
    write_bytes(picture, encode_roi_picture(drawn, picture.suffix))
    say(f"{picture}: {without_password(name)} ({width}×{height} pixels) with its pixel numbers.")
    if chosen is None:
        example = f"{width // 4},{height // 4},{max(width // 2, 1)},{max(height // 2, 1)}"
        say(f"The option to type: --roi X,Y,WIDTH,HEIGHT, such as --roi {example} for the middle.")
    else:
        say(f"The option to type: --roi {','.join(map(str, chosen))}" + (f" --mask {mask}" if mask else ""))


def _is_one_of(written: Path, files: Sequence[Path]) -> bool:
    return os.path.exists(written) and any(os.path.exists(file) and os.path.samefile(written, file) for file in files)


def _first_image(source: str) -> "tuple[NDArray[np.uint8], str]":
    """The first image of a source that is no folder, (H, W, 3) BGR, and its name.

    Raises UsageError, ImageError or SourceError.
    """
    from rstpm_edge.image.decode import read_image
    from rstpm_edge.sources.files import kind_of, video_frames
    from rstpm_edge.sources.frames import Every, Failure, Frame
    from rstpm_edge.sources.live import Live

    kind = kind_of(source)
    assert kind != "folder"
    if kind == "image":
        return read_image(source, channels="bgr"), source
    if kind == "video":
        for item in video_frames(Path(source), "", Every()):
            if isinstance(item, Frame):
                return item.image, source
            if isinstance(item, Failure) and item.number is None:
                raise SourceError(item.message)
        raise SourceError(f"No frame of {source} can be read.")
    live = Live(kind, source)
    try:
        end = time.monotonic() + WAIT
        for frame in live:
            if frame is not None:
                return frame.image, source
            if time.monotonic() > end:
                break
    finally:
        live.close()
    raise SourceError(f"No frame came from {live.name} within {WAIT:.0f} seconds.")
