"""What a benchmark is to do, and the mark that keeps the results of one from mixing with those of another."""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rstpm_edge import __version__
from rstpm_edge.atomic_files import make_folder, write_json
from rstpm_edge.errors import UsageError
from rstpm_edge.folder_lock import one_writer

from ..data.images import MINIMUM_IMAGES
from ..learning.augmentation import run_preset
from ..learning.content import weights_fingerprint
from ..learning.options import TrainingOptions, check_options
from ..model.old_names import current_run


@dataclass(frozen=True)
class BenchmarkPlan:
    """What is trained for each category and seed; `options.seed` gives way to each of `seeds`."""

    dataset: str
    data: Path
    options: TrainingOptions
    seeds: tuple[int, ...] = (0, 1, 2)
    max_images: int | None = None  # learn from so many of a category's images only, held-out ones included
    keep: bool = False  # runs and models of finished results, too
    reports: bool = False  # an HTML report of each result


def check_plan(plan: BenchmarkPlan) -> None:
    """Raises UsageError for a plan that cannot work."""
    if not plan.seeds or len(set(plan.seeds)) < len(plan.seeds):
        raise UsageError("`seeds` are different numbers, at least one.")
    if plan.max_images is not None and plan.max_images < MINIMUM_IMAGES:
        raise UsageError(f"`max_images` must be at least {MINIMUM_IMAGES}, not {plan.max_images}.")
    for seed in plan.seeds:
        check_options(replace(plan.options, seed=seed))


def settings(plan: BenchmarkPlan) -> dict[str, Any]:
    """What all results of one folder have in common, as JSON gives it back. Raises WeightsError."""
    options = plan.options
    content = {
        "version": __version__,
        "dataset": plan.dataset,
        "data": os.path.abspath(plan.data),
        "preset": asdict(run_preset(options)),
        "height": None if options.size is None else options.size[0],
        "width": None if options.size is None else options.size[1],
        "resize": options.resize,
        "roi": options.roi,
        "holdout": options.holdout,
        "max_minutes": options.max_minutes,
        "max_images": plan.max_images,
        "weights": {name: weights_fingerprint(source) for name, source in options.weights.items()},
    }
    reread: dict[str, Any] = json.loads(json.dumps(content))
    return reread


@contextlib.contextmanager
def claimed(output: Path, plan: BenchmarkPlan) -> Iterator[dict[str, Any]]:
    """Make `output` the folder of the plan's settings, which are given, and no other process's until the block's end.

    Raises UsageError when it has results of others, or another process is in the block, OutputError, WeightsError.
    """
    ours = settings(plan)
    make_folder(output)
    with one_writer(output, advice="wait for its end, or give another `output`"):
        _claim(output, ours)
        yield ours


def _claim(output: Path, ours: Mapping[str, Any]) -> None:
    path = output / "settings.json"
    if not any((output / name).exists() for name in ("results", "runs")):  # nothing can be mixed up yet
        write_json(path, ours, below=output)
        return
    try:
        theirs = json.loads(path.read_text())
        theirs = current_run(theirs) if isinstance(theirs, dict) else theirs
    except (OSError, ValueError, UsageError) as error:
        raise UsageError(
            f"{output} has results, but {path} cannot tell of what ({error}); give another `output`."
        ) from error
    there, here = _flat(theirs), _flat(ours)
    differences = [
        f"{name} {there.get(name, 'not set')} there, {here.get(name, 'not set')} here"
        for name in dict.fromkeys([*here, *there])
        if there.get(name) != here.get(name)
    ]
    if differences:
        more = f"; and {len(differences) - 3} more" if len(differences) > 3 else ""
        raise UsageError(
            f"{output} belongs to other settings ({'; '.join(differences[:3])}{more}); give another `output`."
        )


def _flat(content: Any) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in content.items() if isinstance(content, dict) else ():
        flat |= {f"{name}.{key}": inner for key, inner in value.items()} if isinstance(value, dict) else {name: value}
    return flat
