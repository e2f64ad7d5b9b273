"""What a model file says about itself: one JSON document under one ONNX metadata key.

The file is plain ONNX; everything that the runtime must know beyond the graph (input size, fusion statistics,
calibration, where the weights came from) stands in that document, so there is never a second file.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal

from rstpm_edge.calibration import Calibration
from rstpm_edge.image.input_profile import InputProfile
from rstpm_edge.image.placement import ResizePolicy
from rstpm_edge.image.roi import Roi
from rstpm_edge.image.stored_mask import StoredMask
from rstpm_edge.model.validity import Validity

METADATA_KEY = "rstpm_edge"
CHECKSUM_KEY = "rstpm_edge_crc32"  # of the graph; see `model_file.stamps`
FILE_CHECKSUM_KEY = "rstpm_edge_crc32_file"  # of all of the file but the metadata
# Photos to check a device with (see `goldens`), and the CRC-32 of that text. Readers from before skip both.
GOLDENS_KEY, GOLDENS_CHECKSUM_KEY = "rstpm_edge_goldens", "rstpm_edge_crc32_goldens"
# What was calibrated on before (see `recalibrations`), and the CRC-32 of that text; skipped likewise.
RECALIBRATIONS_KEY, RECALIBRATIONS_CHECKSUM_KEY = "rstpm_edge_recalibrations", "rstpm_edge_crc32_recalibrations"
# Of the document, and the first release that reads it. Any new key raises both: readers refuse what they do not know,
# since a key that one of them skips may be the one that decides (a ROI, a mask, a segmentation head).
SCHEMA_VERSION, NEEDS = 4, "0.1.0"

EMBEDDING = "embedding"  # the name of the output that says what an image is like as a whole

FusionMode = Literal["normalized", "paper"]
Precision = Literal["fp32", "fp16", "int8"]
ScoreMapKind = Literal["errors", "angles"]


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
    have no part. Residuals, with weights above 0, have one in files from before angles and errors were enough.
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
    `coarse` puts them together, 0 without it. `kind` says what the score maps hold: squared residuals, `errors`, or, in
    files from before these, `angles`. The scales of B, C and D and `bias` put the score into the unit of A: on
    held-out good images, scores and maxima of A have the same median and the same threshold. `fusion` has no head. Only
    files from before have a `map_weight`.
    """

    fusion: Fusion
    bias: float
    coarse: CoarseCells | None = None
    map_weight: float = 0.0
    kind: ScoreMapKind = "errors"


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
        """Names of the six score maps, which `score_fusion` fuses: stpm_8_error … recon_32_error, or, of its older
        kind, stpm_8_angle …; none without it."""
        if self.score_fusion is None:
            return ()
        return score_map_names(self.strides) if self.score_fusion.kind == "errors" else angle_names(self.strides)

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
