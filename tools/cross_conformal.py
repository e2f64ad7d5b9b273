"""What a calibration on all photos would gain: K trainings, each of which holds out another share of the good photos.

    python tools/cross_conformal.py ../shared/data/fabric WORK --folds 5 --size 128x128 --epochs 20

A share of the good photos is set aside at random: parts like those of the calibration, of which the promise speaks.
Each of the K models scores the photos that it has not seen, those aside, and test/. Four ways to a verdict:

    split   what `train` does: the threshold of each model by its own held-out photos, n / K; means over the models
    pooled  the threshold by the n scores of all models together, for each model alone; no guarantee
    CV+     all K models judge a photo. It is rejected where at most a share of `alpha` of the n photos scores, by the
            model that has not seen it, at least as high as the photo by that model (Barber et al., arXiv 1905.02928;
            for anomalies 2402.16388); guaranteed are 2 * alpha
    added   split, with a random half of the photos aside added to each model's own, as `recalibrate` does with good
            parts of the station; the other half is judged; means of 200 draws

WORK keeps what each model gave, so that an interrupted command goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import patch

import click
import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from rstpm_edge.calibration import conformal_threshold
from rstpm_edge.cli.parameter_types import SIZE
from rstpm_edge.postprocess.scoring import Scorer
from rstpm_edge.training.data.images import good_images, load_inputs, test_images
from rstpm_edge.training.learning import photo_choice
from rstpm_edge.training.learning.map_calibration import calibrate_maps, outputs_of
from rstpm_edge.training.learning.options import TrainingOptions
from rstpm_edge.training.learning.train import train
from rstpm_edge.training.learning.trained_model import load_model
from rstpm_edge.training.model.presets import PRESETS

Scores = NDArray[np.float64]

DRAWS = 200


def scores_of_fold(
    good: Sequence[Path], others: Sequence[Path], held_out: NDArray[np.int64], options: TrainingOptions, folder: Path
) -> tuple[Scores, Scores]:
    """Train without these rows of `good`; gives their scores, and those of the other photos."""
    learned = np.setdiff1d(np.arange(len(good)), held_out)
    with patch.object(photo_choice, "split", lambda *arguments: (held_out, learned)):
        run = train(good, options, folder=folder)
    model = load_model(run)
    assert options.size is not None
    inputs, _, _ = load_inputs([*(good[row] for row in held_out), *others], options.size, options.resize)
    outputs = outputs_of(model, inputs)
    held = outputs.rows(slice(0, len(held_out)))
    found = calibrate_maps(held, model.preset, options.size, None)
    scores = Scorer(found.fusion, found.score_fusion, outputs.level_sizes, options.size)(outputs).score.astype(float)
    return scores[: len(held_out)], scores[len(held_out) :]


@dataclass(frozen=True)
class Judged:
    """What K models gave. `own` (n,) is each photo of the calibration by the model of its fold, `fold` (n,) which that
    is; `aside` (K, a), `good` (K, g) and `defective` (K, d) are the other photos by each model."""

    own: Scores
    fold: NDArray[np.int64]
    aside: Scores
    good: Scores
    defective: Scores

    @property
    def folds(self) -> int:
        return len(self.aside)


def rejected_by_split(judged: Judged, scores: Scores, alpha: float) -> NDArray[np.bool_]:
    """(K, N): by each model and its own threshold."""
    limits = [conformal_threshold(tuple(sorted(judged.own[judged.fold == k])), alpha) for k in range(judged.folds)]
    return np.asarray(scores > np.array(limits)[:, None])


def rejected_by_pooled(judged: Judged, scores: Scores, alpha: float) -> NDArray[np.bool_]:
    """(K, N): by each model and the threshold of all."""
    return np.asarray(scores > conformal_threshold(tuple(sorted(judged.own)), alpha))


def rejected_by_all(judged: Judged, scores: Scores, alpha: float) -> NDArray[np.bool_]:
    """(1, N): by all models together."""
    return cv_p_values(judged, scores)[None] <= alpha


def cv_p_values(judged: Judged, scores: Scores) -> Scores:
    """(N,) for scores (K, N): (1 + how many of n photos score at least as high, each by its model) / (n + 1)."""
    at_least = judged.own[:, None] >= scores[judged.fold]
    return np.asarray((1 + at_least.sum(axis=0)) / (len(judged.own) + 1), np.float64)


def shares_with_added(judged: Judged, alpha: float) -> list[Scores]:
    """(K,) of the other half of the photos aside, of the good and of the defective ones: the share that is rejected."""
    random, found = np.random.default_rng(0), []
    for _ in range(DRAWS):
        order = random.permutation(judged.aside.shape[1])
        first, second = np.array_split(order, 2)
        rows = []
        for k in range(judged.folds):
            own = np.concatenate([judged.own[judged.fold == k], judged.aside[k, first]])
            limit = conformal_threshold(tuple(sorted(own)), alpha)
            others = (judged.aside[k, second], judged.good[k], judged.defective[k])
            rows.append([float((scores > limit).mean()) for scores in others])
        found.append(rows)
    return list(np.mean(found, axis=0).T)


WAYS = {"split": rejected_by_split, "pooled": rejected_by_pooled, "CV+": rejected_by_all}


def table(judged: Judged, alphas: Sequence[float]) -> str:
    """Means over the models, and what single ones gave at least and at most."""
    lines = ["| rate | way | aside rejected | test/good rejected | defects found |", "|---|---|---|---|---|"]
    for alpha in alphas:
        others = (judged.aside, judged.good, judged.defective)
        shares = {name: [way(judged, one, alpha).mean(axis=1) for one in others] for name, way in WAYS.items()}
        for name, of_others in {**shares, "added": shares_with_added(judged, alpha)}.items():
            cells = (f"{one.mean():.3f}{_spread(one)}" for one in of_others)
            lines.append(f"| {alpha:g} | {name} | {' | '.join(cells)} |")
    labels = np.repeat([0, 1], [judged.good.shape[1], judged.defective.shape[1]])
    alone = [roc_auc_score(labels, np.concatenate(pair)) for pair in zip(judged.good, judged.defective, strict=True)]
    mean = np.concatenate([judged.good.mean(axis=0), judged.defective.mean(axis=0)])
    lines += [
        "",
        f"Image AUROC of a model {np.mean(alone):.3f}, of the mean score of all {roc_auc_score(labels, mean):.3f}.",
    ]
    return "\n".join(lines)


def _spread(of_models: Scores) -> str:
    return f" ({of_models.min():.3f} to {of_models.max():.3f})" if len(of_models) > 1 else ""


@click.command(help=__doc__.replace("\n\n", "\n\n\b\n"))
@click.argument("data", type=click.Path(path_type=Path, exists=True))
@click.argument("work", type=click.Path(path_type=Path))
@click.option("--folds", type=click.IntRange(min=2), default=5, show_default=True)
@click.option("--aside", type=click.FloatRange(0.05, 0.9), default=0.3, show_default=True, help="Of the good photos.")
@click.option("--size", type=SIZE, default="128x128", show_default=True)
@click.option("--epochs", type=click.IntRange(min=1), default=20, show_default=True)
@click.option("--preset", type=click.Choice(list(PRESETS)), default="edge", show_default=True)
@click.option("--head/--no-head", default=True, show_default=True, help="With the segmentation head.")
@click.option("--alpha", "alphas", type=float, multiple=True, default=(0.05, 0.1, 0.2), show_default=True)
@click.option("--seed", type=int, default=0, show_default=True, help="Of what is aside, of the folds and trainings.")
def main(
    data: Path,
    work: Path,
    folds: int,
    aside: float,
    size: tuple[int, int],
    epochs: int,
    preset: str,
    head: bool,
    alphas: tuple[float, ...],
    seed: int,
) -> None:
    photos, tested = good_images(data), test_images(data)
    order = np.random.default_rng(seed).permutation(len(photos))
    apart = round(aside * len(photos))
    good = [photos[row] for row in sorted(order[apart:])]
    others = [*(photos[row] for row in sorted(order[:apart])), *(one.path for one in tested)]
    fold = np.random.default_rng(seed + 1).permutation(np.arange(len(good)) % folds)
    chosen = PRESETS[preset]
    options = TrainingOptions(
        preset=chosen if head else replace(chosen, segmentation_head=False), size=size, epochs=epochs, seed=seed
    )
    own = np.empty(len(good))
    of_others = np.empty((folds, len(others)))
    work.mkdir(parents=True, exist_ok=True)
    for k in range(folds):
        kept = work / f"fold{k}.npz"
        rows = np.flatnonzero(fold == k)
        if not kept.exists():
            held, other = scores_of_fold(good, others, rows, options, work / f"run{k}")
            np.savez(kept, held=held, other=other)
        with np.load(kept) as found:
            own[rows], of_others[k] = found["held"], found["other"]
        print(f"Fold {k + 1} of {folds}.", flush=True)
    defective = np.array([one.is_defective for one in tested])
    test = of_others[:, apart:]
    judged = Judged(own, fold, of_others[:, :apart], test[:, ~defective], test[:, defective])
    print(
        f"{len(good)} photos in {folds} folds, {apart} aside, test: {(~defective).sum()} good, {defective.sum()} not."
    )
    print()
    print(table(judged, alphas))


if __name__ == "__main__":
    main()
