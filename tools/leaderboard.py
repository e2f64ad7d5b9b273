"""All sets of a folder × our presets, variants of them, and anomalib's methods on the same photos, as Markdown tables.

    python tools/leaderboard.py SETS                                    # everything that is new; hours on two cores
    python tools/leaderboard.py SETS --method edge --variant no-head --variant wide:size=320,epochs=90
    python tools/leaderboard.py SETS --quick --method edge --variant no-head    # fewer photos and epochs
    python tools/leaderboard.py SETS --variant padim-own:method=padim,size=auto
    python tools/leaderboard.py SETS --cached --write docs/accuracy.md  # only what is known already

SETS holds folders in MVTec AD layout; a set without masks has no figures of pixels. All see the same photos, brought
to the model's input by our resize. The others start from the weights of our teacher 1, where they take a teacher, and
learn from all good photos; ours keeps a fifth for its threshold.

A result is kept below --output under the hash of what it comes from: photos by content, method, options, seed and
code. So the same command goes on after an interruption, and does only what a change made necessary. --results is one
file with all results, for others and for a fresh machine: what has the same hash there is taken from it.

Recall: at the smallest threshold that at most 1 % or 5 % of the good test photos lie above. Brackets hold the 95 %
interval over photos drawn again (2,000 times, good and defective ones apart); ± is the standard deviation over seeds.
A name in bold: no other is as good by image AUROC and as fast. Latency is that of one image in ONNX Runtime, all in
turns in one run; of ours the whole detector, of the others the network alone.

VARIANT is NAME:KEY=VALUE,KEY=VALUE. Keys are the fields of a preset as `rstpm-edge train --set` takes them, and preset,
size, area (192: in the photos' own shape, as many pixels as 192×192), epochs, resize, holdout, max_images, max_minutes;
after method=padim (patchcore, stfpm, efficientad) those of that method: size (auto: the photos' own aspect), strides,
teacher, features, coreset, epochs, steps.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from anomalib_venv import DEFAULT as VENV

from rstpm_edge.cli.benchmark import DATASETS
from rstpm_edge.cli.parameter_types import NAMES, SEEDS, WEIGHTS
from rstpm_edge.cli.terminal import as_typed
from rstpm_edge.errors import RstpmEdgeError, TrainingError, UsageError

if TYPE_CHECKING:
    from leaderboard_contestants import Contestant


@dataclass(frozen=True)
class Settings:
    """The command line's options, under the same names."""

    root: Path
    dataset: str
    sets: str
    methods: tuple[str, ...]
    variants: tuple[str, ...]
    seeds: str
    peer_seeds: str
    size: str
    epochs: int | None
    quick: bool
    agree: bool
    cached: bool
    processes: int
    output: Path
    results: Path | None
    write: Path | None
    venv: Path
    efficientad_teacher: str | None
    imagenette: str | None
    weights: tuple[str, ...]
    device: str
    precision: str
    threads: int
    rounds: int
    calls: int


def run(settings: Settings) -> str:
    """Bring the board up to date; what it says. Raises RstpmEdgeError and ClickException."""
    import leaderboard_jobs as work
    import leaderboard_table as table
    from leaderboard_contestants import BASE, learned_from, on_photos, quick, result_key, timing_key, whole
    from leaderboard_results import Result, Store

    from rstpm_edge.training.data.datasets import load_categories

    if settings.write and (settings.quick or settings.agree):
        raise UsageError("--write shows full results; leave out --quick and --agree.")
    categories = load_categories(settings.root, settings.dataset, NAMES.convert(settings.sets, None, None))
    store = Store(settings.output, settings.results).load()

    def jobs_of(contestants: Iterable[Contestant], is_quick: bool) -> list[work.Job]:
        found = []
        for one in contestants:
            for seed in SEEDS.convert(settings.seeds if one.is_ours else settings.peer_seeds, None, None):
                for category in categories:
                    chosen = learned_from((quick if is_quick else whole)(category), one, seed)
                    here = on_photos(one, chosen)
                    key = result_key(chosen, here, seed)
                    found.append(work.Job(key, chosen, here, seed, is_quick, settings.device))
        return found

    def known(jobs: Iterable[work.Job]) -> list[Result]:
        found = ((job, store.find(job.key)) for job in jobs)
        return [
            replace(one, set=job.category.name, contestant=job.contestant.name, seed=job.seed, quick=job.quick)
            for job, one in found
            if one is not None
        ]

    sets = [category.name for category in categories]
    if settings.agree:
        quickly, fully = (table.rows_of(known(jobs_of(lineup(settings, each), each))) for each in (True, False))
        return table.agreement(quickly, fully, sets)
    contestants = {one.name: one for one in lineup(settings, settings.quick)}
    jobs = jobs_of(contestants.values(), settings.quick)
    missing = list({job.key: job for job in jobs if store.find(job.key) is None}.values())
    failures: dict[str, str] = {}
    if missing and not settings.cached:
        failures = work.run_all(
            missing, settings.output, settings.venv, settings.processes, lambda line: click.echo(line, err=True)
        )
    results = known(jobs)
    if settings.rounds and not settings.cached:
        models = first_models(jobs, settings.output)
        if BASE in models and (measured := work.time_models(models, settings.threads, settings.rounds, settings.calls)):
            store.save_latencies({timing_key(contestants[name]): each for name, each in measured.items()})
    used = {name: timing_key(one) for name, one in contestants.items()}
    store.show(results, used.values())
    rows = [replace(row, latency=store.latencies.get(used[row.name])) for row in table.rows_of(results)]
    if not rows:
        raise first_failure(failures) or TrainingError("There are no results yet: leave out --cached.")
    text = table.tables(rows, sets, BASE)
    if settings.write:
        table.write_between(settings.write, text)
    if failure := first_failure(failures):
        click.echo(text)
        raise failure
    return text


