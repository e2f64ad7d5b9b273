"""The document of a model file, read: each value checked, so that what it says can be computed with."""

import json
from collections.abc import Sequence
from dataclasses import fields as dataclass_fields
from itertools import pairwise
from typing import Any, get_args

from rstpm_edge import document as read
from rstpm_edge.calibration import Calibration
from rstpm_edge.errors import ModelError, UsageError
from rstpm_edge.image.input_profile import parse_profile
from rstpm_edge.image.placement import ResizePolicy
from rstpm_edge.image.roi import Roi, check_roi
from rstpm_edge.image.stored_mask import parse_mask
from rstpm_edge.model import metadata_v1
from rstpm_edge.model.metadata import (
    SCHEMA_VERSION,
    Bundle,
    CoarseCells,
    Fusion,
    FusionMode,
    HeadMap,
    Precision,
    ScoreFusion,
    ScoreMapKind,
    Teacher,
)
from rstpm_edge.model.validity import parse_validity

# What a document may hold; csrc/rstpm_edge.h has the same bounds, and says what they are good for: sums of maps stay
# finite in float32.
LARGEST = 3.4e38  # of whatever becomes a float32
SMALLEST_STD = 1.2e-38  # no denormal
LARGEST_MEAN, LARGEST_GAIN = 1e12, 1e24
SMOOTHING = (0.01, 64.0)  # pixels; 0 is none
MOST_SIDE = 8192  # of the model's input: twice what is trained
MOST_PIXELS = 1 << 23  # a side of a photo
MOST_SCORES = 1_000_000
WITH_VALIDITY, WITH_KIND = 3, 4  # the first schemas that say what is INVALID, and what score maps hold


def check_version(document: str) -> int:
    """The document's schema version, before anything else is looked at: a newer document may hold what it likes.

    Raises ModelError for a newer one than this package reads, and where there is no such number.
    """
    try:
        return read.schema_version(json.loads(document), SCHEMA_VERSION)
    except read.NewerError as error:
        raise ModelError(f"The model {error}; upgrade, or export the model again with this version.") from error
    except (ValueError, RecursionError) as error:
        raise _damaged(error) from error


def parse_bundle(document: str) -> Bundle:
    """Read the document of a model file.

    Raises ModelError when it is damaged, incomplete, or of a newer schema than this package reads.
    """
    version = check_version(document)
    try:
        loaded = read.load(document)
        if version == 1:
            loaded = metadata_v1.upgraded(loaded)
        return _bundle(loaded, () if version >= WITH_VALIDITY else ("validity",), version)
    except (LookupError, TypeError, ValueError, ArithmeticError, RecursionError, UsageError) as error:
        raise _damaged(error) from error


def _damaged(error: Exception) -> ModelError:
    return ModelError(f"The model's rstpm_edge metadata is damaged ({str(error).rstrip('.')}); export the model again.")


def head_gain(fusion: Fusion, head: HeadMap) -> float:
    """What the head's map is multiplied by where the first map carries it."""
    return head.weight / head.std * fusion.std[0] / fusion.weights[0]


def _bundle(loaded: Any, absent: Sequence[str], version: int) -> Bundle:
    """From a document of today's schema, or of one from before the fields `absent`."""
    names = [one.name for one in dataclass_fields(Bundle) if one.name not in absent]
    found = read.fields(loaded, "it", names, ("needs",))
    read.text(found.get("needs", ""), "the release that it needs", 100)
    height, width = (read.whole(found[name], f"the {name}", 1, MOST_SIDE) for name in ("height", "width"))
    precision_change = read.summary(found["precision_change"], "the precision's change")
    for value in precision_change.values():
        read.number(value, "a change by the precision", -LARGEST, LARGEST)
    if not isinstance(found["saturation_free"], bool):
        raise ValueError("whether it is free of saturation is neither true nor false")
    fusion = _fusion(found["fusion"], max(height, width))
    scores = found["score_fusion"]
    return Bundle(
        preset=read.text(found["preset"], "the preset"),
        height=height,
        width=width,
        resize=read.choice(found["resize"], "the resize policy", get_args(ResizePolicy)),
        strides=_strides(found["strides"], height, width),
        fusion=fusion,
        calibration=_calibration(found["calibration"]),
        teachers=_teachers(found["teachers"]),
        package_version=read.text(found["package_version"], "the package version", 100),
        training=read.summary(found["training"], "training"),
        roi=None if found["roi"] is None else _roi(found["roi"]),
        precision=read.choice(found["precision"], "the precision", get_args(Precision)),
        precision_change=precision_change,
        score_fusion=None if scores is None else _score_fusion(scores, fusion, height, width, version >= WITH_KIND),
        profile=None if found["profile"] is None else parse_profile(found["profile"]),
        mask=None if found["mask"] is None else parse_mask(found["mask"]),
        saturation_free=found["saturation_free"],
        validity=None if found.get("validity") is None else parse_validity(found["validity"]),
        schema_version=found["schema_version"],
    )


