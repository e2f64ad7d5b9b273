"""What a model gives for a batch of images: maps by pair and level, not a list whose order everyone must know."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Generic, Literal, TypeAlias, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from rstpm_edge.model.metadata import EMBEDDING, OutputKind, output_kinds

Map: TypeAlias = NDArray[np.float32]
Pair: TypeAlias = Literal["stpm", "recon"]
T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True, eq=False)
class ByPair(Generic[T]):
    """A value for each of six maps: those of pair 1 (`stpm`) and pair 2 (`recon`) at three levels, finest first.

    Files, kernels and the statistics of a `Fusion` have them as six in a row, which `of` takes and `six` gives.
    """

    stpm: tuple[T, T, T]
    recon: tuple[T, T, T]

    @classmethod
    def of(cls, six: Iterable[T]) -> ByPair[T]:
        """From six in a row. Raises ValueError for another number."""
        stpm_fine, stpm_middle, stpm_coarse, recon_fine, recon_middle, recon_coarse = six
        return cls((stpm_fine, stpm_middle, stpm_coarse), (recon_fine, recon_middle, recon_coarse))

    @property
    def six(self) -> tuple[T, ...]:
        """Pair 1's three, then pair 2's."""
        return *self.stpm, *self.recon

    def each(self, change: Callable[[T], U]) -> ByPair[U]:
        """What `change` makes of each value, taken in the order of `six`."""
        return ByPair.of([change(value) for value in self.six])

    def alone(self, pair: Pair, nothing: Callable[[T], T]) -> ByPair[T]:
        """The values of one pair, and what `nothing` makes of the other's."""
        blank = self.each(nothing)
        return replace(self, recon=blank.recon) if pair == "stpm" else replace(self, stpm=blank.stpm)


# A value for each of a model's outputs: anomaly maps, score maps, angle maps and the head's map; None where the model
# has none of a kind. No NamedTuple, which cannot be generic before Python 3.11.
ByKind: TypeAlias = tuple[ByPair[T], ByPair[T] | None, tuple[T, T] | None, T | None]


def by_kind(names: Sequence[str], values: Sequence[T]) -> ByKind[T]:
    """The `values` of a model's outputs, told apart by the outputs' `names`, which are `Bundle.output_names`.

    That of the embedding is left out. Raises ValueError for names that are not those of a model.
    """
    kinds = _kinds(tuple(names))
    anomaly_maps, score_maps, angle_maps, head_map, _ = (
        [value for one, value in zip(kinds, values, strict=True) if one == kind] for kind in get_args(OutputKind)
    )
    angles: tuple[T, T] | None = None
    if angle_maps:
        first, second = angle_maps
        angles = first, second
    return ByPair.of(anomaly_maps), ByPair.of(score_maps) if score_maps else None, angles, next(iter(head_map), None)


_kinds = lru_cache(maxsize=16)(output_kinds)  # asked at every image


@dataclass(frozen=True, eq=False)
class ModelOutputs:
    """A model's maps of N images, each (N, h, w) float32 with the size of its level, and what each is like as a whole.

    `score_maps` are those that `ScoreFusion` fuses; `angle_maps`, of pair 1 and pair 2, have the coarsest level's size,
    `head_map`, the segmentation head's, has the finest level's. `embedding` (N, C) is what images are told
    apart by as a whole (`Validity`). Each is None where the model has none.
    """

    anomaly_maps: ByPair[Map]
    score_maps: ByPair[Map] | None = None
    angle_maps: tuple[Map, Map] | None = None
    head_map: Map | None = None
    embedding: NDArray[np.float32] | None = None

    @classmethod
    def named(cls, names: Sequence[str], values: Sequence[Map]) -> ModelOutputs:
        """From what a runtime gives for the outputs `names`: `Bundle.output_names`, or `Bundle.graph_outputs`."""
        embedding = next((value for name, value in zip(names, values, strict=True) if name == EMBEDDING), None)
        return cls(*by_kind(names, values), embedding)

    @classmethod
    def concatenate(cls, batches: Sequence[ModelOutputs]) -> ModelOutputs:
        """One batch of several of the same model; at least one. A single one is not copied."""
        first, *others = batches
        if not others:
            return first
        joined = (np.concatenate(maps) for maps in zip(*(one.flat() for one in batches), strict=True))
        maps = first.each(lambda _: next(joined))
        embeddings = [one.embedding for one in batches if one.embedding is not None]
        return replace(maps, embedding=np.concatenate(embeddings) if embeddings else None)

    def __len__(self) -> int:
        """How many images N there are."""
        return len(self.anomaly_maps.six[0])

    @property
    def level_sizes(self) -> tuple[tuple[int, int], ...]:
        """(height, width) of the maps of the three levels."""
        return tuple((level.shape[1], level.shape[2]) for level in self.anomaly_maps.stpm)

    def flat(self, *, score_maps: bool = True, angle_maps: bool = True, head_map: bool = True) -> list[Map]:
        """All maps in the order of `Bundle.output_names`, with what there is of the three: as the C library takes them.

        One that is not asked for is left out.
        """
        maps = list(self.anomaly_maps.six)
        if score_maps and self.score_maps is not None:
            maps += self.score_maps.six
        if angle_maps and self.angle_maps is not None:
            maps += self.angle_maps
        if head_map and self.head_map is not None:
            maps.append(self.head_map)
        return maps

    def each(self, change: Callable[[Map], Map]) -> ModelOutputs:
        """What `change` makes of each map, taken in the order of `flat`; the embedding is left out."""
        angle_maps = self.angle_maps
        return ModelOutputs(
            self.anomaly_maps.each(change),
            None if self.score_maps is None else self.score_maps.each(change),
            None if angle_maps is None else (change(angle_maps[0]), change(angle_maps[1])),
            None if self.head_map is None else change(self.head_map),
        )

    def rows(self, chosen: slice | NDArray[Any]) -> ModelOutputs:
        """The outputs of some of the images."""
        embedding = None if self.embedding is None else self.embedding[chosen]
        return replace(self.each(lambda one: one[chosen]), embedding=embedding)

    def pair_alone(self, pair: Pair) -> ModelOutputs:
        """The maps of one pair, with the other's zero everywhere, and without the head's, which sees both."""
        score_maps = None if self.score_maps is None else self.score_maps.alone(pair, np.zeros_like)
        angle_maps = self.angle_maps
        if angle_maps is not None:
            first, second = angle_maps
            angle_maps = (first, np.zeros_like(second)) if pair == "stpm" else (np.zeros_like(first), second)
        return ModelOutputs(self.anomaly_maps.alone(pair, np.zeros_like), score_maps, angle_maps)
