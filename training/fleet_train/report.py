"""One report of all products, as a page for people and as JSON: worst first, and what each should get from people."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Any

from rstpm_edge import __version__
from rstpm_edge.atomic_files import write_bytes, write_json
from rstpm_edge.printable import one_line, quoted
from rstpm_edge.progress import duration

from ..report.page import fill_in
from .result import KINDS, Audited, Kind, Measured, Need, ProductResult, Trained, worst_first

PAGE, DOCUMENT = "fleet.html", "fleet.json"


@dataclass(frozen=True)
class Row:
    """A product as the page shows it: names and reasons as they may stand in a line, and `run` as it may be typed."""

    name: str
    data: str
    failure: str | None
    audited: Audited | None
    trained: Trained | None
    measured: Measured | None
    needs: tuple[Need, ...]
    found: float | None
    peak_bytes: int | None
    run: str


def write_fleet_report(out: Path, results: Sequence[ProductResult], waiting: int) -> None:
    """Write fleet.json and fleet.html in `out`; `waiting` products have no result yet. Raises OutputError."""
    ordered = worst_first(list(results))
    write_json(out / DOCUMENT, to_json(ordered, waiting), below=out)
    write_bytes(out / PAGE, render(ordered, waiting, out).encode("utf-8", "replace"), below=out)


def to_json(ordered: Sequence[ProductResult], waiting: int) -> dict[str, Any]:
    """What fleet.json holds."""
    return {
        "version": __version__,
        "waiting": waiting,
        "products": [{**one.to_json(), "found": one.found} for one in ordered],
    }


def render(ordered: Sequence[ProductResult], waiting: int, out: Path) -> str:
    """The page, an HTML document."""
    rows = [_row(one, out) for one in ordered]
    needs: dict[Kind, list[Row]] = {
        kind: [row for row in rows if any(need.kind == kind for need in row.needs)] for kind in KINDS
    }
    return fill_in(
        resources.files(__package__).joinpath("report.html").read_text("utf-8"),
        ("sortable.js",),
        version=__version__,
        created=datetime.now().astimezone(),
        results=rows,
        waiting=waiting,
        kinds=KINDS,
        needs=needs,
        trained=sum(row.failure is None for row in rows),
        failed=sum(row.failure is not None for row in rows),
        needing=sum(bool(row.needs) for row in rows),
        time=duration(60 * sum(row.trained.minutes for row in rows if row.trained)),
    )


def _row(one: ProductResult, out: Path) -> Row:
    return Row(
        name=one.name,
        data=one_line(one.data),
        failure=None if one.failure is None else one_line(one.failure),
        audited=one.audited,
        trained=one.trained,
        measured=one.measured,
        needs=tuple(Need(need.kind, one_line(need.why)) for need in one.needs),
        found=one.found,
        peak_bytes=one.peak_bytes,
        run="" if one.trained is None else one_line(quoted(out / one.trained.run)),
    )
