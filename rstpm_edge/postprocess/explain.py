"""Why an image scores as it does: what each map of the model adds to the anomaly map, and to each term of the score.

Fusion is a sum, so the parts add up to the whole, but for rounding. In NumPy, as `reference`, and only where that is
asked for: it takes some milliseconds an image.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from rstpm_edge.errors import UsageError
from rstpm_edge.image.grid import Grid
from rstpm_edge.model.metadata import Bundle, Fusion
from rstpm_edge.model.outputs import ByPair, Map, ModelOutputs, Pair
from rstpm_edge.postprocess.reference import Float64, bilinear_matrix, cells_with, coarse_parts, gaussian_matrix
from rstpm_edge.postprocess.regions import Explain
from rstpm_edge.result import Explanation, ScoreTerm

Cells: TypeAlias = NDArray[np.bool_]
COARSE = ("residuals", "angles")  # of which a model may have either alone


@dataclass(frozen=True, eq=False)
class _Part:
    """What one output adds to a sum: `rows` (H, h) @ `values` (h, w) @ `columns`.T (w, W)."""

    name: str
    rows: Float64
    values: Float64
    columns: Float64

    def everywhere(self) -> Float64:
        whole: Float64 = self.rows @ self.values @ self.columns.T
        return whole

    def at(self, row: int, column: int) -> float:
        return float(self.rows[row] @ self.values @ self.columns[column])


@dataclass(frozen=True, eq=False)
class _Term:
    """A term of the score: `weight` times the maximum of a sum of maps, where it counts."""

    name: str
    weight: float
    parts: tuple[_Part, ...]

    def sum_of(self, pair: Pair | None) -> Float64:
        """The sum (H, W); of one pair alone where it is given: another map adds 0 where it is as on good images."""
        chosen = [part for part in self.parts if pair is None or part.name.startswith(f"{pair}_")]
        return sum((part.everywhere() for part in chosen), np.zeros(self.size))

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)"""
        return len(self.parts[0].rows), len(self.parts[0].columns)

    def shares(self, row: int, column: int) -> dict[str, float]:
        """What each output adds there."""
        return {part.name: part.at(row, column) for part in self.parts}


class Explainer:
    """Explains the scores of one model. Raises UsageError for one whose fusion is no sum. May be shared by threads."""

    def __init__(self, bundle: Bundle) -> None:
        fusions = [bundle.fusion] if bundle.score_fusion is None else [bundle.fusion, bundle.score_fusion.fusion]
        if any(one.mode != "normalized" for one in fusions):
            raise UsageError(
                "The model multiplies the levels of its maps, as arXiv 2111.15376 does, so no map has a share of its "
                "own: leave `explain` out, or train with `preset.fusion=normalized`."
            )
        self._bundle = bundle

    def of_image(self, outputs: ModelOutputs, ignored: Cells | None, grid: Grid, threshold: float) -> Explain:
        """What explains one image, and regions of it. `outputs` are of it alone, `ignored` are cells without a part."""
        terms, bias = _terms(outputs, self._bundle)
        sums = {pair: [term.sum_of(pair) for term in terms] for pair in (None, *get_args(Pair))}
        anomaly_map = next(term for term in terms if term.name == "anomaly_map")

        def explain(cells: Cells | None, peak: tuple[int, int]) -> Explanation:
            counts = cells if ignored is None else ~ignored if cells is None else cells & ~ignored
            found = []
            for term, whole in zip(terms, sums[None], strict=True):
                if not term.weight:
                    continue
                value, row, column = _highest(whole, counts)
                shares = {name: term.weight * share for name, share in term.shares(row, column).items()}
                position = _pixel(grid, row, column, term.size, self._bundle.size)
                found.append(ScoreTerm(term.name, term.weight * value, position, shares))
            if bias:
                found.append(ScoreTerm("bias", bias, None, {}))
            alone = {
                pair: bias
                + sum(term.weight * _highest(whole, counts)[0] for term, whole in zip(terms, sums[pair], strict=True))
                for pair in get_args(Pair)
            }
            return Explanation(
                score=sum(term.value for term in found),
                terms=tuple(found),
                anomaly=anomaly_map.shares(*peak),
                pair_scores=alone,
                rejecting_alone=tuple(pair for pair, score in alone.items() if score > threshold),
            )

        return explain


