"""`rstpm-edge audit`. It imports torch only when it runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rstpm_edge.atomic_files import check_writable, write_bytes, write_json
from rstpm_edge.cli.common import check_no_picture, real, training_packages
from rstpm_edge.cli.parameter_types import FILE, ROI, SIZE, WEIGHTS
from rstpm_edge.cli.progress import show_progress
from rstpm_edge.cli.terminal import say, say_table
from rstpm_edge.errors import UsageError
from rstpm_edge.printable import one_line, quoted

if TYPE_CHECKING:
    from rstpm_edge.image.placement import ResizePolicy
    from rstpm_edge.image.roi import Roi
    from rstpm_edge.training.audit.audit import Audit, Named

SOMETHING_SUSPICIOUS, SOMETHING_UNREADABLE = 1, 3
SHEETS = (".jpg", ".jpeg", ".png")


@click.command()
@click.argument("data", type=FILE)
@click.option(
    "-o",
    "--output",
    type=FILE,
    default="audit.jpg",
    show_default=True,
    metavar="FILE",
    help="The contact sheet, JPEG or PNG.",
)
@click.option("--json", "json_file", type=FILE, metavar="FILE", help="Write all findings there.")
@click.option("--most", type=click.IntRange(min=1), default=10, show_default=True, help="Unusual images to name.")
@click.option("--size", type=SIZE, default="256", show_default=True, metavar="HxW", help="Input size.")
@click.option("--resize", type=click.Choice(["stretch", "letterbox"]), default="stretch", show_default=True)
@click.option("--roi", type=ROI, metavar="X,Y,W,H", help="As for train.")
@click.option("--weights", type=WEIGHTS, multiple=True, metavar="NAME=FILE", help="As for train.")
@click.pass_context
def audit(
    ctx: click.Context,
    data: Path,
    output: Path,
    json_file: Path | None,
    most: int,
    size: tuple[int, int],
    resize: "ResizePolicy",
    roi: "Roi | None",
    weights: tuple[tuple[str, str], ...],
) -> None:
    """Look for photos in DATA that should not be learned from, before `train` takes them for good ones.

    Names the photos that are most unlike all others, each compared with the others only; copies; photos out of focus,
    badly exposed or of an odd size; and unreadable ones. A contact sheet shows them. Nothing in DATA is changed.

    DATA is a folder of good images, or has the MVTec AD layout, of which train/good is taken.

    Exit code: 0 nothing suspicious; 1 something is; 2 wrong use, too few photos, or output that cannot be written; 3 a
    photo could not be read (the others are looked at all the same).

    \b
    Examples:
      rstpm-edge audit photos/good
      rstpm-edge audit photos/good --most 20 -o bracket.png --json bracket.json
    """
    with training_packages():
        from rstpm_edge.training.audit import audit as audit_module
        from rstpm_edge.training.audit import contact_sheet
    _check_outputs(data, output, json_file)
    with show_progress() as report:
        found = audit_module.audit(
            data, most=most, size=size, resize=resize, roi=roi, weights=dict(weights), report=report
        )
    say_table(format_audit(found))  # first, so that a full disk does not lose it
    if json_file:
        write_json(json_file, to_json(found))
    if found.named:
        write_bytes(output, contact_sheet.encode_sheet(found, output.suffix.lower()))
        say(
            f"Look at {output}, move what is bad out of {found.folder}, and then: rstpm-edge train {quoted(data)}"
            if found.suspicious
            else f"{output} shows them. Next: rstpm-edge train {quoted(data)}"
        )
    if found.unreadable:
        ctx.exit(SOMETHING_UNREADABLE)
    ctx.exit(SOMETHING_SUSPICIOUS if found.suspicious else 0)


def _check_outputs(data: Path, output: Path, json_file: Path | None) -> None:
    """Before the work, refuse what could not be written after it. Raises UsageError and OutputError."""
    if output.suffix.lower() not in SHEETS:
        raise UsageError(f"-o names a picture, {', '.join(SHEETS[:-1])} or {SHEETS[-1]}, not {output}.")
    check_no_picture("--json", json_file)
    if real(output).parent in {real(data), real(data / "train" / "good")}:
        raise UsageError(f"{output} would lie among the photos and be learned from; name another place with -o.")
    for file in (output, *([json_file] if json_file else [])):
        check_writable(file)


def format_audit(found: "Audit") -> str:
    """What people read: one line for each photo, and a summary."""
    lines = []
    if found.named:
        width = max(len(one_line(found.name(one.path))) for one in found.named)
        lines += [f"{'rank':>4}  {'score':>6}  {'file':{width}}  why"]
    for one in found.named:
        mark = "!" if one.suspicious else " "
        why = one_line("; ".join(remark.text for remark in one.remarks))
        lines.append(f"{one.rank or '–':>3}{mark}  {_score(one):>6}  {one_line(found.name(one.path)):{width}}  {why}")
    if found.named:
        lines.append("")
    lines.append(f"{found.images} photos, {found.minutes:.1f} minutes; {found.suspicious} suspicious (!).")
    if found.ranking is None:
        lines.append("There are too few different photos to compare them with each other.")
    else:
        lines.append("Ranked photos without a ! are the most unusual of the set, as every set has some.")
    lines += map(one_line, found.left_out)
    return "\n".join(lines)


def to_json(found: "Audit") -> dict[str, Any]:
    """All findings, as the file that --json asks for holds them."""
    ranking = found.ranking
    scores = (
        None
        if ranking is None
        else {
            str(photo.path): {"score": float(score), "by_chance": float(expected)}
            for photo, score, expected in zip(found.photos, ranking.scores, ranking.expected, strict=True)
        }
    )
    return {
        "images": found.images,
        "readable": len(found.photos),
        "suspicious": found.suspicious,
        "left_out": list(found.left_out),
        "minutes": round(found.minutes, 2),
        "named": [
            {
                "path": str(one.path),
                "suspicious": one.suspicious,
                "rank": one.rank,
                "score": one.score,
                "by_chance": one.expected,
                "position": one.position,
                "copy_of": None if one.twin is None else str(one.twin),
                "remarks": [{"kind": remark.kind, "text": remark.text} for remark in one.remarks],
            }
            for one in found.named
        ],
        "scores": scores,
    }


def _score(one: "Named") -> str:
    return "" if one.score is None else f"{one.score:.2f}"
