"""`rstpm-edge train`. It imports torch only when it runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from rstpm_edge.cli.common import RATE, training_packages
from rstpm_edge.cli.progress import parse_overrides, parse_size, parse_weights, show_progress
from rstpm_edge.cli.terminal import say
from rstpm_edge.errors import UsageError
from rstpm_edge.image.roi import parse_roi

if TYPE_CHECKING:
    from rstpm_edge.calibration import Calibration
    from rstpm_edge.training.learning.run_folder import Summary

OF_RESUME = ("resume", "device", "precision", "processes")  # what may be another when a run goes on
LENIENT = 0.05  # the rate, at least, for which a higher one than the model's is told
ODD = 1.25  # times as far above the typical score as the next


@click.command()
@click.argument("data", required=False, type=click.Path(path_type=Path))
@click.option(
    "--preset",
    default="edge",
    show_default=True,
    help="edge, edge-small (two thirds of its time), or paper (ResNet-18, ResNet-50).",
)
@click.option("--teacher1", metavar="NAME", help="Another backbone for pair 1: a name of timm or torchvision.")
@click.option("--teacher2", metavar="NAME", help="Another backbone for pair 2; it must differ from teacher 1.")
@click.option(
    "--weights",
    multiple=True,
    metavar="NAME=FILE",
    help="A teacher's weights (.pth or .safetensors), or NAME=random to try things out; may be repeated.",
)
@click.option("--set", "overrides", multiple=True, metavar="NAME=VALUE", help="Another value for a preset's field.")
@click.option("--epochs", type=int, help="Passes over the images.  [default: the preset's]")
@click.option("--max-minutes", type=float, help="Finish all of the training within this time, with fewer epochs.")
@click.option(
    "--size",
    default="256",
    show_default=True,
    metavar="HxW",
    help="Input size, multiples of 32, with edge-small of 64.",
)
@click.option("--resize", type=click.Choice(["stretch", "letterbox"]), default="stretch", show_default=True)
@click.option("--roi", metavar="X,Y,W,H", help="Learn this part of each photo only (pixels); `infer` keeps to it.")
@click.option(
    "--bits",
    type=click.Choice(["auto", "8", "10", "12", "14", "16"]),
    default="auto",
    show_default=True,
    help="How many bits 16-bit photos use: 4095 is white with 12.",
)
@click.option("--allow-size-change", is_flag=True, help="Take the ROI from photos of several sizes all the same.")
@click.option("--holdout", type=RATE, default=0.2, show_default=True, help="Share of the images kept for calibration.")
@click.option(
    "--alpha", type=RATE, metavar="RATE", help="False-reject rate to promise.  [default: 0.01, or what holdout allows]"
)
@click.option("--seed", default=0, show_default=True)
@click.option("--skip-unreadable", is_flag=True, help="Name damaged images and go on without them.")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda or auto.")
@click.option("--precision", default="auto", show_default=True, help="32-true, bf16-mixed, or with a GPU 16-mixed.")
@click.option("--processes", default=1, show_default=True, help="Processes or GPUs that share each batch.")
@click.option("--resume", type=click.Path(path_type=Path), metavar="RUN", help="Go on with an interrupted run.")
@click.pass_context
def train(ctx: click.Context, /, data: Path | None, **options: Any) -> None:
    """Learn a product from the good images in DATA; writes ./runs/<time>.

    DATA is a folder of good images, or has the MVTec AD layout, of which train/good is taken.

    \b
    Examples:
      rstpm-edge train photos/good
      rstpm-edge train photos/good --max-minutes 10 --size 256x512
      rstpm-edge train photos/good --set attention=false --set smoothing_sigma=2
      rstpm-edge train --resume runs/2026-01-31_12-00-00
    """
    with training_packages():
        from rstpm_edge.training.data import images
        from rstpm_edge.training.learning import machine as machine_module
        from rstpm_edge.training.learning import options as options_module
        from rstpm_edge.training.learning import train as train_module
        from rstpm_edge.training.model import preset_overrides, presets
    machine = machine_module.Machine(options["device"], options["precision"], options["processes"])
    with show_progress() as report:
        if options["resume"] is not None:
            if data is not None:
                raise UsageError("Give either DATA or --resume RUN: a run knows its data.")
            _refuse_others(ctx)
            run = train_module.resume(options["resume"], machine, report=report)
        elif data is None:
            raise UsageError("Give DATA, a folder of good images, or --resume RUN.")
        else:
            preset = presets.preset_with_teachers(options["preset"], options["teacher1"], options["teacher2"])
            preset = preset_overrides.override(preset, parse_overrides(options["overrides"]))
            chosen = {
                name: options[name]
                for name in (
                    "epochs",
                    "max_minutes",
                    "seed",
                    "resize",
                    "holdout",
                    "alpha",
                    "skip_unreadable",
                    "allow_size_change",
                )
            }
            roi = None if options["roi"] is None else parse_roi(options["roi"])
            parsed = options_module.TrainingOptions(
                roi=roi,
                bits=None if options["bits"] == "auto" else int(options["bits"]),
                preset=preset,
                size=parse_size(options["size"]),
                weights=parse_weights(options["weights"]),
                **chosen,
            )
            run = train_module.train(data, parsed, machine, report=report)
    if machine_module.is_first_process():
        say_run(run)
        for sentence in images.about_training_folder(data) if data is not None else ():
            say(sentence)


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
        from rstpm_edge.training.learning import convergence, run_folder
    summary, config = run_folder.load_summary(run), run_folder.load_config(run)
    calibration, held = summary.calibration, len(config.holdout)
    epochs = "one epoch" if summary.epochs == 1 else f"{summary.epochs} epochs"
    say(
        f"{run}: {epochs} on {len(config.train)} images in {summary.minutes:.1f} min; "
        f"loss {summary.losses[-1][0]:.3f} (STPM pair), {summary.losses[-1][1]:.3f} (reconstruction pair)."
    )
    say(
        f"A good part is rejected with probability at most {calibration.alpha:.3g}, for parts like the {held} "
        f"held-out images, at the threshold {calibration.threshold:.4g}."
    )
    if calibration.alpha > 0.01 and config.alpha is None:
        say(f"The {held} held-out images allow no smaller rate; 0.01 takes 99 of them.")
    _say_odd_one(summary)
    _say_dial(calibration)
    if reason := convergence.unfinished(summary.losses):
        say(f"This training is not done: {reason}. Train longer, with more --max-minutes or --epochs.")


def _say_dial(calibration: "Calibration") -> None:
    """One line on what another rate would do, where the held-out images allow a usual one."""
    for alpha, threshold in calibration.thresholds.items():
        if alpha >= LENIENT and threshold < calibration.threshold:
            say(
                f"`rstpm-edge infer --alpha {alpha:g}` would reject up to {alpha:.0%} of good parts, at the threshold "
                f"{threshold:.4g}, and find more."
            )
            break


def _say_odd_one(summary: "Summary") -> None:
    """One line when a single held-out image, far above all others, is what the threshold rests on."""
    typical, threshold = summary.calibration.median, summary.calibration.threshold
    if len(summary.highest) < 3 or summary.highest[0][1] > threshold:
        return
    (name, first), (_, second) = summary.highest[:2]
    if first - typical > ODD * (second - typical):
        say(
            f"One image alone sets that threshold: {name} scores {first:.4g}, the next {second:.4g}. If it shows a "
            "defect, take it out and train again: a lower threshold finds more. `rstpm-edge audit` looks at all photos."
        )
