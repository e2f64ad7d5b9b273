"""What `rstpm-edge infer` says of itself in its audit log: all that a verdict depends on, and no secret."""

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rstpm_edge.cli.terminal import as_typed, say_note
from rstpm_edge.errors import RstpmEdgeError
from rstpm_edge.printable import one_line, without_passwords

if TYPE_CHECKING:
    from rstpm_edge.cli.infer_options import InferOptions
    from rstpm_edge.cli.infer_source import InspectionPlan
    from rstpm_edge.detector import Detector
    from rstpm_edge.image.mask import Mask
    from rstpm_edge.model.keys import PublicKey
    from rstpm_edge.outputs.audit_log import AuditLog


def open_audit_log(options: "InferOptions", plan: "InspectionPlan", stack: contextlib.ExitStack) -> "AuditLog | None":
    """The log that was asked for, until the end of `stack`. Raises UsageError and OutputError."""
    if options.audit_log is None:
        return None
    from rstpm_edge.outputs.audit_log import LARGEST, AuditLog

    largest = LARGEST if options.audit_log_size is None else options.audit_log_size * 1_000_000
    report = None if plan.has_end else say_note  # a line goes on
    return stack.enter_context(AuditLog(options.audit_log, report=report, largest=largest))


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
    options: "InferOptions",
    plan: "InspectionPlan",
    detector: "Detector",
    mask: "Mask | str | None",
    key: "PublicKey | None",
) -> dict[str, Any]:
    """What an entry says of what judges from now on; mask and key are those that were loaded, whatever the files are by
    now.
    """
    return {
        **_typed(options, plan),
        "sha256": detector.sha256,
        "signed_by": None if key is None else key.hint,
        "threshold": detector.threshold,
        "calibrated_threshold": detector.info.calibration.threshold,
        "roi": options.roi,
        "mask": mask if mask is None or isinstance(mask, str) else {"sha256": mask.sha256},
        "runs_with": list(detector.providers),
        "precision": detector.precision,
    }


def _typed(options: "InferOptions", plan: "InspectionPlan") -> dict[str, Any]:
    every = options.every
    return {
        "source": _shown(plan.name),
        "model": _shown(os.path.abspath(options.model)),
        "typed": {
            "threshold": options.threshold,
            "alpha": options.alpha,
            "allow_size_change": options.allow_size_change,
            "every": None if every is None else _shown(every),
            "providers": [_shown(provider) for provider in options.providers or ()],
            "verify": options.verify,
            "drift": options.drift,
            "reload": options.reload,
            "public_key": options.public_key is not None,
        },
    }


def _shown(value: object) -> str:
    return one_line(without_passwords(str(value)))[:2000]
