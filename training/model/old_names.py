"""Names of before, of runs and checkpoints of schema 1 and on command lines: what reads them goes through here."""

from collections.abc import Mapping
from typing import Any

from rstpm_edge.errors import UsageError
from rstpm_edge.model.metadata_v1 import SCORE_FUSION_KEYS

PRESET_FIELDS = {
    "hardest": "mining_share",
    "head": "segmentation_head",
    "moved": "shift_augmentation",
    "turned": "rotation_augmentation",
}
SHIFT_AND_ROTATION = ("shift_augmentation", "rotation_augmentation")  # pixels; true or false
TRUE, FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")
SUMMARY_FIELDS = {"painted": "synthetic_scores"}
RUN_FIELDS = {"turned": "rotation_aspect"}
DISTANCES = {"surprise": "normalized-residual"}
NO_HEAD = ("none", "")
OF_DISTANCES = {"usual": "prediction", "by_contrast": "contrast_weight", "middle": "offset", "reach": "scale"}
OF_STUDENTS = {"heads": "projections"}


def current_preset(fields: Mapping[str, Any]) -> dict[str, Any]:
    """A preset's fields by today's names, with their values; those that have them already stay as they are.

    From a configuration or, as text, from --set. Raises UsageError for a field that is given by both of its names.
    """
    return _with_augmentation(_renamed(fields))


def current_run(fields: Mapping[str, Any], schema: int = 1) -> dict[str, Any]:
    """The fields of a run's configuration of this schema, and its preset's, by today's names.

    In schema 2 only `augmentation` had other names before. Raises UsageError as above.
    """
    older = schema == 1
    found = {RUN_FIELDS.get(name, name) if older else name: value for name, value in fields.items()}
    if isinstance(found.get("preset"), Mapping):
        preset = _renamed(found["preset"]) if older else dict(found["preset"])
        if "rotation_augmentation" in preset:  # said that angles were looked at; the aspect says what was found
            preset["rotation_augmentation"] = found.get("rotation_aspect") is not None
        found["preset"] = _with_augmentation(preset)
    return found


def _renamed(fields: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in fields.items():
        now = PRESET_FIELDS.get(name, name)
        if now in found:
            raise UsageError(f"{now} is given twice, once by its earlier name: leave one of them out.")
        text = value.strip().lower() if isinstance(value, str) else value
        if name == "distance":
            value = DISTANCES.get(text, value)
        elif name == "head" and (text is None or text in NO_HEAD):
            value = False
        elif name == "head" and text == "discriminative":
            value = True
        found[now] = value
    return found


def _with_augmentation(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The same with `augmentation` in the place of the two fields that were before it.

    What they may not be becomes its value as it is, so that it is refused as one.
    """
    found = dict(fields)
    shift, rotation = (str(found.pop(name, "")).strip().lower() for name in SHIFT_AND_ROTATION)
    if rotation and rotation not in FALSE:
        value = "rotate" if rotation in TRUE else rotation
    elif shift:
        value = ("shift" if int(shift) else "none") if shift.isdecimal() else shift
    else:
        return found
    if "augmentation" in found:
        raise UsageError("augmentation is given twice, once by an earlier name: leave one of them out.")
    return {**found, "augmentation": value}


def current_summary(fields: Mapping[str, Any], schema: int = 1) -> dict[str, Any]:
    """The fields of a run's summary of this schema, or of those that another calibration has, by today's names."""
    found = {SUMMARY_FIELDS.get(name, name): value for name, value in fields.items()}
    if schema > 1:
        return found
    scores = found.pop("evidence", None)  # left out in runs from before there were score maps
    renamed = scores and {SCORE_FUSION_KEYS.get(name, name): value for name, value in scores.items()}
    return {**found, "score_fusion": renamed}


def current_tensor(name: str) -> str:
    """The name of a checkpoint's tensor, such as model/maps.distances.stpm_8.scale."""
    for part, names in (("model/maps.distances.", OF_DISTANCES), ("model/students.", OF_STUDENTS)):
        if name.startswith(part):
            return ".".join(names.get(piece, piece) for piece in name.split("."))
    return name
