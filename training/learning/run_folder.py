"""A run: the folder in which a training keeps everything that it needs to go on, and that export needs.

config.json              what was asked for, and which files were learned from and held out
checkpoint.safetensors   students, channel statistics and optimiser after the last whole epoch; losses in its header.
                         When all is learned, the segmentation head and no optimiser
summary.json             written at the end: fusion statistics, calibration, duration
calibration.json         where a person has calibrated it again (`recalibration`): what takes the summary's place
calibration.lock         beside it: empty, held by whoever changes it
samples/                 a few held-out images, on which an export checks itself
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from rstpm_edge.atomic_files import make_folder, write_bytes, write_json
from rstpm_edge.calibration import Calibration
from rstpm_edge.errors import OutputError, TrainingError, UsageError
from rstpm_edge.image.input_profile import InputProfile, parse_profile
from rstpm_edge.image.placement import ResizePolicy
from rstpm_edge.image.roi import Roi, check_roi
from rstpm_edge.model.metadata import CoarseCells, Fusion, HeadMap, ScoreFusion
from rstpm_edge.model.read_metadata import coarsest_of_map, kind_of
from rstpm_edge.model.session_rates import SessionRates, session_rates
from rstpm_edge.model.validity import Novelty, Validity, parse_novelty, parse_validity
from rstpm_edge.printable import quoted

from ..data.run_files import RecordedFile
from ..model.old_names import current_run, current_summary, current_tensor
from ..model.presets import AUGMENTATIONS, Preset
from ..model.rstpm import RSTPM
from .run_documents import CALIBRATE_AGAIN, SCHEMA, read_json, schema_version

RUNS = Path("runs")
SAMPLES = 8
OPTIMIZER = "optimizer/"  # begins the names of a checkpoint's tensors that only a training under way needs


@dataclass(frozen=True)
class RunConfig:
    """What a training was asked for. `train`, `holdout` and `aside` are the files it was given.

    What is set aside is neither learned from nor held out: copies of held-out photos.
    """

    data: str  # a folder; the names are relative to it, or to its train/good (MVTec AD layout)
    preset: Preset
    height: int
    width: int
    resize: ResizePolicy
    seed: int
    alpha: float | None
    max_minutes: float | None
    weights: Mapping[str, str]
    train: tuple[RecordedFile, ...]
    holdout: tuple[RecordedFile, ...]
    version: str
    roi: Roi | None = None  # the part of each image that is learned from; None for all of it
    aside: tuple[RecordedFile, ...] = ()
    rotation_aspect: float | None = None  # `aspect` of `rotation_augmentation.rotate`; None without rotated copies
    profile: InputProfile | None = None  # what the photos are like; None in runs from before it was kept
    sessions: str | None = None  # the rule of `session_names`
    limits: Validity | None = None  # of a valid photo, without novelty; None in runs from before

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the model's input."""
        return self.height, self.width

    @property
    def bits(self) -> int:
        """The range of 16-bit values that is learned from."""
        return 16 if self.profile is None else self.profile.input_bits


@dataclass(frozen=True)
class Summary:
    """What a finished training found.

    `teacher_sha256` guards an export against other weights. `highest` names the images that set the threshold.
    `synthetic_scores` are those, ascending, of synthetic defects; none in runs from before. `defective` names held-out
    images that a person has confirmed to show a defect: the calibration is without them. `sessions` says what holds
    from one session to the next, by the rule `session_rule`; None where nobody said which there are. `novelty` says how
    unlike good photos another may be as a whole, and `novelty_of_learned` which limit the photos that were learned from
    ask for alone; None in runs from before.
    """

    epochs: int
    minutes: float
    losses: tuple[tuple[float, float], ...]
    fusion: Fusion
    calibration: Calibration
    teacher_sha256: tuple[str, str]
    highest: tuple[tuple[str, float], ...] = ()  # of the held-out images: name and score, highest first
    score_fusion: ScoreFusion | None = None
    synthetic_scores: tuple[float, ...] = ()
    defective: tuple[str, ...] = ()
    sessions: SessionRates | None = None
    session_rule: str | None = None
    novelty: Novelty | None = None
    novelty_of_learned: float | None = None


@dataclass(frozen=True)
class Checkpoint:
    """The state after `epoch` whole epochs. `losses` holds (pair 1, pair 2) of each."""

    epoch: int
    schedule: float  # how far along its learning-rate schedule the training is, 0 to 1
    minutes: float
    losses: tuple[tuple[float, float], ...]
    tensors: Mapping[str, Tensor] = field(repr=False)

    @property
    def has_learned_all(self) -> bool:
        """Whether the model is as it will stay: what the optimiser needs to go on is then left out."""
        return not any(name.startswith(OPTIMIZER) for name in self.tensors)


