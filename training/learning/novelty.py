"""How unlike all good photos an image may be as a whole: learned from the embeddings of the photos themselves."""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from rstpm_edge.model.validity import Novelty, pack_vectors
from rstpm_edge.postprocess.novelty import nearest

from ..model.rstpm import RSTPM, embedding
from .feature_cache import BATCH, FeatureCache

MOST = 256  # good photos that a model file keeps the embeddings of
# docs/experiments.md: times the distance from the good photo that is most unlike all others to the nearest of them; and
# what no limit is below, in deviations of the features, so that where photos are all but alike a defect stays one.
FARTHER, LEAST = 2.0, 0.25


@torch.no_grad()
def embed(model: RSTPM, cache: FeatureCache) -> NDArray[np.float32]:
    """The embeddings (N, C) of the photos of a cache, and of their copies where these show parts in other positions.

    Of a model that has one.
    """
    level = model.strides1.index(model.preset.strides[1])
    device = next(model.parameters()).device
    moved = model.preset.augmentation in ("rotate", "flip")
    features = cache.features1[level][: None if moved else cache.photos]
    batches = []
    for start in range(0, len(features), BATCH):
        raw = torch.from_numpy(features[start : start + BATCH]).to(device).float()
        batches.append(embedding(model.standardize1.one(level, raw)).cpu().numpy())
    return np.concatenate(batches)


def learn_novelty(learned: NDArray[np.float32], photos: int, held_out: NDArray[np.float32]) -> Novelty:
    """The reference and the limit that good photos ask for: those of `novelty_of_learned`, and `held_out` ones (n, C),
    at least one."""
    return with_held_out(novelty_of_learned(learned, photos), held_out)


def novelty_of_learned(learned: NDArray[np.float32], photos: int) -> Novelty:
    """The reference, and the limit that the photos which were learned from ask for alone.

    learned: embeddings (N, C), those of the `photos` first and then of copies of all of them, in the same order, as in
        a `FeatureCache`.
    """
    rounded = learned.astype(np.float16).astype(np.float32)  # as they are kept
    chosen = spread_out(rounded, MOST)
    good, of_photo = rounded[chosen], chosen % photos
    farthest = 0.0
    for photo in range(photos):
        elsewhere = good[of_photo != photo]  # a photo is not like itself, nor like its copies
        if len(elsewhere):
            farthest = max(farthest, float(nearest(rounded[photo : photo + 1], elsewhere).max()))
    return Novelty(
        photos=len(good),
        channels=good.shape[1],
        limit=max(LEAST, FARTHER * farthest),
        vectors=pack_vectors(good),
    )


def with_held_out(novelty: Novelty, held_out: NDArray[np.float32]) -> Novelty:
    """The same with a limit that held-out photos of these embeddings (n, C) do not come near either."""
    farthest = float(nearest(held_out, novelty.unpacked()).max())
    return replace(novelty, limit=max(novelty.limit, FARTHER * farthest))


def spread_out(vectors: NDArray[np.float32], most: int) -> NDArray[np.int64]:
    """Rows, ascending, of up to `most` of `vectors` (N, C), so that each other one has one of them near.

    The one that is farthest from those chosen is next (Gonzalez, "Clustering to minimize the maximum intercluster
    distance", 1985), which is at most twice as far from perfect.
    """
    if len(vectors) <= most:
        return np.arange(len(vectors))
    chosen = [int(np.square(vectors - vectors.mean(axis=0)).sum(axis=1).argmin())]
    apart = np.square(vectors - vectors[chosen[0]]).sum(axis=1)
    while len(chosen) < most:
        chosen.append(int(apart.argmax()))
        apart = np.minimum(apart, np.square(vectors - vectors[chosen[-1]]).sum(axis=1))
    return np.sort(np.array(chosen))
