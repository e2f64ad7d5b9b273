"""docs/how-it-works.md: shapes, sizes and places in the code are those of the preset `edge`."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pytest
import torch
from checkout import ROOT
from torch import Tensor, nn

from rstpm_edge.training.model.presets import EDGE
from rstpm_edge.training.model.rstpm import RSTPM

PAGE = (ROOT / "docs" / "how-it-works.md").read_text()


@pytest.fixture(scope="module")
def model() -> RSTPM:
    return RSTPM(EDGE, {EDGE.teacher1: "random", EDGE.teacher2: "random"}).eval()


def row(title: str) -> list[str]:
    """The cells of a table's row behind its first one."""
    (line,) = (line for line in PAGE.splitlines() if line.startswith(f"| {title}"))
    return [cell.strip() for cell in line.split("|")[2:-1]]


def shapes(features: Iterable[Tensor]) -> str:
    return ", ".join("×".join(map(str, one.shape[1:])) for one in features)


def size(module: nn.Module | None) -> int:
    assert module is not None
    return sum(parameter.numel() for parameter in module.parameters())


@torch.no_grad()
def test_shapes(model: RSTPM) -> None:
    image = torch.zeros(1, 256, 256, 3, dtype=torch.uint8)
    features = model.prepare(image, *model.teachers(image))
    students = model.students(features.source, features.deep, features.levels[3:])
    assert row("its features F_T") == [shapes(features.levels[:3]), shapes(features.levels[3:])]
    assert shapes(students) == shapes(features.levels)
    source, deep = row("the student starts from")
    assert source.endswith(f"stride-{EDGE.shared_stem} feature, {shapes([features.source])}")
    assert deep.endswith(f"feature, {shapes([features.deep])}")


def test_sizes(model: RSTPM) -> None:
    both = (model.students.student1, model.students.student2)
    assert row("parameters") == [f"{size(student) / 1e6:.1f} million" for student in both]
    assert f"with {size(model.head):,} parameters" in PAGE


def test_places_in_the_code() -> None:
    folder, places = ROOT, []
    for name in re.findall(r"`([\w/]+(?:\.py|/))`", PAGE.partition("## In the code")[2]):
        folder = (ROOT / name).parent if "/" in name else folder  # a bare name lies beside the one before
        places.append(ROOT / name if "/" in name else folder / name)
    assert len(places) > 10
    assert [place for place in places if not place.exists()] == []