def _terms(outputs: ModelOutputs, bundle: Bundle) -> tuple[list[_Term], float]:
    """All of which the score is the sum, and its bias, in the order of `metadata.ScoreFusion`."""
    anomaly_map = _parts(outputs.anomaly_maps, bundle.map_names, bundle.fusion, bundle.size)
    head = bundle.fusion.head
    if head is not None:
        assert outputs.head_map is not None
        values = head.weight * (outputs.head_map[0].astype(np.float64) - head.mean) / head.std
        anomaly_map += (_part(bundle.head_names[0], values, bundle.size, bundle.fusion.smoothing_sigma),)
    fused = bundle.score_fusion
    if fused is None:
        return [_Term("anomaly_map", 1.0, anomaly_map)], 0.0
    assert outputs.score_maps is not None
    terms = [
        _Term("score_map", 1.0, _parts(outputs.score_maps, bundle.score_map_names, fused.fusion, bundle.size)),
        _Term("anomaly_map", fused.map_weight, anomaly_map),
    ]
    if fused.coarse is not None:
        names = [bundle.map_names[2], bundle.map_names[5], *bundle.angle_map_names]
        parts = [
            _Part(name, np.eye(values.shape[1]), values[0], np.eye(values.shape[2]))
            for name, values in zip(names, coarse_parts(outputs, fused.coarse), strict=True)
        ]
        terms += [
            _Term(f"coarse_{kind}", float(any(weights)), (first, second))
            for kind, first, second, *weights in zip(
                COARSE, parts[::2], parts[1::2], fused.coarse.weights[::2], fused.coarse.weights[1::2], strict=False
            )
        ]
    return terms, fused.bias


def _parts(maps: ByPair[Map], names: tuple[str, ...], fusion: Fusion, size: tuple[int, int]) -> tuple[_Part, ...]:
    statistics = zip(names, maps.six, fusion.weights, fusion.mean, fusion.std, strict=True)
    return tuple(
        _part(name, weight * (one[0].astype(np.float64) - mean) / std, size, fusion.smoothing_sigma)
        for name, one, weight, mean, std in statistics
    )


def _part(name: str, values: Float64, size: tuple[int, int], sigma: float) -> _Part:
    rows, columns = (_axis(n, cells, sigma) for n, cells in zip(size, values.shape, strict=True))
    return _Part(name, rows, values, columns)


@lru_cache(maxsize=16)
def _axis(outputs: int, inputs: int, sigma: float) -> Float64:
    """(outputs, inputs): upsampling, then smoothing, along one axis."""
    matrix: Float64 = gaussian_matrix(outputs, sigma) @ bilinear_matrix(outputs, inputs)
    return matrix


def _highest(values: Float64, counts: Cells | None) -> tuple[float, int, int]:
    """The largest of `values` where the cells of the input count (H, W), and its row and column."""
    if counts is not None:
        counting = counts if counts.shape == values.shape else cells_with(counts, values.shape)
        values = np.where(counting, values, -np.inf)
    row, column = np.unravel_index(int(values.argmax()), values.shape)
    return float(values[row, column]), int(row), int(column)


def _pixel(grid: Grid, row: int, column: int, size: tuple[int, int], of_input: tuple[int, int]) -> tuple[int, int]:
    """The photo's pixel (x, y) under the centre of a cell of a map of this size."""
    return grid.pixel((row + 0.5) * of_input[0] / size[0] - 0.5, (column + 0.5) * of_input[1] / size[1] - 0.5)
