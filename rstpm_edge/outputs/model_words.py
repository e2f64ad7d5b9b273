"""What people read of a model and its threshold, in the same words on a terminal and in a report."""

from collections.abc import Sequence

NO_PROMISE = (
    "No false-reject rate is promised: another part of the photos is judged than the model was calibrated with, or the "
    "threshold that was given lies below the scores of all good images that it was calibrated on."
)
_HIGHEST = "the highest value of the anomaly map"


def score_terms(kind: str | None, coarse_weights: Sequence[float] | None, map_weight: float) -> list[str]:
    """Of what an image's score is the sum, beside a bias: the terms that weigh.

    The arguments are fields of the `ScoreFusion` of a model file (`rstpm_edge.model.metadata`): its `kind`, which is
    None for a model without one, whose score is that of the map; the weights of its `coarse`; its `map_weight`.
    """
    if kind is None:
        return [_HIGHEST]
    terms = [f"the highest value of the fused score maps, of {kind}"]
    if coarse_weights is not None:
        of_kinds = {"residuals": coarse_weights[:2], "angles": coarse_weights[2:]}
        terms += [f"the highest cell of the coarsest level, of {name}" for name, own in of_kinds.items() if any(own)]
    if map_weight:
        terms.append(f"{map_weight:.4g} of {_HIGHEST}")
    return terms
