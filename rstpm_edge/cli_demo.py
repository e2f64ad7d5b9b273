"""`rstpm-edge demo`: the whole way from good photos to verdicts, in one folder."""

from pathlib import Path
from typing import Any

import click

from rstpm_edge.cli_common import say, training_module
from rstpm_edge.cli_export import say_export
from rstpm_edge.cli_infer import infer
from rstpm_edge.cli_train import say_run
from rstpm_edge.cli_training import progress_bars
from rstpm_edge.files import drop_link, make_folder

PER_KIND = 2  # images of each defect that are judged, and three times as many good ones


@click.command()
@click.option("--data", type=click.Path(path_type=Path), help="Your own photos, MVTec AD layout, not rendered ones.")
@click.option("--output", type=click.Path(path_type=Path), default="demo", show_default=True, metavar="FOLDER")
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
    module = training_module("train")
    make_folder(output)
    if data is None:
        data = output / "data"
        say(f"Rendering photos of a machined part into {data} …")
        training_module("demo_product").write_dataset(data, seed=seed)
    picked = _picked(training_module("data").test_images(data))  # before the work: it may have none
    for sentence in training_module("data").about_test_folders(data):
        say(sentence)
    say(f"Training on the good images of {data} …")
    run_folder = _fresh(output / "run")
    with progress_bars() as report:
        run = module.train(
            data, module.TrainingOptions(max_minutes=max_minutes, seed=seed), folder=run_folder, report=report
        )
    say_run(run)
    model = output / "model.onnx"
    drop_link(model)
    say_export(training_module("export").export(run, model))
    images = [str(image) for image in picked]
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


def _picked(images: list[Any]) -> list[Path]:
    """Some images of each kind, evenly spread: neighbours are often photos of one part."""
    kinds: dict[str, list[Path]] = {}
    for image in images:
        kinds.setdefault(image.kind, []).append(image.path)
    picked: list[Path] = []
    for kind, paths in sorted(kinds.items(), key=lambda item: item[0] != "good"):
        most = 3 * PER_KIND if kind == "good" else PER_KIND
        picked += [paths[i * len(paths) // most] for i in range(most)] if len(paths) > most else paths
    return picked


def _fresh(folder: Path) -> Path:
    """`folder`, or the first numbered one beside it that an earlier demo did not take."""
    number = 2
    fresh = folder
    while fresh.exists():
        fresh, number = folder.with_name(f"{folder.name}-{number}"), number + 1
    return fresh
