"""Whether a calibration holds from session to session: one left out, a test, and a rate for sessions never seen.

A part of a new session is promised what hierarchical conformal prediction gives (Lee, Barber and Willett,
"Distribution-free inference with hierarchical data", arXiv 2306.06342): where sessions are exchangeable, each counts
once, however many photos it has, and the new one counts as rejected whole. So of K held-out sessions no rate below
1/(K + 1) follows.
"""

from collections.abc import Sequence

import numpy as np
from scipy.stats import kruskal

from rstpm_edge.calibration import Calibration, conformal_threshold, smallest_alpha
from rstpm_edge.model.session_rates import SessionRates

from ..data.sessions import session_names
from .run_config import RunConfig


def rates_of_run(
    config: RunConfig, rule: str, held_out: Sequence[str], scores: Sequence[float], calibration: Calibration
) -> SessionRates | None:
    """The rates of the sessions that `rule` finds among a run's photos. `scores` are those of the photos `held_out`.

    None where these are of one session. Raises UsageError for a rule that does not fit the names.
    """
    names = [photo.name for photo in (*config.train, *config.holdout, *config.aside)]
    of_name = dict(zip(names, session_names(names, rule), strict=True))
    sessions = [of_name[name] for name in held_out]
    learned = {of_name[photo.name] for photo in config.train}
    return measure_sessions(sessions, scores, calibration, learned)


def measure_sessions(
    sessions: Sequence[str], scores: Sequence[float], calibration: Calibration, learned: set[str]
) -> SessionRates | None:
    """The rates of held-out photos, each of a session and with a score; `learned` are sessions that were learned from.

    None where all are of one session.
    """
    values, of_photo = np.asarray(scores, np.float64), np.asarray(sessions)
    names = sorted(set(sessions))
    if len(names) < 2:
        return None
    rejected, promised = [], []
    for name in names:
        own = of_photo == name
        others = tuple(np.sort(values[~own]).tolist())
        alpha = max(calibration.alpha, smallest_alpha(len(others)))
        rejected.append(values[own] > conformal_threshold(others, alpha))
        promised.append(alpha)
    whole = not learned & set(names)
    above = [float((values[of_photo == name] > calibration.threshold).mean()) for name in names]
    return SessionRates(
        sessions=len(learned | set(names)),
        held_out=len(names),
        whole=whole,
        left_out=float(np.concatenate(rejected).mean()),
        worst=float(max(one.mean() for one in rejected)),
        promised=float(np.mean(promised)),
        p_value=None
        if len(set(values.tolist())) == 1
        else float(kruskal(*(values[of_photo == n] for n in names)).pvalue),
        unseen=(1 + sum(above)) / (len(names) + 1) if whole else None,
    )
