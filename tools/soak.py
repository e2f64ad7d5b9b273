"""Whether a detector that runs for long keeps its memory, files and threads: judges for so many minutes, and measures.

    python tools/soak.py                                   # an hour, on a tiny model that it makes
    python tools/soak.py --model model.onnx --minutes 90   # a real one
    python tools/soak.py --minutes 2 --samples samples.csv

A third of the time goes to each stage: one thread, several threads, several threads whose model is exchanged every
second. Images are arrays of several sizes, encoded bytes, a file, and damaged ones; of some, the overlay and the map
are encoded. Memory is the resident set, once a second. Its slope is the least-squares line over what comes after the
first quarter of a stage, when allocators and caches have their size. Of open files and threads, the fewest in the first
and in the last third of that are compared, since a file that is read is open for a moment. Exits with 1 where a slope
is above --limit, or where files or threads become more.
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
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import click
import cv2
import numpy as np
from numpy.typing import NDArray

from rstpm_edge import Detector
from rstpm_edge.errors import ImageError, UsageError
from rstpm_edge.outputs.map_file import encode_png
from rstpm_edge.outputs.overlay import encode_overlay

ROOT = Path(__file__).parent.parent
PER = 100_000  # images that a slope is told for
WARM_UP = 0.25  # of a stage
SWAP = 1.0  # seconds between two models
PICTURES = 50  # of so many images one is drawn


@dataclass(frozen=True)
class Sample:
    """What the process held at a moment."""

    stage: str
    seconds: float
    images: int
    swaps: int
    rss: float  # MB, of 10^6 bytes
    files: int
    threads: int


@dataclass(frozen=True)
class Trend:
    """What became of a stage after its warm-up: its first and last sample, and the slope in MB per 100,000 images."""

    first: Sample
    last: Sample
    files: tuple[int, int]  # the fewest at the beginning and at the end
    threads: tuple[int, int]
    slope: float
    error: float  # one standard error of it, as if samples were independent

    def grows(self, limit: float) -> bool:
        """Whether it leaks: memory beyond `limit`, or files or threads at all."""
        return self.slope > limit or self.files[1] > self.files[0] or self.threads[1] > self.threads[0]


def trend(samples: Sequence[Sample]) -> Trend:
    """The trend of the samples of one stage, in their order, of which three or more come after the warm-up."""
    settled = list(samples[int(len(samples) * WARM_UP) :])
    images = np.array([sample.images for sample in settled]) / PER
    rss = np.array([sample.rss for sample in settled])
    centred = images - images.mean()
    spread = float((centred**2).sum())
    slope = float((centred * rss).sum() / spread)
    residual = rss - rss.mean() - slope * centred
    third = max(1, len(settled) // 3)
    files, alive = (
        (min(values[:third]), min(values[-third:]))
        for values in ([sample.files for sample in settled], [sample.threads for sample in settled])
    )
    return Trend(
        settled[0],
        settled[-1],
        files,
        alive,
        slope,
        float(np.sqrt((residual**2).sum() / max(len(rss) - 2, 1) / spread)),
    )


class Line:
    """Threads that judge with one detector, which `swap` exchanges under them."""

    def __init__(self, models: Sequence[Path], images: Sequence[object]) -> None:
        self.judged = self.swaps = 0
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

    def swap(self) -> None:
        self.swaps += 1
        detector = Detector(self._models[self.swaps % len(self._models)], threads=1, notify=lambda sentence: None)
        detector.warmup()
        self._detector, before = detector, self._detector
        before.close()

    def _work(self, number: int) -> None:
        while not self._stop.is_set() and self.fault is None:
            try:
                self._judge(self._images[number % len(self._images)], draw=number % PICTURES == 0)
            except UsageError:  # it was closed between two lines of this thread, which takes the next one
                continue
            except BaseException as error:
                self.fault = error
                raise
            number += 1
            with self._counting:
                self.judged += 1

    def _judge(self, image: object, *, draw: bool) -> None:
        try:
            result = self._detector(image)  # type: ignore[arg-type]
        except ImageError:
            return
        if draw and isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3:
            encode_overlay(image[:, :, ::-1].copy(), result, name="soak")
            encode_png(result)


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
    name: str, line: Line, threads: int, seconds: float, told: Callable[[Sample], None], *, swaps: bool
) -> Trend:
    """Judge for so many seconds; `told` gets each sample."""
    samples: list[Sample] = []
    line.judged = line.swaps = 0
    line.start(threads)
    start = time.monotonic()
    try:
        while (passed := time.monotonic() - start) < seconds and line.fault is None:
            if swaps:
                line.swap()
            time.sleep(min(SWAP, seconds / 40))
            with open("/proc/self/statm") as statm:
                rss = int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
            files, alive = len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))
            samples.append(Sample(name, round(passed, 1), line.judged, line.swaps, rss, files, alive))
            told(samples[-1])
    finally:
        line.stop()
    if line.fault is not None:
        raise click.ClickException(f"Judging failed in the stage {name!r}: {line.fault!r}")
    return trend(samples)


def table(trends: Sequence[Trend]) -> str:
    lines = [
        "| stage | images | models opened | MB after warm-up | MB at the end | MB per 100,000 images | open files "
        "| threads |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in trends:
        first, last = one.first, one.last
        lines.append(
            f"| {last.stage} | {last.images:,} | {last.swaps:,} | {first.rss:.1f} | {last.rss:.1f} "
            f"| {one.slope:+.3f} ± {one.error:.3f} | {one.files[0]} → {one.files[1]} "
            f"| {one.threads[0]} → {one.threads[1]} |"
        )
    return "\n".join(lines)


@click.command(help=__doc__.replace("\n\n", "\n\n\b\n"))
@click.option("--minutes", type=click.FloatRange(min=0.05), default=60.0, show_default=True)
@click.option(
    "--threads", type=click.IntRange(min=2), default=3, show_default=True, help="Of the second and third stage."
)
@click.option(
    "--model",
    type=click.Path(path_type=Path, exists=True),
    multiple=True,
    help="One, or several that are exchanged.  [default: two tiny ones]",
)
@click.option(
    "--limit", type=float, default=1.0, show_default=True, metavar="MB", help="Growth per 100,000 images that passes."
)
@click.option("--samples", type=click.Path(path_type=Path), help="Write each sample to this CSV file.")
def main(minutes: float, threads: int, model: tuple[Path, ...], limit: float, samples: Path | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        line = Line(model or tiny_models(Path(folder)), pictures(Path(folder)))
        with open(samples or os.devnull, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow([field.name for field in fields(Sample)])

            def told(sample: Sample) -> None:
                writer.writerow(astuple(sample))
                file.flush()

            stages = (
                ("one thread", 1, False),
                (f"{threads} threads", threads, False),
                (f"{threads} threads, models exchanged", threads, True),
            )
            trends = []
            for name, count, swaps in stages:
                trends.append(run_stage(name, line, count, minutes * 60 / len(stages), told, swaps=swaps))
                print(table(trends[-1:]) if len(trends) == 1 else table(trends[-1:]).splitlines()[-1], flush=True)
    leaking = [one.last.stage for one in trends if one.grows(limit)]
    if leaking:
        print(f"Grows: {', '.join(leaking)}.", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
