"""`rstpm-edge recalibrate`: good photos that a person has confirmed move a model's threshold."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from rstpm_edge.atomic_files import check_writable
from rstpm_edge.cli.common import images_of
from rstpm_edge.cli.options import public_key_option, session_options
from rstpm_edge.cli.parameter_types import FILE, RATE
from rstpm_edge.cli.progress import show_progress
from rstpm_edge.cli.terminal import confident, counted, percent, say, say_note
from rstpm_edge.errors import UsageError
from rstpm_edge.printable import one_line, quoted

if TYPE_CHECKING:
    from rstpm_edge.engine.providers import Provider
    from rstpm_edge.recalibration.moved_threshold import MovedThreshold

SCORING = "photos"


@click.command()
@click.argument("model", type=FILE)
@click.argument("photos", nargs=-1, required=True, type=FILE, metavar="PHOTOS...")
@click.option(
    "-o", "--output", type=FILE, metavar="FILE", help="The new model file.  [default: MODEL with .recalibrated.onnx]"
)
@click.option(
    "--replace",
    "only_new",
    is_flag=True,
    help="Calibrate on these photos alone, not on them and those of before: after a change of light, lens or material.",
)
@click.option("--alpha", type=RATE, metavar="RATE", help="Promise this rate of false rejects.  [default: the model's]")
@public_key_option
@session_options
def recalibrate(
    model: Path,
    photos: tuple[Path, ...],
    output: Path | None,
    only_new: bool,
    alpha: float | None,
    public_key: Path | None,
    threads: int | None,
    polite: bool,
    engine_cache: Path | None,
    providers: "list[Provider] | None",
) -> None:
    """Move the threshold of a MODEL by good photos from the station: a new file, in seconds, without training.

    PHOTOS are files or folders of parts that a person has confirmed as good. Take all good parts of a stretch of
    production, those that passed too: of rejected ones alone, the threshold would be far too high. Their scores are
    added to those of the photos that were held out of training, and the threshold keeps its promise for parts like all
    of these. Photos that are the same count once, and none that the model knows already. Where the new ones plainly
    score otherwise than the old, they are not added: see --replace.

    What it was calibrated on before stays in the file; `rstpm-edge info` shows it. Nothing is learned: a defect that
    scores below a good part is not found by any threshold.

    \b
    Examples:
      rstpm-edge recalibrate model.onnx confirmed/good
      rstpm-edge recalibrate model.onnx confirmed/good --replace -o station4.onnx
    """
    from rstpm_edge.model.keys import load_public_key
    from rstpm_edge.model.signature import signature_file
    from rstpm_edge.pipeline import InferenceOptions, open_pipeline
    from rstpm_edge.progress import Progress
    from rstpm_edge.recalibration.confirmed_photos import score_photos
    from rstpm_edge.recalibration.moved_threshold import move_threshold
    from rstpm_edge.recalibration.recalibrated_file import write_recalibrated

    output = output or model.with_name(f"{model.stem}.recalibrated.onnx")
    if output.suffix.lower() != ".onnx":
        raise UsageError(f"-o names a model file, such as model.onnx, not {output}.")
    check_writable(output)
    key = None if public_key is None else load_public_key(public_key)
    options = InferenceOptions(
        providers=providers,
        threads=threads,
        polite=polite,
        engine_cache=engine_cache,
        mask=None,  # as those that were calibrated on
        notify=lambda sentence: say_note(sentence),
        public_key=key,
    )
    pipeline = open_pipeline(model, options)
    files = images_of(photos)
    with show_progress({SCORING: 1.0}) as report:
        confirmed = score_photos(pipeline, files, progress=lambda done: report(Progress(SCORING, done, len(files))))
    was_signed = signature_file(model).exists()
    moved = move_threshold(pipeline.session.bundle, pipeline.session.sha256, confirmed, only_new=only_new, alpha=alpha)
    written = write_recalibrated(model, moved, output, key)
    _say(moved)
    for names, what in (
        (written.turned_goldens, "has another verdict now, which the file says"),
        (written.dropped_goldens, "is left out of the file: it lies too near to the new threshold"),
    ):
        if names:
            say(f"Golden {', '.join(map(one_line, names))} {what}.")
    if was_signed or signature_file(output).exists():
        say(
            f"{output} is not signed: whoever releases it does that with `rstpm-edge sign {quoted(output)} --key FILE`."
        )
    say(f"{output}: written.")


def _say(moved: "MovedThreshold") -> None:
    step, before, after = moved.step, moved.before, moved.after
    new = counted(len(step.added), "new photo")
    if step.copies:
        say(f"{step.copies} of {step.photos} photos show what another of them does, and do not count.")
    if step.known:
        say(f"{step.known} of {step.photos} photos were learned from or held out before, and do not count again.")
    say(
        f"Calibrated on {new}{'' if step.replaced else f' and the {len(step.scores)} of before'}; was on "
        f"{len(step.scores)}."
    )
    say(
        f"The threshold was {before.value:.4g} and is {after.value:.4g}. Of the new photos, the one before "
        f"rejects {moved.rejected} ({percent(moved.rejected / len(step.added))}), this one {moved.still_rejected}."
    )
    say(
        f"Of good parts like these it rejects at most {percent(moved.calibration.alpha)} on average, "
        f"{confident(after.rate_with_confidence)}. Before: {percent(step.alpha)}, "
        f"{confident(before.rate_with_confidence)}."
    )
    if step.replaced:
        say("The photos count as independent ones: of one lot or one day, they promise nothing of another.")
