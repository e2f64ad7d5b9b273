"""Our side of leaderboard.py: a training, its export, and what the exported file makes of the test photos.

Of a trained model, the parts of its score and of its anomaly map are left out once, too: for that nothing is learned
anew, so each training tells what its own parts were worth.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import get_args

import numpy as np
from leaderboard_measure import JudgedPhotos, figures

from rstpm_edge.model.metadata import Bundle, Fusion, ScoreFusion
from rstpm_edge.model.outputs import Pair
from rstpm_edge.pipeline import InferenceOptions
from rstpm_edge.training.benchmark.run import train_model
from rstpm_edge.training.data.datasets import Category
from rstpm_edge.training.evaluation.evaluate import pair_alone
from rstpm_edge.training.evaluation.metrics import image_metrics
from rstpm_edge.training.evaluation.predict import predict
from rstpm_edge.training.learning.machine import Machine
from rstpm_edge.training.learning.options import TrainingOptions
from rstpm_edge.training.learning.run_summary import load_summary


def judge_ours(
    category: Category, options: TrainingOptions, machine: Machine, run: Path, model: Path, threads: int | None
) -> tuple[JudgedPhotos, dict[str, dict[str, float | None]], float]:
    """Train on the photos of `category` in the folder `run`, export `model`, and have it judge the test photos.

    Returns what `judge_model` does, and core-minutes of training and export. Raises RstpmEdgeError.
    """
    resumed = run.exists()
    wall, cores = time.monotonic(), time.process_time()
    train_model(category.train, options, machine, run, model)
    share = (time.process_time() - cores) / (time.monotonic() - wall)
    core_minutes = (time.process_time() - cores) / 60
    if resumed:  # the clock of the run knows what went before
        core_minutes = max(core_minutes, load_summary(run).minutes * share)
    return *judge_model(category, model, threads), core_minutes


def judge_model(
    category: Category, model: Path, threads: int | None
) -> tuple[JudgedPhotos, dict[str, dict[str, float | None]]]:
    """What a model file makes of the test photos, and the figures of its parts by name.

    These are each pair alone, the anomaly map's maximum, and what `scores_without` and `maps_without` have: of a score
    the figures of images, of a map those of pixels. Raises RstpmEdgeError.
    """
    predictions = predict(
        category.folder,
        model,
        # Published sets are judged whole.
        InferenceOptions(threads=threads, allow_size_change=True, notify=lambda sentence: None),
        images=category.test,
    )
    bundle = predictions.bundle
    defective = np.array([image.is_defective for image in predictions.images])
    masked = all(mask is not None for mask in predictions.masks)
    masks = [mask for mask in predictions.masks if mask is not None] if masked else None

    def judged(
        fusion: Fusion, score_fusion: ScoreFusion | None, pair: Pair | None = None, *, pixels: bool = True
    ) -> JudgedPhotos:
        score = predictions.scorer(fusion, score_fusion, pair)
        scored = [score(i) for i in range(len(defective))]
        return JudgedPhotos(
            defective,
            np.array([one.score[0] for one in scored], np.float64),
            masks if pixels else None,
            lambda i: predictions.at_image_size(i, scored[i].anomaly_map[0]),
        )

    parts: dict[str, dict[str, float | None]] = {}
    whole = judged(bundle.fusion, bundle.score_fusion)
    peaks = [float(whole.map_at(i).max()) for i in range(len(defective))]
    parts["maximum"] = {"image_auroc": image_metrics(defective, peaks).auroc}
    pairs: tuple[Pair, ...] = get_args(Pair)
    for pair in pairs:
        parts[pair] = asdict(figures(judged(*pair_alone(bundle.fusion, bundle.score_fusion, pair))))
    for name, score_fusion in scores_without(bundle).items():
        parts[name] = asdict(figures(judged(bundle.fusion, score_fusion, pixels=False)))
    if masks is not None:
        for name, fusion in maps_without(bundle).items():
            found = asdict(figures(judged(fusion, bundle.score_fusion)))
            parts[name] = {metric: found[metric] for metric in ("pixel_auroc", "aupro_30")}
    return whole, parts


def scores_without(bundle: Bundle) -> Mapping[str, ScoreFusion]:
    """The score of a model by errors alone and by angles alone; none where it is not the sum of both."""
    score = bundle.score_fusion
    if score is None or score.kind != "errors" or score.coarse is None:
        return {}
    nothing = tuple(0.0 for _ in score.fusion.weights)
    return {
        "errors alone": replace(score, coarse=None),
        "angles alone": replace(score, fusion=replace(score.fusion, weights=nothing)),
    }


def maps_without(bundle: Bundle) -> Mapping[str, Fusion]:
    """The anomaly map of a model without its segmentation head, and with pairs that weigh alike."""
    fusion, found = bundle.fusion, dict[str, Fusion]()
    if fusion.mode != "normalized":
        return found
    if fusion.head is not None:
        found["without the head"] = replace(fusion, head=None)
    by_pair = [sum(fusion.weights[:3]) / 3, sum(fusion.weights[3:]) / 3]
    if by_pair[0] != by_pair[1]:
        weights = tuple(weight / by_pair[place // 3] for place, weight in enumerate(fusion.weights))
        found["pairs alike"] = replace(fusion, weights=weights)
    return found
