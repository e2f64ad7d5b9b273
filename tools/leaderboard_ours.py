"""Our side of leaderboard.py: a training, its export, and what the exported file makes of the test photos."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
from leaderboard_measure import JudgedPhotos

from rstpm_edge.model.outputs import Pair
from rstpm_edge.pipeline import InferenceOptions
from rstpm_edge.postprocess.scoring import ScoredMaps
from rstpm_edge.training.benchmark.run import train_model
from rstpm_edge.training.data.datasets import Category
from rstpm_edge.training.evaluation.evaluate import pair_alone
from rstpm_edge.training.evaluation.predict import predict
from rstpm_edge.training.learning.machine import Machine
from rstpm_edge.training.learning.options import TrainingOptions
from rstpm_edge.training.learning.run_summary import load_summary


def judge_ours(
    category: Category, options: TrainingOptions, machine: Machine, run: Path, model: Path, threads: int | None
) -> tuple[JudgedPhotos, dict[str, JudgedPhotos], float]:
    """Train on the photos of `category` in the folder `run`, export `model`, and have it judge the test photos.

    Returns what it made of them, what each part alone makes of them by name, and core-minutes of training and export.
    Raises RstpmEdgeError.
    """
    resumed = run.exists()
    wall, cores = time.monotonic(), time.process_time()
    train_model(category.train, options, machine, run, model)
    share = (time.process_time() - cores) / (time.monotonic() - wall)
    core_minutes = (time.process_time() - cores) / 60
    if resumed:  # the clock of the run knows what went before
        core_minutes = max(core_minutes, load_summary(run).minutes * share)
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

    def judged(score: Callable[[int], ScoredMaps]) -> JudgedPhotos:
        scored = [score(i) for i in range(len(defective))]
        return JudgedPhotos(
            defective,
            np.array([one.score[0] for one in scored], np.float64),
            masks,
            lambda i: predictions.at_image_size(i, scored[i].anomaly_map[0]),
        )

    whole = judged(predictions.scorer(bundle.fusion, bundle.score_fusion))
    pairs: tuple[Pair, ...] = get_args(Pair)
    alone: dict[str, JudgedPhotos] = {
        pair: judged(predictions.scorer(*pair_alone(bundle.fusion, bundle.score_fusion, pair))) for pair in pairs
    }
    return whole, alone, core_minutes
