"""The documentation: links lead somewhere, every page is in the index, and the reference is what the code says."""

from __future__ import annotations

import dataclasses
import json
import re
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import reference
from bundles import make_bundle
from checkout import ROOT

from rstpm_edge import unexpected
from rstpm_edge.cli import audit, main
from rstpm_edge.cli.infer import run as infer_run
from rstpm_edge.cli.line.reactions import SOMETHING_UNWRITTEN
from rstpm_edge.detector import Detector
from rstpm_edge.outputs.csv_file import COLUMNS
from rstpm_edge.outputs.verdict_json import failure_fields, verdict_fields
from rstpm_edge.result import Region
from rstpm_edge.sources.frames import Failure, Frame

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```|`[^`\n]*`", "", text, flags=re.M | re.S)


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S), re.M):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()
        kept = (sign for sign in plain if sign in "-_ " or unicodedata.category(sign)[0] in "LN")
        found.add("".join(kept).strip().replace(" ", "-"))
    return found


@pytest.mark.checkout
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    lost = []
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text())):
        if target.startswith(("https://", "http://", "mailto:")):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            lost.append(target)
    assert lost == []


def test_a_lost_anchor_would_be_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# What `train` does: 5 %\n\n```\n# no heading\n```\n")
    assert anchors(page) == {"what-train-does-5"}


def test_every_page_is_in_the_index() -> None:
    index = ROOT / "docs" / "README.md"
    linked = {(index.parent / name).resolve() for name in re.findall(r"\]\(([^)#\s]+)", index.read_text())}
    assert {page for page in PAGES if page.is_relative_to(ROOT / "docs")} - linked == {index}


@pytest.mark.training
def test_every_default_has_a_record() -> None:
    """The table on top of the decisions names each field of a preset, and each record says three things."""
    from rstpm_edge.training.model.presets import EDGE

    top, *records = (ROOT / "docs" / "experiments.md").read_text().split("\n## ")
    named = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\|.*\|$", top, re.M))))
    assert {field.name for field in dataclasses.fields(EDGE)} - named == {"name"}
    for record in records:
        parts = re.findall(r"^\*\*(Chosen|Evidence|Also tried)\b", record, re.M)
        assert parts == ["Chosen", "Evidence", "Also tried"], record


@pytest.mark.parametrize("name", reference.PAGES)
def test_the_reference_is_what_the_code_says(name: str) -> None:
    written = (reference.FOLDER / name).read_text()
    assert written == reference.PAGES[name](), "run: python tools/reference.py"


def section(title: str) -> str:
    return (ROOT / "docs" / "reference" / "output.md").read_text().partition(f"## {title}\n")[2].partition("\n## ")[0]


def first_cells(text: str) -> list[str]:
    return re.findall(r"^\| `(\w+)` \|", text, re.M)


def test_the_fields_of_a_verdict(model: Path) -> None:
    image = np.full((60, 80, 3), 127, np.uint8)
    frame = Frame("a", image, "a", 1.0, number=1, seconds=0.1, taken=0.0, dropped=0, damaged=0)
    mask = np.ones(image.shape[:2], np.bool_)
    detector = Detector(model, threads=1, roi=(0, 0, 40, 60), mask=mask, threshold=-1e6, explain=True)
    fields = verdict_fields(frame, detector(image), 1.0, "stable")
    of_verdict, _, of_region = section("JSON of a verdict").partition("A region:")
    of_region, _, of_explanation = of_region.partition("An explanation,")
    assert first_cells(of_verdict) == list(fields)
    assert first_cells(of_region) == list(Region.__dataclass_fields__) == list(fields["regions"][0])
    for name in failure_fields(Failure("a", "b", 1, invalid_reason="c")):
        assert f"`{name}`" in of_explanation
    assert first_cells(of_explanation) == list(fields["explanation"])


def test_the_columns_of_a_table() -> None:
    listed = section("CSV of verdicts").partition(": ")[2].partition(".")[0]
    assert tuple(re.findall(r"`(\w+)`", listed)) == COLUMNS


def test_the_keys_of_a_model_file() -> None:
    assert first_cells(section("Metadata of a model file")) == list(json.loads(make_bundle().to_json()))


def test_the_exit_codes() -> None:
    codes = {
        int(code) for cell in re.findall(r"^\| ([\d, ]+) \|", section("Exit codes"), re.M) for code in cell.split(",")
    }
    of_infer = {
        infer_run.SOMETHING_ANOMALOUS,
        SOMETHING_UNWRITTEN,
        infer_run.SOMETHING_UNREADABLE,
        infer_run.SOMETHING_INVALID,
    }
    of_audit = {audit.SOMETHING_SUSPICIOUS, audit.SOMETHING_UNREADABLE}
    of_all = {0, main.WRONG_USE, main.INTERRUPTED, main.BROKEN_PIPE, unexpected.UNEXPECTED, infer_run.SIGNALLED + 15}
    assert codes == of_infer | of_audit | of_all
