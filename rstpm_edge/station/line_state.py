"""What a line does at a moment."""

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from rstpm_edge.drift import DriftState
from rstpm_edge.station.product import ProductName

Condition: TypeAlias = Literal["starting", "running", "paused", "no source", "ended", "stopped"]


@dataclass(frozen=True)
class LineState:
    """What a line does now.

    `condition`: starting, running, paused, no source (it is lost, and tried again), ended (a source with an end),
    stopped. `problem` is a sentence on why there is no source. `source` names it for people. `images` counts those that
    were taken, failed ones too; `dropped` and `damaged` are a camera's. `drift` is what is known of it, None where it
    is not watched. `beat` is when the line was last alive, by time.monotonic.
    """

    name: str
    source: str
    condition: Condition
    problem: str | None
    product: ProductName
    model_sha256: str
    images: int
    dropped: int
    damaged: int
    drift: DriftState | None
    beat: float


def judging_facts(state: LineState) -> dict[str, Any]:
    """What the audit log says of a line: what it judges with."""
    return {
        "line": state.name,
        "product": state.product.name,
        "product_version": state.product.version,
        "sha256": state.model_sha256,
    }
