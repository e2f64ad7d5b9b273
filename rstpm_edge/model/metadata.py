"""What a model file says about itself: one JSON document under one ONNX metadata key.

The file is plain ONNX; everything that the runtime must know beyond the graph (input size, fusion statistics,
calibration, where the weights came from) stands in that document, so there is never a second file.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from dataclasses import fields as dataclass_fields
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal, get_args

from rstpm_edge import document as read
from rstpm_edge.calibration import Calibration
from rstpm_edge.errors import ModelError, UsageError
from rstpm_edge.image.input_profile import InputProfile, parse_profile
from rstpm_edge.image.placement import ResizePolicy
from rstpm_edge.image.roi import Roi, check_roi
from rstpm_edge.image.stored_mask import StoredMask, parse_mask
from rstpm_edge.model import metadata_v1
from rstpm_edge.model.validity import Validity, parse_validity

METADATA_KEY = "rstpm_edge"
CHECKSUM_KEY = "rstpm_edge_crc32"  # of the graph; see `model_file.stamps`
FILE_CHECKSUM_KEY = "rstpm_edge_crc32_file"  # of all of the file but the metadata
# Photos to check a device with (see `goldens`), and the CRC-32 of that text. Readers from before skip both.
GOLDENS_KEY, GOLDENS_CHECKSUM_KEY = "rstpm_edge_goldens", "rstpm_edge_crc32_goldens"
# Of the document, and the first release that reads it. Any new key raises both: readers refuse what they do not know,
# since a key that one of them skips may be the one that decides (a ROI, a mask, a segmentation head).
SCHEMA_VERSION, NEEDS = 3, "0.1.0"

# What a document may hold; csrc/rstpm_edge.h has the same bounds, and says what they are good for: sums of maps stay
# finite in float32.
LARGEST = 3.4e38  # of whatever becomes a float32
SMALLEST_STD = 1.2e-38  # no denormal
LARGEST_MEAN, LARGEST_GAIN = 1e12, 1e24
SMOOTHING = (0.01, 64.0)  # pixels; 0 is none
MOST_SIDE = 8192  # of the model's input: twice what is trained
MOST_PIXELS = 1 << 23  # a side of a photo
MOST_SCORES = 1_000_000

EMBEDDING = "embedding"  # the name of the output that says what an image is like as a whole

FusionMode = Literal["normalized", "paper"]
Precision = Literal["fp32", "fp16", "int8"]


@dataclass(frozen=True)
class HeadMap:
    """How a seventh map takes part in the sum: that of a head which was trained on synthetic defects.

    It has the finest level's size. `mean` and `std` are its μ and σ over held-out good images.
    """

    mean: float
    std: float
    weight: float


@dataclass(frozen=True)
class Fusion:
    """How six maps become one (pair 1 at three levels, then pair 2 at three levels), and a seventh where there is one.

    `mean` and `std` are each map's μ and σ over held-out good images. `smoothing_sigma` is the standard
    deviation, in pixels of the model's input, of a Gaussian applied to the fused map; 0 means none. Smoothing and
    `head` are for the mode `normalized`.
    """

    mode: FusionMode = "normalized"
    mean: tuple[float, ...] = (0.0,) * 6
    std: tuple[float, ...] = (1.0,) * 6
    weights: tuple[float, ...] = (1.0,) * 6
    smoothing_sigma: float = 0.0
    head: HeadMap | None = None


@dataclass(frozen=True)
class CoarseCells:
    """How the coarsest level is looked at by itself, at its own cells: Σ weight · (map − mean) / std over both pairs.

    The first two numbers are those of the anomaly maps of pair 1 and pair 2, which make one sum, the others those of
    the angle maps of both (`Bundle.angle_map_names`), which make another. Where there are two numbers each, angle maps
    have no part: so it is in files from before they had.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    weights: tuple[float, ...]

    @property
    def has_angles(self) -> bool:
        """Whether angle maps have a part."""
        return len(self.weights) == 4


