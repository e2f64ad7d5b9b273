"""Teachers that a process reads once: a fifth of a small training goes into making them and reading their weights."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import pytest

from rstpm_edge.training.model import rstpm
from rstpm_edge.training.model.teacher_weights import PACKAGES
from rstpm_edge.training.model.teachers import TeacherNetwork, load_teacher


def read_teachers_once(patch: pytest.MonkeyPatch) -> None:
    """Give every model its own copy of a packaged teacher; those with other weights are read each time."""
    kept: dict[tuple[str, tuple[int, ...]], TeacherNetwork] = {}

    def load(name: str, strides: Sequence[int], weights: Mapping[str, str] | None = None) -> TeacherNetwork:
        if name not in PACKAGES or name in (weights or {}):
            return load_teacher(name, strides, weights)
        key = name, tuple(strides)
        if key not in kept:
            kept[key] = load_teacher(name, strides, weights)
        return copy.deepcopy(kept[key])

    patch.setattr(rstpm, "load_teacher", load)
