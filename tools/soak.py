"""Whether a detector that runs for long keeps its memory, files and threads: judges for so many minutes, and measures.

    python tools/soak.py                                   # an hour, on a tiny model that it makes
    python tools/soak.py --model model.onnx --photos DATA/test/good --minutes 90   # a real one, and its photos
    python tools/soak.py --minutes 2 --samples samples.csv

A quarter of the time goes to each stage: one thread, several threads, several threads whose detector is replaced five
times a second, several threads whose detector takes another model so often (`Detector.swap`). Images are arrays of
several sizes, encoded bytes, a file, and damaged ones; of some, the overlay and the map are encoded. A real model takes
no pictures of noise: give it photos. Memory is the
resident set, and what of it is in use: what was asked for and not freed. Slopes are those of least-squares lines over
what comes after the first quarter of a stage, when allocators and caches have their size. Of open files and threads,
the fewest in the first and in the last third of that are compared, since a file that is read is open for a moment.
Exits with 1 where both slopes are above --limit, or where files or threads become more.

Python's own allocator is turned off (PYTHONMALLOC=malloc), so that what is in use can be told.
"""

from __future__ import annotations

import csv
import os
import runpy
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import astuple, fields
from pathlib import Path

import click
import cv2
import numpy as np
from numpy.typing import NDArray
from soak_memory import Sample, SampleTable, Trend, in_use, resident, trend

from rstpm_edge import Detector
from rstpm_edge.errors import ImageError, UsageError
from rstpm_edge.image.decode import read_image
from rstpm_edge.image.listing import list_folder
from rstpm_edge.outputs.map_file import encode_png
from rstpm_edge.outputs.overlay import encode_overlay

ROOT = Path(__file__).parent.parent
SWAP = 0.2  # seconds between two models
SAMPLE = 1.0  # seconds between two samples
PICTURES = 50  # of so many images one is drawn
PHOTOS = 60  # that are judged again and again
REFUSED = 0.5  # share of images without a verdict above which nothing is shown: the damaged ones are fewer


