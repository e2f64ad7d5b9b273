"""Where tails are cut: between the limits that ONNX Runtime's calibration finds, one candidate at a time."""

from __future__ import annotations

import time

import numpy as np
import pytest
from numpy.typing import NDArray
from onnxruntime.quantization.calibrate import HistogramCollector
from scipy.stats import entropy

from rstpm_edge.training.quantization.entropy import Histogram, least_divergence

RNG = np.random.default_rng(0)
VALUES = {
    "normal": RNG.standard_normal(20_000),
    "one side": np.abs(RNG.standard_normal(20_000)),
    "outliers": np.concatenate([RNG.standard_normal(20_000), [30.0, -25.0]]),
    "steps": RNG.integers(-3, 7, 5_000) * 1.0,
    "few": RNG.standard_normal(40),
}


def histogram(values: NDArray[np.float64], bins: int) -> Histogram:
    largest = np.float32(np.abs(values).max())
    counts, edges = np.histogram(values.astype(np.float32), bins, range=(-largest, largest))
    return Histogram(counts, edges.astype(np.float32), np.float32(values.min()), np.float32(values.max()))


def divergence(found: Histogram, limit: np.float32) -> float:
    """By the definition, of the candidate that ends at `limit` above zero."""
    counts, half = found.counts, len(found.counts) // 2
    width = int(np.abs(found.edges - limit).argmin()) - half - 1
    start, end = half - width, min(half + width + 1, len(counts))
    whole = counts[start:end].astype(np.float64)
    whole[0] += counts[:start].sum()
    whole[-1] += counts[end:].sum()
    merged = (end - start) // 128
    coarse = np.zeros_like(whole)
    for i in range(128):
        among = slice(i * merged, (i + 1) * merged)
        rest = counts[start:end][128 * merged :].sum() if i == 127 else 0
        filled = np.count_nonzero(whole[among])
        coarse[among] = (counts[start:end][among].sum() + rest) // filled if filled else 0
    smooth = [
        np.where(one == 0, 1e-4, one - 1e-4 * (one == 0).sum() / np.count_nonzero(one)) for one in (whole, coarse)
    ]
    return float(entropy(*smooth))


@pytest.mark.parametrize("bins", [512, 577])
@pytest.mark.parametrize("kind", VALUES)
def test_the_limits_are_as_good_as_those_of_onnx_runtime(kind: str, bins: int) -> None:
    """That one counts in float32; where it makes no difference, both take the same."""
    values = VALUES[kind]
    largest = np.abs(values).max() * np.sign(values.max() + values.min())
    found = histogram(np.append(values, -largest), bins)  # both limits are a candidate's
    collector = HistogramCollector("entropy", False, bins, 128, 99.9, "same")
    ours, theirs = least_divergence(found), collector.get_entropy_threshold(found, 128)
    assert divergence(found, ours[1]) <= divergence(found, theirs[1]) + 1e-9
    assert ours == pytest.approx(theirs, rel=0.04)
    if kind in ("normal", "few"):
        assert ours == theirs


def test_tails_are_cut_and_what_is_dense_is_not() -> None:
    low, high = least_divergence(histogram(VALUES["outliers"], 512))
    assert -15 < low < -3
    assert 3 < high < 15
    low, high = least_divergence(histogram(RNG.uniform(-2, 5, 50_000), 512))
    assert (low, high) == (pytest.approx(-2, abs=0.01), pytest.approx(5, abs=0.05))


def test_a_tensor_that_never_varies_keeps_its_value() -> None:
    counts = np.zeros(512, np.int64)
    counts[256] = 1000
    edges = np.linspace(-0.5, 0.5, 513, dtype=np.float32)
    assert least_divergence(Histogram(counts, edges, np.float32(0), np.float32(0))) == (0, 0)


def test_after_a_dark_photo_bins_are_many() -> None:
    """As fine as its own, they reach as far as those of all others: their number may not count."""
    values = np.concatenate([RNG.standard_normal(20_000), [100.0, -100.0]])
    start = time.process_time()
    found = least_divergence(histogram(values, 400_000))
    assert time.process_time() - start < 5  # 0.3 s
    assert found == pytest.approx(least_divergence(histogram(values, 2048)), rel=0.02)
