"""Options that every command which trains has."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import click

from rstpm_edge.cli.options import Command
from rstpm_edge.cli.parameter_types import OVERRIDE, RATE, SIZE_OR_AUTO, WEIGHTS

if TYPE_CHECKING:
    from rstpm_edge.image.placement import ResizePolicy
    from rstpm_edge.training.learning.options import TrainingOptions
    from rstpm_edge.training.model.presets import Augmentation


@dataclass(frozen=True)
class SharedTrainingOptions:
    """What was typed of them."""

    preset: str
    overrides: tuple[tuple[str, str], ...]  # name of a preset's field and value
    weights: tuple[tuple[str, str], ...]  # name of a teacher and file
    augment: "Augmentation | Literal['auto']"
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
            augment=None if self.augment == "auto" else self.augment,
            epochs=self.epochs,
            max_minutes=self.max_minutes,
            size=self.size,
            resize=self.resize,
            holdout=self.holdout,
            weights=dict(self.weights),
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
                default="auto",
                show_default=True,
                help="Learn from copies, too. shift (auto; none with paper): of 16 to 256 photos. rotate, flip: where "
                "few photos show parts that lie at any angle, or mirrored; see by `evaluate` whether it pays.",
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
