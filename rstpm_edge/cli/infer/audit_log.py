"""What `rstpm-edge infer` says of itself in its audit log: all that a verdict depends on, and no secret."""

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rstpm_edge.cli.line.audit_log import recorded, shown
from rstpm_edge.cli.terminal import as_typed
from rstpm_edge.errors import RstpmEdgeError

if TYPE_CHECKING:
    from rstpm_edge.cli.infer.options import InferOptions
    from rstpm_edge.cli.line.source import InspectionPlan
    from rstpm_edge.detector import Detector
    from rstpm_edge.outputs.audit_log import AuditLog
    from rstpm_edge.pipeline import InferenceOptions


@contextlib.contextmanager
def telling_refusals(log: "AuditLog | None", options: "InferOptions", plan: "InspectionPlan") -> Iterator[None]:
    """What is raised in the block, where the model is loaded, stands in the log."""
    try:
        yield
    except RstpmEdgeError as error:
        if log is not None:
            log.refuse(_typed(options, plan), as_typed(str(error)))
        raise


def facts_of(
    options: "InferOptions", plan: "InspectionPlan", detector: "Detector", judging: "InferenceOptions"
) -> dict[str, Any]:
    """What an entry says of what judges from now on."""
    return {
        **_typed(options, plan),
        "sha256": detector.sha256,
        **recorded(judging),
        "threshold": detector.threshold,
        "calibrated_threshold": detector.info.calibration.threshold,
        "runs_with": list(detector.providers),
        "precision": detector.precision,
    }


def _typed(options: "InferOptions", plan: "InspectionPlan") -> dict[str, Any]:
    every = options.every
    return {
        "source": shown(plan.name),
        "model": shown(os.path.abspath(options.model)),
        "typed": {
            "threshold": options.threshold,
            "alpha": options.alpha,
            "allow_size_change": options.allow_size_change,
            "every": None if every is None else shown(str(every)),
            "providers": [shown(str(provider)) for provider in options.providers or ()],
            "verify": options.verify,
            "drift": options.drift,
            "reload": options.reload,
            "public_key": options.public_key is not None,
        },
    }
