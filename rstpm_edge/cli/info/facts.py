"""What `rstpm-edge info --json` says: a document of plain values."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from rstpm_edge.calibration import CONFIDENCE
from rstpm_edge.cpu import advice, dot_products, usable_cores
from rstpm_edge.detector import Detector
from rstpm_edge.engine.providers import available_providers
from rstpm_edge.errors import ModelError
from rstpm_edge.model.goldens import parse_goldens
from rstpm_edge.model.model_file import opened
from rstpm_edge.model.recalibrations import parse_recalibrations
from rstpm_edge.model.session_rates import rate_with_confidence, session_rates
from rstpm_edge.model.training_summary import synthetic_defects
from rstpm_edge.native import kernels

T = TypeVar("T")


def facts_of(detector: Detector, model: Path) -> dict[str, Any]:
    """All of a model file, `model`, and of how this machine runs it.

    Raises ModelError where the file is not the one that `detector` has loaded any more.
    """
    bundle = detector.info
    calibration, sessions = bundle.calibration, session_rates(bundle.training)
    synthetic = synthetic_defects(bundle.training)
    found = synthetic.found if synthetic else {}
    facts = asdict(bundle)
    facts["sha256"] = detector.sha256
    facts["goldens"], facts["recalibrations"] = _beside_the_document(model, detector.sha256)
    if facts["validity"] and facts["validity"]["novelty"]:
        novelty = facts["validity"]["novelty"]
        facts["validity"]["novelty"] = {name: novelty[name] for name in ("photos", "channels", "limit")}
    facts["calibration"] = {
        "alpha": calibration.alpha,
        "images": len(calibration.scores),
        "threshold": calibration.threshold,
        "typical_score": calibration.median,
        "confidence": CONFIDENCE,
        "rate_with_confidence": rate_with_confidence(calibration, sessions),
        "thresholds": [
            {
                "alpha": alpha,
                "threshold": value,
                "rate_with_confidence": rate_with_confidence(calibration, sessions, alpha),
                **({"synthetic_found": found[alpha]} if alpha in found else {}),
            }
            for alpha, value in calibration.thresholds.items()
        ],
    }
    facts["runtime"] = {
        "providers": available_providers(),
        "in_use": detector.providers,
        "precision": detector.precision,
        "kernels": list(kernels().available),
        "kernel": kernels().active,
        "threads": usable_cores(),
        "dot_products": dot_products(),
        "advice": advice(bundle.precision),
    }
    return facts


def _beside_the_document(model: Path, sha256: str) -> tuple[list[str] | None, list[dict[str, Any]] | None]:
    """Names of the photos in the model file, and what it was calibrated on before; None of what cannot be read, which
    is no reason not to judge.

    Raises ModelError where it is not the file of this SHA-256 any more, which was loaded, and verified by its key.
    """
    with opened(model) as found:
        goldens, recalibrations = found.goldens, found.recalibrations
    if found.sha256 != sha256:
        raise ModelError(f"The model {model} was written to while it was being loaded; load it again.")

    def names(document: str) -> list[str]:
        return [golden.name for golden in parse_goldens(document)]

    def steps(document: str) -> list[dict[str, Any]]:
        return [
            {**asdict(step), "threshold": step.before.threshold, "images": len(step.scores)}
            for step in parse_recalibrations(document)
        ]

    return _read_if_any(names, goldens), _read_if_any(steps, recalibrations)


def _read_if_any(parse: Callable[[str], list[T]], document: str | None) -> list[T] | None:
    try:
        return [] if document is None else parse(document)
    except ModelError:
        return None