@dataclass(frozen=True)
class ScoreFusion:
    """How an image is scored where another measure than the anomaly map's own maximum tells good from defective better.

    score = max(B) + max(C) + max(D) + map_weight · max(A) + bias. A is the anomaly map; B is fused by `fusion` from six
    score maps (`Bundle.score_map_names`); C and D are the cells of the coarsest level, of residuals and of angles, as
    `coarse` puts them together, 0 without it. The scales of B, C and D and `bias` put the score into the unit of A: on
    held-out good images, scores and maxima of A have the same median and the same threshold. `fusion` has no head. Only
    files from before have a `map_weight`.
    """

    fusion: Fusion
    bias: float
    coarse: CoarseCells | None = None
    map_weight: float = 0.0


@dataclass(frozen=True)
class Teacher:
    """A frozen backbone, and where its weights came from."""

    name: str
    source: str
    sha256: str
    license: str


@dataclass(frozen=True)
class Bundle:
    """The document itself. `strides` are finest first; `training` is a summary for people.

    `roi` is the part of each photo that was trained on; None for all of it. `precision` is what the network's weights
    are stored in, and `precision_change` what figures lost or gained by that against fp32: a summary for people, too.
    Without `score_fusion` the score is the maximum of the anomaly map. `profile` says what the photos were like, and is
    None in files from before it was kept: what is judged is then compared with nothing. `mask` says where anomalies
    count; None is everywhere. `saturation_free` says of int8 that no processor's sums of products saturate, as they may
    in files from before. `schema_version` is that of the file it was read from; what is written has the current one.
    """

    preset: str
    height: int
    width: int
    resize: ResizePolicy
    strides: tuple[int, int, int]
    fusion: Fusion
    calibration: Calibration
    teachers: tuple[Teacher, Teacher]
    package_version: str
    training: Mapping[str, Any] = field(default_factory=dict)
    roi: Roi | None = None
    precision: Precision = "fp32"
    precision_change: Mapping[str, Any] = field(default_factory=dict)
    score_fusion: ScoreFusion | None = None
    profile: InputProfile | None = None
    mask: StoredMask | None = None
    saturation_free: bool = False
    validity: Validity | None = None
    schema_version: int = SCHEMA_VERSION

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the input."""
        return self.height, self.width

    @property
    def bits(self) -> int:
        """The range of 16-bit values that are judged: 2^bits - 1 is white."""
        return 16 if self.profile is None else self.profile.input_bits

    @property
    def map_names(self) -> tuple[str, ...]:
        """Names of the six map outputs, in the order of every list of six: stpm_8 … recon_32."""
        return map_names(self.strides)

    @property
    def score_map_names(self) -> tuple[str, ...]:
        """Names of the six score maps, which `score_fusion` fuses: stpm_8_error … recon_32_error; none without it.

        In files from before it took the angles of the coarsest level alone, they are those of all angles.
        """
        if self.score_fusion is None:
            return ()
        return score_map_names(self.strides) if self.angle_map_names else angle_names(self.strides)

    @property
    def angle_map_names(self) -> tuple[str, ...]:
        """Names of both angle maps, which `CoarseCells` takes: stpm_32_angle, recon_32_angle; none without them."""
        score_fusion = self.score_fusion
        has_angles = score_fusion is not None and score_fusion.coarse is not None and score_fusion.coarse.has_angles
        return angle_map_names(self.strides) if has_angles else ()

    @property
    def head_names(self) -> tuple[str, ...]:
        """The name of the head's output, head_8; none without it."""
        return () if self.fusion.head is None else head_names(self.strides)

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of all maps that are read, in order: the six maps, score maps, angle maps, that of the head."""
        return self.map_names + self.score_map_names + self.angle_map_names + self.head_names

    @property
    def level_sizes(self) -> tuple[tuple[int, int], ...]:
        """(height, width) of the maps of the three levels, finest first."""
        return tuple((self.height // stride, self.width // stride) for stride in self.strides)

    @cached_property  # asked for at every image
    def output_sizes(self) -> Mapping[str, tuple[int, int]]:
        """(height, width) of each output's map, by its name, in the order of `output_names`."""
        of_stride = dict(zip(self.strides, self.level_sizes, strict=True))
        return {name: of_stride[_output_stride(name)] for name in self.output_names}

    @cached_property
    def graph_outputs(self) -> Mapping[str, tuple[int, ...]]:
        """The shape of all outputs that are read, without the batch, by name: maps, and the embedding where the model
        says what it is compared with."""
        novelty = None if self.validity is None else self.validity.novelty
        return {**self.output_sizes, **({} if novelty is None else {EMBEDDING: (novelty.channels,)})}

    def to_json(self) -> str:
        """The document as JSON, in the current schema; NaN and infinity are refused (ValueError)."""
        schema = {"schema_version": SCHEMA_VERSION, "needs": NEEDS}
        fields = {**schema, **asdict(self), **schema}  # first, and whatever the file had that this was read from
        fields["calibration"]["threshold"] = self.calibration.threshold  # for programs that are not ours
        return json.dumps(fields, allow_nan=False)


