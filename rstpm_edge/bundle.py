"""What a model file says about itself: one JSON document under one ONNX metadata key.

The file is plain ONNX; everything that the runtime must know beyond the graph (input size, fusion statistics,
calibration, where the weights came from) stands in that document, so there is never a second file.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from rstpm_edge.calibration import Calibration
from rstpm_edge.errors import ModelError, UsageError
from rstpm_edge.image.placement import ResizePolicy
from rstpm_edge.image.roi import Roi, check_roi

METADATA_KEY = "rstpm_edge"
CHECKSUM_KEY = "rstpm_edge_crc32"  # see `model_file.checksum`
SCHEMA_VERSION = 1

FusionMode = Literal["normalized", "paper"]
Precision = Literal["fp32", "fp16", "int8"]


@dataclass(frozen=True)
class HeadMap:
    """How a seventh map takes part in the sum: that of a head which was trained on painted defects.

    It has the finest level's size. `mean` and `std` are its μ and σ over held-out good images.
    """

    mean: float
    std: float
    weight: float


@dataclass(frozen=True)
class Fusion:
    """How six maps become one (pair 1 at three levels, then pair 2 at three levels), and a seventh where there is one.

    `mean` and `std` are each map's μ and σ over held-out good images. `smoothing_sigma` is the standard
    deviation, in pixels of the model's input, of a Gaussian applied to the fused map; 0 means none. `head` is for the
    mode `normalized`.
    """

    mode: FusionMode = "normalized"
    mean: tuple[float, ...] = (0.0,) * 6
    std: tuple[float, ...] = (1.0,) * 6
    weights: tuple[float, ...] = (1.0,) * 6
    smoothing_sigma: float = 0.0
    head: HeadMap | None = None


@dataclass(frozen=True)
class Evidence:
    """How an image is scored where another measure than the anomaly map's own maximum tells good from defective better.

    score = max(B) + outline · max(A) + offset. A is the anomaly map; B is fused by `fusion` from six further maps
    (`Bundle.evidence_names`). The scale of B, `outline` and `offset` put the score into the unit of A: on held-out good
    images, scores and maxima of A have the same median and the same threshold.
    """

    fusion: Fusion
    outline: float
    offset: float


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
    are stored in, and `moved` what that changed against fp32: a summary for people, too. Without `evidence` the score
    is the maximum of the anomaly map.
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
    moved: Mapping[str, Any] = field(default_factory=dict)
    evidence: Evidence | None = None
    schema_version: int = SCHEMA_VERSION

    @property
    def map_names(self) -> tuple[str, ...]:
        """Names of the six map outputs, in the order of every list of six: stpm_8 … recon_32."""
        return map_names(self.strides)

    @property
    def evidence_names(self) -> tuple[str, ...]:
        """Names of the six outputs that `evidence` is fused from, stpm_8_angle … recon_32_angle; none without it."""
        return () if self.evidence is None else evidence_names(self.strides)

    @property
    def head_names(self) -> tuple[str, ...]:
        """The name of the head's output, head_8; none without it."""
        return () if self.fusion.head is None else head_names(self.strides)

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of all outputs that are read, in order: the six maps, those of the evidence, that of the head."""
        return self.map_names + self.evidence_names + self.head_names

    def to_json(self) -> str:
        """The document as JSON; NaN and infinity are refused (ValueError)."""
        fields = asdict(self)
        fields["calibration"]["threshold"] = self.calibration.threshold  # for programs that are not ours
        # Beside the fusion, not in it, so that a reader that knows of no head refuses the file.
        head = fields["fusion"].pop("head")
        if head is not None:
            fields["head"] = head
        if self.roi is None:
            # Left out, so that only a reader that would judge the wrong part of the photo refuses the file.
            del fields["roi"]
        if self.precision == "fp32":  # as in files from before there was another
            del fields["precision"], fields["moved"]
        if self.evidence is None:
            del fields["evidence"]
        else:
            del fields["evidence"]["fusion"]["head"]
        return json.dumps(fields, allow_nan=False)


def map_names(strides: tuple[int, int, int]) -> tuple[str, ...]:
    """Output names of the six maps for these strides."""
    return tuple(f"{pair}_{stride}" for pair in ("stpm", "recon") for stride in strides)


def evidence_names(strides: tuple[int, int, int]) -> tuple[str, ...]:
    """Output names of the six maps that evidence is fused from, for these strides."""
    return tuple(f"{name}_angle" for name in map_names(strides))


def head_names(strides: tuple[int, int, int]) -> tuple[str]:
    """Output name of the head's map, for these strides."""
    return (f"head_{strides[0]}",)


