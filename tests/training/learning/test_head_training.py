"""The head of the preset `edge`: what it computes, what it learns from painted defects, and what it is painted on."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from rstpm_edge.errors import TrainingError
from rstpm_edge.model.metadata import map_names
from rstpm_edge.training.data.synthetic_defects import with_masks
from rstpm_edge.training.learning import head_training as fitting
from rstpm_edge.training.learning.feature_cache import FeatureCache
from rstpm_edge.training.learning.head_training import train_segmentation_head
from rstpm_edge.training.learning.residual_normalization import fit_residual_normalization
from rstpm_edge.training.model.model_outputs import AnomalyMaps
from rstpm_edge.training.model.preset_overrides import override
from rstpm_edge.training.model.presets import EDGE
from rstpm_edge.training.model.rstpm import RSTPM
from rstpm_edge.training.model.segmentation_head import LIMIT, SegmentationHead

CHANNELS = (5, 6, 7, 4, 6, 8)
CPU = torch.device("cpu")


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def features(seed: int, count: int = 2) -> list[Tensor]:
    return [draw(count, c, 16 >> i % 3, 24 >> i % 3, seed=seed + i) for i, c in enumerate(CHANNELS)]


def maps_of(count: int = 2) -> list[Tensor]:
    return [draw(count, 1, 16 >> i % 3, 24 >> i % 3, seed=50 + i).sigmoid() for i in range(6)]


def residuals_of(students: list[Tensor], teachers: list[Tensor]) -> list[Tensor]:
    """What the students missed; relative to the image's contrast."""
    return [
        (t - s) / t.square().sum(1, keepdim=True).mean((2, 3), keepdim=True).sqrt()
        for s, t in zip(students, teachers, strict=True)
    ]


def test_the_head_sees_residuals_and_maps_of_all_levels() -> None:
    torch.manual_seed(0)
    measure = AnomalyMaps(EDGE, map_names(EDGE.strides), CHANNELS)
    head = measure.head
    assert head is not None
    for bias in (head.bias, head.context.bias, *(layer.bias for layer in head.reduce)):
        assert isinstance(bias, Tensor)
        bias.data.normal_()
    students, teachers = features(0), features(10)
    with torch.no_grad():
        *maps, found = measure(students, teachers)
        total: Tensor | None = None
        for level in (2, 1, 0):
            parts = []
            for i in (level, level + 3):
                residual = torch.relu(head.reduce[i](residuals_of(students, teachers)[i]))
                parts += [residual, 4 * (maps[i][:, None] - 0.5)]
            mixed = torch.einsum("oc,bchw->bohw", head.mix[level].weight[:, :, 0, 0], torch.cat(parts, 1))
            if total is not None:
                mixed = mixed + functional.interpolate(total, size=mixed.shape[2:], mode="bilinear")
            total = mixed
        assert total is not None
        seen = torch.relu(head.context(torch.relu(total + head.bias)))
        expected = head.score(seen).clamp(-LIMIT, LIMIT)
    assert found.shape == (2, 16, 24)
    torch.testing.assert_close(found[:, None], expected, atol=1e-4, rtol=1e-4)


def test_what_normalised_while_it_learned_is_folded_into_the_weights() -> None:
    torch.manual_seed(0)
    learner = fitting._Learner(SegmentationHead(CHANNELS), [0.5, 2.0, 1.0, 0.1, 3.0, 1.0])
    residuals, maps = features(0), maps_of()
    for _ in range(5):  # moves the running statistics away from 0 and 1
        learner([3 * r + 1 for r in residuals], maps)
    learner.eval()
    with torch.no_grad():
        expected = learner([r / s for r, s in zip(residuals, learner.scales, strict=True)], maps)
        head = learner.folded()
        levels = zip(head.reduce, residuals, maps, strict=True)
        seen = [head.inputs(layer(residual), level) for layer, residual, level in levels]
        torch.testing.assert_close(head(seen), expected.clamp(-LIMIT, LIMIT), atol=1e-4, rtol=1e-4)


def textures(count: int) -> NDArray[np.uint8]:
    """Photos (count, 64, 96, 3) of a striped, slightly noisy surface."""
    rng = np.random.default_rng(0)
    stripes = 110 + 40 * np.sin(np.arange(96) / 3)[None, None, :, None]
    return np.clip(stripes + rng.normal(0, 4, (count, 64, 96, 3)), 0, 255).astype(np.uint8)