def _strides(value: Any, height: int, width: int) -> tuple[int, int, int]:
    if not isinstance(value, list) or len(value) != 3:
        raise ValueError("the strides are not three numbers")
    fine, middle, coarse = (read.whole(stride, "a stride", 1, min(height, width)) for stride in value)
    if not fine < middle < coarse or any(side % stride for side in (height, width) for stride in value):
        raise ValueError("the strides are not three numbers, finest first, that divide the input size")
    return fine, middle, coarse


def _calibration(value: Any) -> Calibration:
    found = read.fields(value, "the calibration", ("alpha", "scores"), ("threshold",))
    scores = found["scores"]
    if not isinstance(scores, list) or not 0 < len(scores) <= MOST_SCORES:
        raise ValueError(f"the calibration scores are no list of 1 to {MOST_SCORES} numbers")
    read_scores = tuple(read.number(score, "a calibration score", -LARGEST, LARGEST) for score in scores)
    if any(before > after for before, after in pairwise(read_scores)):
        raise ValueError("the calibration scores are not ascending")
    if "threshold" in found:  # for programs that are not ours; it follows from the scores
        read.number(found["threshold"], "the threshold", -LARGEST, LARGEST)
    calibration = Calibration(read.number(found["alpha"], "alpha", 0, 1), read_scores)
    _ = calibration.threshold  # raises where alpha asks for more scores than there are
    return calibration


def _teachers(value: Any) -> tuple[Teacher, Teacher]:
    if not isinstance(value, list) or len(value) != 2:
        raise ValueError("not two teachers")
    names = [one.name for one in dataclass_fields(Teacher)]
    found = [read.fields(teacher, "a teacher", names) for teacher in value]
    first, second = (Teacher(*(read.text(one[name], f"a teacher's {name}") for name in names)) for one in found)
    return first, second


def _roi(value: Any) -> Roi:
    if not isinstance(value, list) or len(value) != 4:
        raise ValueError("the ROI is not four numbers")
    return check_roi([read.whole(number, "a number of the ROI", 0, MOST_PIXELS) for number in value])


def _fusion(value: Any, largest_side: int) -> Fusion:
    found = read.fields(value, "the fusion", [one.name for one in dataclass_fields(Fusion)])
    fusion = Fusion(
        mode=read.choice(found["mode"], "the fusion's mode", get_args(FusionMode)),
        mean=read.numbers(found["mean"], "mean", 6, -LARGEST_MEAN, LARGEST_MEAN),
        std=read.numbers(found["std"], "std", 6, SMALLEST_STD, LARGEST),
        weights=read.numbers(found["weights"], "weights", 6, -LARGEST, LARGEST),
        smoothing_sigma=read.number(found["smoothing_sigma"], "the smoothing sigma", 0, SMOOTHING[1]),
        head=None if found["head"] is None else _head(found["head"]),
    )
    if any(abs(weight / std) > LARGEST_GAIN for weight, std in zip(fusion.weights, fusion.std, strict=True)):
        raise ValueError(f"a weight is more than {LARGEST_GAIN:g} times its std")
    if 0 < fusion.smoothing_sigma < SMOOTHING[0] or fusion.smoothing_sigma > largest_side:
        raise ValueError(f"the smoothing sigma is below {SMOOTHING[0]:g}, or larger than the input")
    if fusion.smoothing_sigma and fusion.mode == "paper":
        raise ModelError("The model smooths a product of maps, as rstpm-edge no longer does: train without smoothing.")
    if fusion.head is not None:
        if fusion.mode != "normalized" or fusion.weights[0] == 0:
            raise ValueError("there is a head, but no sum that its map could join")
        if not abs(head_gain(fusion, fusion.head)) <= LARGEST_GAIN:
            raise ValueError("the head's part of the sum is too large")
    return fusion


