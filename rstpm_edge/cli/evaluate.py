"""`rstpm-edge evaluate`. It imports what it measures with only when it runs."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from rstpm_edge.atomic_files import check_writable, write_json
from rstpm_edge.cli.common import check_no_picture, real, training_packages
from rstpm_edge.cli.options import (
    JudgedMask,
    JudgedRoi,
    judged_part_options,
    model_option,
    provider_option,
    public_key_option,
    size_change_option,
)
from rstpm_edge.cli.parameter_types import FILE, RATE
from rstpm_edge.cli.progress import show_progress
from rstpm_edge.cli.terminal import confident, percent, say, say_note, say_table
from rstpm_edge.errors import DatasetError, UsageError
from rstpm_edge.outputs.model_words import NO_PROMISE
from rstpm_edge.printable import one_line
from rstpm_edge.progress import Progress

if TYPE_CHECKING:
    from rstpm_edge.engine.providers import Provider
    from rstpm_edge.training.evaluation.evaluation import Evaluation, Metrics, Verdicts
    from rstpm_edge.training.evaluation.predict import Predictions

# What each part takes, about, of one minute on photos of half a megapixel; of larger ones measuring takes more.
PLAN = {"testing": 10.0, "measuring": 40.0, "drawing": 10.0}
MEASURING = ("testing", "measuring")


@click.command()
@click.argument("data", type=FILE)
@model_option
@public_key_option
@click.option("--json", "json_file", type=FILE, metavar="FILE", help="Write all figures there.")
@click.option(
    "--report",
    "report_file",
    type=FILE,
    metavar="FILE",
    help="Write an HTML report there, with figures, charts and pictures.",
)
@click.option("--threshold", type=float, metavar="SCORE", help="Measure with this one, not the calibrated threshold.")
@click.option("--alpha", type=RATE, metavar="RATE", help="Or with that of another false-reject rate, as 5%.")
@judged_part_options
@click.option("--skip-unmasked", is_flag=True, help="Leave images without a ground-truth mask out of pixel metrics.")
@click.option("--threads", type=click.IntRange(min=1), metavar="N", help="CPU threads.")
@provider_option
@size_change_option
def evaluate(
    data: Path,
    model: Path,
    public_key: Path | None,
    json_file: Path | None,
    report_file: Path | None,
    threshold: float | None,
    alpha: float | None,
    roi: JudgedRoi,
    mask: JudgedMask,
    skip_unmasked: bool,
    threads: int | None,
    providers: "list[Provider] | None",
    allow_size_change: bool,
) -> None:
    """Measure a model on the test images of DATA (MVTec AD layout: test/good, test/KIND, ground_truth/KIND).

    The file itself is run, as it ships. AUROC, AP and best F1 of the images; AUROC, AP and AUPRO (to a
    false-positive rate of 0.3 and of 0.05) of the pixels, at the images' own resolution.

    --threshold, --alpha, --roi and --mask are those of `infer`, so that a station is measured as it runs.

    \b
    Examples:
      rstpm-edge evaluate mvtec/bottle --alpha 5% --mask bottle-mask.png
      rstpm-edge evaluate mvtec/bottle --model bottle.onnx --report bottle.html --json bottle.json
    """
    from rstpm_edge.pipeline import InferenceOptions

    with training_packages():
        from rstpm_edge.training.data import images
        from rstpm_edge.training.evaluation import evaluate as evaluate_module
        from rstpm_edge.training.evaluation import predict
        from rstpm_edge.training.report import html
    write_report = html.write_report if report_file else None
    _check_outputs(model, json_file, report_file)
    notes: list[str] = []
    options = InferenceOptions(
        threads=threads,
        providers=providers,
        threshold=threshold,
        alpha=alpha,
        roi=roi,
        mask=mask,
        allow_size_change=allow_size_change,
        notify=notes.append,
        public_key=public_key,
    )
    with show_progress(PLAN if report_file else {name: PLAN[name] for name in MEASURING}) as display:
        try:
            predictions = predict.predict(
                data,
                model,
                options,
                skip_unmasked=skip_unmasked,
                report=lambda done, total: display(Progress("testing", done, total)),
            )
        except images.MissingMasks as error:
            more = "Add them, or go on without them in the pixel metrics: --skip-unmasked."
            raise DatasetError(f"{error} {more}") from error
        result = evaluate_module.evaluate_predictions(
            predictions, progress=lambda done, total: display(Progress("measuring", done, total))
        )
        display.pause()
        for note in notes:  # not into the bar
            say_note(note)
        say_table(format_evaluation(result))  # first, so that a full disk does not lose it
        if predictions.bundle.validity is not None:
            say(_about_invalid(result))
        for sentence in images.about_test_folders(data):
            say(sentence)
        if result.alpha is None:
            say(f"Threshold {result.threshold:.4g}. {NO_PROMISE}")
        elif threshold is not None or alpha is not None:
            say(
                f"Threshold {result.threshold:.4g}, for at most {percent(result.alpha)} of good parts rejected on "
                f"average, {confident(result.rate_with_confidence)}."
            )
        if skip_unmasked:
            _say_unmasked(predictions)
        if json_file:
            write_json(json_file, result.to_json())
        if report_file and write_report:
            write_report(
                report_file,
                predictions,
                result,
                progress=lambda done, total: display(Progress("drawing", done, total)),
            )


def _about_invalid(result: "Evaluation") -> str:
    """How many photos a station would not judge."""
    good, all_of_good = result.invalid["good"], result.verdicts["good"].images
    defects, all_defects = sum(result.invalid.values()) - good, result.recall.images
    count = ": here they count by their scores" if good + defects else ""
    return f"INVALID: {good} of {all_of_good} good and {defects} of {all_defects} defective images{count}."


def _say_unmasked(predictions: "Predictions") -> None:
    """How many images the pixel metrics leave out, if any."""
    unmasked = sum(
        image.is_defective and mask is None for image, mask in zip(predictions.images, predictions.masks, strict=True)
    )
    if unmasked:
        lack = "image lacks a mask and has" if unmasked == 1 else "images lack masks and have"
        say(f"{unmasked} defective {lack} no part in the pixel metrics.")


def _check_outputs(model: Path, json_file: Path | None, report_file: Path | None) -> None:
    """Before the work, refuse what could not be written after it. Raises UsageError and OutputError."""
    check_no_picture("--json", json_file)
    check_no_picture("--report", report_file)
    taken = {real(model)}
    for file in filter(None, (json_file, report_file)):
        if real(file) in taken:
            raise UsageError(f"{file} is named twice: the model, --json and --report must be different files.")
        taken.add(real(file))
        check_writable(file)


def format_evaluation(result: "Evaluation") -> str:
    """The tables that people read."""
    columns = ("image_auroc", "image_ap", "image_f1", "pixel_auroc", "pixel_ap", "aupro_30", "aupro_05")
    of_kind = ("image_auroc", "pixel_auroc", "aupro_30")

    def cells(metrics: "Metrics", columns: tuple[str, ...]) -> str:
        values = (getattr(metrics, column) for column in columns)
        return "".join("           –" if v is None else f"{v:12.4f}" for v in values)

    def verdicts_row(name: str, verdicts: "Verdicts", metrics: "Metrics | None") -> str:
        low, high = verdicts.interval
        counts = f"{verdicts.images:8}{verdicts.anomalous:11}{verdicts.rate:8.3f}   {low:.3f} to {high:.3f}"
        return f"{one_line(name):16}" + counts + (cells(metrics, of_kind) if metrics else "")

    rows = {"both": result.both, "stpm": result.stpm, "recon": result.recon, **result.maps}
    lines = [f"{'':10}" + "".join(f"{column:>12}" for column in columns)]
    lines += [f"{name:10}{cells(metrics, columns)}" for name, metrics in rows.items()]
    lines += ["", f"{'':16}{'images':>8}{'anomalous':>11}{'rate':>8}   95 % interval "]
    lines[-1] += "".join(f"{column:>12}" for column in of_kind)[1:]
    lines += [verdicts_row(kind, verdicts, result.by_kind.get(kind)) for kind, verdicts in result.verdicts.items()]
    lines.append(verdicts_row("all defects", result.recall, result.both))
    return "\n".join(lines)
