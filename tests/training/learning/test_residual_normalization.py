"""The distance of the preset `edge`: its formula, the regression behind it, and what it must not be fooled by."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from rstpm_edge.training.learning.feature_cache import FeatureCache
from rstpm_edge.training.learning.residual_normalization import fit_by_regression, fit_residual_normalization
from rstpm_edge.training.model.distances import LEAST, NormalizedResidual
from rstpm_edge.training.model.presets import EDGE, PAPER, Preset
from rstpm_edge.training.model.rstpm import RSTPM

CHANNELS = 5
BY_CONTRAST = -0.6  # what the error follows the image's contrast with, as a power


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def fitted(seed: int = 0) -> tuple[NormalizedResidual, Tensor, Tensor, Tensor]:
    """A distance fitted to positions whose error and angle do depend on the feature, and those positions."""
    student = draw(20_000, CHANNELS, seed=seed)
    error = (0.3 * student[:, 0] - 1 + 0.1 * draw(20_000, seed=seed + 1)).exp()
    spread = (0.5 * student[:, 2]).exp()
    angle = 0.4 + 0.05 * student[:, 1] + 0.1 * spread * draw(20_000, seed=seed + 2)
    distance = NormalizedResidual(CHANNELS, has_angle=True)
    contrast = draw(20_000, seed=seed + 3).mul(0.2).exp()
    fit_by_regression(distance, student, error * contrast**BY_CONTRAST, angle, contrast)
    return distance, student, error, angle


def expected_residual(distance: NormalizedResidual, student: Tensor, contrast: float | Tensor = 1.0) -> Tensor:
    """(P, C) -> (P, 3): log of the expected error, expected angle, log of the angle's factor."""
    with torch.no_grad():
        prediction = (
            distance.prediction(student[:, :, None, None]) + distance.contrast_weight * torch.as_tensor(contrast).log()
        )
        values = distance.offset + distance.scale * prediction.clamp(-1, 1)
    return values[:, :, 0, 0]


def test_the_maps_follow_their_formulas() -> None:
    distance = fitted()[0]
    student, teacher = draw(2, CHANNELS, 4, 6) * 2, draw(2, CHANNELS, 4, 6, seed=1) + 0.5
    with torch.no_grad():
        maps = distance(student, teacher)
    assert maps.angle is not None
    anomaly, error, angle = (m[:, 0].double().numpy() for m in (maps.anomaly, maps.error, maps.angle))
    contrast = teacher.square().sum(1).mean((1, 2)).repeat_interleave(4 * 6)[:, None, None, None]
    predicted = (
        expected_residual(distance, student.permute(0, 2, 3, 1).reshape(-1, CHANNELS), contrast).double().numpy()
    )
    s, t = (x.permute(0, 2, 3, 1).double().numpy() for x in (student, teacher))  # (2, 4, 6, C)
    np.testing.assert_allclose(
        error, ((t - s) ** 2).sum(-1) / (t * t).sum(-1).mean((1, 2), keepdims=True) + LEAST, rtol=1e-5
    )
    cosine = (s * t).sum(-1) / np.linalg.norm(s, axis=-1) / np.linalg.norm(t, axis=-1)
    log_error, expected_angle, factor = predicted.reshape(2, 4, 6, 3).transpose(3, 0, 1, 2)
    np.testing.assert_allclose(anomaly, error / (error + np.exp(log_error)), rtol=1e-5)
    np.testing.assert_allclose(angle, (1 - cosine - expected_angle) * np.exp(factor), rtol=1e-4, atol=1e-5)
    assert 0 <= anomaly.min() <= anomaly.max() <= 1


def test_the_fit_finds_what_the_feature_says() -> None:
    distance, student, *_ = fitted()
    found = expected_residual(distance, student)
    inside = (distance.prediction(student[:, :, None, None]).abs() < 1).all(1).flatten()
    assert float(inside.float().mean()) > 0.99
    torch.testing.assert_close(found[:, 0][inside], (0.3 * student[:, 0] - 1)[inside], atol=0.02, rtol=0)
    torch.testing.assert_close(found[:, 1][inside], (0.4 + 0.05 * student[:, 1])[inside], atol=0.01, rtol=0)
    # The factor is one over the root of the deviation: e^(0.5 x) deviations ask for e^(-0.25 x), times a constant.
    assert float(distance.contrast_weight[0, 0] * distance.scale[0, 0]) == pytest.approx(BY_CONTRAST, abs=0.02)
    assert distance.contrast_weight[0, 1:].tolist() == [[[0]], [[0]]]
    slope = np.polyfit(student[:, 2][inside].numpy(), found[:, 2][inside].numpy(), 1)[0]
    assert slope == pytest.approx(-0.25, abs=0.02)
    new = fitted(seed=9)
    predicted = expected_residual(distance, new[1])
    assert float((new[2].log() - predicted[:, 0]).mean()) == pytest.approx(0, abs=0.02)


