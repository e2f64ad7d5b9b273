"""How fast `fleet score` is beside as many `Detector` processes in a loop, on the same photos, in turns.

    python tools/fleet_throughput.py model.onnx photos --workers 2 --rounds 5

Prints the ratio of the rates, the median of the rounds: of judging alone, from the first batch that is done to the
last one, and of the whole command, with the start of Ray and of the workers. The loop's processes have opened their
models when its time begins.
"""

import argparse
import contextlib
import multiprocessing
import statistics
import tempfile
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path

from rstpm_edge import Detector
from rstpm_edge.errors import ImageError
from rstpm_edge.fleet_score.score import ScorePlan, score_archive
from rstpm_edge.image.listing import find_images
from rstpm_edge.pipeline import InferenceOptions
from rstpm_edge.progress import Progress


def loop(model: str, files: list[str], ready: Barrier) -> None:
    detector = Detector(model, threads=1, polite=True, allow_size_change=True, notify=lambda sentence: None)
    detector.warmup()
    ready.wait()
    for file in files:
        with contextlib.suppress(ImageError):  # which has a row, too
            detector(file)
    ready.wait()


def loop_rate(model: Path, files: list[Path], workers: int) -> float:
    """Images a second of so many processes with one detector of one thread each."""
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(workers + 1)
    shares = [[str(file) for file in files[first::workers]] for first in range(workers)]
    processes = [context.Process(target=loop, args=(str(model), share, ready)) for share in shares]
    for process in processes:
        process.start()
    ready.wait()
    started = time.perf_counter()
    ready.wait()
    seconds = time.perf_counter() - started
    for process in processes:
        process.join()
    return len(files) / seconds


def fleet_rates(model: Path, photos: Path, workers: int, batch: int) -> tuple[float, float]:
    """Images a second of judging alone, and of all."""
    told: list[tuple[float, int]] = []

    def report(progress: Progress) -> None:
        if progress.done:
            told.append((time.perf_counter(), progress.done))

    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as out:
        plan = ScorePlan(
            str(photos), model, Path(out), InferenceOptions(allow_size_change=True), workers=workers, batch=batch
        )
        scored = score_archive(plan, workers, report=report)
    seconds = time.perf_counter() - started
    (first, before), (last, done) = told[0], told[-1]
    return (done - before) / (last - first), scored.images / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=32)
    arguments = parser.parse_args()
    files = find_images(arguments.photos)
    judging, whole = [], []
    for number in range(1, arguments.rounds + 1):
        loops = loop_rate(arguments.model, files, arguments.workers)
        alone, all_of_it = fleet_rates(arguments.model, arguments.photos, arguments.workers, arguments.batch)
        judging.append(alone / loops)
        whole.append(all_of_it / loops)
        print(
            f"round {number}: loop {loops:.1f} images/s, fleet score {alone:.1f} ({alone / loops:.0%}), "
            f"with its start {all_of_it:.1f} ({all_of_it / loops:.0%})",
            flush=True,
        )
    print(
        f"{len(files)} images, median of {arguments.rounds}: {statistics.median(judging):.0%} of the loop's rate, "
        f"{statistics.median(whole):.0%} with the start"
    )


if __name__ == "__main__":
    main()
