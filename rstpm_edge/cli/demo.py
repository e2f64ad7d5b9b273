"""`rstpm-edge demo`: the whole way from good photos to verdicts, in one folder."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rstpm_edge.atomic_files import drop_link, make_folder
from rstpm_edge.cli.common import evenly_spread, training_packages
from rstpm_edge.cli.export import say_export
from rstpm_edge.cli.infer.command import infer
from rstpm_edge.cli.parameter_types import FILE
from rstpm_edge.cli.progress import Display, show_progress
from rstpm_edge.cli.terminal import say
from rstpm_edge.cli.train import say_run
from rstpm_edge.progress import Progress

if TYPE_CHECKING:
    from rstpm_edge.training.data.images import TestImage

RENDERING, EXPORTING = 0.06, 0.06  # of what the training takes, about
PER_KIND = 2  # images of each defect that are judged, and three times as many good ones


@click.command()
@click.option("--data", type=FILE, help="Your own photos, MVTec AD layout, not rendered ones.")
@click.option("--output", type=FILE, default="demo", show_default=True, metavar="FOLDER")
@click.option("--max-minutes", default=3.0, show_default=True, help="Time for training.")
@click.option("--seed", default=0, show_default=True)
@click.pass_context
def demo(ctx: click.Context, data: Path | None, output: Path, max_minutes: float, seed: int) -> None:
    """Render photos of a machined part (or take --data), train, export, and judge parts not seen before.

    Everything is written to FOLDER: data/, run/, model.onnx and a picture of each verdict in overlays/.

    \b
    Examples:
      rstpm-edge demo
      rstpm-edge demo --data mvtec/bottle --output bottle
    """
    with training_packages():
        from rstpm_edge.training.data import images as images_module
        from rstpm_edge.training.demo import part
        from rstpm_edge.training.export import export
        from rstpm_edge.training.learning import options as options_module
        from rstpm_edge.training.learning import train as train_module
    make_folder(output)
    model = output / "model.onnx"
    with show_progress() as display:
        whole = _DemoProgress(display)
        if data is None:
            data = output / "data"
            say(f"Rendering photos of a machined part into {data} …")
            part.write_dataset(data, seed=seed, progress=whole.rendering)
        chosen = _few_of_each_kind(images_module.test_images(data))  # before the work: it may have none
        display.pause()
        for sentence in images_module.about_test_folders(data):
            say(sentence)
        say(f"Training on the good images of {data} …")
        # Of a size that a demo has the time for.
        options = options_module.TrainingOptions(size=(256, 256), max_minutes=max_minutes, seed=seed)
        run = train_module.train(data, options, folder=_unused(output / "run"), report=whole)
        display.pause()
        say_run(run)
        whole.exporting(0, 1)
        drop_link(model)
        exported = export.export(run, model)
        whole.exporting(1, 1)
    say_export(exported)
    images = [str(image) for image in chosen]
    overlays = output / "overlays"
    say(f"Judging {len(images)} images that the model has not seen:")
    arguments = [*images, "--model", str(model), "--save-overlay", str(overlays)]
    with infer.make_context("infer", arguments, parent=ctx) as context:
        try:
            infer.invoke(context)
        except click.exceptions.Exit as verdict:
            if verdict.exit_code > 1:  # 1 says that defects were found, as they should be
                raise
    say(f"Pictures of the verdicts: {overlays}")


class _DemoProgress:
    """Progress of the demo: of the training, with what comes before and after it."""

    def __init__(self, display: Display) -> None:
        self._display = display
        self._plan: dict[str, float] = {}

    def __call__(self, progress: Progress) -> None:
        """Show how far the training is."""
        if progress.plan is not None:
            share = sum(progress.plan.values())
            self._plan = {"rendering": RENDERING * share, **progress.plan, "exporting": EXPORTING * share}
        self._display(replace(progress, plan=self._plan or None))

    def rendering(self, done: int, total: int) -> None:
        """Show how many photos are rendered."""
        self._display(Progress("rendering", done, total, plan={"rendering": RENDERING, "training": 1.0}))

    def exporting(self, done: int, total: int) -> None:
        """Show whether the export is done."""
        self._display(Progress("exporting", done, total, plan=self._plan or None))


def _few_of_each_kind(images: "Sequence[TestImage]") -> list[Path]:
    """Some images of each kind, the good ones first."""
    kinds: dict[str, list[Path]] = {}
    for image in images:
        kinds.setdefault(image.kind, []).append(image.path)
    few: list[Path] = []
    for kind, paths in sorted(kinds.items(), key=lambda item: item[0] != "good"):
        few += evenly_spread(paths, 3 * PER_KIND if kind == "good" else PER_KIND)
    return few


def _unused(folder: Path) -> Path:
    """`folder`, or the first numbered one beside it that an earlier demo did not take."""
    unused, number = folder, 2
    while unused.exists():
        unused, number = folder.with_name(f"{folder.name}-{number}"), number + 1
    return unused
