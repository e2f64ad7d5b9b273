"""What the entries of a log mean."""

from __future__ import annotations

from typing import Any

import pytest

from rstpm_edge.errors import UsageError
from rstpm_edge.registry.product import Calibrated, ModelFacts, Product, parse_facts, replay

FACTS = ModelFacts("a" * 64, "b" * 64, None, 10, "edge", "fp32", 64, 96, "0.1.0", Calibrated(0.05, 2.0, 1.0, 20))


def added(number: int, **more: Any) -> dict[str, Any]:
    facts = {**FACTS.to_json(), "sha256": f"{number:064x}"}
    return {"event": "added", "version": number, "model": facts, "user": "u", "host": "h", "time": "t", **more}


def promoted(number: int, to: str = "live") -> dict[str, Any]:
    return {"event": "promoted", "version": number, "to": to}


def back(number: int) -> dict[str, Any]:
    return {"event": "rolled back", "version": number}


def test_facts_come_back_as_they_were() -> None:
    assert parse_facts(FACTS.to_json()) == FACTS
    assert FACTS.name == f"{'a' * 64}-{'b' * 16}"


def test_promotions_and_rollbacks() -> None:
    three = [added(1), added(2), added(3)]
    product = replay("p", [*three, promoted(1), promoted(2, "shadow"), promoted(2), promoted(3, "shadow"), promoted(3)])
    assert product.lives == (1, 2, 3)
    assert product.shadow is None
    assert [product.stage(number) for number in (1, 2, 3)] == ["candidate", "candidate", "live"]
    once = replay("p", [*three, promoted(1), promoted(2), promoted(3), back(2)])
    assert (once.live, once.before) == (once.versions[1], once.versions[0])
    assert once.rolled_back().lives == (1,)  # not the one that was given up


def test_a_version_that_becomes_live_is_in_shadow_no_more() -> None:
    product = replay("p", [added(1), added(2), promoted(1), promoted(2), promoted(1, "shadow"), back(1)])
    assert (product.lives, product.shadow) == ((1,), None)
    off = replay("p", [added(1), promoted(1, "shadow"), promoted(1, "candidate")])
    assert off.shadow is None


def test_what_is_noted_later() -> None:
    noted = {"event": "noted", "version": 1, "evaluation": {"both": {"image_auroc": 0.9}}}
    product = replay("p", [added(1, note="first"), noted])
    assert product.version(1).note == "first"
    assert product.version(1).evaluation == {"both": {"image_auroc": 0.9}}


@pytest.mark.parametrize("to", ["shadow", "candidate"])
def test_the_live_version_cannot_be_taken_away(to: Any) -> None:
    product = replay("p", [added(1), promoted(1)])
    with pytest.raises(UsageError, match="Version 1 of p is live: promote another one"):
        product.promoted(1, to)


def test_without_a_version_before_nothing_is_rolled_back() -> None:
    for entries in ([], [added(1)], [added(1), promoted(1)]):
        with pytest.raises(UsageError, match="No other version of p was live before"):
            replay("p", entries).rolled_back()
    with pytest.raises(UsageError, match="has no version 1: it has none"):
        Product("p").version(1)


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        ([added(2)], "entry 1: version 2 does not follow on version 0"),
        ([promoted(1)], "entry 1 cannot follow on those before it: The product p has no version 1"),
        ([added(1), promoted(1, "best")], "entry 2: the stage is 'best'"),
        ([added(1), back(1)], "entry 2 cannot follow"),
        ([added(1), added(2), promoted(1), promoted(2), back(2)], "entry 5: another version was live before"),
        ([{"event": "deleted", "version": 1}], "a newer rstpm-edge may have written it"),
        ([{**added(1), "model": {}}], "the model has no sha256"),
        ([{**added(1), "model": {**FACTS.to_json(), "sha256": "../../x"}}], "the SHA-256 is no SHA-256"),
        ([{**added(1), "version": True}], "the version is no whole number"),
        ([added(1, note="x" * 501)], "the note is no text of up to 500 characters"),
        ([added(1, evaluation=[1])], "the evaluation is no object"),
    ],
)
def test_what_no_log_says(entries: list[dict[str, Any]], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        replay("p", entries)
