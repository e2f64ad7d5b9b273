"""How often `infer --drift` gives a false alarm, and how soon it tells a change, on scores that are drawn at random.

python tools/drift_runs.py                       # 30, 94 and 300 held-out images, some minutes
python tools/drift_runs.py --held-out 30 --runs 1000 --images 300 --before    # false alarms alone

Scores of good images are normally distributed (only their order counts); each run draws a new calibration. Delays are
those at a false-alarm rate of 1 %.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from rstpm_edge.calibration import calibrate
from rstpm_edge.drift import Drift, begin

AFTER = 200  # images of a change
Scores = NDArray[np.float64]
Change = Callable[[np.random.Generator, Scores], Scores]


def shifted(by: float, share: float = 1.0) -> Change:
    """A change of a share of the scores by so many standard deviations."""
    return lambda rng, scores: scores + by * (rng.random(len(scores)) < share)


CHANGES: dict[str, Change] = {
    "all scores + 1 sd": shifted(1),
    "all scores + 2 sd": shifted(2),
    "all scores + 6 sd": shifted(6),
    "all scores - 1 sd": shifted(-1),
    "all scores - 2 sd": shifted(-2),
    "5 % of images + 6 sd": shifted(6, 0.05),
    "20 % of images + 6 sd": shifted(6, 0.2),
    "40 % of images + 6 sd": shifted(6, 0.4),
}


def first_alarm(rng: np.random.Generator, held_out: int, scores: Scores, rate: float) -> tuple[Drift, int | None]:
    """What is told first by a new calibration, and at which image."""
    calibration = calibrate(rng.standard_normal(held_out))
    state = begin(calibration, rate)
    for score in scores:
        state = state.update(calibration.p_value(float(score)))
        if state.drift != "stable":
            break
    return state.drift, state.alarm_at


def main() -> None:
    """Print one line for each measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--held-out", type=int, nargs="+", default=[30, 94, 300])
    parser.add_argument("--runs", type=int, default=400, help="without a change; a twentieth of them for each change")
    parser.add_argument("--images", type=int, default=1000, help="of a run without a change")
    parser.add_argument("--before", type=int, nargs="*", default=[0, 200], help="images before a change, if any")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    for n in options.held_out:
        for rate in (0.01, 0.1):
            told = [first_alarm(rng, n, rng.standard_normal(options.images), rate)[0] for _ in range(options.runs)]
            alarms = sum(drift != "stable" for drift in told)
            print(
                f"{n:4} held out, promised {rate:.0%}: {alarms / options.runs:.1%} of {options.runs} runs", flush=True
            )
        for before in options.before:
            for name, change in CHANGES.items():
                runs = [
                    first_alarm(rng, n, np.r_[good[:before], change(rng, good[before:])], 0.01)
                    for good in rng.standard_normal((max(options.runs // 20, 1), before + AFTER))
                ]
                soon = sum(at is not None and before < at <= before + 50 for _, at in runs)
                delays = [at - before if at else AFTER + 1 for _, at in runs]
                scene = sum(drift == "scene changed" for drift, _ in runs)
                defects = sum(drift == "more defects" for drift, _ in runs)
                print(
                    f"{n:4} held out, {name:22} after {before:4}: median delay {statistics.median(delays):5.0f}, "
                    f"{soon} of {len(runs)} within 50; {scene} scene changed, {defects} more defects",
                    flush=True,
                )


if __name__ == "__main__":
    main()