def trained(monkeypatch: pytest.MonkeyPatch, seen: list[tuple[int, int]] | None = None) -> RSTPM:
    """A model whose students are untrained, and its head, taught in few steps."""
    monkeypatch.setattr(fitting, "STEPS", 240)
    monkeypatch.setattr(fitting, "PAINTED", (128, 128))
    torch.manual_seed(0)
    model = RSTPM(EDGE)
    images = textures(8)
    with torch.no_grad():
        raw = model.teachers(torch.from_numpy(images))
    cache = FeatureCache(images, *([level.half().numpy() for level in levels] for levels in raw))
    model.train()
    fit_residual_normalization(model, cache, CPU)
    train_segmentation_head(
        model, cache, CPU, progress=lambda done, total: None if seen is None else seen.append((done, total))
    )
    assert model.students.training
    return model.eval()


def test_the_head_learns_where_defects_are(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []
    model = trained(monkeypatch, seen)
    assert seen[0] == (8, 368)
    assert seen[-1] == (368, 368)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    images = textures(12)[8:]
    spoilt = images.copy()
    spoilt[:, 16:40, 24:56] = 255 - spoilt[:, 16:40, 24:56]
    with torch.no_grad():
        inside, good = (model(torch.from_numpy(some))[-2] for some in (spoilt, images))
    assert inside.shape == (4, 8, 12)
    defect, elsewhere = inside[:, 2:5, 3:7].flatten(), inside[:, 6:, 9:].flatten()
    for others in (good.flatten(), elsewhere):  # untrained students tell little, but more than nothing
        assert float((defect[:, None] > others).float().mean()) > 0.6


def test_little_memory_holds_fewer_painted_defects(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []
    monkeypatch.setattr(fitting, "available_memory", lambda: 0)
    trained(monkeypatch, seen)
    assert seen[-1] == (fitting.BATCH + 240, fitting.BATCH + 240)


def test_the_same_images_give_the_same_head(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = (trained(monkeypatch).head for _ in range(2))
    assert one is not None
    assert other is not None
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_a_head_that_diverges_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "LEARNING_RATE", 1e30)
    with pytest.raises(TrainingError, match=r"head's loss is not finite: train again with `preset\.segm"):
        trained(monkeypatch)


def test_a_preset_without_a_head_has_nothing_to_learn() -> None:
    model = RSTPM(dataclasses.replace(EDGE, segmentation_head=False))
    assert model.head is None
    assert len(model.output_names) == 14
    nothing = FeatureCache(textures(1), [], [])
    train_segmentation_head(model, nothing, CPU, progress=lambda done, total: pytest.fail("not reached"))


@pytest.mark.parametrize(
    "changes", [{"distance": "cosine"}, {"fusion": "paper", "smoothing_sigma": "0"}, {"head": "none"}]
)
def test_there_is_no_head_where_it_has_nothing_to_see_or_to_join(changes: dict[str, str]) -> None:
    model = RSTPM(override(EDGE, changes))
    assert model.head is None
    assert "head_8" not in model.output_names


def test_painted_defects_are_seen_where_their_masks_say() -> None:
    images = list(textures(5))
    painted = list(with_masks(images, 70))
    assert len(painted) == 70
    shares = []
    for i, (image, where) in enumerate(painted):
        assert (image.dtype, image.shape) == (np.uint8, (64, 96, 3))
        assert (where.dtype, where.shape) == (np.float32, (64, 96))
        assert 0 <= where.min() <= where.max() <= 1
        change = np.abs(image.astype(int) - images[i % 5]).max(-1)
        if (where > 0.9).any():
            assert change[where > 0.9].mean() > 3
        shares.append(float((where > 0.5).mean()))
    assert sum(share > 0 for share in shares) > 55  # a few are too faint
    assert max(shares) > 0.2
    assert min(share for share in shares if share) < 0.01


def test_the_same_seed_paints_the_same() -> None:
    images = list(textures(3))
    one, again, other = ([image for image, _ in with_masks(images, 9, seed=seed)] for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(one, again, strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_one_flat_photo_is_enough_to_paint_on() -> None:
    flat = np.full((64, 64, 3), 90, np.uint8)
    for image, where in with_masks([flat], 21):
        assert np.isfinite(where).all()
        assert image.shape == flat.shape
