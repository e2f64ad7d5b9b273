"""Results of products, as trainings would leave them."""

from __future__ import annotations

from typing import Any

from rstpm_edge.training.fleet_train.result import Audited, Measured, Need, ProductResult, Trained

TRAINED = Trained(
    photos=120,
    held_out=24,
    epochs=60,
    minutes=3.0,
    size=(256, 256),
    alpha=0.05,
    threshold=1.5,
    rate_with_confidence=0.14,
    synthetic_found=0.8,
    run="nut/run-0123456789ab",
)
MEASURED = Measured(
    images=40, image_auroc=0.97, pixel_auroc=0.91, aupro=0.8, found=0.9, false_rejects=0.05, keeps_promise=True
)


def result(name: str = "nut", **changes: Any) -> ProductResult:
    """One with a model, measured on labelled photos; it needs an audit."""
    fields: dict[str, Any] = {
        "data": f"photos/{name}",
        "audited": Audited(2, 0),
        "trained": TRAINED,
        "measured": MEASURED,
        "needs": (Need("audit", "2 of the good photos look suspicious"),),
        "model_sha256": "00" * 32,
        "seconds": {"training": 180.0},
        "peak_bytes": 1_500_000_000,
    }
    return ProductResult(name, **{**fields, **changes})


def without_model(name: str, reason: str) -> ProductResult:
    return ProductResult(name, f"photos/{name}", reason)
