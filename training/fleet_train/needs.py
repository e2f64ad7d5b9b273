"""What a product should get from people before it is relied on."""

from rstpm_edge.calibration import DEFAULT_ALPHA
from rstpm_edge.model.session_rates import SessionRates

from ..learning.convergence import unfinished
from ..learning.odd_photo import odd_photo
from ..learning.run_summary import Summary
from ..learning.synthetic_scores import share_found
from .result import Audited, Measured, Need

ENOUGH = 100  # good photos; fewer are something to try
LOW_AUROC = 0.9
LOW_SHARE = 0.5  # of synthetic defects found


def needs_of(
    audited: Audited, photos: int, summary: Summary, measured: Measured | None, problem: str | None
) -> tuple[Need, ...]:
    """What the figures ask for. `problem` is why the test photos could not be used."""
    return (
        *_photos(photos, summary),
        *_audit(audited),
        *_look(summary, measured, problem),
    )


def _photos(photos: int, summary: Summary) -> list[Need]:
    calibration = summary.calibration
    if photos < ENOUGH:
        return [Need("photos", f"{photos} good photos; {ENOUGH} or more are to be trusted")]
    if calibration.alpha > DEFAULT_ALPHA:
        return [Need("photos", f"{len(calibration.scores)} held-out photos allow a rate of {calibration.alpha:.0%}")]
    return []


def _audit(audited: Audited) -> list[Need]:
    found = []
    if audited.suspicious:
        found.append(Need("audit", f"{audited.suspicious} of the good photos look suspicious"))
    if audited.problem is not None:
        found.append(Need("audit", f"the photos were not compared with each other: {audited.problem}"))
    return found


def _look(summary: Summary, measured: Measured | None, problem: str | None) -> list[Need]:
    why = []
    if (odd := odd_photo(summary)) is not None:
        why.append(f"the held-out photo {odd.name} alone sets the threshold")
    if reason := unfinished(summary.losses):
        why.append(f"the training is not done: {reason}")
    if problem is not None:
        why.append(f"the test photos were not judged: {problem}")
    if measured is not None:
        if not measured.keeps_promise:
            why.append(f"{measured.false_rejects:.0%} of the good test photos are rejected, more than was promised")
        if measured.image_auroc < LOW_AUROC:
            why.append(f"image AUROC is {measured.image_auroc:.3f}: many defects look like good parts to it")
    elif (share := synthetic_share(summary)) is not None and share < LOW_SHARE:
        why.append(f"{share:.0%} of the synthetic defects are found at the threshold")
    if _differ(summary.sessions):
        why.append("sessions differ by more than chance")
    return [Need("look", one) for one in why]


def synthetic_share(summary: Summary) -> float | None:
    """The share of synthetic defects above the threshold; None where none were painted."""
    scores = summary.synthetic_scores
    return share_found(scores, summary.calibration.threshold) if scores else None


def _differ(sessions: SessionRates | None) -> bool:
    return sessions is not None and sessions.differ