def test_under_a_steady_light_the_contrast_says_nothing() -> None:
    student = draw(20_000, CHANNELS)
    error, angle = (0.3 * draw(20_000, seed=1) - 3).exp(), 0.4 + 0.1 * draw(20_000, seed=2)
    distance = NormalizedResidual(CHANNELS, has_angle=True)
    fit_by_regression(distance, student, error, angle, (4.5 + 0.02 * draw(20_000, seed=3)).exp())
    assert float(distance.contrast_weight[0, 0] * distance.scale[0, 0]) == pytest.approx(0, abs=0.1)
    assert float(expected_residual(distance, student, np.exp(4.5))[:, 0].mean()) == pytest.approx(-3, abs=0.02)


def test_a_feature_beyond_all_good_ones_excuses_nothing() -> None:
    distance, student, *_ = fitted()
    seen = expected_residual(distance, student)
    far = expected_residual(distance, 1000 * student[:100])
    assert bool((far.amax(0) <= seen.amax(0) + 1e-5).all())
    assert bool((far.amin(0) >= seen.amin(0) - 1e-5).all())


def test_stronger_features_leave_error_and_angle() -> None:
    student, teacher = draw(2, CHANNELS, 4, 6), draw(2, CHANNELS, 4, 6, seed=1)
    expected = NormalizedResidual.measure(student, teacher)
    found = NormalizedResidual.measure(3 * student, 3 * teacher)
    torch.testing.assert_close(found[:2], expected[:2], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(NormalizedResidual.measure(3 * student, teacher).angle, expected.angle)


def test_features_without_anything_in_them_are_finite() -> None:
    x, zero = draw(1, CHANNELS, 3, 3), torch.zeros(1, CHANNELS, 3, 3)
    for pair in ((zero, zero), (zero, x), (x, zero), (x, x), (x, -x)):
        with torch.no_grad():
            assert all(m is not None and bool(m.isfinite().all()) for m in fitted()[0](*pair))


def test_positions_that_are_all_alike_can_be_fitted() -> None:
    distance = NormalizedResidual(CHANNELS, has_angle=True)
    fit_by_regression(distance, torch.ones(50, CHANNELS), *(torch.full((50,), value) for value in (0.2, 0.1, 3.0)))
    found = expected_residual(distance, torch.ones(1, CHANNELS), 3.0)[0]
    assert found[:2].tolist() == pytest.approx([np.log(0.2), 0.1], abs=0.01)


def test_the_loss_is_the_mean_squared_error_or_that_of_what_is_hardest_of_each_image() -> None:
    student, teacher = draw(2, CHANNELS, 4, 6), draw(2, CHANNELS, 4, 6, seed=1)
    teacher[1] *= 10  # all that is hard in the batch is in one image, and the other one counts all the same
    errors = (student - teacher).square()
    torch.testing.assert_close(NormalizedResidual(CHANNELS).loss(student, teacher), errors.mean())
    count = CHANNELS * 4 * 6
    for share, kept in ((0.1, round(0.1 * count)), (0.5, count // 2), (1e-9, 1)):
        expected = torch.stack([image.flatten().sort().values[-kept:].mean() for image in errors]).mean()
        torch.testing.assert_close(NormalizedResidual(CHANNELS, share).loss(student, teacher), expected)
    alone = [NormalizedResidual(CHANNELS, 0.1).loss(s[None], t[None]) for s, t in zip(student, teacher, strict=True)]
    torch.testing.assert_close(NormalizedResidual(CHANNELS, 0.1).loss(student, teacher), torch.stack(alone).mean())


def cached(preset: Preset, count: int = 5) -> tuple[RSTPM, FeatureCache]:
    """A model without weights, and what its teachers see in noise."""
    torch.manual_seed(0)
    model = RSTPM(preset, dict.fromkeys((preset.teacher1, preset.teacher2), "random"))
    images = np.random.default_rng(0).integers(0, 256, (count, 64, 96, 3), np.uint8)
    with torch.no_grad():
        raw = model.teachers(torch.from_numpy(images))
    levels1, levels2 = ([level.half().numpy() for level in levels] for levels in raw)
    return model, FeatureCache(images, levels1, levels2)


def test_every_distance_is_fitted_and_always_alike() -> None:
    fits = []
    for _ in range(2):
        model, cache = cached(EDGE)
        model.train()
        seen: list[int] = []
        fit_residual_normalization(
            model, cache, torch.device("cpu"), progress=lambda *done, seen=seen: seen.extend(done)
        )
        assert seen == [5, 5]
        assert model.students.training
        fits.append([d.prediction.weight.clone() for d in model.distances if isinstance(d, NormalizedResidual)])
    assert [bool(weight.abs().sum() > 0) for weight in fits[0]] == [True] * 6
    for one, other in zip(*fits, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_there_is_nothing_to_fit_for_the_paper() -> None:
    model, cache = cached(PAPER, count=2)
    fit_residual_normalization(model, cache, torch.device("cpu"), progress=lambda *done: pytest.fail("not reached"))