def lineup(settings: Settings, is_quick: bool) -> list[Contestant]:
    """The contestants. Raises UsageError."""
    from leaderboard_contestants import CONTESTANTS, DEFAULT, QUICK_EPOCHS, Common, contestant, parse_variant

    asked = [name for names in settings.methods for name in NAMES.convert(names, None, None)]
    unknown = [name for name in asked if name not in CONTESTANTS]
    if unknown:
        raise UsageError(f"There is no method {', '.join(unknown)}; choose from {', '.join(CONTESTANTS)}.")
    chosen = {name: CONTESTANTS[name] for name in asked or DEFAULT}
    has_teacher = settings.efficientad_teacher and settings.imagenette
    if "efficientad" in chosen and not has_teacher:
        why = (
            "EfficientAD-S needs the weights of its own teacher and the images of ImageNette, which no package has: "
            "give --efficientad-teacher and --imagenette."
        )
        if "efficientad" in asked:
            raise UsageError(why)
        click.echo(f"Left out: {why}", err=True)
        del chosen["efficientad"]
    for text in settings.variants:
        name, values = parse_variant(text)
        if name in chosen:
            raise UsageError(f"There are two contestants called {name}.")
        chosen[name] = values
    common = Common(
        size=settings.size,
        epochs=settings.epochs or (QUICK_EPOCHS if is_quick else None),
        weights=dict(WEIGHTS.convert(pair, None, None) for pair in settings.weights),
        precision=settings.precision,
        own_teacher=settings.efficientad_teacher,
        imagenette=settings.imagenette,
    )
    return [contestant(name, values, common) for name, values in chosen.items()]


def first_models(jobs: Iterable[Any], output: Path) -> dict[str, tuple[Path, bool]]:
    """The model file of each contestant's first job, where there is one, and whether it is ours; our default first."""
    from leaderboard_contestants import BASE
    from leaderboard_jobs import model_path

    found: dict[str, tuple[Path, bool]] = {}
    seen = set()
    for job in jobs:
        name, path = job.contestant.name, model_path(output, job.key)
        if name not in seen and path.exists():
            found[name] = path, job.contestant.is_ours
        seen.add(name)
    return {name: found[name] for name in sorted(found, key=lambda name: name != BASE)}


def first_failure(failures: Mapping[str, str]) -> TrainingError | None:
    """One sentence about all that failed."""
    if not failures:
        return None
    name, reason = next(iter(failures.items()))
    return TrainingError(f"{len(failures)} of the results could not be had; {name}: {reason}")


@click.command(help=__doc__.replace("\n\n", "\n\n\b\n"))
@click.argument("root", metavar="SETS", type=click.Path(path_type=Path))
@click.option("--dataset", type=click.Choice(DATASETS), default="folder", show_default=True, help="The layout of SETS.")
@click.option("--sets", default="", metavar="A,B,…", help="Only these.  [default: all]")
@click.option("--method", "methods", multiple=True, metavar="NAME", help="Only these of ours and the others'.")
@click.option("--variant", "variants", multiple=True, metavar="VARIANT", help="One more contestant; see above.")
@click.option("--seeds", default="1", show_default=True, metavar="N|A,B,…", help="Of ours: how many, or which.")
@click.option("--peer-seeds", default="1", show_default=True, metavar="N|A,B,…", help="Of the others.")
@click.option("--size", default="256", show_default=True, metavar="HxW", help="Of the input, unless a variant says.")
@click.option(
    "--epochs", type=click.IntRange(min=1), help="Passes over the photos.  [default: the preset's, 15 if quick]"
)
@click.option("--quick", is_flag=True, help="100 photos to learn from, 60 good and 60 defective ones to test on.")
@click.option("--agree", is_flag=True, help="How alike quick and full results rank these contestants; runs nothing.")
@click.option("--cached", is_flag=True, help="Run nothing: only what is known already.")
@click.option(
    "--processes",
    type=click.IntRange(min=1),
    default=min(2, os.cpu_count() or 1),
    show_default=True,
    help="At once, each with its share of the cores.",
)
@click.option("--output", type=click.Path(path_type=Path), default="leaderboard", show_default=True, metavar="FOLDER")
@click.option("--results", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="All results in one.")
@click.option(
    "--write", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Table between its marks."
)
@click.option("--venv", type=click.Path(path_type=Path), default=VENV, show_default=True, help="With anomalib; made.")
@click.option("--efficientad-teacher", metavar="FILE", help="pretrained_teacher_small.pth, as anomalib downloads it.")
@click.option("--imagenette", metavar="FOLDER", help="imagenette2/train, for EfficientAD-S.")
@click.option("--weights", multiple=True, metavar="NAME=FILE", help="Of a teacher of ours, for the preset paper.")
@click.option("--device", default="auto", show_default=True, help="Of ours: cpu, cuda or auto.")
@click.option("--precision", default="auto", show_default=True, help="Of ours, as for train.")
@click.option("--threads", type=click.IntRange(min=1), default=2, show_default=True, help="Of the timing.")
@click.option("--rounds", type=click.IntRange(min=0), default=5, show_default=True, help="Of timing; 0 leaves it out.")
@click.option("--calls", type=click.IntRange(min=1), default=10, show_default=True, help="Timed calls of each turn.")
def main(output: Path, **options: Any) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an exception, at which the others are ended, too
    try:
        click.echo(run(Settings(output=output.resolve(), **options)))
    except RstpmEdgeError as error:
        raise click.ClickException(" ".join(as_typed(str(error)).split())) from error


if __name__ == "__main__":
    main()
