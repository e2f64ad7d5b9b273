"""How good an exported model is, measured on the file itself through the runtime: what is measured is what ships."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rstpm_edge.errors import DatasetError
from rstpm_edge.model.metadata import Bundle, Fusion, ScoreFusion
from rstpm_edge.model.outputs import ByPair, Pair
from rstpm_edge.model.session_rates import rate_with_confidence, session_rates
from rstpm_edge.pipeline import InferenceOptions
from rstpm_edge.postprocess.scoring import ScoredMaps

from ..data.images import TestImage
from ..learning.memory import available_memory
from .evaluation import Evaluation, JudgedImage, Metrics, OperatingPoint, Verdicts, all_defects
from .metrics import PixelMetrics, image_metrics, ranked_metrics
from .pixel_curves import RankedPixels, rank_pixels
from .predict import Predictions, predict

GOOD_PIXEL, DEFECTIVE_PIXEL = 4, 80  # bytes of memory that ranking one takes


def evaluate(
    data: str | Path,
    model: str | Path,
    options: InferenceOptions | None = None,
    *,
    images: Sequence[TestImage] | None = None,
    skip_unmasked: bool = False,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Run `model` over the test images of `data` (MVTec AD layout) and measure.

    See `predict` and `evaluate_predictions`.

    Raises DatasetError, ImageError, ModelError and ProviderError.
    """
    return evaluate_predictions(
        predict(data, model, options, images=images, skip_unmasked=skip_unmasked, report=report)
    )


def evaluate_predictions(
    predictions: Predictions, *, progress: Callable[[int, int], None] = lambda done, total: None
) -> Evaluation:
    """Compare predictions with the labels and masks. `progress` gets (done, total) of the rows of figures.

    Pixel metrics are taken at each image's own resolution, the pixels of all images pooled; with a mask, of those that
    count in it. An image whose defect lies where nothing counts is a defective image all the same. Memory, beside the
    masks' byte: four bytes for each pixel of the data set, about 80 for a defective one, and one full-size map at a
    time.

    Raises DatasetError where that is more than there is.
    """
    _check_memory(predictions)
    bundle = predictions.bundle
    defective = np.array([image.is_defective for image in predictions.images])
    rows, total = 0, 3 + len(bundle.map_names)  # both pairs, each alone, and each map
    groups: dict[str, list[int]] = {}  # the images of each kind, "good" first
    for i, image in enumerate(predictions.images):
        groups.setdefault(image.kind, []).append(i)

    def count() -> None:
        nonlocal rows
        rows += 1
        progress(rows, total)

    def alone(fusion: Fusion, score_fusion: ScoreFusion | None, pair: Pair | None = None) -> Metrics:
        score = predictions.scorer(fusion, score_fusion, pair)
        pixels = _ranked(predictions, score, range(len(defective)))
        metrics = _metrics(defective, _scores(score, len(defective)), [pixels])
        count()
        return metrics

    score = predictions.scorer(bundle.fusion, bundle.score_fusion)
    scores = _scores(score, len(defective))
    pixels = {kind: _ranked(predictions, score, chosen) for kind, chosen in groups.items()}
    by_kind = {
        kind: _metrics(defective[chosen], scores[chosen], [pixels["good"], pixels[kind]])
        for kind in groups
        if kind != "good"
        for chosen in [groups["good"] + groups[kind]]
    }
    both = _metrics(defective, scores, list(pixels.values()))
    count()
    del pixels

    calibration, sessions = bundle.calibration, session_rates(bundle.training)
    verdicts = _verdicts(groups, scores, predictions.threshold.value)
    own = predictions.threshold.value
    says = predictions.same_part and own >= min(calibration.scores)  # whether the calibration says anything of it
    others = calibration.thresholds if predictions.same_part else {}
    points = []
    for rate, threshold in {**others, calibration.alpha: own}.items():
        found = _verdicts(groups, scores, threshold)
        alpha = rate if says or rate != calibration.alpha else None
        confident = None if alpha is None else rate_with_confidence(calibration, sessions, alpha)
        points.append(OperatingPoint(alpha, confident, threshold, found["good"], all_defects(found)))
    return Evaluation(
        both=both,
        stpm=alone(*pair_alone(bundle.fusion, bundle.score_fusion, "stpm")),
        recon=alone(*pair_alone(bundle.fusion, bundle.score_fusion, "recon")),
        maps={name: alone(_map_alone(bundle, name), None) for name in bundle.map_names},
        by_kind=by_kind,
        verdicts=verdicts,
        threshold=predictions.threshold.value,
        alpha=calibration.alpha if says else None,
        rate_with_confidence=rate_with_confidence(calibration, sessions) if says else None,
        operating_points=tuple(points),
        images=tuple(
            JudgedImage(
                name=str(image.path.relative_to(predictions.data)),
                kind=image.kind,
                score=float(score),
                p_value=calibration.p_value(float(score)),
                is_anomalous=bool(score > predictions.threshold.value),
                invalid_reason=reason,
            )
            for image, score, reason in zip(predictions.images, scores, predictions.invalid, strict=True)
        ),
    )


