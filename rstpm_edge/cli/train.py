"""`rstpm-edge train`. It imports torch only when it runs."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from rstpm_edge.calibration import CONFIDENCE, DEFAULT_ALPHA, typed
from rstpm_edge.cli.common import training_packages
from rstpm_edge.cli.parameter_types import FILE
from rstpm_edge.cli.progress import show_progress
from rstpm_edge.cli.terminal import confident, percent, say, say_table
from rstpm_edge.cli.training_options import ProductTrainingOptions, product_training_options
from rstpm_edge.errors import UsageError
from rstpm_edge.model.session_rates import about_sessions, rate_with_confidence
from rstpm_edge.printable import quoted

if TYPE_CHECKING:
    from rstpm_edge.training.learning.options import TrainingOptions
    from rstpm_edge.training.learning.run_summary import Summary

OF_RESUME = ("resume", "device", "precision", "processes")  # what may be another when a run goes on


@dataclass(frozen=True)
class TrainOptions(ProductTrainingOptions):
    """What was typed after `rstpm-edge train`."""

    data: Path | None
    budget_ms: float | None
    processes: int
    resume: Path | None


@click.command()
@click.argument("data", required=False, type=FILE)
@product_training_options
@click.option(
    "--budget-ms", type=float, metavar="MS", help="Choose the size so that an image takes at most so long here."
)
@click.option("--processes", default=1, show_default=True, help="Processes or GPUs that share each batch.")
@click.option("--resume", type=FILE, metavar="RUN", help="Go on with an interrupted run.")
@click.pass_context
def train(ctx: click.Context, /, **options: Any) -> None:
    """Learn a product from the good images in DATA; writes ./runs/<time>.

    DATA is a folder of good images, or has the MVTec AD layout, of which train/good is taken.

    \b
    Examples:
      rstpm-edge train photos/good
      rstpm-edge train photos/good --max-minutes 10 --size 256x512
      rstpm-edge train photos/good --budget-ms 40
      rstpm-edge train photos/good --sessions 'strip([0-9]+)_'
      rstpm-edge train photos/good --set attention=false --set smoothing_sigma=4
      rstpm-edge train --resume runs/2026-01-31_12-00-00
    """
    chosen = TrainOptions(**options)
    if chosen.resume is not None:
        if chosen.data is not None:
            raise UsageError("Give either DATA or --resume RUN: a run knows its data.")
        _refuse_others(ctx)
    elif chosen.data is None:
        raise UsageError("Give DATA, a folder of good images, or --resume RUN.")
    _train(chosen)


def _train(chosen: TrainOptions) -> None:
    """Train on `data`, or go on with `resume`, of which one is there."""
    with training_packages():
        from rstpm_edge.training.data import images
        from rstpm_edge.training.learning import machine as machine_module
        from rstpm_edge.training.learning import train as train_module
    machine = machine_module.Machine(chosen.device, chosen.precision, chosen.processes)
    with show_progress() as report:
        if chosen.resume is not None:
            run = train_module.resume(chosen.resume, machine, report=report)
        else:
            assert chosen.data is not None
            options = chosen.product_options()
            if chosen.budget_ms is not None:
                options = _within_budget(options, chosen.budget_ms)
            run = train_module.train(chosen.data, options, machine, report=report)
    if machine_module.is_first_process():
        say_run(run)
        if chosen.data is not None and chosen.sessions != "folder":
            for sentence in images.about_training_folder(chosen.data):
                say(sentence)


def _within_budget(options: "TrainingOptions", budget_ms: float) -> "TrainingOptions":
    """`options`, with an input that is judged within that time on this machine. Raises UsageError."""
    from rstpm_edge.training.graph.latency import SIZE, measure_latency
    from rstpm_edge.training.learning.options import size_unit

    if options.size is not None:
        raise UsageError("Give --size or --budget-ms, by which one is chosen, not both.")
    if not 0 < budget_ms < math.inf:
        raise UsageError(f"--budget-ms is a number of milliseconds above 0, not {budget_ms:g}.")
    milliseconds = measure_latency(options.preset, options.weights)
    least = (2 * size_unit(options.preset)) ** 2
    pixels = int(budget_ms / milliseconds * SIZE[0] * SIZE[1])
    smallest = milliseconds * least / (SIZE[0] * SIZE[1])
    if pixels < least:
        raise UsageError(f"--budget-ms {budget_ms:g} is too little: the smallest input takes {smallest:.1f} ms here.")
    say(
        f"An image of {SIZE[0]}x{SIZE[1]} takes {milliseconds:.1f} ms on this machine, so {budget_ms:g} ms allow "
        f"{pixels / 1000:.0f} thousand pixels."
    )
    return replace(options, most_pixels=pixels)


def _refuse_others(ctx: click.Context) -> None:
    """Raises UsageError for options that a run which is resumed knows already."""
    given = [
        option.opts[0]
        for option in ctx.command.params
        if option.name not in OF_RESUME
        and option.name is not None
        and ctx.get_parameter_source(option.name) == ParameterSource.COMMANDLINE
    ]
    if given:
        raise UsageError(f"A run that is resumed goes on as it began: leave out {', '.join(given)}.")


def say_run(run: Path) -> None:
    """What the quality manager asks: how often will it reject a good part, and how do you know?"""
    with training_packages():
        from rstpm_edge.training.learning import convergence
        from rstpm_edge.training.learning.run_config import load_config
        from rstpm_edge.training.learning.run_summary import load_summary
    summary, config = load_summary(run), load_config(run)
    calibration, held = summary.calibration, len(config.holdout)
    epochs = "one epoch" if summary.epochs == 1 else f"{summary.epochs} epochs"
    say(
        f"{run}: {epochs} on {len(config.train)} images in {summary.minutes:.1f} min; "
        f"loss {summary.losses[-1][0]:.3f} (STPM pair), {summary.losses[-1][1]:.3f} (reconstruction pair)."
    )
    say(
        f"A good part is rejected with probability at most {percent(calibration.alpha)}, for parts like the {held} "
        f"held-out images, at the threshold {calibration.threshold:.4g}."
    )
    limit = rate_with_confidence(calibration, summary.sessions)
    of_this = confident(None)
    if limit is not None:
        of_this = f"with {CONFIDENCE:.0%} confidence it rejects at most {percent(limit)} of good parts"
    say(f"That is the average over many such trainings. Of this one: {of_this}.")
    if calibration.alpha > DEFAULT_ALPHA and config.alpha is None:
        needed = math.ceil(1 / DEFAULT_ALPHA - 1e-9) - 1
        say(f"The {held} held-out images allow no smaller rate; {percent(DEFAULT_ALPHA)} takes {needed} of them.")
    say_sessions(summary)
    _say_odd_one(run, summary)
    _say_other_rates(summary)
    if reason := convergence.unfinished(summary.losses):
        say(f"This training is not done: {reason}. Train longer, with more --max-minutes or --epochs.")


def say_sessions(summary: "Summary") -> None:
    """What the calibration promises from one session to the next, where somebody said which there are."""
    if summary.sessions is not None:
        for sentence in about_sessions(summary.sessions, summary.calibration.alpha):
            say(sentence)
    elif summary.session_rule is not None:
        say("The held-out photos are of one session, so the guarantee is withheld for all others.")


def _say_other_rates(summary: "Summary") -> None:
    """A table of what other rates would do, where the held-out images allow a usual one."""
    with training_packages():
        from rstpm_edge.training.learning.synthetic_scores import share_found
    calibration, synthetic = summary.calibration, summary.synthetic_scores
    thresholds = calibration.thresholds
    limits = [rate_with_confidence(calibration, summary.sessions, alpha) for alpha in thresholds]
    finds = {alpha: share_found(synthetic, threshold) for alpha, threshold in thresholds.items()} if synthetic else {}
    if len(thresholds) > 1:
        header = f"{'RATE':>8}{'threshold':>12}{f'{CONFIDENCE:.0%} confidence':>21}"
        rows = [
            f"{percent(float(typed(alpha))):>8}{threshold:>12.4g}"
            f"{'none' if limit is None else percent(limit):>21}"
            + (f"{finds[alpha]:>26.0%}" if finds else "")
            + ("   this training" if alpha == calibration.alpha else "")
            for (alpha, threshold), limit in zip(thresholds.items(), limits, strict=True)
        ]
        say("`rstpm-edge infer --alpha RATE` takes another rate. A higher one finds more defects:")
        say_table("\n".join([header + (f"{'synthetic defects found':>26}" if finds else ""), *rows]))
    if finds:
        share = "Their share" if len(thresholds) > 1 else f"It finds {finds[calibration.alpha]:.0%} of them, which"
        say(
            f"{len(synthetic)} synthetic defects were painted into held-out photos. {share} compares rates and models; "
            "real defects are others: `rstpm-edge evaluate` measures on photos of them."
        )


def _say_odd_one(run: Path, summary: "Summary") -> None:
    """One line when a single held-out image, far above all others, is what the threshold rests on."""
    with training_packages():
        from rstpm_edge.training.learning.odd_photo import odd_photo
    if (odd := odd_photo(summary)) is not None:
        say(
            f"One image alone sets that threshold: {odd.name} scores {odd.score:.4g}, the next {odd.next_score:.4g}. "
            f"Look at it, by `rstpm-edge calibrate {quoted(run)}`: if it shows a defect, a calibration without it "
            "finds more."
        )
