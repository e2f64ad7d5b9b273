"""A model file with another calibration: its graph and all that it learned stay as they are, byte by byte."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rstpm_edge.atomic_files import write_bytes
from rstpm_edge.calibration import Calibration
from rstpm_edge.errors import ModelError, UsageError
from rstpm_edge.golden_check import TOLERANCE, TOLERANCE_REDUCED
from rstpm_edge.model.goldens import Golden, goldens_to_json, parse_goldens
from rstpm_edge.model.keys import PublicKey
from rstpm_edge.model.metadata import METADATA_KEY, Bundle
from rstpm_edge.model.model_file import ModelFile, golden_entries, opened, recalibration_entries, stamps
from rstpm_edge.model.onnx_check import check_onnx
from rstpm_edge.model.onnx_file import split_onnx, with_metadata
from rstpm_edge.model.read_metadata import parse_bundle
from rstpm_edge.model.recalibrations import MOST, Recalibration, parse_recalibrations, recalibrations_to_json
from rstpm_edge.recalibration.moved_threshold import MovedThreshold


@dataclass(frozen=True)
class WrittenModel:
    """Where it was written; the goldens that could not stay, by name, and those whose verdict is another now."""

    path: Path
    dropped_goldens: tuple[str, ...]
    turned_goldens: tuple[str, ...]


def write_recalibrated(
    model: Path, moved: MovedThreshold, output: Path, public_key: PublicKey | None = None
) -> WrittenModel:
    """Write the model file `model` to `output` with the new calibration and the history of all before.

    Goldens keep their scores and maps, and get the verdict that the new threshold gives. One that lies so near to it
    that rounding may turn the verdict is dropped.

    Raises ModelError where the model is not any more the one that was scored with, UsageError for one that was
    recalibrated too often, OutputError; whatever goes wrong, an older `output` stays as it was.
    """
    with opened(model, public_key) as file:
        if file.sha256 != moved.step.model_sha256:
            raise ModelError(f"The model {model} was written to while its photos were judged; start again.")
        steps = _steps(file)
        content = file.source if isinstance(file.source, bytes) else Path(file.source).read_bytes()
        goldens = () if file.goldens is None else parse_goldens(file.goldens)
    kept, dropped = _goldens(goldens, moved)
    document = moved.bundle.to_json()
    parsed = split_onnx(content)
    metadata = {**parsed.metadata, METADATA_KEY: document, **stamps(content, document)}
    for key in golden_entries(""):
        metadata.pop(key, None)
    if kept:
        metadata |= golden_entries(goldens_to_json(kept))
    metadata |= recalibration_entries(recalibrations_to_json((*steps, moved.step)))
    new = with_metadata(parsed, metadata)
    parse_bundle(document)
    check_onnx(split_onnx(new))
    write_bytes(output, new)
    was = {golden.name: golden.is_anomalous for golden in goldens}
    turned = tuple(golden.name for golden in kept if golden.is_anomalous != was[golden.name])
    return WrittenModel(output, dropped, turned)


def recalibrations_of(file: ModelFile) -> tuple[Recalibration, ...]:
    """The history of a model file's calibrations. Raises ModelError for one that is damaged, or of a newer release."""
    return () if file.recalibrations is None else parse_recalibrations(file.recalibrations)


def _steps(file: ModelFile) -> tuple[Recalibration, ...]:
    steps = recalibrations_of(file)
    if len(steps) == MOST:
        raise UsageError(f"The model {file.path} was recalibrated {MOST} times, which is the most: train again.")
    return steps


def _goldens(goldens: Sequence[Golden], moved: MovedThreshold) -> tuple[list[Golden], tuple[str, ...]]:
    """Those that stay, with their verdicts, and the names of the others."""
    calibration = moved.calibration
    near = _tolerance(moved.bundle) * _span(calibration)
    kept = [
        replace(golden, is_anomalous=golden.score > calibration.threshold)
        for golden in goldens
        if abs(golden.score - calibration.threshold) > near
    ]
    names = {golden.name for golden in kept}
    return kept, tuple(golden.name for golden in goldens if golden.name not in names)


def _tolerance(bundle: Bundle) -> float:
    """What a golden's score may differ by on another device, as a share of the way to the threshold."""
    return TOLERANCE if bundle.precision == "fp32" else TOLERANCE_REDUCED


def _span(calibration: Calibration) -> float:
    """As `Result.span`."""
    span = calibration.threshold - calibration.median
    return span if span > 0 else max(abs(calibration.threshold), 1e-6)
