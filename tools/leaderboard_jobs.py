"""The work behind a leaderboard: one contestant on one set with one seed, several at once, and their latencies."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, cast

import click
import torch
from bench_peers import WORKER as TIMER
from bench_peers import Contestant as TimedProcess
from bench_peers import measure, write_image
from leaderboard_contestants import Contestant
from leaderboard_measure import figures, intervals
from leaderboard_ours import judge_ours
from leaderboard_peers import PeerOptions, judge_peer
from leaderboard_results import Latency, Result, Store

from rstpm_edge import __version__
from rstpm_edge.atomic_files import make_folder
from rstpm_edge.errors import RstpmEdgeError
from rstpm_edge.training.data.datasets import Category
from rstpm_edge.training.learning.machine import Machine


@dataclass(frozen=True)
class Job:
    """One result to come."""

    key: str
    category: Category  # with the photos that count
    contestant: Contestant
    seed: int
    quick: bool
    device: str = "auto"

    def __str__(self) -> str:
        return f"{self.category.name}, {self.contestant.name}, seed {self.seed}"


def model_path(output: Path, key: str) -> Path:
    """Where the model file of a result lies."""
    return output / "models" / f"{key}.onnx"


def run_job(job: Job, output: Path, venv: Path, threads: int | None = None) -> Result:
    """Train, judge and measure, and write the result below `output`. Raises RstpmEdgeError and ClickException."""
    chosen = job.contestant.options
    parts: dict[str, dict[str, float | None]] = {}
    model, scratch = model_path(output, job.key), output / "runs" / job.key
    if isinstance(chosen, PeerOptions):
        judged, minutes, versions = judge_peer(job.category, chosen, job.seed, venv, output / "fits", model, str(job))
    else:
        make_folder(model.parent)
        options, machine = replace(chosen, seed=job.seed), Machine(job.device, job.contestant.precision)
        judged, parts, minutes = judge_ours(job.category, options, machine, scratch / "run", model, threads)
        versions = {"rstpm-edge": __version__, "torch": torch.__version__}
    point = figures(judged)
    names = [os.fspath(image.path.relative_to(job.category.folder)) for image in job.category.test]
    result = Result(
        key=job.key,
        set=job.category.name,
        contestant=job.contestant.name,
        seed=job.seed,
        quick=job.quick,
        ours=job.contestant.is_ours,
        options=job.contestant.described(),
        figures=asdict(point),
        intervals=intervals(judged, point),
        parts=parts,
        learned=len(job.category.train),
        good=int((~judged.defective).sum()),
        defective=int(judged.defective.sum()),
        core_minutes=minutes,
        versions=versions,
        scores=dict(zip(names, map(float, judged.scores), strict=True)),
    )
    Store(output).save(result)
    shutil.rmtree(scratch, ignore_errors=True)
    return result


def run_all(
    jobs: Sequence[Job], output: Path, venv: Path, processes: int, say: Callable[[str], None]
) -> dict[str, str]:
    """Run them, so many at once, each on its own share of the cores. What each failure said, by the job's name.

    Trainings that share cores hinder each other far more than that takes: so each process keeps to its own.
    """
    failures: dict[str, str] = {}
    if processes == 1:
        for number, job in enumerate(jobs, 1):
            say(f"{job} ({number} of {len(jobs)})")
            try:
                run_job(job, output, venv)
            except (RstpmEdgeError, click.ClickException) as error:
                failures[str(job)] = str(getattr(error, "message", error))
                say(f"{job} failed: {failures[str(job)]}")
        return failures
    context = multiprocessing.get_context("spawn")
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    shares = [cores[i::processes] or cores for i in range(processes)]
    waiting, running = list(enumerate(jobs, 1)), dict[Any, tuple[Job, Any, int]]()
    free = list(range(processes))
    try:
        while waiting or running:
            while waiting and free:
                number, job = waiting.pop(0)
                place = free.pop(0)
                say(f"{job} ({number} of {len(jobs)})")
                receiver, sender = context.Pipe(duplex=False)
                threads = max(1, len(shares[place]))
                process = context.Process(target=_run_apart, args=(job, output, venv, threads, sender), daemon=True)
                with _on(shares[place], threads):
                    process.start()
                sender.close()
                running[receiver] = job, process, place
            for ready in cast(list[Any], multiprocessing.connection.wait(list(running))):
                job, process, place = running.pop(ready)
                try:
                    trouble = str(ready.recv())
                except EOFError:
                    process.join()
                    trouble = f"its process ended with exit code {process.exitcode}"
                process.join()
                free.append(place)
                if trouble:
                    failures[str(job)] = trouble
                    say(f"{job} failed: {trouble}")
    finally:
        for _, process, _ in running.values():
            process.terminate()
        for _, process, _ in running.values():
            process.join()
    return failures


def time_models(models: Mapping[str, tuple[Path, bool]], threads: int, rounds: int, calls: int) -> dict[str, Latency]:
    """One image's time for each model file, in turns in ONNX Runtime; the first is what the ratios are to.

    Of ours, which True marks, the whole detector is timed; of the others the network alone. Raises ClickException.
    """
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        image = Path(folder) / "image.npy"
        write_image(None, image)
        timed = []
        for name, (file, is_ours) in models.items():
            kind = "detector" if is_ours else "onnx"
            command = [sys.executable, str(TIMER), "serve", kind, str(file.resolve()), str(threads), str(image)]
            timed.append(stack.enter_context(TimedProcess(name, command)))
        for each in timed:
            each.wait_until_ready()
        ratios = measure(timed, rounds, calls)
        return {each.name: Latency(median(each.times), ratios.get(each.name, 1.0)) for each in timed}


def _run_apart(job: Job, output: Path, venv: Path, threads: int, sender: Any) -> None:
    """In a process of its own; sends what went wrong, or nothing."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started it ends it
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an exception, at which anomalib's process is ended, too
    try:
        run_job(job, output, venv, threads)
        sender.send("")
    except (RstpmEdgeError, click.ClickException) as error:
        sender.send(str(getattr(error, "message", error)))


@contextmanager
def _on(cores: Sequence[int], threads: int) -> Iterator[None]:
    """A process that is started inside has these cores only, and so many threads."""
    before = os.environ.get("OMP_NUM_THREADS")
    allowed = os.sched_getaffinity(0) if cores else set[int]()
    os.environ["OMP_NUM_THREADS"] = str(threads)
    try:
        if cores:
            with suppress(OSError):
                os.sched_setaffinity(0, cores)
        yield
    finally:
        if cores:
            os.sched_setaffinity(0, allowed)
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before
