"""How unlike all good photos an image may be, learned from the photos themselves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from rstpm_edge.postprocess.novelty import NoveltyCheck
from rstpm_edge.training.learning.feature_cache import compute_features
from rstpm_edge.training.learning.novelty import FARTHER, LEAST, MOST, embed, learn_novelty, spread_out, with_held_out
from rstpm_edge.training.model.presets import EDGE
from rstpm_edge.training.model.rstpm import RSTPM


def photos(count: int, seed: int = 0) -> NDArray[np.float32]:
    """Embeddings of two lightings, (N, 8)."""
    drawn = np.random.default_rng(seed).standard_normal((count, 8)).astype(np.float32)
    drawn[::2] += 20
    return drawn


def test_good_photos_are_not_novel_and_others_are() -> None:
    novelty = learn_novelty(photos(60), 60, photos(15, seed=1))
    assert (novelty.photos, novelty.channels) == (60, 8)
    check = NoveltyCheck(novelty)
    assert check.reasons(photos(500, seed=2)) == [None] * 500
    between, beyond = check.reasons(np.full((2, 8), [[10], [40]], np.float32))
    assert between is not None  # neither of the two lightings
    assert beyond is not None


def test_the_limit_is_that_of_the_most_unusual_good_photo() -> None:
    line = np.array([[0.0], [1], [2], [6], [20]], np.float32)
    assert learn_novelty(line, 5, line[:1]).limit == pytest.approx(FARTHER * 14)
    held_out = np.array([[50.0]], np.float32)
    of_held_out = learn_novelty(line, 5, held_out)
    assert of_held_out.limit == pytest.approx(FARTHER * 30)
    assert NoveltyCheck(of_held_out).reasons(held_out) == [None]


def test_a_photo_is_not_like_its_own_copies() -> None:
    copies = np.concatenate([line := np.array([[0.0], [1], [2], [9]], np.float32), line + 0.01])
    assert learn_novelty(copies, 4, line).limit == pytest.approx(FARTHER * 7, rel=1e-2)


def test_photos_that_are_all_alike() -> None:
    same = np.ones((6, 4), np.float32)
    novelty = learn_novelty(same, 6, same)
    assert novelty.limit == LEAST
    assert NoveltyCheck(novelty).reasons(same + np.float32([[0.9], [1.1]] * 3) * LEAST)[:2] != [None, None]
    assert NoveltyCheck(novelty).reasons(same + 0.9 * LEAST) == [None] * 6
    assert learn_novelty(same[:1], 1, same[:1]).photos == 1


def test_of_many_photos_those_are_kept_that_cover_the_rest() -> None:
    many = photos(600)
    many[7] = 200  # an odd one
    chosen = spread_out(many, MOST)
    assert len(np.unique(chosen)) == MOST
    assert 7 in chosen
    apart = np.square(many[:, None] - many[chosen][None]).sum(2).min(1)
    evenly = np.square(many[:, None] - many[:MOST][None]).sum(2).min(1)
    assert apart.max() < evenly.max()
    assert spread_out(many, 1000).tolist() == list(range(600))


def test_fewer_bits_may_widen_the_limit() -> None:
    novelty = learn_novelty(photos(60), 60, photos(15, seed=1))
    assert with_held_out(novelty, photos(15, seed=1)) == novelty
    noisy = photos(15, seed=1) + np.float32(30)
    wider = with_held_out(novelty, noisy)
    assert wider.limit > novelty.limit
    assert NoveltyCheck(wider).reasons(noisy) == [None] * 15


@pytest.mark.parametrize(("augmentation", "rows"), [("shift", 2), ("rotate", 4)])
def test_embeddings_of_a_cache_are_the_models_own(augmentation: Any, rows: int) -> None:
    """Copies are other positions where they are rotated, and nothing new where they are shifted."""
    model = RSTPM(replace(EDGE, augmentation=augmentation)).eval()
    images = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), np.uint8)
    cache = compute_features(model, images, Path("never written"), torch.device("cpu"), photos=2)
    found = embed(model, cache)
    assert found.shape == (rows, 112)
    of_model = model.outputs(images).embedding
    assert of_model is not None
    np.testing.assert_allclose(found, of_model[:rows], atol=0.02)  # the cache is in half precision
