"""Options that every command which trains has, and those of a single product."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import click

from rstpm_edge.calibration import DEFAULT_ALPHA
from rstpm_edge.cli.options import Command, photo_sessions_option
from rstpm_edge.cli.parameter_types import BITS, OVERRIDE, RATE, ROI, SIZE_OR_AUTO, WEIGHTS

if TYPE_CHECKING:
    from rstpm_edge.image.placement import ResizePolicy
    from rstpm_edge.image.roi import Roi
    from rstpm_edge.training.learning.options import TrainingOptions
    from rstpm_edge.training.model.presets import Augmentation


@dataclass(frozen=True)
class SharedTrainingOptions:
    """What was typed of them."""

    preset: str
    overrides: tuple[tuple[str, str], ...]  # name of a preset's field and value
    weights: tuple[tuple[str, str], ...]  # name of a teacher and file
    augment: "Augmentation | None"
    epochs: int | None
    max_minutes: float | None
    size: tuple[int, int] | None  # height, width
    resize: "ResizePolicy"
    holdout: float
    device: str
    precision: str

    def training_options(self, teacher1: str | None = None, teacher2: str | None = None) -> "TrainingOptions":
        """The options of a training, with other teachers than the preset's where they are given.

        Raises UsageError for a preset, teacher or field that there is not.
        """
        from rstpm_edge.training.learning.options import TrainingOptions
        from rstpm_edge.training.model.preset_overrides import override
        from rstpm_edge.training.model.presets import preset_with_teachers

        return TrainingOptions(
            preset=override(preset_with_teachers(self.preset, teacher1, teacher2), dict(self.overrides)),
            augment=self.augment,
            epochs=self.epochs,
            max_minutes=self.max_minutes,
            size=self.size,
            resize=self.resize,
            holdout=self.holdout,
            weights=dict(self.weights),
        )


@dataclass(frozen=True)
class ProductTrainingOptions(SharedTrainingOptions):
    """What was typed of them, and of those that only a command which knows its product has."""

    teacher1: str | None
    teacher2: str | None
    roi: "Roi | None"
    bits: int | None
    allow_size_change: bool
    alpha: float | None
    sessions: str | None
    seed: int
    skip_unreadable: bool

    def product_options(self) -> "TrainingOptions":
        """The options of a training, all of them. Raises UsageError as `training_options` does."""
        return replace(
            self.training_options(self.teacher1, self.teacher2),
            seed=self.seed,
            roi=self.roi,
            bits=self.bits,
            alpha=self.alpha,
            skip_unreadable=self.skip_unreadable,
            allow_size_change=self.allow_size_change,
            sessions=self.sessions,
        )


def shared_training_options(command: Command) -> Command:
    """All of them, for parameters as `SharedTrainingOptions` has them."""
    for option in reversed(
        (
            click.option(
                "--preset",
                default="edge",
                show_default=True,
                help="edge, edge-small (two thirds of its time), or paper (ResNet-18, ResNet-50).",
            ),
            click.option(
                "--weights",
                type=WEIGHTS,
                multiple=True,
                metavar="NAME=FILE",
                help="A teacher's weights (.pth or .safetensors), or NAME=random to try things out; may be repeated.",
            ),
            click.option(
                "--set",
                "overrides",
                type=OVERRIDE,
                multiple=True,
                metavar="NAME=VALUE",
                help="Another value for a preset's field.",
            ),
            click.option(
                "--augment",
                type=click.Choice(["auto", "none", "shift", "rotate", "flip"]),
                help="Learn from copies, too. auto: shift, where parts lie alike in the photos. shift: of 16 to 256 "
                "photos. rotate, flip: where few photos show parts that lie at any angle, or mirrored; see by "
                "`evaluate` whether it pays.  [default: the preset's: auto; none with paper]",
            ),
            click.option("--epochs", type=int, help="Passes over the images.  [default: the preset's; rotate: twice]"),
            click.option(
                "--max-minutes", type=float, help="Finish all of a training within this time, with fewer epochs."
            ),
            click.option(
                "--size",
                type=SIZE_OR_AUTO,
                default="auto",
                show_default=True,
                metavar="HxW",
                help="Input size, multiples of 32, with edge-small of 64; auto: in the photos' own shape.",
            ),
            click.option("--resize", type=click.Choice(["stretch", "letterbox"]), default="stretch", show_default=True),
            click.option(
                "--holdout", type=RATE, default=0.2, show_default=True, help="Share of the images kept for calibration."
            ),
            click.option("--device", default="auto", show_default=True, help="cpu, cuda or auto."),
            click.option(
                "--precision", default="auto", show_default=True, help="32-true, bf16-mixed, or with a GPU 16-mixed."
            ),
        )
    ):
        command = option(command)
    return command


def product_training_options(command: Command) -> Command:
    """All of them and of `shared_training_options`, for parameters as `ProductTrainingOptions` has them."""
    for option in reversed(
        (
            shared_training_options,
            click.option(
                "--teacher1", metavar="NAME", help="Another backbone for pair 1: a name of timm or torchvision."
            ),
            click.option(
                "--teacher2", metavar="NAME", help="Another backbone for pair 2; it must differ from teacher 1."
            ),
            click.option(
                "--roi",
                type=ROI,
                metavar="X,Y,W,H",
                help="Learn this part of each photo only (pixels); `infer` keeps to it.",
            ),
            click.option(
                "--bits",
                type=BITS,
                default="auto",
                show_default=True,
                help="How many bits 16-bit photos use: 4095 is white with 12.",
            ),
            click.option(
                "--allow-size-change", is_flag=True, help="Take the ROI from photos of several sizes all the same."
            ),
            click.option(
                "--alpha",
                type=RATE,
                metavar="RATE",
                help=f"False-reject rate to promise.  [default: {DEFAULT_ALPHA:g}, or what holdout allows]",
            ),
            photo_sessions_option,
            click.option("--seed", default=0, show_default=True),
            click.option("--skip-unreadable", is_flag=True, help="Name damaged images and go on without them."),
        )
    ):
        command = option(command)
    return command
