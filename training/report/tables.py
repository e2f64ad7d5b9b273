"""What the report says in words: the promise and whether it was kept, the configuration and the environment."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scipy.stats import betabinom

from rstpm_edge.calibration import CONFIDENCE, Calibration
from rstpm_edge.model.session_rates import SessionRates, about_sessions, rate_with_confidence
from rstpm_edge.model.training_summary import KEY, OLD_KEY, synthetic_defects
from rstpm_edge.outputs.model_words import score_terms

from ..evaluation.evaluation import Verdicts
from ..evaluation.predict import Predictions

Rows = list[tuple[str, str]]
SUSPICIOUS = 0.01  # probability below which chance no longer explains the false rejects


@dataclass(frozen=True)
class Promise:
    """Whether the good test images bear out the false-reject rate that the model was calibrated for."""

    is_kept: bool
    text: str


def promise(found: Verdicts, calibration: Calibration, sessions: SessionRates | None = None) -> Promise:
    """The sentence that a quality manager asks for. `found` are the verdicts on good test images."""
    limit = rate_with_confidence(calibration, sessions)
    sure = (
        f"with {percent(CONFIDENCE)} confidence this model's is at most {percent(limit)}"
        if limit is not None
        else f"with {percent(CONFIDENCE)} confidence none is known, since sessions differ"
    )
    said = (
        f"The model was calibrated on {counted(len(calibration.scores), 'good image')} that it was not trained on, "
        f"for a false-reject rate of at most {percent(calibration.alpha)} on average; {sure}."
    )
    if sessions is not None:
        said += f" {about_sessions(sessions, calibration.alpha)[1]}"
    chance = chance_of_rejects(found, calibration)
    if chance < SUSPICIOUS:
        return Promise(
            False,
            f"{said} The good test images are rejected more often than chance explains (probability "
            f"{percent(chance)}): they differ from those of the calibration in light, camera or product, or some of "
            "them are not good. Find out why before you rely on the threshold.",
        )
    return Promise(
        True,
        f"{said} The good test images agree with that. The interval above says how exactly {found.images} of them "
        "can tell; more of them narrow it.",
    )


def chance_of_rejects(found: Verdicts, calibration: Calibration) -> float:
    """How probable so many false rejects, or more, are for images that are exchangeable with the calibration's.

    The share of such images above the (n + 1 − a)-th smallest of n scores is Beta(a, n + 1 − a) distributed over
    calibrations, so their number is beta-binomial (Vovk, "Conditional validity of inductive conformal
    predictors", 2012). Scores that are equal make it smaller still.
    """
    above = 1 + sum(score > calibration.threshold for score in calibration.scores)
    counts = betabinom(found.images, above, len(calibration.scores) + 1 - above)
    return float(counts.sf(found.anomalous - 1))


def configuration(predictions: Predictions) -> Rows:
    """What the model file says about itself, row by row."""
    bundle = predictions.bundle
    fusion, calibration = bundle.fusion, bundle.calibration
    rows = [
        ("Model file", str(predictions.model)),
        ("SHA-256", predictions.model_sha256),
        ("Exported by", f"rstpm-edge {bundle.package_version}, schema {bundle.schema_version}"),
        ("Preset", bundle.preset if bundle.precision == "fp32" else f"{bundle.preset}, in {bundle.precision}"),
        ("Input", f"{bundle.width} × {bundle.height} pixels, resize policy “{bundle.resize}”"),
        *([("Judged part", "x {}, y {}, {} × {} pixels of each photo".format(*bundle.roi))] if bundle.roi else []),
        ("Maps", ", ".join(bundle.map_names)),
        ("Fusion", fusion.mode + (f", smoothed, σ = {sigma:g} pixels" if (sigma := fusion.smoothing_sigma) else "")),
    ]
    if fusion.mode == "normalized":
        rows += [
            ("Mean of each map", _six(fusion.mean)),
            ("Deviation of each map", _six(fusion.std)),
            ("Weight of each map", _six(fusion.weights)),
        ]
    if (head := fusion.head) is not None:
        rows.append(("Head", f"mean {head.mean:.4g}, deviation {head.std:.4g}, weight {head.weight:.4g}"))
    if bundle.score_fusion is not None:
        coarse = bundle.score_fusion.coarse
        weights = None if coarse is None else coarse.weights
        score = score_terms(bundle.score_fusion.kind, weights, bundle.score_fusion.map_weight)
        rows += [
            ("Score", " + ".join([*score, f"{bundle.score_fusion.bias:.4g}"])),
            ("Score maps", ", ".join(bundle.score_map_names)),
            ("Mean of each", _six(bundle.score_fusion.fusion.mean)),
            ("Deviation of each", _six(bundle.score_fusion.fusion.std)),
            ("Weight of each", _six(bundle.score_fusion.fusion.weights)),
        ]
        if coarse is not None:
            maps = [bundle.map_names[2], bundle.map_names[5], *bundle.angle_map_names]
            rows += [
                ("Maps of the coarsest level", ", ".join(maps[: len(coarse.weights)])),
                ("Mean of each", _six(coarse.mean)),
                ("Deviation of each", _six(coarse.std)),
                ("Weight of each", _six(coarse.weights)),
            ]
    rows += [
        ("Calibration", f"{counted(len(calibration.scores), 'good image')}, α = {percent(calibration.alpha)}"),
        *(
            [("Mask", "where it is black, nothing counts")]
            if any(one is not None for one in predictions.ignored)
            else []
        ),
        *([("INVALID", _about_invalid(predictions.invalid))] if bundle.validity is not None else []),
        ("Threshold", f"{predictions.threshold.value:.6g} (score of a typical good image: {calibration.median:.6g})"),
    ]
    for number, teacher in enumerate(bundle.teachers, 1):
        rows.append((f"Teacher {number}", f"{teacher.name}, licence {teacher.license}"))
        rows.append((f"Weights of teacher {number}", f"{teacher.source}; SHA-256 {teacher.sha256}"))
    if synthetic := synthetic_defects(bundle.training):
        shares = ", ".join(f"{percent(share)} at α = {percent(alpha)}" for alpha, share in synthetic.found.items())
        what = f"{shares} of {synthetic.count} found; they compare rates, real ones are others"
        rows.append(("Synthetic defects", what))
    told = {name: value for name, value in bundle.training.items() if name not in (KEY, OLD_KEY, "sessions")}
    rows += [(f"Training: {name}", _value(value)) for name, value in _flat(told)]
    return rows


def environment(predictions: Predictions) -> Rows:
    """The machine that made the report."""
    machine = predictions.environment
    runtime = ("ONNX Runtime", machine.onnxruntime) if machine.openvino is None else ("OpenVINO", machine.openvino)
    providers = ", ".join(machine.providers) + (f" in {machine.precision}" if machine.precision else "")
    return [
        ("Processor", f"{machine.cpu}, usable cores: {machine.cores}"),
        ("System", machine.os),
        ("Python", machine.python),
        ("rstpm-edge", machine.rstpm_edge),
        (runtime[0], f"{runtime[1]}, {providers}, threads: {machine.threads}"),
        ("NumPy", machine.numpy),
        ("OpenCV", machine.opencv),
        ("Fusion kernel", machine.kernel),
    ]


def percent(share: float) -> str:
    """A share in 0…1 to three digits; "0 %" and "100 %" for none and all alone."""
    if 0.9995 <= share < 1:
        return "> 99.9 %"
    return f"{100 * share:.3g} %" if share == 0 or share >= 0.0001 else "< 0.01 %"


def counted(number: int, noun: str, *, every: bool = False) -> str:
    """`1 good image`, `2 good images`; with `every`, `the one good image`, `all 2 good images`."""
    if number == 1:
        return f"the one {noun}" if every else f"1 {noun}"
    return f"{'all ' if every else ''}{number} {noun}s"


def _about_invalid(reasons: Sequence[str | None]) -> str:
    found = sum(reason is not None for reason in reasons)
    return f"{found} of {counted(len(reasons), 'test image')}; {'they count' if found != 1 else 'it counts'} by score"


def _six(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)


def _flat(fields: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in fields.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}, ")
        else:
            yield prefix + str(name), value


def _value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
