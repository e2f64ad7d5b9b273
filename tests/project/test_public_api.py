"""The names that the package promises."""

from __future__ import annotations

import dataclasses
import re

import pytest
from checkout import ROOT

import rstpm_edge
from rstpm_edge import errors


def test_all_is_sorted_complete_and_small() -> None:
    assert rstpm_edge.__all__ == sorted(rstpm_edge.__all__)
    assert len(rstpm_edge.__all__) <= 10
    assert dir(rstpm_edge) == rstpm_edge.__all__
    for name in rstpm_edge.__all__:
        assert getattr(rstpm_edge, name) is not None


def test_every_name_says_what_it_is_for() -> None:
    for name in set(rstpm_edge.__all__) - {"__version__"}:
        assert getattr(rstpm_edge, name).__doc__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'rstpm_edge' has no attribute 'Detektor'"):
        _ = rstpm_edge.Detektor


def test_the_version_is_that_of_the_package() -> None:
    (declared,) = re.findall(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert rstpm_edge.__version__ == declared


def test_results_are_frozen() -> None:
    for kind in (rstpm_edge.Result, rstpm_edge.Region):
        assert dataclasses.is_dataclass(kind)
        assert kind.__dataclass_params__.frozen  # type: ignore[attr-defined]


def test_the_error_tree_is_the_one_drawn_in_its_module() -> None:
    kinds = {name for name, value in vars(errors).items() if isinstance(value, type)}
    drawn = set(re.findall(r"\b(\w+(?:Error|Warning))\b", errors.__doc__ or ""))
    assert kinds == drawn
    of_the_tree = {name for name in kinds if name.endswith("Error")}
    assert all(issubclass(getattr(errors, name), rstpm_edge.RstpmEdgeError) for name in of_the_tree)
