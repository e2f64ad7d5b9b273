"""What `rstpm-edge info` says to people: a table of titles and texts."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rstpm_edge.calibration import typed
from rstpm_edge.cli.terminal import confident, percent
from rstpm_edge.image.input_profile import GREY, describe_sizes
from rstpm_edge.image.stored_mask import parse_mask
from rstpm_edge.model.session_rates import about_sessions, session_rates
from rstpm_edge.model.training_summary import KEY, OLD_KEY, synthetic_defects
from rstpm_edge.outputs.model_words import score_terms
from rstpm_edge.printable import one_line

IN_WORDS = (KEY, OLD_KEY, "sessions")  # of the training's summary, what has rows of its own


def facts_table(model: Path, facts: dict[str, Any]) -> str:
    """The facts of `facts_of`, a line each."""
    calibration, fusion, runtime = facts["calibration"], facts["fusion"], facts["runtime"]
    rows = [
        ("model", f"{model} (schema {facts['schema_version']}, rstpm-edge {facts['package_version']})"),
        ("SHA-256", facts["sha256"]),
        *([("goldens", _about_goldens(facts["goldens"]))] if facts["goldens"] != [] else []),
        ("preset", f"{facts['preset']}, strides {', '.join(map(str, facts['strides']))}"),
        ("input", f"{facts['width']} pixels wide, {facts['height']} high, {facts['resize']}"),
        ("precision", _precision(facts)),
        *([("judged part", "x {}, y {}, {} x {} pixels of each photo".format(*facts["roi"]))] if facts["roi"] else []),
        *([("mask", _mask(facts["mask"]))] if facts["mask"] else []),
        *(_photos(facts["profile"]) if facts["profile"] else []),
        *([("INVALID", _limits(facts["validity"]))] if facts["validity"] else []),
        *(
            (f"teacher {number}", f"{teacher['name']}, {teacher['license']}, from {teacher['source']}")
            for number, teacher in enumerate(facts["teachers"], 1)
        ),
        ("threshold", f"{calibration['threshold']:.4g}"),
        (
            "typical score",
            f"{calibration['typical_score']:.4g}, median of {calibration['images']} good images",
        ),
        (
            "false rejects",
            f"at most {percent(calibration['alpha'])} of good parts on average, "
            + confident(calibration["rate_with_confidence"]),
        ),
        *(
            (
                f"infer --alpha {typed(other['alpha'])}",
                f"threshold {other['threshold']:.4g}, {confident(other['rate_with_confidence'])}",
            )
            for other in calibration["thresholds"]
        ),
        *_recalibrated(facts["recalibrations"]),
        *_synthetic(facts["training"], calibration["thresholds"]),
        *_sessions(facts["training"], calibration["alpha"]),
        ("fusion", fusion["mode"] + (f", smoothing {sigma:g} px" if (sigma := fusion["smoothing_sigma"]) else "")),
        *((name, _numbers(fusion[name])) for name in ("mean", "std", "weights")),
        *([("head", _numbers(fusion["head"].values()) + " (mean, std, weight)")] if fusion["head"] else []),
        ("score", _score(facts["score_fusion"])),
        *((f"training: {key}", _short(value)) for key, value in facts["training"].items() if key not in IN_WORDS),
        ("providers", f"{', '.join(runtime['providers'])}; {_in_use(runtime)} in use"),
        ("kernels", f"{', '.join(runtime['kernels'])}; {runtime['kernel']} in use"),
        ("threads", str(runtime["threads"])),
        ("processor", runtime["advice"]),
    ]
    shown = [(one_line(title), one_line(text)) for title, text in rows]  # the file may say anything of itself
    width = max(len(title) for title, _ in shown)
    return "\n".join(f"{title:{width}}  {text}" for title, text in shown)


def _recalibrated(steps: list[dict[str, Any]] | None) -> list[tuple[str, str]]:
    """What was calibrated on before, each time that confirmed photos have moved the threshold."""
    if steps is None:
        return [("recalibrated", "damaged, or of a newer rstpm-edge; it decides no verdict")]
    return [
        (
            "recalibrated",
            f"{step['time']}{' by ' + step['user'] if step['user'] else ''}: {len(step['added'])} confirmed good "
            f"photos {'in the place of' if step['replaced'] else 'added to'} {step['images']}; the threshold was "
            f"{step['threshold']:.4g}, for at most {percent(step['alpha'])}",
        )
        for step in steps
    ]


def _about_goldens(names: "list[str] | None") -> str:
    if names is None:
        return "damaged, or of a newer rstpm-edge; they decide no verdict"
    return f"{', '.join(names)}: photos that whoever has the file can see; `rstpm-edge verify` judges them"


def _synthetic(training: dict[str, Any], rates: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """What each rate finds of defects that are none."""
    synthetic = synthetic_defects(training)
    told = [f"{one['synthetic_found']:.0%} at {percent(one['alpha'])}" for one in rates if "synthetic_found" in one]
    if synthetic is None or not told:
        return []
    what = f"of {synthetic.count} in held-out photos"
    return [("synthetic defects", f"found: {', '.join(told)}, {what}; they compare rates, real ones are others")]


def _sessions(training: dict[str, Any], alpha: float) -> list[tuple[str, str]]:
    """What is promised from one session to the next."""
    rates = session_rates(training)
    if rates is None:
        return []
    found, withheld = about_sessions(rates, alpha)
    return [("sessions", found), ("new sessions", withheld)]


def _precision(facts: dict[str, Any]) -> str:
    change = ", ".join(f"{name} {value:+.4g}" for name, value in facts["precision_change"].items())
    return f"{facts['precision']}; against fp32: {change}" if change else facts["precision"]


def _mask(mask: dict[str, Any]) -> str:
    rows = parse_mask(mask).unpacked()
    white = sum(bin(byte).count("1") for byte in rows) / (mask["width"] * mask["height"])
    size = f"{mask['width']} x {mask['height']} pixels"
    return f"{size}; anomalies count in {white:.0%} of them, and with `infer --mask full` in all"


def _photos(profile: dict[str, Any]) -> list[tuple[str, str]]:
    """What the photos were like that were learned from."""
    brightness, spread = profile["brightness"]
    values = "8 bits" if profile["depth"] == 8 else f"{profile['bits']} bits of 16"
    colour = "in colour" if profile["chroma"] >= GREY else "grey"
    return [
        (
            "learned from",
            f"{profile['photos']} photos of {describe_sizes(profile['sizes'])} pixels, {values}, {colour}",
        ),
        ("brightness", f"{brightness:.1f} of 255, {spread:.1f} between photos (of the judged part)"),
    ]


def _limits(validity: dict[str, Any]) -> str:
    """Beyond what a photo is not judged."""
    low, high = validity["brightness"]
    novelty = validity["novelty"]
    compared = f", or unlike all of {novelty['photos']} good photos" if novelty else ""
    return (
        f"a photo darker than {low:.1f} or brighter than {high:.1f} of 255, over {validity['white']:.0%} white or "
        f"{validity['black']:.0%} black, flatter than {validity['contrast']:.2g}, out of focus, in other "
        f"colours{compared}"
    )


def _in_use(runtime: dict[str, Any]) -> str:
    names = ", ".join(runtime["in_use"])
    return names if runtime["precision"] is None else f"{names} in {runtime['precision']}"


def _score(score_fusion: dict[str, Any] | None) -> str:
    if score_fusion is None:
        return " + ".join(score_terms(None, None, 0))
    coarse = score_fusion["coarse"]
    weights = None if coarse is None else coarse["weights"]
    return " + ".join(score_terms(score_fusion["kind"], weights, score_fusion["map_weight"]))


def _numbers(values: Iterable[float]) -> str:
    return " ".join(f"{value:.4g}" for value in values)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."