def parse_bundle(document: str) -> Bundle:
    """Read the document of a model file.

    Raises ModelError when it is damaged, incomplete, or of a newer schema than this package knows.
    """
    try:
        fields = json.loads(document)
        version = fields["schema_version"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ModelError("The model's rstpm_edge metadata is damaged; export the model again.") from error
    if not isinstance(version, int) or not 1 <= version <= SCHEMA_VERSION:
        raise ModelError(
            f"The model has schema version {version}, but this rstpm-edge reads up to {SCHEMA_VERSION}: "
            "upgrade rstpm-edge, or export the model with this version."
        )
    try:
        fusion = _fusion(fields["fusion"], fields.pop("head", None))
        bundle = Bundle(
            **{
                **fields,
                "strides": tuple(int(stride) for stride in fields["strides"]),
                "fusion": fusion,
                "calibration": Calibration(
                    float(fields["calibration"]["alpha"]), tuple(map(float, fields["calibration"]["scores"]))
                ),
                "teachers": tuple(Teacher(**teacher) for teacher in fields["teachers"]),
                "roi": None if fields.get("roi") is None else check_roi(fields["roi"]),
                "evidence": None if fields.get("evidence") is None else _evidence(fields["evidence"]),
            }
        )
        _check(bundle)
    except (KeyError, TypeError, ValueError, OverflowError, UsageError) as error:
        raise ModelError(f"The model's rstpm_edge metadata is damaged ({error}); export the model again.") from error
    return bundle


def _fusion(fields: Mapping[str, Any], head: Mapping[str, Any] | None = None) -> Fusion:
    mean, std, weights = (tuple(map(float, fields[name])) for name in ("mean", "std", "weights"))
    joined = None if head is None else HeadMap(*(float(head[name]) for name in ("mean", "std", "weight")))
    return Fusion(fields["mode"], mean, std, weights, float(fields["smoothing_sigma"]), joined)


def _evidence(fields: Mapping[str, Any]) -> Evidence:
    return Evidence(_fusion(fields["fusion"]), float(fields["outline"]), float(fields["offset"]))


def _check(bundle: Bundle) -> None:
    if bundle.resize not in get_args(ResizePolicy):
        raise ValueError(f"unknown resize policy {bundle.resize!r}")
    if bundle.precision not in get_args(Precision) or not isinstance(bundle.moved, Mapping):
        raise ValueError(f"unknown precision {bundle.precision!r}, or what it moved is no object")
    if len(bundle.strides) != 3 or not 0 < bundle.strides[0] < bundle.strides[1] < bundle.strides[2]:
        raise ValueError("the strides are not three positive numbers, finest first")
    if len(bundle.teachers) != 2:
        raise ValueError("not two teachers")
    if not all(isinstance(side, int) and side > 0 for side in (bundle.height, bundle.width)):
        raise ValueError("the input size is not two positive integers")
    largest = max(bundle.height, bundle.width)
    _check_fusion(bundle.fusion, largest)
    if bundle.evidence is not None:
        _check_fusion(bundle.evidence.fusion, largest)
        # With a negative share, what a mask ignores could raise the score.
        if not (0 <= bundle.evidence.outline < math.inf and math.isfinite(bundle.evidence.offset)):
            raise ValueError("the evidence's share of the map is negative, or it or the offset is not finite")
    scores = bundle.calibration.scores
    if list(scores) != sorted(scores) or not all(map(math.isfinite, scores)):
        raise ValueError("the calibration scores are not ascending finite numbers")
    _ = bundle.calibration.threshold


def _check_fusion(fusion: Fusion, largest_side: int) -> None:
    if fusion.mode not in get_args(FusionMode):
        raise ValueError(f"unknown fusion {fusion.mode!r}")
    numbers = (fusion.mean, fusion.std, fusion.weights)
    if any(len(six) != 6 or not all(map(math.isfinite, six)) for six in numbers) or min(fusion.std) <= 0:
        raise ValueError("mean, std and weights must be six finite numbers each, std positive")
    if not 0 <= fusion.smoothing_sigma <= largest_side:
        raise ValueError("the smoothing sigma is negative, or larger than the input")
    if (head := fusion.head) is not None:
        if fusion.mode != "normalized" or fusion.weights[0] == 0:
            raise ValueError("there is a head, but no sum that its map could join")
        if not all(map(math.isfinite, (head.mean, head.std, head.weight))) or head.std <= 0:
            raise ValueError("the head's mean, std and weight must be finite numbers, std positive")