def new_run_folder() -> Path:
    """Make runs/<time> below the working directory, with a suffix when that second already has one.

    Made at once, so that of two trainings that begin together each has its own. Raises OutputError.
    """
    make_folder(RUNS)
    name = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    folder, number = RUNS / name, 0
    while True:
        try:
            folder.mkdir()
            return folder
        except FileExistsError:
            number += 1
            folder = RUNS / f"{name}_{number}"
        except OSError as error:
            raise OutputError(f"Cannot create the folder {folder}: {error.strerror or error}.") from error


def newest_run() -> Path:
    """The newest finished run below the working directory. Raises TrainingError when there is none."""
    finished = sorted(RUNS.glob("*/summary.json"), key=lambda path: path.stat().st_mtime)
    if not finished:
        raise TrainingError("There is no finished run in ./runs: run `rstpm-edge train DATA` first, or name a RUN.")
    return finished[-1].parent


def save_config(folder: Path, config: RunConfig) -> None:
    """Create the run's folder and write its config. Raises OutputError."""
    make_folder(folder)
    write_json(folder / "config.json", {**SCHEMA, **asdict(config)}, below=folder)


def load_config(folder: Path) -> RunConfig:
    """Raises TrainingError when `folder` is no run, or its config is damaged."""
    if not folder.is_dir():
        what = "a file" if folder.exists() else "not there"
        raise TrainingError(f"The run {folder} is {what}: name the folder of a run, such as runs/2026-01-31_12-00-00.")
    fields = read_json(folder / "config.json", f"{folder} is not a run of rstpm-edge")
    try:
        fields = current_run(fields, schema_version(fields, folder))
        preset: dict[str, Any] = {
            key: tuple(v) if isinstance(v, list) else v for key, v in fields.pop("preset").items()
        }
        files: dict[str, Any] = {
            key: tuple(_file(*file) for file in fields.pop(key))
            for key in ("train", "holdout", "aside")
            if key in fields  # without the last one where a run is from before
        }
        roi, aspect, profile, limits = (
            fields.pop(key, None) for key in ("roi", "rotation_aspect", "profile", "limits")
        )
        if aspect is not None and not 0 < float(aspect) < math.inf:
            raise ValueError(f"rotation_aspect is {aspect}, no ratio of lengths")
        if (preset.get("augmentation") == "rotate") != (aspect is not None):
            raise ValueError("rotation_aspect goes with augmentation=rotate")
        if preset.get("augmentation", "none") not in AUGMENTATIONS:
            raise ValueError(f"augmentation is one of {', '.join(AUGMENTATIONS)}")
        if preset["fusion"] == "paper" and preset["smoothing_sigma"]:
            raise ValueError("it smooths a product of maps, as rstpm-edge no longer does")
        return RunConfig(
            preset=Preset(**preset),
            roi=None if roi is None else check_roi(roi),
            rotation_aspect=None if aspect is None else float(aspect),
            profile=None if profile is None else parse_profile(profile),
            limits=None if limits is None else parse_validity(limits),
            **files,
            **fields,
        )
    except (AttributeError, KeyError, TypeError, ValueError, UsageError) as error:
        raise TrainingError(f"{folder / 'config.json'} is damaged or of another version ({error}).") from error


def _file(name: Any, size: Any, crc32: Any = None) -> RecordedFile:
    return RecordedFile(str(name), int(size), None if crc32 is None else int(crc32))


def save_summary(folder: Path, summary: Summary) -> None:
    """Raises OutputError."""
    write_json(folder / "summary.json", {**SCHEMA, **asdict(summary)}, below=folder)


def load_summary(folder: Path, *, as_trained: bool = False) -> Summary:
    """With the calibration that holds now, or with that of the training.

    Raises TrainingError when the run has not finished, or a file is damaged.
    """
    path, again = folder / "summary.json", folder / "calibration.json"
    fields = read_json(
        path, f"The run {folder} has not finished; go on with `rstpm-edge train --resume {quoted(folder)}`"
    )
    try:
        fields = current_summary(fields, schema_version(fields, folder))
        if again.exists() and not as_trained:
            path = again
            fields |= _calibrated_again(again)
        fusion, scores = _fusion(fields["fusion"]), fields["score_fusion"]
        calibration = Calibration(fields["calibration"]["alpha"], tuple(fields["calibration"]["scores"]))
        return Summary(
            epochs=int(fields["epochs"]),
            minutes=float(fields["minutes"]),
            losses=tuple((float(a), float(b)) for a, b in fields["losses"]),
            fusion=fusion,
            calibration=calibration,
            teacher_sha256=(fields["teacher_sha256"][0], fields["teacher_sha256"][1]),
            highest=tuple((str(name), float(score)) for name, score in fields.get("highest", ())),
            score_fusion=scores and _score_fusion(scores, fusion),
            synthetic_scores=tuple(map(float, fields.get("synthetic_scores", ()))),
            defective=tuple(map(str, fields.get("defective", ()))),
            sessions=session_rates(fields),
            session_rule=fields.get("session_rule"),
            novelty=None if fields.get("novelty") is None else parse_novelty(fields["novelty"]),
            novelty_of_learned=None
            if fields.get("novelty_of_learned") is None
            else float(fields["novelty_of_learned"]),
        )
    except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
        mend = CALIBRATE_AGAIN if path == again else "train again"
        raise TrainingError(f"{path} is damaged ({error}); {mend}.") from error


