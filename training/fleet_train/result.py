"""What came of a product, kept as JSON beside its model."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from rstpm_edge.atomic_files import write_json
from rstpm_edge.errors import RstpmEdgeError

Kind = Literal["photos", "audit", "look"]
KINDS: Mapping[Kind, str] = {"photos": "more photos", "audit": "an audit", "look": "another look"}


@dataclass(frozen=True)
class Need:
    """What a product should get from people: more photos, an audit of those it has, or another look; and why."""

    kind: Kind
    why: str


@dataclass(frozen=True)
class Audited:
    """How many of the photos should be looked at, and how many cannot be read; or why none were compared."""

    suspicious: int
    unreadable: int
    problem: str | None = None


@dataclass(frozen=True)
class Trained:
    """What a finished training says of itself; rates and shares are 0…1.

    `rate_with_confidence` is None where sessions differ; `synthetic_found` is the share of synthetic defects that the
    threshold finds, None where none were painted.
    """

    photos: int
    held_out: int
    epochs: int
    minutes: float
    size: tuple[int, int]  # height, width of the input
    alpha: float
    threshold: float
    rate_with_confidence: float | None
    synthetic_found: float | None
    run: str  # below the folder of all models


@dataclass(frozen=True)
class Measured:
    """What the test photos say of the model, at its own threshold; all 0…1, pixels None without masks."""

    images: int
    image_auroc: float
    pixel_auroc: float | None
    aupro: float | None
    found: float  # share of the defective photos
    false_rejects: float  # share of the good ones
    keeps_promise: bool


@dataclass(frozen=True)
class ProductResult:
    """`failure` says why there is no model; None where there is one.

    `seconds` are those of the stages that the last worker ran, `processor_seconds` what it used of processors, its
    start included; `peak_bytes` is the most memory that it had, `asked_bytes` what was asked for. `tries` counts the
    workers that began the product.
    """

    name: str
    data: str
    failure: str | None = None
    audited: Audited | None = None
    trained: Trained | None = None
    measured: Measured | None = None
    needs: tuple[Need, ...] = ()
    model_sha256: str | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    processor_seconds: float | None = None
    peak_bytes: int | None = None
    asked_bytes: int | None = None
    tries: int = 1
    done_before: bool = False

    @property
    def found(self) -> float | None:
        """The share of defects that the model finds: real ones, or else synthetic ones; None where neither is known."""
        if self.measured is not None:
            return self.measured.found
        return None if self.trained is None else self.trained.synthetic_found

    def to_json(self) -> dict[str, Any]:
        """All fields."""
        return asdict(self)


def failed(name: str, data: Path, reason: Exception | str) -> ProductResult:
    """A product without a model."""
    known = isinstance(reason, (RstpmEdgeError, str))
    text = " ".join(str(reason).split())
    return ProductResult(name, str(data), text if known else f"{type(reason).__name__}: {text}")


def worst_first(results: list[ProductResult]) -> list[ProductResult]:
    """Failed ones first, then by the share of defects found."""
    return sorted(results, key=lambda one: (one.failure is None, -1.0 if one.found is None else one.found, one.name))


def save(path: Path, key: str, content: Mapping[str, Any], below: Path) -> None:
    """Keep what follows from `key`. Raises OutputError."""
    write_json(path, {"key": key, **content}, below=below)


def load(path: Path, key: str) -> dict[str, Any] | None:
    """What was kept of just this `key`; None where there is nothing, or it is damaged."""
    try:
        content = json.loads(path.read_text())
        return content if isinstance(content, dict) and content.pop("key") == key else None
    except (OSError, ValueError, KeyError, RecursionError):
        return None


def audited_from(content: Mapping[str, Any] | None) -> Audited | None:
    """What `asdict` made of one; None for anything else."""
    try:
        return None if content is None else Audited(**content)
    except TypeError:
        return None


def result_from(content: Mapping[str, Any]) -> ProductResult | None:
    """What `to_json` made of one; None for anything else, as another version may have written it."""
    try:
        fields = dict(content)
        audited, trained, measured = (fields.pop(name) for name in ("audited", "trained", "measured"))
        return ProductResult(
            audited=None if audited is None else Audited(**audited),
            trained=None if trained is None else Trained(**{**trained, "size": tuple(trained["size"])}),
            measured=None if measured is None else Measured(**measured),
            needs=tuple(Need(**one) for one in fields.pop("needs")),
            **fields,
        )
    except (TypeError, KeyError, AttributeError):
        return None
