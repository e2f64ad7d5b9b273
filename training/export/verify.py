"""The same images through every implementation of the model: PyTorch, ONNX Runtime, the extension and NumPy."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rstpm_edge.errors import UsageError
from rstpm_edge.input_check import Notify
from rstpm_edge.pipeline import InferenceOptions, open_pipeline
from rstpm_edge.postprocess.reference import score as reference_score
from rstpm_edge.progress import Progress, Report

from ..learning.trained_model import load_model
from .self_check import MAP_TOLERANCE, SCORE_TOLERANCE, map_difference, score_difference


@dataclass(frozen=True)
class Differences:
    """The largest differences over `images` images, measured as an export measures them."""

    images: int
    map_onnxruntime: float  # any of the maps, ONNX Runtime against PyTorch: see `map_difference`
    fused_extension: float  # the fused map, the extension against NumPy, relative to its largest value
    score: float  # ONNX Runtime and the extension against PyTorch and NumPy: see `score_difference`

    @property
    def agree(self) -> bool:
        """Whether all differences are within what an export allows."""
        return (
            self.map_onnxruntime <= MAP_TOLERANCE
            and self.fused_extension <= SCORE_TOLERANCE
            and self.score <= SCORE_TOLERANCE
        )


def verify(
    run: Path,
    model_file: Path,
    images: Sequence[Path],
    *,
    allow_size_change: bool = False,
    public_key: Path | None = None,
    notify: Notify | None = None,
    report: Report = lambda progress: None,
) -> Differences:
    """Compare the file with the run that it was exported from, on real images; the keywords are those of `Detector`.

    `report` is told after each.

    Raises UsageError without images or for another run's file, ImageError, ModelError, TrainingError and WeightsError.
    """
    if not images:
        raise UsageError("Give at least one image to compare on.")
    # Where anomalies count makes no difference between implementations.
    options = InferenceOptions(mask=None, allow_size_change=allow_size_change, notify=notify, public_key=public_key)
    pipeline, model = open_pipeline(model_file, options), load_model(run)
    bundle = pipeline.session.bundle
    if bundle.output_names != model.output_names:
        raise UsageError(f"{model_file} was not exported from the run {run}.")
    if bundle.precision != "fp32":
        raise UsageError(
            f"{model_file} is in {bundle.precision}, which PyTorch does not compute in: `export` has compared it with "
            "the float32 model, and `evaluate` says what it does on labelled photos."
        )
    apart: list[tuple[float, float]] = []  # of each image: maps, the fused one
    scores: list[tuple[float, float]] = []  # found, expected
    for done, path in enumerate(images, 1):
        row, _ = pipeline.preprocessor.prepare(pipeline.preprocessor.load(path))
        expected, outputs = model.outputs(row[None]), pipeline.session.run(row[None])
        found = pipeline.postprocessor.score(outputs)
        reference, _ = reference_score(outputs, bundle)
        _, score = reference_score(expected, bundle)
        fused = np.abs(found.anomaly_map - reference).max() / np.abs(reference).max()
        apart.append((map_difference(outputs.flat(), expected.flat()), float(fused)))
        scores.append((float(found.score[0]), float(score[0])))
        report(Progress("comparing", done, len(images)))
    of_maps, of_fused = np.max(apart, axis=0)
    return Differences(
        len(images), float(of_maps), float(of_fused), score_difference(*np.float32(np.transpose(scores)))
    )
