"""Judge all images of an archive, and keep a row of each in part files; interrupted, it goes on where it was."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa

from rstpm_edge.detector import Detector
from rstpm_edge.errors import ModelError
from rstpm_edge.fleet_score.archive import list_archive
from rstpm_edge.fleet_score.judge import JudgePlan
from rstpm_edge.fleet_score.parts import open_parts
from rstpm_edge.fleet_score.pending import pending
from rstpm_edge.fleet_score.rounds import judged_items
from rstpm_edge.image.mask import Mask
from rstpm_edge.pipeline import InferenceOptions
from rstpm_edge.progress import Progress, Report
from rstpm_edge.ray_cluster import cluster, fetch

STAGE = "images"
CHAPTER = 100_000  # images that Ray plans at once
PART_ROWS = 20_000  # of a part file, at most about
PART_SECONDS = 30.0  # after which a part file is written in any case: what a killed command loses


@dataclass(frozen=True)
class ScorePlan:
    """What is judged, by what, and how it is shared out. `workers`: None for one a processor that there is."""

    archive: str
    model: Path
    out: Path
    options: InferenceOptions
    column: str | None = None
    address: str | None = None
    workers: int | None = None
    batch: int = 32


@dataclass(frozen=True)
class Scored:
    """How it went: `images` are in the archive, `done_before` had a row already. `counts`: images of each verdict."""

    images: int
    done_before: int
    counts: dict[str, int]
    folder: Path
    seconds: float  # of judging, with the start of the workers
    is_whole: bool
    note: str | None


def score_archive(
    plan: ScorePlan,
    processors: int,
    *,
    report: Report = lambda progress: None,
    stop: Callable[[], bool] = lambda: False,
) -> Scored:
    """Bring the rows of the archive in `plan.out` to completion; `processors` are those of this machine.

    `stop` is asked after each batch; where it says so, what was judged is kept, and the rest left for the next time.
    Raises SourceError, UsageError, ModelError, OutputError, FleetError.
    """
    content, digest = _checked_model(plan)
    archive = list_archive(plan.archive, plan.column)
    with open_parts(plan.out, digest, _settings(plan.options)) as parts:
        todo = pending(archive.items, parts.known())
        parts.drop(todo.stale)
        before, total = len(archive.items) - len(todo.items), len(archive.items)
        report(Progress(STAGE, before, total))
        started = time.monotonic()
        if len(todo.items):
            with cluster(plan.address, plan.workers or processors) as ray:
                judge = JudgePlan(ray.put(content), digest, _for_workers(plan.options), fetch)
                workers = plan.workers or max(int(ray.cluster_resources().get("CPU", 1)), 1)
                tables = _of_chapters(ray, todo.items, judge, workers, plan.batch)
                _keep(tables, parts.write, lambda done: report(Progress(STAGE, before + done, total)), stop)
        counts = parts.counts(archive.items["path"].combine_chunks())
        return Scored(
            images=total,
            done_before=before,
            counts=counts,
            folder=parts.folder,
            seconds=time.monotonic() - started,
            is_whole=sum(counts.values()) == total,
            note=archive.note,
        )


def _of_chapters(ray: Any, items: Any, judge: JudgePlan, workers: int, batch: int) -> Iterator[Any]:
    for start in range(0, len(items), CHAPTER):
        yield from judged_items(ray, items.slice(start, CHAPTER), judge, workers, batch)


def _keep(
    tables: Iterator[Any], write: Callable[[Any], None], tell: Callable[[int], None], stop: Callable[[], bool]
) -> None:
    """Write part files of what comes, and the last one also where something is raised."""
    waiting: list[Any] = []
    done, written = 0, time.monotonic()
    try:
        for table in tables:
            waiting.append(table)
            done += len(table)
            tell(done)
            if sum(map(len, waiting)) >= PART_ROWS or time.monotonic() - written >= PART_SECONDS:
                _write(waiting, write)
                written = time.monotonic()
            if stop():
                return
    finally:
        _write(waiting, write)


def _write(waiting: list[Any], write: Callable[[Any], None]) -> None:
    """Write what waits; only what is written waits no longer."""
    if any(map(len, waiting)):
        write(pa.concat_tables(waiting).combine_chunks())
        waiting.clear()


def _checked_model(plan: ScorePlan) -> tuple[bytes, str]:
    """The bytes of the model file, and their hash, after it was loaded here. Raises what Detector does."""
    with Detector(plan.model, **vars(plan.options)) as detector:
        digest = detector.sha256
    try:
        content = plan.model.read_bytes()
    except OSError as error:
        raise ModelError(f"Cannot read the model {plan.model}: {error.strerror or error}.") from error
    if sha256(content).hexdigest() != digest:
        raise ModelError(f"The model {plan.model} has changed while it was loaded: run the same command again.")
    return content, digest


def _for_workers(options: InferenceOptions) -> InferenceOptions:
    """One thread each: the workers share the processors. What is read of files is sent along."""
    return replace(options, threads=1, polite=True, mask=options.loaded_mask(), public_key=None, notify=None)


def _settings(options: InferenceOptions) -> dict[str, Any]:
    """What changes verdicts besides the model, as JSON has it."""
    mask = options.loaded_mask()
    return {
        "threshold": options.threshold,
        "alpha": options.alpha,
        "roi": list(options.roi) if isinstance(options.roi, tuple) else options.roi,
        "mask": mask.sha256 or sha256(mask.white.tobytes()).hexdigest() if isinstance(mask, Mask) else mask,
        "allow_size_change": options.allow_size_change,
        "provider": None if options.providers is None else str(options.providers),
    }
