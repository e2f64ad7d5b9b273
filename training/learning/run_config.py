"""What a training was asked for: a run's config.json."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rstpm_edge.atomic_files import make_folder, write_json
from rstpm_edge.errors import TrainingError, UsageError
from rstpm_edge.image.input_profile import InputProfile, parse_profile
from rstpm_edge.image.placement import ResizePolicy
from rstpm_edge.image.roi import Roi, check_roi
from rstpm_edge.model.validity import Validity, parse_validity

from ..data.run_files import RecordedFile
from ..model.old_names import current_run
from ..model.presets import AUGMENTATIONS, Preset
from .run_documents import SCHEMA, read_json, schema_version


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
        decided = [name for name in AUGMENTATIONS if name != "auto"]
        if preset.get("augmentation", "none") not in decided:
            raise ValueError(f"augmentation is one of {', '.join(decided)}")
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
