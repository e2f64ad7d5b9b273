"""A verdict as other programs read it, and as people do."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rstpm_edge.sources.frames import utc_time

if TYPE_CHECKING:
    from rstpm_edge.result import Region, Result
    from rstpm_edge.sources.frames import Failure, Frame

_MOST_EXPLAINED = 5  # regions, in the text


def verdict_fields(frame: "Frame", result: "Result", milliseconds: float, drift: str | None = None) -> dict[str, Any]:
    """What `--json` prints, `--on-anomaly` gets and MQTT carries; `milliseconds` are those of reading and judging.

    "verdict" is normal, anomalous or invalid; "invalid_reason" says why it is the last, and is None otherwise.
    "is_anomalous" compares score and threshold, whatever the verdict is.

    Besides these: "frame" and "seconds" for videos; "frame", "time" (UTC), "dropped" and "damaged" for cameras
    and streams; "time" for watched folders, None where the file's time stamp is no date; "roi" where only a part of the
    image was judged; "masked", which is true, where a mask said where anomalies count; "drift" where that is watched;
    "explanation" where that was asked for.
    """
    fields: dict[str, Any] = {"path": frame.source}
    if frame.number is not None:
        fields["frame"] = frame.number
    if frame.seconds is not None:
        fields["seconds"] = round(frame.seconds, 3)
    if frame.taken is not None:
        fields["time"] = utc_time(frame.taken)
    if frame.dropped is not None:
        fields["dropped"] = frame.dropped
    if frame.damaged is not None:
        fields["damaged"] = frame.damaged
    fields |= {
        "verdict": result.verdict,
        "invalid_reason": result.invalid_reason,
        "score": result.score,
        "p_value": result.p_value,
        "threshold": result.threshold,
        "alpha": result.alpha,
        "rate_with_confidence": result.rate_with_confidence,
        "typical_score": result.typical_score,
        "is_anomalous": result.is_anomalous,
        "novelty": result.novelty,
        "position": result.position,
        "regions": [_region_fields(region) for region in result.regions],
        "model_sha256": result.model_sha256,
        "ms": round(milliseconds, 2),
    }
    height, width = result.image_size
    if result.roi != (0, 0, width, height):
        fields["roi"] = result.roi
    if result.masked:
        fields["masked"] = True
    if drift is not None:
        fields["drift"] = drift
    if result.explanation is not None:
        fields["explanation"] = asdict(result.explanation)
    return fields


def failure_fields(failure: "Failure") -> dict[str, Any]:
    """The same for an image that has no score: "verdict" is invalid where it could be read, and failed otherwise."""
    frame = {} if failure.number is None else {"frame": failure.number}
    verdict = "failed" if failure.invalid_reason is None else "invalid"
    reason = {} if failure.invalid_reason is None else {"invalid_reason": failure.invalid_reason}
    return {"path": failure.source, **frame, "verdict": verdict, **reason, "error": failure.message}


def verdict_line(fields: Mapping[str, Any]) -> str:
    """One line for people; of a failure, too."""
    if fields["verdict"] == "failed":
        return f"{'failed':9}  {fields['error']}"
    if fields["verdict"] == "invalid":
        return f"{'INVALID':9}  {image_name(fields)}: {fields['invalid_reason']}"
    verdict = "ANOMALOUS" if fields["verdict"] == "anomalous" else "normal"
    return (
        f"{verdict:9}  score {fields['score']:8.4g}  p-value {fields['p_value']:.4f}  "
        f"regions {len(fields['regions']):2}  {image_name(fields)}"
    )


def explanation_lines(fields: Mapping[str, Any]) -> list[str]:
    """Where the score of an anomalous image comes from, for people: a line for the image, and one for each region.

    None of a normal image, nor of an invalid one, whose score says nothing; and where it was not asked for.
    """
    if fields["verdict"] != "anomalous" or "explanation" not in fields:
        return []
    whole = fields["explanation"]
    terms = " + ".join(f"{term['name']} {term['value']:.3g}" for term in whole["terms"])
    lines = [f"  score {whole['score']:.4g} = {terms}; {_alone(whole)}"]
    for number, region in enumerate(fields["regions"][:_MOST_EXPLAINED], 1):
        of_region, (x, y) = region["explanation"], region["position"]
        shares = sorted(of_region["anomaly"].items(), key=lambda share: -share[1])
        lines.append(
            f"  region {number} at {x},{y}: peak {region['peak']:.4g} = "
            f"{' + '.join(f'{name} {share:.3g}' for name, share in shares)}; score {of_region['score']:.4g} by itself; "
            f"{_alone(of_region)}"
        )
    return lines


def _alone(explanation: Mapping[str, Any]) -> str:
    scores = ", ".join(
        f"{pair} {score:.4g}{' (rejects)' if pair in explanation['rejecting_alone'] else ''}"
        for pair, score in explanation["pair_scores"].items()
    )
    return f"a pair alone: {scores}"


def _region_fields(region: "Region") -> dict[str, Any]:
    fields = asdict(region)
    if region.explanation is None:
        del fields["explanation"]
    return fields


def image_name(fields: Mapping[str, Any]) -> str:
    """What was judged, or could not be, for people: "photos/1.png", or "camera:0 #17" of frame 17."""
    return f"{fields['path']} #{fields['frame']}" if "frame" in fields else str(fields["path"])
