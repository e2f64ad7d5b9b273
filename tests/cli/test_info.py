"""`rstpm-edge info`, as a user types it."""

from __future__ import annotations

import dataclasses
import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from bundles import ModelFactory
from golden_models import goldens_of, put_document, put_goldens

from rstpm_edge import Detector
from rstpm_edge.model.c_header import c_header
from rstpm_edge.model.metadata import CoarseCells, Fusion, ScoreFusion
from rstpm_edge.model.session_rates import SessionRates, about_sessions

CELL = "the highest cell of the coarsest level, of"


def test_info(run: Any, model: Path) -> None:
    text = run("info").stdout
    for fact in ("64 pixels wide, 64 high", "strides 4, 8, 16", "Apache-2.0", "99 good images", "0.99", "cpu"):
        assert fact in text
    assert "false rejects       at most 1% of good parts on average, with 95% confidence at most 2.98%\n" in text
    assert "infer --alpha 0.2   threshold 0.8, with 95% confidence at most 26.9%\n" in text
    facts = json.loads(run("info", "--json").stdout)
    assert facts["preset"] == "test"
    thresholds = [
        (0.01, 0.99, 0.0298),
        (0.02, 0.98, 0.0470),
        (0.05, 0.95, 0.0901),
        (0.1, 0.9, 0.1533),
        (0.2, 0.8, 0.2688),
    ]
    assert facts["calibration"] == {
        "alpha": 0.01,
        "images": 99,
        "threshold": 0.99,
        "typical_score": 0.5,
        "confidence": 0.95,
        "rate_with_confidence": pytest.approx(0.0298, abs=1e-4),
        "thresholds": [
            {"alpha": alpha, "threshold": threshold, "rate_with_confidence": pytest.approx(rate, abs=1e-4)}
            for alpha, threshold, rate in thresholds
        ],
    }
    assert facts["runtime"]["kernel"] in facts["runtime"]["kernels"]
    assert run("info", "--model", model.parent / "none").exit_code == 2


@pytest.mark.parametrize("key", ["synthetic_defects", "painted_defects"])  # the second in files from before
def test_synthetic_defects_are_told_by_rate(run: Any, model_factory: ModelFactory, key: str) -> None:
    rates = [{"alpha": 0.01, "found": 0.5}, {"alpha": 0.2, "found": 0.875}]
    model_factory(training={"epochs": 3, key: {"count": 104, "rates": rates}})
    text = run("info").stdout
    told = "found: 50% at 1%, 88% at 20%, of 104 in held-out photos; they compare rates"
    assert f"synthetic defects   {told}" in text
    assert "training: epochs" in text
    assert f"training: {key}" not in text
    thresholds = json.loads(run("info", "--json").stdout)["calibration"]["thresholds"]
    assert [one.get("synthetic_found") for one in thresholds] == [0.5, None, None, None, 0.875]


def test_info_names_the_photos_in_the_file(run: Any, model: Path, good: Any) -> None:
    assert json.loads(run("info", "--json").stdout)["goldens"] == []
    assert "goldens" not in run("info").stdout
    put_goldens(model, goldens_of(model, part=good))
    facts = json.loads(run("info", "--json").stdout)
    assert facts["goldens"] == ["part"]
    assert facts["sha256"] == sha256(model.read_bytes()).hexdigest()
    assert "goldens             part: photos that whoever has the file can see" in run("info").stdout
    put_document(model, "{}")
    assert json.loads(run("info", "--json").stdout)["goldens"] is None
    assert "damaged, or of a newer rstpm-edge" in run("info").stdout


def test_names_of_goldens_are_those_of_the_file_that_was_verified(
    run: Any, model: Path, model_factory: ModelFactory, good: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever exchanges the file after the signature was checked has nothing shown."""
    other = model_factory("other.onnx")
    put_goldens(other, goldens_of(other, stranger=good))
    load = Detector.__init__

    def load_then_exchange(*arguments: Any, **keywords: Any) -> None:
        load(*arguments, **keywords)
        other.replace(model)

    monkeypatch.setattr(Detector, "__init__", load_then_exchange)
    result = run("info")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "was written to while it was being loaded" in result.stderr


def test_what_holds_for_new_sessions_is_told(run: Any, model_factory: ModelFactory) -> None:
    rates = SessionRates(13, 3, True, 0.03, 0.09, 0.05, 0.12, 0.25)
    model_factory(training={"sessions": dataclasses.asdict(rates)})
    text = run("info").stdout
    found, withheld = about_sessions(rates, 0.01)
    assert f"sessions            {found}\n" in text
    assert f"new sessions        {withheld}\n" in text
    assert "training: sessions" not in text
    assert json.loads(run("info", "--json").stdout)["training"]["sessions"]["unseen"] == 0.25


def test_where_sessions_differ_no_rate_is_given_with_confidence(run: Any, model_factory: ModelFactory) -> None:
    rates = SessionRates(13, 3, True, 0.03, 0.09, 0.05, 0.001, 0.25)
    model_factory(training={"sessions": dataclasses.asdict(rates)})
    facts = json.loads(run("info", "--json").stdout)["calibration"]
    assert [one["rate_with_confidence"] for one in (facts, *facts["thresholds"])] == [None] * 6
    assert [one["alpha"] for one in facts["thresholds"]] == [0.01, 0.02, 0.05, 0.1, 0.2]
    text = run("info").stdout
    none = "with 95% confidence no rate is known, since sessions differ"
    assert f"at most 1% of good parts on average, {none}\n" in text
    assert f"infer --alpha 0.2   threshold 0.8, {none}\n" in text
    assert "95% confidence at most" not in text


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ((0.0, 0.0, 1.0, 1.0), f" + {CELL} angles"),
        ((1.0, 1.0), f" + {CELL} residuals"),
        ((1.0, 1.0, 1.0, 1.0), f" + {CELL} residuals + {CELL} angles"),
    ],
)
def test_what_the_score_is_the_sum_of(
    run: Any, model_factory: ModelFactory, weights: tuple[float, ...], said: str
) -> None:
    n = len(weights)
    kind: Any = "errors" if n == 4 else "angles"
    score = ScoreFusion(Fusion(), 0.0, CoarseCells((0.0,) * n, (1.0,) * n, weights), kind=kind)
    found = run("info", model_factory(score_fusion=score))
    assert " ".join(found.stdout.split()).count(f"the highest value of the fused score maps, of {kind}{said}") == 1


@pytest.mark.parametrize(("sigma", "said"), [(0.0, "normalized"), (2.0, "normalized, smoothing 2 px")])
def test_a_map_is_smoothed_where_that_is_said(run: Any, model_factory: ModelFactory, sigma: float, said: str) -> None:
    lines = run("info", model_factory(fusion=Fusion(smoothing_sigma=sigma))).stdout.splitlines()
    (fusion,) = (line.split(None, 1)[1] for line in lines if line.split()[:1] == ["fusion"])
    assert fusion.strip() == said


def test_info_as_a_c_header(run: Any, model: Path) -> None:
    text = run("info", model, "--c-header").stdout
    assert text == c_header(Detector(model).info)
    assert "    /* threshold */ 0.99,\n" in text
    assert " *    5  recon_16, 4 x 4\n" in text
    assert run("info", model, "--c-header", "--json").exit_code == 2
