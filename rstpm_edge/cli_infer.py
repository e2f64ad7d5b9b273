"""`rstpm-edge infer`: judge image files."""

import json
import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rstpm_edge.cli_common import model_option, say, say_error, session_options
from rstpm_edge.errors import ImageError, ModelError, UsageError
from rstpm_edge.files import make_folder, replacing

if TYPE_CHECKING:
    from rstpm_edge.providers import Provider
    from rstpm_edge.result import Result

SOMETHING_ANOMALOUS, SOMETHING_UNREADABLE = 1, 3


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path(path_type=Path))
@model_option
@click.option("--threshold", type=float, metavar="SCORE", help="Take this one, not the calibrated threshold.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line, and nothing else.")
@click.option(
    "--save-overlay",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Write a picture of each verdict there, as NAME.overlay.png.",
)
@click.option(
    "--save-map",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Write each anomaly map there, at the image's size, as NAME.map.png or NAME.map.npy.",
)
@click.option(
    "--map-format",
    type=click.Choice(["png", "npy"]),
    default="png",
    show_default=True,
    help="png: 16-bit grey; 0 is a typical good part, 4096 the threshold, linear between and up to 65535. "
    "npy: float32.",
)
@session_options
@click.pass_context
def infer(
    ctx: click.Context,
    paths: tuple[Path, ...],
    model: Path,
    threshold: float | None,
    as_json: bool,
    save_overlay: Path | None,
    save_map: Path | None,
    map_format: str,
    providers: "list[Provider] | None",
    engine_cache: Path | None,
    threads: int | None,
    polite: bool,
) -> None:
    """Judge images: files, and folders with everything below them.

    Output files keep the places that their images have below the folder that all of them share.

    Exit code: 0 all normal; 1 something anomalous; 2 wrong use, or output that cannot be written; 3 an image
    that could not be read or judged (the others are judged all the same).

    \b
    Examples:
      rstpm-edge infer part.png
      rstpm-edge infer photos/ --model model.onnx --save-overlay overlays/
      rstpm-edge infer photos/ --json | jq -r 'select(.is_anomalous) | .path'
    """
    # Read when cv2 is imported below: a damaged image gets one line from us, and none from OpenCV.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
    from rstpm_edge.detector import Detector
    from rstpm_edge.image import read_image
    from rstpm_edge.map_file import encode_npy, encode_png
    from rstpm_edge.overlay import encode_overlay

    outputs = [make_folder(folder) for folder in (save_overlay, save_map) if folder]
    images = _list_images(paths, leave_out=outputs)
    shared = _shared_folder(paths)
    detector = Detector(
        model,
        providers=providers,
        threads=threads,
        polite=polite,
        engine_cache=engine_cache,
        channels="rgb",
        threshold=threshold,
    )
    counts: Counter[str] = Counter()
    started = time.perf_counter()
    for path in images:
        start = time.perf_counter()
        try:
            image = read_image(path)
            result = detector(image)
        except (ImageError, ModelError) as error:
            # An ImageError names the file; a ModelError cannot know which one it was.
            message = f"Cannot judge {path}: {error}" if isinstance(error, ModelError) else str(error)
            counts["failed"] += 1
            say_error(message)
            if as_json:
                say(json.dumps({"path": str(path), "error": message}))
            continue
        milliseconds = (time.perf_counter() - start) * 1000
        counts["anomalous" if result.is_anomalous else "normal"] += 1
        name = os.path.relpath(path, shared)
        if save_overlay:
            _write(save_overlay / f"{name}.overlay.png", encode_overlay(image, result, name=name))
        if save_map:
            encode = encode_png if map_format == "png" else encode_npy
            _write(save_map / f"{name}.map.{map_format}", encode(result))
        say(_json_line(path, result, milliseconds) if as_json else _text_line(path, result))
    if not as_json:
        say(_summary(counts, detector.threshold, time.perf_counter() - started))
    if counts["failed"]:
        ctx.exit(SOMETHING_UNREADABLE)
    ctx.exit(SOMETHING_ANOMALOUS if counts["anomalous"] else 0)


def _list_images(paths: Sequence[Path], leave_out: Sequence[Path]) -> list[Path]:
    """The files as named and the images in the folders, without what an earlier run wrote there."""
    from rstpm_edge.image import find_images

    outputs = [folder.resolve() for folder in leave_out]
    images: list[Path] = []
    for path in paths:
        if not path.is_dir():
            images.append(path)  # whatever it is called; reading it will tell
            continue
        found = [
            image
            for image in find_images(path)
            if not any(image.resolve().is_relative_to(folder) for folder in outputs)
        ]
        if not found:
            raise UsageError(f"There are no PNG, JPEG, BMP or TIFF images in the folder {path}.")
        images += found
    return images


def _write(path: Path, content: bytes) -> None:
    make_folder(path.parent)
    with replacing(path) as temporary:
        temporary.write_bytes(content)  # whole, but not synced to the disk: on SD cards that is slow


def _shared_folder(paths: Sequence[Path]) -> str:
    folders = [os.path.abspath(path if path.is_dir() else path.parent) for path in paths]
    return os.path.commonpath(folders)


def _text_line(path: Path, result: "Result") -> str:
    verdict = "ANOMALOUS" if result.is_anomalous else "normal"
    return (
        f"{verdict:9}  score {result.score:8.4g}  p-value {result.p_value:.4f}  regions {len(result.regions):2}  {path}"
    )


def _json_line(path: Path, result: "Result", milliseconds: float) -> str:
    return json.dumps(
        {
            "path": str(path),
            "score": result.score,
            "p_value": result.p_value,
            "threshold": result.threshold,
            "typical_score": result.typical_score,
            "is_anomalous": result.is_anomalous,
            "position": result.position,
            "regions": [asdict(region) for region in result.regions],
            "ms": round(milliseconds, 2),
        }
    )


def _summary(counts: Counter[str], threshold: float, seconds: float) -> str:
    total = counts.total()
    return (
        f"{total} {'image' if total == 1 else 'images'}: {counts['normal']} normal, "
        f"{counts['anomalous']} anomalous, {counts['failed']} failed; "
        f"threshold {threshold:.4g}; {1000 * seconds / total:.0f} ms per image"
    )
