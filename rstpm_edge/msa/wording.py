"""The figures of a study in words, as the table on the terminal and the report have them."""

from rstpm_edge.msa.agreement import Rate, kappa_grade
from rstpm_edge.msa.repeatability import Repeatability
from rstpm_edge.msa.study import Study

FIGURES = {
    "effectiveness": "effectiveness (Effektivität)",
    "miss_rate": "miss rate (Schlupf)",
    "false_alarm_rate": "false-alarm rate (Pseudofehler)",
}
TOO_FEW = "too few judgements to show it"


def share(value: float | None) -> str:
    """`97.5 %`; a dash for what is not known."""
    return "–" if value is None else f"{100 * value:.1f} %"


def figure(value: float | None) -> str:
    """`0.879`; a dash for what is not known."""
    return "–" if value is None else f"{value:.3f}"


def limits(rate: Rate) -> str:
    """`≤ 2 %; ≤ 5 %`: acceptable, and marginal."""
    sign = "≥" if rate.higher_is_better else "≤"
    return f"{sign} {100 * rate.acceptable:.0f} %; {sign} {100 * rate.marginal:.0f} %"


def shown(rate: Rate) -> str:
    """Whether the interval supports the grade."""
    return "shown with 95 % confidence" if rate.is_shown else TOO_FEW


def conclusion(study: Study) -> str:
    """The outcome in a sentence or two."""
    worst = [_english(name) for name, rate in study.rates.items() if rate.grade == study.grade != "acceptable"]
    if kappa_grade(study.cohens_kappa) == study.grade != "acceptable":
        worst.append("Cohen’s kappa")
    because = f": {', '.join(worst)}" if worst else ""
    sentences = [f"{study.grade.capitalize()} by the limits of AIAG{because}."]
    unshown = [_english(name) for name, rate in study.rates.items() if not rate.is_shown]
    if unshown:
        sentences.append(f"Too few judgements to show the grade of {', '.join(unshown)} with 95 % confidence.")
    if study.invalid:
        sentences.append(f"Invalid photos: {study.invalid}.")
    return " ".join(sentences)


def spread(found: Repeatability) -> list[tuple[str, str]]:
    """What is known of the scatter of scores, by name."""
    return [
        ("standard deviation within parts, pooled", _score(found.pooled)),
        ("of good parts", _score(found.good)),
        ("of borderline parts (Grenzmuster)", _score(found.borderline)),
        ("of bad parts", _score(found.bad)),
        ("margin: threshold less the median score of good parts", _score(found.margin)),
        ("share of the margin that 3 standard deviations of good parts take", share(found.used)),
    ]


def _english(name: str) -> str:
    return FIGURES[name].partition(" (")[0]


def _score(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"
