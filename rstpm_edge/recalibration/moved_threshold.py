"""The calibration that new confirmed good photos ask for, and what speaks against it."""

import getpass
import math
from dataclasses import dataclass, replace
from datetime import datetime, timezone

from rstpm_edge.calibration import Calibration, Threshold, calibrate, smallest_alpha, typed
from rstpm_edge.errors import UsageError
from rstpm_edge.model.metadata import Bundle
from rstpm_edge.model.recalibrations import Recalibration
from rstpm_edge.model.training_summary import KEY, OLD_KEY
from rstpm_edge.pipeline import InferenceOptions
from rstpm_edge.recalibration.confirmed_photos import ConfirmedPhotos
from rstpm_edge.recalibration.exchangeability import PLAINLY, other_scores_p_value

SESSIONS = "sessions"  # of a training's summary, what is said of the held-out photos' sessions


@dataclass(frozen=True)
class MovedThreshold:
    """`bundle` is the new document; `step` says what was and came. `p_value` is that of the two samples being one.

    `before` and `after` are the thresholds with what they promise: of the rate that is judged by, which need not be the
    model's own. `rejected` are how many of the new photos the one before rejects, and `still_rejected` the one from now
    on.
    """

    bundle: Bundle
    step: Recalibration
    p_value: float
    before: Threshold
    after: Threshold
    rejected: int
    still_rejected: int

    @property
    def calibration(self) -> Calibration:
        """The one that the model has from now on."""
        return self.bundle.calibration


def move_threshold(
    bundle: Bundle,
    model_sha256: str,
    confirmed: ConfirmedPhotos,
    *,
    only_new: bool = False,
    alpha: float | None = None,
    judged_by: float | None = None,
    user: str | None = None,
) -> MovedThreshold:
    """Calibrate on the photos that a model was calibrated on and the confirmed ones together, or on `only_new` ones.

    The promise stays: the model's own rate, or `alpha`. `judged_by` is the rate of a station that judges by another
    one, before and after; by default, that is the model's own. `user` is who decided; by default, whoever runs this.

    Both together are one sample only where new and old photos are exchangeable, so it is refused where their scores are
    plainly not (`exchangeability`): then the promise would hold for neither. Statements on the sessions of the old
    photos go where these do; those on synthetic defects go, since they were of the threshold before.

    Raises UsageError for that, where no photo is new, and for fewer photos than either rate asks for.
    """
    before, added = bundle.calibration, confirmed.scores
    if not added:
        raise UsageError(
            f"None of the {confirmed.photos} photos is new: the model learned from them, or was calibrated on them. "
            "Give good photos that it has never seen."
        )
    rate = before.alpha if alpha is None else alpha
    old = InferenceOptions(alpha=judged_by).threshold_of(bundle)
    p_value = other_scores_p_value(before.scores, old.value, added)
    if not only_new and p_value < PLAINLY:
        raise UsageError(_about_other_scores(before, added, p_value))
    scores = added if only_new else before.scores + added
    _check_enough(rate, len(scores), only_new, "" if judged_by in (None, rate) else ", the model's own rate,")
    if judged_by is not None:
        _check_enough(judged_by, len(scores), only_new, ", by which this station judges,")
    after = calibrate(scores, rate)
    training = {name: value for name, value in bundle.training.items() if name not in (KEY, OLD_KEY)}
    if only_new:
        training.pop(SESSIONS, None)
    step = Recalibration(
        time=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        user=_user() if user is None else user,
        model_sha256=model_sha256,
        replaced=only_new,
        photos=confirmed.photos,
        copies=confirmed.copies,
        known=confirmed.known,
        alpha=before.alpha,
        scores=before.scores,
        added=tuple(sorted(added)),
    )
    moved = replace(bundle, calibration=after, training=training)
    new = InferenceOptions(alpha=judged_by).threshold_of(moved)
    return MovedThreshold(
        moved,
        step,
        p_value,
        before=old,
        after=new,
        rejected=sum(score > old.value for score in added),
        still_rejected=sum(score > new.value for score in added),
    )


def _check_enough(alpha: float, count: int, only_new: bool, whose: str) -> None:
    """`whose` rate it is, in words."""
    if 0 < alpha < 1 and count < (needed := math.ceil(1 / alpha - 1e-9) - 1):
        new, instead = (
            (" that are new", ", or leave `only_new` out to add them to the old ones,") if only_new else ("", ",")
        )
        raise UsageError(
            f"To promise {100 * alpha:.3g}%{whose} takes {needed} photos, and here are {count}{new}: give "
            f"more{instead} or promise less by an `alpha` of {typed(smallest_alpha(count))}."
        )


def _about_other_scores(before: Calibration, added: tuple[float, ...], p_value: float) -> str:
    median = Calibration(before.alpha, tuple(sorted(added))).median
    way, why = (
        ("higher", "they are of other conditions than it was calibrated under, or were chosen for their high scores")
        if median > before.median
        else ("lower", "they are of other conditions, or were learned from")
    )
    return (
        f"The new photos score {way} than those that the model was calibrated on (median {median:.4g} and "
        f"{before.median:.4g}, p = {p_value:.2g}): {why}. Together they are no sample of anything, so nothing could be "
        "promised. If they are all good parts of a stretch of production, and more like what comes than the old ones, "
        "calibrate on them alone with `only_new`."
    )


def _user() -> str | None:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # an account without a name, as in containers
        return None
