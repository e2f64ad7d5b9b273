"""Tables that say what a benchmark found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rstpm_edge.training.benchmark import results
from rstpm_edge.training.benchmark.results import (
    COLUMNS,
    PAIRS,
    RunResult,
    load_result,
    mean_over_categories,
    save_result,
    spread,
)


def made_up(category: str, seed: int, image: float, pixel: float | None = 0.5) -> RunResult:
    row = {"image_auroc": image, "image_ap": 0.5, "image_f1": 0.5, "pixel_auroc": pixel, "pixel_ap": pixel}
    evaluation = {pair: {**row, "aupro_30": pixel, "aupro_05": pixel} for pair in PAIRS}
    return RunResult(category, seed, "train/good", 10, 4, 1, 2.0, evaluation)


def test_means_and_spreads() -> None:
    figures = {("a", 0): 0.9, ("a", 1): 0.8, ("b", 0): 0.5, ("b", 1): 0.7}
    found = [made_up(category, seed, value) for (category, seed), value in figures.items()]
    mean = mean_over_categories(found, "both", "image_auroc")
    assert mean
    by_seed = [(0.9 + 0.5) / 2, (0.8 + 0.7) / 2]
    assert mean.values == pytest.approx(by_seed)
    assert mean.mean == pytest.approx(np.mean(by_seed))
    assert mean.std == pytest.approx(np.std(by_seed, ddof=1))
    assert str(mean) == "0.725 ± 0.035"
    one = spread([0.25])
    assert (str(one), one and one.std) == ("0.250", None)
    assert spread([]) is None


def test_a_mean_takes_seeds_that_all_categories_have() -> None:
    found = [made_up("a", 0, 0.9), made_up("a", 1, 0.1), made_up("b", 0, 0.7)]
    mean = mean_over_categories(found, "both", "image_auroc")
    assert mean
    assert mean.values == pytest.approx([0.8])
    assert mean_over_categories([made_up("a", 0, 0.9), made_up("b", 1, 0.7)], "both", "image_auroc") is None
    assert mean_over_categories([], "both", "image_auroc") is None


def test_without_masks_there_is_a_dash(tmp_path: Path) -> None:
    found = [made_up("a", 0, 0.9), made_up("b", 0, 0.7, None)]
    assert mean_over_categories(found, "both", "pixel_auroc") is None
    lines = results.text_table(found).splitlines()
    assert lines[2].split() == ["b", "0.700", "0.500", "0.500", "–", "–", "–"]
    assert lines[3].split() == ["mean", "of", "2", "0.800", "0.500", "0.500", "–", "–", "–"]
    assert "| mean of 2 | 0.800 | 0.500 | 0.500 | – | – | – |" in results.markdown(found)
    assert results.summary(found)["mean"]["both"]["pixel_auroc"] is None
    save_result(tmp_path / "x.json", found[1])
    assert load_result(tmp_path / "x.json", "b", 0) == found[1]


def test_tables_hold_every_pair_and_metric() -> None:
    found = [made_up("a", seed, 0.9) for seed in (0, 1)]
    text = results.markdown(found)
    for title in PAIRS.values():
        assert f"{title[0].upper()}{title[1:]}\n\n| category | {' | '.join(COLUMNS.values())} |\n" in text
    assert "- a: 10 images to learn from, 4 to test on; split: train/good; seeds 0, 1; 2.0 minutes of training" in text
    assert all(title in results.text_table(found) for title in list(PAIRS.values())[1:])
    widths = {text.count("|") for text in text.splitlines() if text.startswith("|")}
    assert widths == {len(COLUMNS) + 2}
    assert max(map(len, results.text_table([made_up("a" * 99, 0, 0.9)]).splitlines())) == 28 + 16 * len(COLUMNS)
