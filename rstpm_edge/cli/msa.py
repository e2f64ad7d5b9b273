"""`rstpm-edge msa`: a measurement-system analysis of the station, on repeated photos of reference parts."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from rstpm_edge.atomic_files import check_writable, write_json
from rstpm_edge.cli.common import check_no_picture, real
from rstpm_edge.cli.options import (
    JudgedMask,
    JudgedRoi,
    judged_part_options,
    model_option,
    public_key_option,
    session_options,
    size_change_option,
)
from rstpm_edge.cli.parameter_types import FILE, RATE
from rstpm_edge.cli.progress import show_progress
from rstpm_edge.cli.terminal import say_note, say_table
from rstpm_edge.errors import UsageError
from rstpm_edge.printable import one_line
from rstpm_edge.progress import Progress

if TYPE_CHECKING:
    from rstpm_edge.engine.providers import Provider
    from rstpm_edge.msa.study import Study

NOT_ACCEPTABLE = 1


@click.command()
@click.argument("data", type=FILE)
@model_option
@public_key_option
@click.option("--html", "html_file", type=FILE, metavar="FILE", help="Write a report to print and sign there.")
@click.option("--json", "json_file", type=FILE, metavar="FILE", help="Write all figures and judgements there.")
@click.option("--threshold", type=float, metavar="SCORE", help="Study this one, not the calibrated threshold.")
@click.option("--alpha", type=RATE, metavar="RATE", help="Or that of another false-reject rate, as 5%.")
@judged_part_options
@size_change_option
@session_options
@click.pass_context
def msa(
    ctx: click.Context,
    data: Path,
    model: Path,
    public_key: Path | None,
    html_file: Path | None,
    json_file: Path | None,
    threshold: float | None,
    alpha: float | None,
    roi: JudgedRoi,
    mask: JudgedMask,
    allow_size_change: bool,
    providers: "list[Provider] | None",
    engine_cache: Path | None,
    threads: int | None,
    polite: bool,
) -> None:
    """Measurement-system analysis: judge repeated photos of reference parts, and grade the station as AIAG does.

    DATA has a folder for each part, with three or more photos, for each of which the part was put in anew:
    good/PART/*, bad/PART/*, and borderline/PART/* where there are such parts. A photo that is there twice, also
    saved anew, ends the study: a replay is no repeat.

    Effectiveness, miss rate and false-alarm rate with 95 % intervals and the limits of AIAG's attribute study
    (90/2/5 and 80/5/10 %), kappa, the repeatability of the score, and the parts whose verdict changes.

    Exit code: 0 acceptable; 1 marginal or unacceptable; 2 wrong use, a replay, a photo that cannot be judged, or
    output that cannot be written.

    \b
    Example:
      rstpm-edge msa study/ --model model.onnx --html msa.html --json msa.json
    """
    from rstpm_edge.detector import Detector
    from rstpm_edge.image.mask import load_mask
    from rstpm_edge.model.keys import load_public_key
    from rstpm_edge.msa.reference_parts import find_parts
    from rstpm_edge.msa.report import write_report
    from rstpm_edge.msa.study import Station, Study, judge_parts, now

    _check_outputs((model, public_key, mask if isinstance(mask, Path) else None), html_file, json_file)
    parts, notes = find_parts(data)
    for note in notes:
        say_note(note)
    loaded_mask = load_mask(mask) if isinstance(mask, Path) else mask
    key = None if public_key is None else load_public_key(public_key)
    with show_progress() as display:
        detector = Detector(
            model,
            providers=providers,
            threads=threads,
            polite=polite,
            engine_cache=engine_cache,
            threshold=threshold,
            alpha=alpha,
            roi=roi,
            mask=loaded_mask,
            allow_size_change=allow_size_change,
            notify=display.say,
            public_key=key,
        )
        judged = judge_parts(detector, parts, lambda done, total: display(Progress("judging", done, total)))
    station = Station(
        model=str(model),
        model_sha256=detector.sha256,
        signed_by=None if key is None else key.hint,
        threshold=detector.threshold,
        calibrated_threshold=detector.info.calibration.threshold,
        roi=roi,
        mask=loaded_mask
        if loaded_mask is None or isinstance(loaded_mask, str)
        else f"{mask}, SHA-256 {loaded_mask.sha256}",
        runs_with=detector.providers,
    )
    study = Study(str(data), now(), station, judged)
    say_table(format_study(study))  # first, so that a full disk does not lose it
    if json_file:
        write_json(json_file, study.to_json())
    if html_file:
        write_report(html_file, study)
    ctx.exit(0 if study.grade == "acceptable" else NOT_ACCEPTABLE)


def format_study(study: "Study") -> str:
    """The table that people read."""
    from rstpm_edge.msa.agreement import kappa_grade
    from rstpm_edge.msa.wording import FIGURES, conclusion, figure, limits, share, shown, spread

    lines = [f"{'':34}{'count':>11}{'share':>10}  {'95 % interval':18}{'limits':18}grade"]
    for name, rate in study.rates.items():
        low, high = rate.interval
        count, interval = f"{rate.count} of {rate.of}", f"{share(low)} to {share(high)}"
        grade = f"{rate.grade}; {shown(rate)}"
        lines.append(f"{FIGURES[name]:34}{count:>11}{share(rate.share):>10}  {interval:18}{limits(rate):18}{grade}")
    lines.append(
        f"{'Cohen’s kappa, with the reference':34}{figure(study.cohens_kappa):>11}  {kappa_grade(study.cohens_kappa)}"
    )
    lines.append(f"{'Fleiss’ kappa, of the repeats':34}{figure(study.fleiss_kappa):>11}")
    lines += ["", "score"]
    lines += [f"  {what:67}{value:>10}" for what, value in spread(study.repeatability)]
    lines.append("")
    lines += [
        f"The verdict on {part.reference}/{one_line(part.name)} changes: {', '.join(part.verdicts)}."
        for part in study.changing
    ]
    lines.append(conclusion(study))
    return "\n".join(lines)


def _check_outputs(inputs: tuple[Path | None, ...], html_file: Path | None, json_file: Path | None) -> None:
    """Before the work, refuse what could not be written after it. Raises UsageError and OutputError."""
    check_no_picture("--html", html_file)
    check_no_picture("--json", json_file)
    taken = {real(one) for one in inputs if one is not None}
    for file in filter(None, (html_file, json_file)):
        if real(file) in taken:
            raise UsageError(
                f"{file} is named twice: the model, its key, the mask, --html and --json must be different files."
            )
        taken.add(real(file))
        check_writable(file)
