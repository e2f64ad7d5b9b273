"""What a model file says of itself, from the run that it is exported from."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rstpm_edge import __version__
from rstpm_edge.image.grid import Grid
from rstpm_edge.image.mask import load_mask
from rstpm_edge.image.placement import place
from rstpm_edge.image.stored_mask import StoredMask
from rstpm_edge.model.metadata import Bundle, Precision, Teacher
from rstpm_edge.model.session_rates import SessionRates
from rstpm_edge.model.validity import Validity
from rstpm_edge.printable import printed

from ..learning.convergence import unfinished
from ..learning.novelty import with_held_out
from ..learning.run_config import RunConfig
from ..learning.run_summary import Summary
from ..learning.session_calibration import rates_of_run
from ..learning.synthetic_scores import synthetic_summary
from ..quantization.reduced_precision import ReducedModel


def bundle_of(config: RunConfig, summary: Summary, teachers: tuple[Teacher, Teacher]) -> Bundle:
    """What the model file of a run says of itself."""
    final, reason = summary.losses[-1], unfinished(summary.losses)
    return Bundle(
        preset=config.preset.name,
        height=config.height,
        width=config.width,
        resize=config.resize,
        strides=config.preset.strides,
        fusion=summary.fusion,
        calibration=summary.calibration,
        teachers=teachers,
        package_version=__version__,
        training={
            "images": len(config.train),
            "holdout": len(config.holdout),
            "epochs": summary.epochs,
            "minutes": round(summary.minutes, 2),
            "seed": config.seed,
            "loss": {"stpm": round(final[0], 4), "recon": round(final[1], 4)},
            **({} if reason is None else {"not_converged": reason}),
            **synthetic_summary(summary.synthetic_scores, summary.calibration),
            **({"dropped_as_defective": [printed(name) for name in summary.defective]} if summary.defective else {}),
            **_sessions(summary.sessions),
        },
        roi=config.roi,
        score_fusion=summary.score_fusion,
        profile=config.profile,
        validity=None if config.limits is None else replace(config.limits, novelty=summary.novelty),
    )


def without_defective(config: RunConfig, summary: Summary) -> RunConfig:
    """The run as if the held-out photos that were found to be defective had never been there, and with the rate that
    the others allow."""
    if not summary.defective:
        return config
    return replace(
        config,
        holdout=tuple(photo for photo in config.holdout if photo.name not in summary.defective),
        alpha=None if config.alpha is None else summary.calibration.alpha,
    )


def reduced_bundle(
    bundle: Bundle, reduced: ReducedModel, precision: Precision, config: RunConfig, session_rule: str | None
) -> Bundle:
    """The same of its graph in fewer bits, whose maps, scores and threshold are others, and what follows from them.

    `session_rule` is that by which the bundle says something of sessions; None where it says nothing.
    """
    behaviour = reduced.behaviour
    rates = None
    if session_rule is not None:
        names = [photo.name for photo in config.holdout]
        rates = rates_of_run(config, session_rule, names, behaviour.good.tolist(), behaviour.calibration)
    return replace(
        bundle,
        fusion=behaviour.fusion,
        score_fusion=behaviour.score_fusion,
        calibration=behaviour.calibration,
        training={
            **bundle.training,
            **synthetic_summary(sorted(behaviour.spoiled.tolist()), behaviour.calibration),
            **_sessions(rates),
        },
        validity=_widened(bundle.validity, reduced.embedding),
        precision=precision,
        precision_change=reduced.comparison.change,
        saturation_free=precision == "int8",
    )


def _widened(validity: Validity | None, held_out: NDArray[np.float32] | None) -> Validity | None:
    """The same with a limit of novelty that holds for a graph in fewer bits, which gives held-out photos these
    embeddings (n, C)."""
    if validity is None or validity.novelty is None or held_out is None:
        return validity
    return replace(validity, novelty=with_held_out(validity.novelty, held_out))


def _sessions(rates: SessionRates | None) -> Mapping[str, Any]:
    return {} if rates is None else {"sessions": asdict(rates)}


def fitting_mask(file: Path, config: RunConfig) -> StoredMask:
    """The mask in a file. Raises UsageError where it is none, or fits none of the photos that were learned from."""
    mask = load_mask(file)
    if config.profile is not None:
        height, width = config.profile.sizes[0]
        x, y, part_width, part_height = config.roi or (0, 0, width, height)
        placement = place(part_height, part_width, config.size, config.resize)
        mask.ignored(Grid(placement, part_height, part_width, x, y, (height, width)), config.size)
    return mask.stored()
