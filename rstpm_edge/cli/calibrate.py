"""`rstpm-edge calibrate`. It imports torch only when it runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from rstpm_edge.atomic_files import check_writable, write_bytes
from rstpm_edge.cli.common import real, run_or_newest, training_packages
from rstpm_edge.cli.options import photo_sessions_option
from rstpm_edge.cli.parameter_types import FILE
from rstpm_edge.cli.progress import show_progress
from rstpm_edge.cli.terminal import confident, counted, percent, say, say_table
from rstpm_edge.cli.train import say_sessions
from rstpm_edge.errors import UsageError
from rstpm_edge.model.session_rates import rate_with_confidence
from rstpm_edge.printable import one_line, quoted

if TYPE_CHECKING:
    from rstpm_edge.training.audit.held_out import HeldOut
    from rstpm_edge.training.learning.run_summary import Summary

SHEETS = (".jpg", ".jpeg", ".png")


@click.command()
@click.argument("run", required=False, type=FILE)
@click.option(
    "--defective",
    multiple=True,
    metavar="NAME",
    help="A photo on the sheet that shows a defect: calibrate without it; may be repeated.",
)
@click.option("--reset", is_flag=True, help="Take back all of that: the calibration of the training holds again.")
@click.option(
    "-o",
    "--output",
    type=FILE,
    default="calibrate.jpg",
    show_default=True,
    metavar="FILE",
    help="The contact sheet, JPEG or PNG.",
)
@click.option(
    "--most",
    type=click.IntRange(1, 60),
    metavar="N",
    help="Photos to look at.  [default: those at or above the threshold, and as many more; at least 12]",
)
@photo_sessions_option
@click.option("--data", type=FILE, metavar="FOLDER", help="Where the run's photos are now.")
@click.pass_context
def calibrate(
    ctx: click.Context,
    run: Path | None,
    defective: tuple[str, ...],
    reset: bool,
    output: Path,
    most: int | None,
    sessions: str | None,
    data: Path | None,
) -> None:
    """Look at the held-out photos that set the threshold of a RUN (the newest in ./runs by default).

    A contact sheet shows the highest of them. Where one shows a defect, it should not have been among the good photos:
    name it with --defective, and the threshold is found without it. A lower threshold finds more. Name confirmed
    defects only: without good photos that merely look odd, more good parts would be rejected than is promised.

    --sessions says how far the promise holds from one session to the next.

    The run remembers who dropped what and when, and `export` takes the new calibration.

    \b
    Examples:
      rstpm-edge calibrate
      rstpm-edge calibrate runs/2026-01-31_12-00-00 --defective 0042.png --defective 0107.png
      rstpm-edge calibrate runs/2026-01-31_12-00-00 --sessions 'strip([0-9]+)_'
      rstpm-edge calibrate runs/2026-01-31_12-00-00 --reset
    """
    with training_packages():
        from rstpm_edge.training.audit import held_out, held_out_sheet, sheet
        from rstpm_edge.training.learning.run_summary import load_summary
    if reset and (defective or sessions is not None):
        raise UsageError("Give either --reset, or --defective NAME and --sessions.")
    again = bool(defective) or sessions is not None
    _check_used(ctx, "--reset", ("most", "data", "output") if reset else ())
    _check_used(ctx, "--defective and --sessions", ("output",) if again else ())
    run = run_or_newest(run)
    if reset:
        _say_reset(run, held_out.take_back(run), load_summary(run))
        return
    if again:
        held_out.check_names(run, defective, sessions)
    else:
        _check_sheet(output, run, data)
    with show_progress(held_out.PLAN if defective else {"held-out photos": 1.0}) as report:
        held = held_out.look(run, data=data, most=most, report=report)
        if again:
            found = held_out.calibrate_again(held, defective, sessions, report=report)
    if again:
        _say_calibrated(held, found)
        return
    say_table(format_candidates(held))  # first, so that a full disk does not lose it
    write_bytes(output, sheet.encode(held_out_sheet.draw_held_out(held), output.suffix.lower()))
    say(
        f"{output} shows them. If one shows a defect, calibrate without it: rstpm-edge calibrate {quoted(run)} "
        "--defective NAME. Leave good photos in, however odd: without them the promise does not hold."
    )


def format_candidates(held: "HeldOut") -> str:
    """What people read: a line for each photo, highest first."""
    with training_packages():
        from rstpm_edge.training.audit.held_out_sheet import state
    width = max(len(one_line(one.name)) for one in held.candidates)
    lines = [f"{'rank':>4}  {'score':>8}  {'photo':{width}}"]
    lines += [
        f"{one.rank:>4}  {one.score:>8.4g}  {one_line(one.name):{width}}  {state(held, one)}" for one in held.candidates
    ]
    return "\n".join(lines)


def _check_used(ctx: click.Context, by: str, unused: Sequence[str]) -> None:
    """Raises UsageError for options that were typed, and do nothing beside these."""
    for name in unused:
        if ctx.get_parameter_source(name) == ParameterSource.COMMANDLINE:
            raise UsageError(f"--{name} does nothing beside {by}: leave it out.")


def _check_sheet(output: Path, run: Path, data: Path | None) -> None:
    """Before the work, refuse what could not be written after it. Raises UsageError and OutputError."""
    from rstpm_edge.training.learning.run_config import load_config

    if output.suffix.lower() not in SHEETS:
        raise UsageError(f"-o names a picture, {', '.join(SHEETS[:-1])} or {SHEETS[-1]}, not {output}.")
    config = load_config(run)
    photos = data or Path(config.data)
    below = {Path(), *(Path(photo.name).parent for photo in (*config.train, *config.holdout))}
    if real(output).parent in {real(base / part) for base in (photos, photos / "train" / "good") for part in below}:
        raise UsageError(f"{output} would lie among the photos and be learned from; name another place with -o.")
    check_writable(output)


def _say_calibrated(held: "HeldOut", found: "Summary") -> None:
    """What holds now, beside what held before."""
    if found == held.summary:
        say("Nothing changes: it is so already.")
    before, after, photos = held.summary.calibration, found.calibration, len(held.config.holdout)
    if found.defective:
        say(
            f"{len(found.defective)} of {photos} held-out photos are dropped as defective: "
            f"{', '.join(found.defective)}. If as many of those that were learned from are, about "
            f"{_among(held, found)}, `rstpm-edge audit` finds some."
        )
    moved = "stays at" if after.threshold == before.threshold else f"was {before.threshold:.4g} and is"
    say(
        f"The threshold {moved} {after.threshold:.4g}: a good part is rejected with probability at most "
        f"{percent(after.alpha)} on average, {confident(rate_with_confidence(after, found.sessions))}."
    )
    if after.alpha > held.as_trained.calibration.alpha:
        say(f"The {len(after.scores)} photos that are left allow no smaller rate.")
    say_sessions(found)
    if found.synthetic_scores and held.summary.synthetic_scores:
        share, share_before = _share_found(found), _share_found(held.summary)
        say(f"Of synthetic defects in held-out photos it finds {share}; before, {share_before}.")
    run = quoted(held.run)
    say(f"Next: rstpm-edge export {run}. To take it back: rstpm-edge calibrate {run} --reset")


def _among(held: "HeldOut", found: "Summary") -> str:
    share = len(found.defective) / len(held.config.holdout)
    return counted(max(1, round(share * len(held.config.train))), "photo")


def _share_found(summary: "Summary") -> str:
    from rstpm_edge.training.learning.synthetic_scores import share_found

    return f"{share_found(summary.synthetic_scores, summary.calibration.threshold):.0%}"


def _say_reset(run: Path, changed: bool, summary: "Summary") -> None:
    calibration = summary.calibration
    say(
        f"{'The calibration of the training holds again' if changed else 'Nothing was dropped'}: threshold "
        f"{calibration.threshold:.4g}, at most {percent(calibration.alpha)} of good parts rejected on average, "
        f"{confident(rate_with_confidence(calibration, summary.sessions))}."
    )
    if changed:
        say(f"Next: rstpm-edge export {quoted(run)}")
