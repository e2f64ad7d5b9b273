"""What held-out photos say of sessions that were never seen: figures of a calibration, and sentences that tell them.

Photos of one session (a day, a roll, an item) are alike, so a promise that holds for photos may break for sessions.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from rstpm_edge.calibration import CONFIDENCE, Calibration

DIFFER = 0.05  # p-value of the Kruskal-Wallis test below which sessions are said to differ


@dataclass(frozen=True)
class SessionRates:
    """Of the `sessions` of all photos, `held_out` are among the held-out ones; the rates are shares of good parts, 0…1.

    whole: no photo of these sessions was learned from.
    left_out: how many are rejected of a session that is left out of the calibration, by the threshold for `promised`,
        on average over the photos; `worst` is that of the session with the most.
    p_value: of the Kruskal-Wallis test that the held-out sessions have scores alike; None where nothing differs at all.
    unseen: what can be promised for a part of a session never seen, at the model's threshold; None where every session
        was learned from.
    """

    sessions: int
    held_out: int
    whole: bool
    left_out: float
    worst: float
    promised: float
    p_value: float | None
    unseen: float | None

    @property
    def differ(self) -> bool:
        """Whether the scores of the held-out sessions differ by more than chance explains."""
        return self.p_value is not None and self.p_value < DIFFER


def session_rates(training: Mapping[str, Any]) -> SessionRates | None:
    """What `Bundle.training` says of them; None where that is nothing, or of another form."""
    try:
        told = training["sessions"]
        values = {one.name: told[one.name] for one in fields(SessionRates)}
        for name, value in values.items():
            missing = value is None and name in ("p_value", "unseen")
            if not missing and not isinstance(value, (int, float)):
                return None
        return SessionRates(**values)
    except (LookupError, TypeError):
        return None


def rate_with_confidence(
    calibration: Calibration, sessions: SessionRates | None, alpha: float | None = None
) -> float | None:
    """`Calibration.rate_with_confidence`, which counts photos as independent draws: None where `sessions` differ, since
    photos of one are not. Raises UsageError as that does."""
    limit = calibration.rate_with_confidence(alpha)
    return None if sessions is not None and sessions.differ else limit


def about_sessions(rates: SessionRates, alpha: float) -> tuple[str, str]:
    """Two sentences or more for people: what was found, and what is not promised. `alpha` is the model's rate."""
    held = f"{rates.held_out} of {rates.sessions} sessions"
    found = (
        f"{f'{held} are held out, whole' if rates.whole else f'The held-out photos are of {held}'}. "
        f"If one is left out of the calibration, {_percent(rates.left_out)} of its good parts are rejected on average, "
        f"and {_percent(rates.worst)} of the worst one's, where {_percent(rates.promised)} is promised."
    )
    if rates.p_value is None:
        test = "All of them score alike."
    elif rates.differ:
        test = (
            f"These sessions differ (Kruskal-Wallis test, p = {rates.p_value:.2g}). So no rate is given with "
            f"{CONFIDENCE:.0%} confidence: it would be too low, since it counts photos as independent draws."
        )
    else:
        test = f"They show no difference (Kruskal-Wallis test, p = {rates.p_value:.2g}), which of so few says little."
    if rates.unseen is None:
        withheld = (
            "The guarantee is withheld for a session never seen: photos of the same sessions were learned from, so "
            "nothing is known of others. Train with more sessions, or hold more of them out."
        )
    else:
        withheld = (
            f"The guarantee of {_percent(alpha)} is withheld for a session never seen: {rates.held_out} held-out "
            f"sessions support no rate below {_percent(rates.unseen)} for its parts. More sessions lower that; more "
            "photos of the same do not."
        )
    return found, f"{test} {withheld}"


def _percent(share: float) -> str:
    return f"{100 * share:.3g}%"
