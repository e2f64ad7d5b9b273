"""From an anomaly map and its score to a verdict: the one place where a Result is made."""

import math

import numpy as np
from numpy.typing import NDArray

from rstpm_edge.calibration import Calibration, Threshold
from rstpm_edge.errors import ModelError
from rstpm_edge.image.grid import Grid
from rstpm_edge.postprocess.regions import Explain, find_regions
from rstpm_edge.result import Region, Result


def judge(
    anomaly_map: NDArray[np.float32],
    score: float,
    cell: tuple[int, int],
    grid: Grid,
    calibration: Calibration,
    *,
    threshold: Threshold | None = None,
    ignored: NDArray[np.bool_] | None = None,
    model_sha256: str | None = None,
    explain: Explain | None = None,
    invalid_reason: str | None = None,
    novelty: float | None = None,
) -> Result:
    """The Result of one image.

    anomaly_map: (h, w) of the model's input. It is not changed; the result keeps it, read-only, or a copy.
    score: of the image; cell: where the map is highest (row, column).
    threshold: the calibrated one unless it is given.
    ignored: (h, w), True where anomalies do not count; score and cell are already those of the rest.
    model_sha256: of the model file, in hexadecimal. explain: what explains the score, and regions, where that is asked.
    invalid_reason: why the image cannot be judged, whatever its score is; None for one that can.
    novelty: `Result.novelty`.

    Raises ModelError where there is no finite score: nothing compares as above a threshold that is NaN, so a part that
    could not be judged would pass as good.
    """
    promised = calibration.promised() if threshold is None else threshold
    limit = promised.value
    peak = float(anomaly_map[cell])
    if not (math.isfinite(score) and math.isfinite(peak) and math.isfinite(limit)):
        raise ModelError("The score is not a finite number; export the model again.")
    counted = anomaly_map if ignored is None else np.where(ignored, np.float32(-np.inf), anomaly_map)
    regions: tuple[Region, ...] = ()
    if score > limit:
        # An image may be anomalous by its score alone: then the highest part of the map counts, and no other.
        regions = (
            find_regions(counted, limit, grid, explain=explain)
            if peak > limit
            else find_regions(counted, _below(peak, calibration.median), grid, most=1, explain=explain)
        )
    if ignored is not None:  # finite, so that it can be interpolated and drawn
        counted[ignored] = anomaly_map.min(where=~ignored, initial=peak)
    return Result(
        score=score,
        p_value=calibration.p_value(score),
        threshold=limit,
        alpha=promised.alpha,
        rate_with_confidence=promised.rate_with_confidence,
        typical_score=calibration.median,
        position=grid.pixel(*cell),
        regions=regions,
        roi=(grid.x, grid.y, grid.width, grid.height),
        image_size=grid.photo_size,
        model_map=_read_only(counted, grid.placement.window),
        model_sha256=model_sha256,
        explanation=None if explain is None else explain(None, cell),
        invalid_reason=invalid_reason,
        novelty=novelty,
        masked=ignored is not None,
    )


def _below(peak: float, typical: float) -> float:
    """Above what a map that stays below the threshold shows a region."""
    return (typical + peak) / 2 if peak > typical else float(np.nextafter(np.float32(peak), np.float32(-np.inf)))


def _read_only(anomaly_map: NDArray[np.float32], window: tuple[slice, slice]) -> NDArray[np.float32]:
    part = anomaly_map[window]
    whole = anomaly_map if anomaly_map.base is None else anomaly_map.base
    if part.size < whole.size:  # the rest, padding or the maps of a batch, would stay in memory with it
        part = part.copy()
    part.flags.writeable = False
    return part