def _calibrated_again(path: Path) -> dict[str, Any]:
    """The fields of the summary that another calibration has; none where it was taken back."""
    fields = read_json(path, f"{path} is gone", CALIBRATE_AGAIN)
    return current_summary(fields["summary"] or {}, max(2, schema_version(fields, path.parent)))


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Replace the run's checkpoint, whole or not at all. Raises OutputError."""
    progress = {key: getattr(checkpoint, key) for key in ("epoch", "schedule", "minutes", "losses")}
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()}
    content = save(contiguous, {"progress": json.dumps({**SCHEMA, **progress})})
    write_bytes(folder / "checkpoint.safetensors", content, below=folder)


def complete_checkpoint(folder: Path, model: RSTPM) -> None:
    """Put the `model` that has learned all into the run's checkpoint. Raises OutputError and TrainingError."""
    checkpoint = load_checkpoint(folder)
    assert checkpoint is not None
    tensors = {f"model/{name}": value for name, value in trained_state(model).items()}
    save_checkpoint(folder, replace(checkpoint, tensors=tensors))


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """The run's checkpoint, or None when it did not finish an epoch. Raises TrainingError when it is damaged."""
    path = folder / "checkpoint.safetensors"
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            progress = json.loads(file.metadata()["progress"])
            older = schema_version(progress, folder) == 1
            names = {current_tensor(name) if older else name: name for name in file.keys()}  # noqa: SIM118 (not a dict)
            tensors = {current: file.get_tensor(name) for current, name in names.items()}
        losses = tuple((float(a), float(b)) for a, b in progress.pop("losses"))
        return Checkpoint(losses=losses, tensors=tensors, **progress)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise TrainingError(f"{path} is damaged ({error}); train again.") from error


def trained_state(model: RSTPM) -> dict[str, Tensor]:
    """Students, channel statistics, residual normalization, segmentation head: the model without its teachers."""
    return {name: value for name, value in model.state_dict().items() if not name.startswith("teacher")}


def load_trained_state(model: RSTPM, checkpoint: Checkpoint) -> None:
    """Put a checkpoint's students and statistics into `model`. Raises TrainingError when they do not fit or are NaN."""
    state = {name[6:]: value for name, value in checkpoint.tensors.items() if name.startswith("model/")}
    expected = trained_state(model)
    if state.keys() != expected.keys() or any(state[name].shape != expected[name].shape for name in state):
        raise TrainingError("The run's checkpoint does not fit its preset; train again.")
    if not all(bool(torch.isfinite(value).all()) for value in state.values()):
        raise TrainingError("The run's checkpoint holds NaN or infinite values; train again.")
    model.load_state_dict(state, strict=False)


def save_samples(folder: Path, files: Sequence[Path]) -> None:
    """Copy a few held-out images into the run, so that it can be exported without its data. Raises OutputError."""
    samples = make_folder(folder / "samples", below=folder)
    names = [path.name for path in files[:SAMPLES]]
    for number, path in enumerate(files[:SAMPLES]):
        name = path.name if names.count(path.name) == 1 else f"{number}_{path.name}"  # photos of several folders
        write_bytes(samples / name, path.read_bytes(), below=folder)


def _score_fusion(fields: Mapping[str, Any], of_map: Fusion) -> ScoreFusion:
    # Runs from before the coarsest cells were part of the score have nothing of them, or one weight for all of them.
    coarse, weight = fields.get("coarse"), float(fields.get("coarse_weight", 0.0))
    if coarse is not None:
        cells: CoarseCells | None = CoarseCells(**{name: tuple(map(float, row)) for name, row in coarse.items()})
    else:
        cells = coarsest_of_map(of_map, weight)
    kind = fields.get("kind") or kind_of(cells)  # which runs from before do not say
    return ScoreFusion(_fusion(fields["fusion"]), fields["bias"], cells, fields["map_weight"], kind)


def _fusion(fields: Mapping[str, Any]) -> Fusion:
    values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in fields.items()}
    head = values.pop("head", None)
    return Fusion(**values, head=head and HeadMap(**head))