class Line:
    """Threads that judge with one detector, which `swap` exchanges under them."""

    def __init__(self, models: Sequence[Path], images: Sequence[object]) -> None:
        self.judged = self.refused = self.swaps = 0
        self.fault: BaseException | None = None
        self._models, self._images = models, images
        self._detector = Detector(models[0], threads=1, notify=lambda sentence: None)
        self._stop = threading.Event()
        self._counting = threading.Lock()
        self._threads: list[threading.Thread] = []

    def start(self, threads: int) -> None:
        self._stop.clear()
        self._threads = [threading.Thread(target=self._work, args=(number,)) for number in range(threads)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def replace(self) -> None:
        """Put another detector in the place of the one that judges."""
        detector = Detector(self._next_model(), threads=1, notify=lambda sentence: None)
        detector.warmup()
        self._detector, before = detector, self._detector
        before.close()

    def swap(self) -> None:
        """Let the detector take another model."""
        self._detector.swap(self._next_model())

    def _next_model(self) -> Path:
        self.swaps += 1
        return self._models[self.swaps % len(self._models)]

    def _work(self, number: int) -> None:
        while not self._stop.is_set() and self.fault is None:
            try:
                has_result = self._judge(self._images[number % len(self._images)], draw=number % PICTURES == 0)
            except UsageError:  # it was closed between two lines of this thread, which takes the next one
                continue
            except BaseException as error:
                self.fault = error
                raise
            number += 1
            with self._counting:
                self.judged += 1
                self.refused += not has_result

    def _judge(self, image: object, *, draw: bool) -> bool:
        """Whether there was a verdict."""
        try:
            result = self._detector(image)  # type: ignore[arg-type]
        except ImageError:
            return False
        if draw and isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3:
            encode_overlay(image[:, :, ::-1].copy(), result, name="soak")
            encode_png(result)
        return True


def pictures(folder: Path) -> list[object]:
    """What a line may be given, damaged files among it."""
    rng = np.random.default_rng(0)
    found: list[object] = []
    for height, width in ((120, 160), (64, 64), (240, 320), (97, 131)):
        image: NDArray[np.uint8] = rng.integers(100, 156, (height, width, 3), np.uint8)
        found.append(image)
        spotted = image.copy()
        spotted[height // 4 : height // 2, width // 4 : width // 2] = 255
        found.append(spotted)
        found.append(cv2.imencode(".jpg", image)[1].tobytes())
        found.append(cv2.imencode(".png", spotted)[1].tobytes())
    found.append(cv2.imencode(".png", found[0])[1].tobytes()[:200])  # type: ignore[call-overload]
    found.append(b"no image")
    path = folder / "part.png"
    cv2.imwrite(str(path), found[1])  # type: ignore[call-overload]
    return [*found, path, folder / "missing.png"]


def pictures_of(photos: Path, folder: Path) -> list[object]:
    """The same of photos: each as an array, as what its file holds, or as a file, by turns; and damaged ones."""
    found: list[object] = []
    for number, path in enumerate(list_folder(photos).images[:PHOTOS]):
        content = path.read_bytes()
        found.append((read_image(path)[:, :, ::-1].copy(), content, path)[number % 3])
        if number % 8 == 0:
            found.append(content[: len(content) // 3])
    return [*found, b"no image", folder / "missing.png"]


def tiny_models(folder: Path) -> list[Path]:
    """Two models of some kilobytes, as the tests have them: what is measured is this package, not a network."""
    helpers = runpy.run_path(str(ROOT / "tests" / "helpers" / "bundles.py"))
    paths = [folder / "one.onnx", folder / "other.onnx"]
    for path, alpha in zip(paths, (0.01, 0.05), strict=True):
        bundle = helpers["make_bundle"]()
        helpers["write_model"](
            path, helpers["make_bundle"](calibration=type(bundle.calibration)(alpha, bundle.calibration.scores))
        )
    return paths


def run_stage(
    name: str,
    line: Line,
    threads: int,
    seconds: float,
    told: Callable[[Sample], None],
    exchange: Callable[[], None] | None,
) -> Trend:
    """Judge for so many seconds, with `exchange` called meanwhile; `told` gets each sample."""
    each = min(SAMPLE, seconds / 40)
    kept = SampleTable(name, int(seconds / each) + 2)
    line.judged = line.refused = line.swaps = 0
    line.start(threads)
    start = time.monotonic()
    next_sample = 0.0
    try:
        while (passed := time.monotonic() - start) < seconds and line.fault is None:
            if exchange is not None:
                exchange()
            time.sleep(min(SWAP, seconds / 80))
            if passed < next_sample:
                continue
            next_sample = passed + each
            files, alive = len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))
            held = resident(), in_use()
            sample = Sample(name, round(passed, 1), line.judged, line.swaps, *held, files, alive)
            kept.add(sample)
            told(sample)
    finally:
        line.stop()
    if line.fault is not None:
        raise click.ClickException(f"Judging failed in the stage {name!r}: {line.fault!r}")
    if line.refused > REFUSED * line.judged:
        raise click.ClickException(
            f"{line.refused} of {line.judged} images had no verdict: give photos of the model's product by --photos."
        )
    return trend(kept.samples())


def table(trends: Sequence[Trend]) -> str:
    lines = [
        "| stage | images | models opened | MB after warm-up, at the end | MB per 100,000 images | in use, MB after "
        "warm-up, at the end | MB per 100,000 images | open files | threads |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for one in trends:
        first, last = one.first, one.last
        lines.append(
            f"| {last.stage} | {last.images:,} | {last.swaps:,} | {first.rss:.1f}, {last.rss:.1f} "
            f"| {one.rss.value:+.3f} ± {one.rss.error:.3f} | {first.heap:.1f}, {last.heap:.1f} "
            f"| {one.heap.value:+.3f} ± {one.heap.error:.3f} | {one.files[0]} → {one.files[1]} "
            f"| {one.threads[0]} → {one.threads[1]} |"
        )
    return "\n".join(lines)


@click.command(help=__doc__.replace("\n\n", "\n\n\b\n"))
@click.option("--minutes", type=click.FloatRange(min=0.05), default=60.0, show_default=True)
@click.option(
    "--threads", type=click.IntRange(min=2), default=3, show_default=True, help="Of all stages but the first."
)
@click.option(
    "--model",
    type=click.Path(path_type=Path, exists=True),
    multiple=True,
    help="One, or several that are exchanged.  [default: two tiny ones]",
)
@click.option(
    "--photos",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Judge these, in the place of noise.",
)
@click.option(
    "--limit", type=float, default=1.0, show_default=True, metavar="MB", help="Growth per 100,000 images that passes."
)
@click.option("--samples", type=click.Path(path_type=Path), help="Write each sample to this CSV file.")
def main(
    minutes: float, threads: int, model: tuple[Path, ...], photos: Path | None, limit: float, samples: Path | None
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = pictures(folder) if photos is None else pictures_of(photos, folder)
        line = Line(model or tiny_models(folder), images)
        with open(samples or os.devnull, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow([field.name for field in fields(Sample)])

            def told(sample: Sample) -> None:
                writer.writerow(astuple(sample))
                file.flush()

            stages: tuple[tuple[str, int, Callable[[], None] | None], ...] = (
                ("one thread", 1, None),
                (f"{threads} threads", threads, None),
                (f"{threads} threads, detectors replaced", threads, line.replace),
                (f"{threads} threads, models swapped", threads, line.swap),
            )
            trends = []
            for name, count, exchange in stages:
                trends.append(run_stage(name, line, count, minutes * 60 / len(stages), told, exchange))
                print(table(trends[-1:]) if len(trends) == 1 else table(trends[-1:]).splitlines()[-1], flush=True)
    leaking = [one.last.stage for one in trends if one.grows(limit)]
    if leaking:
        print(f"Grows: {', '.join(leaking)}.", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    if os.environ.get("PYTHONMALLOC") != "malloc":
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "PYTHONMALLOC": "malloc"})
    main()