def map_names(strides: tuple[int, int, int]) -> tuple[str, ...]:
    """Output names of the six maps for these strides."""
    return tuple(f"{pair}_{stride}" for pair in ("stpm", "recon") for stride in strides)


OutputKind = Literal["anomaly map", "score map", "angle map", "head map", "embedding"]


def output_kinds(names: Sequence[str]) -> tuple[OutputKind, ...]:
    """What each of a model's outputs is, by their names."""
    has_errors = any(name.endswith("_error") for name in names)

    def kind(name: str) -> OutputKind:
        if name == EMBEDDING:
            return "embedding"
        if name.startswith("head_"):
            return "head map"
        if name.endswith("_angle") and has_errors:
            return "angle map"
        return "score map" if name.endswith(("_error", "_angle")) else "anomaly map"

    return tuple(map(kind, names))


def _output_stride(name: str) -> int:
    """The stride of the level that an output of this name has: stpm_8_angle is 8."""
    return int(name.split("_")[1])


def score_map_names(strides: tuple[int, int, int]) -> tuple[str, ...]:
    """Output names of the six score maps, for these strides."""
    return tuple(f"{name}_error" for name in map_names(strides))


def angle_names(strides: tuple[int, int, int]) -> tuple[str, ...]:
    """Output names of an angle map at each level of both pairs, for these strides."""
    return tuple(f"{name}_angle" for name in map_names(strides))


def angle_map_names(strides: tuple[int, int, int]) -> tuple[str, ...]:
    """Output names of the two angle maps of the coarsest level, for these strides."""
    return angle_names(strides)[2::3]


def head_names(strides: tuple[int, int, int]) -> tuple[str]:
    """Output name of the head's map, for these strides."""
    return (f"head_{strides[0]}",)


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
        return _bundle(loaded, () if version == SCHEMA_VERSION else ("validity",))
    except (LookupError, TypeError, ValueError, ArithmeticError, RecursionError, UsageError) as error:
        raise _damaged(error) from error


def _damaged(error: Exception) -> ModelError:
    return ModelError(f"The model's rstpm_edge metadata is damaged ({str(error).rstrip('.')}); export the model again.")


def head_gain(fusion: Fusion, head: HeadMap) -> float:
    """What the head's map is multiplied by where the first map carries it."""
    return head.weight / head.std * fusion.std[0] / fusion.weights[0]


def _bundle(loaded: Any, absent: Sequence[str]) -> Bundle:
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
        score_fusion=None if scores is None else _score_fusion(scores, fusion, height, width),
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


def _score_fusion(value: Any, of_map: Fusion, height: int, width: int) -> ScoreFusion:
    # Files from before the coarsest cells were part of the score have nothing of them, or one weight for all of them.
    found = read.fields(value, "the score fusion", ("fusion", "map_weight", "bias"), ("coarse", "coarse_weight"))
    fusion = _fusion(found["fusion"], max(height, width))
    if fusion.head is not None:
        raise ValueError("the score maps' fusion has a head")
    coarse = found.get("coarse")
    weight = read.number(found.get("coarse_weight", 0.0), "the coarsest cells' weight in the score", 0, LARGEST_MEAN)
    if coarse is not None and weight:
        raise ValueError("the coarsest cells have a part in the score twice")
    return ScoreFusion(
        fusion,
        bias=read.number(found["bias"], "the score's bias", -LARGEST_MEAN, LARGEST_MEAN),
        coarse=coarsest_of_map(of_map, weight) if coarse is None else _coarse(coarse),
        # With a negative weight, what a mask ignores could raise the score.
        map_weight=read.number(found["map_weight"], "the anomaly map's weight in the score", 0, LARGEST_MEAN),
    )


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
