"""How unlike all good photos an image is as a whole."""

import numpy as np
from numpy.typing import NDArray

from rstpm_edge.errors import ModelError
from rstpm_edge.model.validity import Novelty


class NoveltyCheck:
    """Compares embeddings with those of the good photos in `novelty`. Safe to share between threads."""

    def __init__(self, novelty: Novelty) -> None:
        self._limit, self._photos = novelty.limit, novelty.photos
        self._good = novelty.unpacked()

    def reasons(self, embedding: NDArray[np.float32]) -> list[str | None]:
        """For each of (N, C), why its image is INVALID, or None. Raises ModelError for what is not finite."""
        return [self.reason(float(distance)) for distance in self.distances(embedding)]

    def distances(self, embedding: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N,), of each of (N, C) to the nearest good photo. Raises ModelError for what is not finite."""
        if not np.isfinite(embedding).all():
            raise ModelError("The model's embedding of an image is not finite; export the model again.")
        return nearest(embedding, self._good)

    def reason(self, distance: float) -> str | None:
        """Why an image so far from all good photos is INVALID, or None."""
        return self._sentence(distance) if distance > self._limit else None

    def _sentence(self, distance: float) -> str:
        times = f"{distance / self._limit:.3g} times the limit" if self._limit > 0 else "beyond the limit"
        return (
            f"unlike every photo that was learned from: as a whole it lies {times} away from the nearest of "
            f"{self._photos}; another product, or another camera, light or position?"
        )


def nearest(vectors: NDArray[np.float32], good: NDArray[np.float32]) -> NDArray[np.float32]:
    """The root mean square difference of each of `vectors` (N, C) to the nearest of `good` (P, C): (N,)."""
    return np.array([np.sqrt(np.square(good - one).mean(axis=1).min()) for one in vectors], np.float32)