def _head(value: Any) -> HeadMap:
    found = read.fields(value, "the head", ("mean", "std", "weight"))
    head = HeadMap(
        mean=read.number(found["mean"], "the head's mean", -LARGEST_MEAN, LARGEST_MEAN),
        std=read.number(found["std"], "the head's std", SMALLEST_STD, LARGEST),
        weight=read.number(found["weight"], "the head's weight", -LARGEST, LARGEST),
    )
    if abs(head.weight / head.std) > LARGEST_GAIN:
        raise ValueError("the head's weight is too large for its std")
    return head


def _score_fusion(value: Any, of_map: Fusion, height: int, width: int, has_kind: bool) -> ScoreFusion:
    # Files from before the coarsest cells were part of the score have nothing of them, or one weight for all of them.
    required = ("fusion", "map_weight", "bias", *(("kind",) if has_kind else ()))
    found = read.fields(value, "the score fusion", required, ("coarse", "coarse_weight"))
    fusion = _fusion(found["fusion"], max(height, width))
    if fusion.head is not None:
        raise ValueError("the score maps' fusion has a head")
    coarse = found.get("coarse")
    weight = read.number(found.get("coarse_weight", 0.0), "the coarsest cells' weight in the score", 0, LARGEST_MEAN)
    if coarse is not None and weight:
        raise ValueError("the coarsest cells have a part in the score twice")
    cells = coarsest_of_map(of_map, weight) if coarse is None else _coarse(coarse)
    kind = read.choice(found["kind"], "the kind of score maps", get_args(ScoreMapKind)) if has_kind else kind_of(cells)
    if kind == "angles" and cells is not None and cells.has_angles:
        raise ValueError("the angles of the coarsest level have a part in the score twice")
    return ScoreFusion(
        fusion,
        bias=read.number(found["bias"], "the score's bias", -LARGEST_MEAN, LARGEST_MEAN),
        coarse=cells,
        kind=kind,
        # With a negative weight, what a mask ignores could raise the score.
        map_weight=read.number(found["map_weight"], "the anomaly map's weight in the score", 0, LARGEST_MEAN),
    )


def kind_of(coarse: CoarseCells | None) -> ScoreMapKind:
    """What the score maps hold where that is not said: with them, angles became a part of `coarse`."""
    return "errors" if coarse is not None and coarse.has_angles else "angles"


def coarsest_of_map(fusion: Fusion, weight: float) -> CoarseCells | None:
    """The coarsest level of the map that `fusion` makes, so many times: as files from before angles had a part say it.

    None for 0. Raises ValueError for a product.
    """
    if not weight:
        return None
    if fusion.mode != "normalized":
        raise ValueError("the coarsest cells have a part in the score, and the fusion is no sum")
    return CoarseCells(fusion.mean[2::3], fusion.std[2::3], tuple(weight * one for one in fusion.weights[2::3]))


def _coarse(value: Any) -> CoarseCells:
    found = read.fields(value, "the coarsest cells", ("mean", "std", "weights"))
    count = 2 if isinstance(found["weights"], list) and len(found["weights"]) == 2 else 4
    cells = CoarseCells(
        mean=read.numbers(found["mean"], "mean", count, -LARGEST_MEAN, LARGEST_MEAN),
        std=read.numbers(found["std"], "std", count, SMALLEST_STD, LARGEST),
        weights=read.numbers(found["weights"], "weights", count, -LARGEST, LARGEST),
    )
    if any(abs(weight / std) > LARGEST_GAIN for weight, std in zip(cells.weights, cells.std, strict=True)):
        raise ValueError(f"a weight of the coarsest cells is more than {LARGEST_GAIN:g} times its std")
    return cells
