"""A model's outputs by name: told apart, cut into rows, put together, and one pair alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from bundles import make_bundle

from rstpm_edge.model.metadata import Bundle, CoarseCells, Fusion, HeadMap, ScoreFusion
from rstpm_edge.model.outputs import ByPair, Map, ModelOutputs

HEADED = Fusion(head=HeadMap(0.0, 1.0, 1.0))
COARSE = CoarseCells((0.0,) * 4, (1.0,) * 4, (1.0,) * 4)
SCORE_FUSION = ScoreFusion(Fusion(), 0.0, COARSE)


def drawn(bundle: Bundle, count: int = 3) -> list[Map]:
    """A map for each output, in the order of their names: all values are its place in that order, plus 1."""
    return [
        np.full((count, *size), i, np.float32) + np.arange(count, dtype=np.float32)[:, None, None] / 10
        for i, size in enumerate(bundle.output_sizes.values(), 1)
    ]


@pytest.mark.parametrize("score_fusion", [None, SCORE_FUSION])
@pytest.mark.parametrize("fusion", [Fusion(), HEADED])
def test_outputs_are_told_apart_by_their_names(fusion: Fusion, score_fusion: ScoreFusion | None) -> None:
    bundle = make_bundle(fusion=fusion, score_fusion=score_fusion)
    maps = drawn(bundle)
    by_name = dict(zip(bundle.output_names, maps, strict=True))
    found = ModelOutputs.named(bundle.output_names, maps)
    for pair, levels in (("stpm", found.anomaly_maps.stpm), ("recon", found.anomaly_maps.recon)):
        for stride, level in zip(bundle.strides, levels, strict=True):
            assert level is by_name[f"{pair}_{stride}"]
    assert (found.score_maps is None) == (score_fusion is None)
    if found.score_maps is not None:
        assert found.score_maps.recon[1] is by_name["recon_8_error"]
        assert found.angle_maps == (by_name["stpm_16_angle"], by_name["recon_16_angle"])
    assert found.head_map is by_name.get("head_4")
    assert len(found) == 3
    assert found.level_sizes == bundle.level_sizes == ((16, 16), (8, 8), (4, 4))
    assert all(one is other for one, other in zip(found.flat(), maps, strict=True))
    shuffled = dict(reversed(by_name.items()))
    with pytest.raises(ValueError, match="unpack"):
        ModelOutputs.named(bundle.output_names[1:], maps[1:])
    assert ModelOutputs.named(list(shuffled), list(shuffled.values())).head_map is found.head_map


def test_what_is_not_asked_for_is_left_out() -> None:
    bundle = make_bundle(fusion=HEADED, score_fusion=SCORE_FUSION)
    outputs = ModelOutputs.named(bundle.output_names, drawn(bundle))

    def places(**kinds: bool) -> list[int]:
        return [round(float(one[0, 0, 0])) for one in outputs.flat(**kinds)]

    assert places() == [*range(1, 16)]
    assert places(score_maps=False, angle_maps=False) == [1, 2, 3, 4, 5, 6, 15]
    assert places(angle_maps=False) == [*range(1, 13), 15]
    assert places(head_map=False) == [*range(1, 15)]
    assert places(score_maps=False, angle_maps=False, head_map=False) == [1, 2, 3, 4, 5, 6]


def test_rows_and_batches() -> None:
    bundle = make_bundle(fusion=HEADED, score_fusion=SCORE_FUSION)
    outputs = ModelOutputs.named(bundle.output_names, drawn(bundle, 5))
    parts = [outputs.rows(slice(0, 2)), outputs.rows(slice(2, 3)), outputs.rows(np.array([3, 4]))]
    assert [len(part) for part in parts] == [2, 1, 2]
    together = ModelOutputs.concatenate(parts)
    for one, other in zip(together.flat(), outputs.flat(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert ModelOutputs.concatenate([outputs]) is outputs


@pytest.mark.parametrize(("pair", "kept"), [("stpm", {1, 2, 3, 7, 8, 9, 13}), ("recon", {4, 5, 6, 10, 11, 12, 14})])
def test_one_pair_alone(pair: Any, kept: set[int]) -> None:
    bundle = make_bundle(fusion=HEADED, score_fusion=SCORE_FUSION)
    outputs = ModelOutputs.named(bundle.output_names, drawn(bundle))
    alone = outputs.pair_alone(pair)
    assert alone.head_map is None  # it sees both
    for place, (one, whole) in enumerate(zip(alone.flat(), outputs.flat(head_map=False), strict=True), 1):
        np.testing.assert_array_equal(one, whole if place in kept else np.zeros_like(whole))


def test_values_by_pair() -> None:
    assert ByPair.of(range(6)).six == (0, 1, 2, 3, 4, 5)
    assert ByPair.of(range(6)).each(lambda value: 2 * value).recon == (6, 8, 10)
    assert ByPair.of(range(6)).alone("stpm", lambda value: -1).six == (0, 1, 2, -1, -1, -1)
    with pytest.raises(ValueError, match="unpack"):
        ByPair.of(range(7))
