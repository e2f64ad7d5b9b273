"""`rstpm-edge info`: what a model file says about itself, and what this machine offers."""

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from rstpm_edge.calibration import CONFIDENCE, typed
from rstpm_edge.cli.common import one_model
from rstpm_edge.cli.options import model_option, provider_option, public_key_option
from rstpm_edge.cli.parameter_types import FILE
from rstpm_edge.cli.terminal import confident, percent, say_json, say_table
from rstpm_edge.errors import ModelError, UsageError
from rstpm_edge.image.input_profile import GREY, describe_sizes
from rstpm_edge.image.stored_mask import parse_mask
from rstpm_edge.model.session_rates import about_sessions, rate_with_confidence, session_rates
from rstpm_edge.model.training_summary import KEY, OLD_KEY, synthetic_defects
from rstpm_edge.printable import one_line

if TYPE_CHECKING:
    from rstpm_edge.engine.providers import Provider

T = TypeVar("T")
IN_WORDS = (KEY, OLD_KEY, "sessions")  # of the training's summary, what has rows of its own


@click.command()
@click.argument("file", required=False, metavar="[MODEL]", type=FILE)
@model_option
@public_key_option
@provider_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--c-header", is_flag=True, help="Print a C header for rstpm_scorer_create (docs/embedding.md).")
@click.pass_context
def info(
    ctx: click.Context,
    file: Path | None,
    model: Path,
    public_key: Path | None,
    providers: "list[Provider] | None",
    as_json: bool,
    c_header: bool,
) -> None:
    """Show what a model was made from, how it decides, and what this machine can run it with.

    MODEL is the file; --model names it, too.

    \b
    Examples:
      rstpm-edge info bracket.onnx
      rstpm-edge info --provider openvino
      rstpm-edge info bracket.onnx --c-header > model.h
    """
    from rstpm_edge.cpu import advice, dot_products, usable_cores
    from rstpm_edge.detector import Detector
    from rstpm_edge.engine.providers import available_providers
    from rstpm_edge.native import kernels

    if as_json and c_header:
        raise UsageError("Give one of --json and --c-header.")
    model = one_model(ctx, file, model)
    # All of it, so that what `info` accepts also runs.
    detector = Detector(model, threads=1, providers=providers, public_key=public_key)
    bundle = detector.info
    if c_header:
        from rstpm_edge.model.c_header import c_header as header_of

        say_table(header_of(bundle).rstrip("\n"))
        return
    calibration, sessions = bundle.calibration, session_rates(bundle.training)
    synthetic = synthetic_defects(bundle.training)
    found = synthetic.found if synthetic else {}
    facts = asdict(bundle)
    facts["sha256"] = detector.sha256
    facts["goldens"], facts["recalibrations"] = _beside_the_document(model, detector.sha256)
    if facts["validity"] and facts["validity"]["novelty"]:
        novelty = facts["validity"]["novelty"]
        facts["validity"]["novelty"] = {name: novelty[name] for name in ("photos", "channels", "limit")}
    facts["calibration"] = {
        "alpha": calibration.alpha,
        "images": len(calibration.scores),
        "threshold": calibration.threshold,
        "typical_score": calibration.median,
        "confidence": CONFIDENCE,
        "rate_with_confidence": rate_with_confidence(calibration, sessions),
        "thresholds": [
            {
                "alpha": alpha,
                "threshold": value,
                "rate_with_confidence": rate_with_confidence(calibration, sessions, alpha),
                **({"synthetic_found": found[alpha]} if alpha in found else {}),
            }
            for alpha, value in calibration.thresholds.items()
        ],
    }
    facts["runtime"] = {
        "providers": available_providers(),
        "in_use": detector.providers,
        "precision": detector.precision,
        "kernels": list(kernels().available),
        "kernel": kernels().active,
        "threads": usable_cores(),
        "dot_products": dot_products(),
        "advice": advice(bundle.precision),
    }
    if as_json:
        say_json(facts)
    else:
        say_table(_table(model, facts))


def _beside_the_document(model: Path, sha256: str) -> "tuple[list[str] | None, list[dict[str, Any]] | None]":
    """Names of the photos in the model file, and what it was calibrated on before; None of what cannot be read, which
    is no reason not to judge.

    Raises ModelError where it is not the file of this SHA-256 any more, which was loaded, and verified by its key.
    """
    from rstpm_edge.model.goldens import parse_goldens
    from rstpm_edge.model.model_file import opened
    from rstpm_edge.model.recalibrations import parse_recalibrations

    with opened(model) as found:
        goldens, recalibrations = found.goldens, found.recalibrations
    if found.sha256 != sha256:
        raise ModelError(f"The model {model} was written to while it was being loaded; load it again.")

    def names(document: str) -> list[str]:
        return [golden.name for golden in parse_goldens(document)]

    def steps(document: str) -> list[dict[str, Any]]:
        return [
            {**asdict(step), "threshold": step.before.threshold, "images": len(step.scores)}
            for step in parse_recalibrations(document)
        ]

    return _read_if_any(names, goldens), _read_if_any(steps, recalibrations)


def _read_if_any(parse: "Callable[[str], list[T]]", document: str | None) -> "list[T] | None":
    try:
        return [] if document is None else parse(document)
    except ModelError:
        return None


def _table(model: Path, facts: dict[str, Any]) -> str:
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
        ("fusion", f"{fusion['mode']}, smoothing {fusion['smoothing_sigma']:g} px"),
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
        return "the highest value of the anomaly map"
    coarse, weight = score_fusion["coarse"], score_fusion["map_weight"]
    parts = [f"the highest value of the fused score maps, of {score_fusion['kind']}"]
    if coarse is not None:
        parts.append("the highest cell of the coarsest level, of residuals")
        parts += ["the highest one, of angles"] if len(coarse["weights"]) == 4 else []
    if weight:
        parts.append(f"{weight:.4g} of the highest value of the anomaly map")
    return " + ".join(parts)


def _numbers(values: Iterable[float]) -> str:
    return " ".join(f"{value:.4g}" for value in values)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."