def _check_memory(predictions: Predictions) -> None:
    """Better one sentence than to be killed by the system after half of the work."""
    masks = [mask for mask in predictions.masks if mask is not None]
    pixels, defective = sum(mask.size for mask in masks), sum(int(np.count_nonzero(mask)) for mask in masks)
    needed, available = GOOD_PIXEL * (pixels - defective) + DEFECTIVE_PIXEL * defective, available_memory()
    if needed > available:
        raise DatasetError(
            f"Pixel metrics of these {pixels:,} pixels need {needed / 2**30:.1f} GiB of memory, and "
            f"{available / 2**30:.1f} are free: evaluate on fewer or smaller photos."
        )


def _scores(score: Callable[[int], ScoredMaps], n: int) -> NDArray[np.float64]:
    # In double precision, as the detector compares them with the threshold.
    return np.array([score(i).score[0] for i in range(n)], np.float64)


def _ranked(predictions: Predictions, score: Callable[[int], ScoredMaps], chosen: Sequence[int]) -> RankedPixels | None:
    """The pixels of the images that were chosen; None where one has no mask, unless those are skipped."""
    masked = {i: mask for i in chosen if (mask := predictions.masks[i]) is not None}
    if len(masked) < len(chosen) and not predictions.skip_unmasked:
        return None
    maps = (predictions.at_image_size(i, score(i).anomaly_map[0]) for i in masked)
    if all(inside is None for inside in predictions.ignored):
        return rank_pixels(list(masked.values()), maps)
    return rank_pixels(list(masked.values()), maps, [predictions.counted(i) for i in masked])


def _metrics(
    defective: NDArray[np.bool_], scores: NDArray[np.float64], pixels: Sequence[RankedPixels | None]
) -> Metrics:
    image = image_metrics(defective, scores)
    masked = [ranked for ranked in pixels if ranked is not None]
    # With a ROI, all defects of a kind may lie outside it: there is no mask then.
    has_masks = len(masked) == len(pixels) and any(ranked.defective.size for ranked in masked)
    pixel: PixelMetrics | None = ranked_metrics(masked) if has_masks else None
    metrics = Metrics(image.auroc, image.ap, image.f1)
    if pixel is None:
        return metrics
    return replace(
        metrics, pixel_auroc=pixel.auroc, pixel_ap=pixel.ap, aupro_30=pixel.aupro_30, aupro_05=pixel.aupro_05
    )


def _verdicts(
    groups: Mapping[str, Sequence[int]], scores: NDArray[np.float64], threshold: float
) -> dict[str, Verdicts]:
    return {kind: Verdicts(len(chosen), int((scores[chosen] > threshold).sum())) for kind, chosen in groups.items()}


def pair_alone(fusion: Fusion, score_fusion: ScoreFusion | None, pair: Pair) -> tuple[Fusion, ScoreFusion | None, Pair]:
    """One pair's share. The other's maps weigh nothing in a sum, and add nothing inside the paper's product.

    Without the head, which sees both pairs.
    """

    def only(fusion: Fusion) -> Fusion:
        return replace(fusion, weights=ByPair.of(fusion.weights).alone(pair, lambda weight: 0.0).six, head=None)

    if score_fusion is not None:
        coarse = score_fusion.coarse
        if coarse is not None:
            kept = tuple(w if (i % 2 == 0) == (pair == "stpm") else 0.0 for i, w in enumerate(coarse.weights))
            coarse = replace(coarse, weights=kept)
        score_fusion = replace(score_fusion, fusion=only(score_fusion.fusion), coarse=coarse)
    return only(fusion), score_fusion, pair


def _map_alone(bundle: Bundle, kept: str) -> Fusion:
    """One map as it is, only brought to the image's size and smoothed as the model does."""
    weights = tuple(float(name == kept) for name in bundle.map_names)
    return Fusion("normalized", weights=weights, smoothing_sigma=bundle.fusion.smoothing_sigma)
