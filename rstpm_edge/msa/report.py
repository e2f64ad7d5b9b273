"""A study as a page that people print and sign: no scripts, nothing that is loaded. All texts in it are escaped."""

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from rstpm_edge.atomic_files import write_bytes
from rstpm_edge.msa.agreement import JudgedPart, Rate, kappa_grade
from rstpm_edge.msa.reference_parts import REFERENCES
from rstpm_edge.msa.study import Study
from rstpm_edge.msa.wording import FIGURES, conclusion, figure, limits, share, shown, spread
from rstpm_edge.printable import one_line

METHOD = (
    "Definitions and limits of the rates: AIAG, “Measurement Systems Analysis”, 4th edition (2010), attribute study, "
    "with the station as the one appraiser. Effectiveness counts the good and bad parts of which every repeat is "
    "judged right. The miss rate is of the judgements of bad parts, the false-alarm rate of those of good parts. "
    "Invalid photos are counted apart: they are no judgements, and not right. Borderline parts have no right verdict; "
    "they count in the agreement of repeats and the scatter of scores. Intervals are exact (Clopper and Pearson, "
    "95 %). Those of miss and false-alarm rate take photos as independent. Repeats of one part are not, so the true "
    "intervals are wider."
)
SCATTER = (
    "The share of the margin is 3 standard deviations within good parts over the distance from their median score to "
    "the threshold. It reads like a %GRR against a one-sided limit, but it is none: there is one appraiser, and a "
    "score has no unit and need not be distributed normally. A number of distinct categories (ndc) is not given: bad "
    "parts are chosen, so the spread of parts, and with it ndc, can be made as large as one likes."
)
COPIES = (
    "No two files of the study are the same or hold the same pixels, and no two photos of a part differ as little as "
    "one photo that is saved twice. That does not prove that a part was put in anew between its photos: whoever signs "
    "vouches for it."
)
WORDS = (
    "Words in brackets are those of German acceptance tests (VDI/VDE/VDMA 2632, part 3: acceptance test of classifying "
    "machine vision systems). This page is a study by AIAG, and no acceptance test by that guideline."
)
SIGNATURES = "<tr><td>Carried out by, date</td><td>Approved by, date</td></tr>"


def write_report(path: Path, study: Study) -> None:
    """Write the page, whole or not at all. Raises OutputError."""
    page = Template(files(__package__).joinpath("report.html").read_text(encoding="utf-8"))
    write_bytes(path, page.substitute(body=_body(study)).encode())


def _body(study: Study) -> str:
    station = study.station
    counts = Counter(part.reference for part in study.parts)
    judged_by = [
        ("Model", f"{station.model}, SHA-256 {station.model_sha256}"),
        ("Signed by", station.signed_by or "not checked"),
        ("Threshold", f"{station.threshold:.6g} (calibrated: {station.calibrated_threshold:.6g})"),
        ("ROI", "all of the photo" if station.roi is None else _typed(station.roi)),
        ("Mask", "none" if station.mask is None else _typed(station.mask)),
        ("Runs with", ", ".join(station.runs_with)),
        ("Reference parts (Referenzteile)", f"{', '.join(f'{counts[kind]} {kind}' for kind in REFERENCES)}"),
        ("Photos", str(sum(len(part.judgements) for part in study.parts))),
        ("Judged", study.judged_at),
    ]
    return "\n".join(
        [
            "<h1>Measurement-system analysis</h1>",
            f'<p class="note">{_text(study.data)}</p>',
            f'<p class="verdict {study.grade}">{_text(conclusion(study))}</p>',
            _table([], judged_by),
            "<h2>Attribute study</h2>",
            _table(
                ["figure", "count", "share", "95 % interval", "acceptable; marginal", "grade"],
                [_rate_row(name, rate) for name, rate in study.rates.items()],
            ),
            _table(["agreement", "", "grade"], _kappa_rows(study)),
            "<h3>Verdicts by reference</h3>",
            _table(["reference", "normal", "anomalous", "invalid"], _cross_rows(study)),
            f'<p class="note">{_text(METHOD)}</p>',
            "<h2>Repeatability of the score (Wiederholpräzision)</h2>",
            _table([], spread(study.repeatability)),
            f'<p class="note">{_text(SCATTER)}</p>',
            "<h2>Parts whose verdict changes between repeats</h2>",
            _parts(study.changing) if study.changing else "<p>None.</p>",
            *_invalid(study),
            "<h2>All parts</h2>",
            _parts(study.parts),
            f'<p class="note">{_text(COPIES)} {_text(WORDS)}</p>',
            "<h2>Signatures</h2>",
            f'<table class="sign"><tbody>{SIGNATURES}</tbody></table>',
        ]
    )


def _rate_row(name: str, rate: Rate) -> list[str]:
    low, high = rate.interval
    grade = f"{rate.grade}; {shown(rate)}"
    return [
        FIGURES[name],
        f"{rate.count} of {rate.of}",
        share(rate.share),
        f"{share(low)} to {share(high)}",
        limits(rate),
        grade,
    ]


def _kappa_rows(study: Study) -> list[list[str]]:
    return [
        [
            "Cohen’s kappa: verdicts and reference (good above 0.75, poor below 0.40)",
            figure(study.cohens_kappa),
            kappa_grade(study.cohens_kappa),
        ],
        ["Fleiss’ kappa: repeats of each part, borderline parts too", figure(study.fleiss_kappa), "not graded"],
        [
            "Parts with one verdict in all repeats",
            f"{len(study.parts) - len(study.changing)} of {len(study.parts)}",
            "not graded",
        ],
    ]


def _cross_rows(study: Study) -> list[list[str]]:
    rows = []
    for kind in REFERENCES:
        counts = Counter(verdict for part in study.parts if part.reference == kind for verdict in part.verdicts)
        rows.append([kind, *(str(counts[verdict]) for verdict in ("normal", "anomalous", "invalid"))])
    return rows


def _invalid(study: Study) -> list[str]:
    rows = [
        [f"{part.reference}/{part.name}: {one.photo.name}", one.invalid_reason]
        for part in study.parts
        for one in part.judgements
        if one.invalid_reason is not None
    ]
    return ["<h2>Invalid photos</h2>", _table(["photo", "why"], rows)] if rows else []


def _parts(parts: Sequence[JudgedPart]) -> str:
    rows = []
    for part in parts:
        scores = [one.score for one in part.judgements if one.score is not None]
        middle = f"{statistics.mean(scores):.4g}" if scores else "–"
        deviation = f"{statistics.stdev(scores):.2g}" if len(scores) > 1 else "–"
        rows.append([part.name, part.reference, ", ".join(part.verdicts), middle, deviation])
    return _table(["part", "reference", "verdicts, in the order of names", "mean score", "standard deviation"], rows)


def _typed(value: object) -> str:
    return "the model’s" if value == "model" else str(value)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = f"<thead><tr>{''.join(f'<th>{_text(cell)}</th>' for cell in heads)}</tr></thead>" if heads else ""
    body = "".join(
        f"<tr><th>{_text(first)}</th>{''.join(f'<td>{_text(cell)}</td>' for cell in rest)}</tr>"
        for first, *rest in rows
    )
    return f"<table>{head}<tbody>{body}</tbody></table>"


def _text(value: str) -> str:
    return escape(one_line(value))
