"""`--drift`: what is known before the first image of a model."""

from typing import TYPE_CHECKING

from rstpm_edge.drift import DriftState, begin
from rstpm_edge.errors import UsageError

if TYPE_CHECKING:
    from rstpm_edge.cli.line.options import LineOptions
    from rstpm_edge.model.metadata import Bundle


def first_state(options: "LineOptions", info: "Bundle") -> DriftState:
    """The state before the first image of a model.

    Raises UsageError where images are judged otherwise than the held-out ones were, and for a rate that cannot be.
    """
    assert options.drift is not None
    masked = info.mask is not None if options.mask == "model" else options.mask is not None
    if masked or (options.roi != "model" and options.roi != info.roi):
        raise UsageError(
            "--drift compares with held-out photos, which were judged without a mask and with the model's own ROI: "
            "give --mask full and no --roi, or leave --drift out."
        )
    return begin(info.calibration, options.drift, light=0 if info.validity is None else len(info.validity.light))
