"""What a drift test remembers, kept in a file across restarts."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

from rstpm_edge.atomic_files import write_json
from rstpm_edge.document import NewerError, choice, fields, load, number, schema_version, whole
from rstpm_edge.drift import CAUSES, SLOPES, STATES, DriftState
from rstpm_edge.errors import UsageError
from rstpm_edge.model.small_file import read_small

SCHEMA, NEEDS = 2, "0.1"
LARGEST = 4_000_000  # bytes: a state of 100,000 held-out photos has two
_CAPITALS = ("scene", "defects", "light")
_MOST = 10**12  # images, of which there are thirty a second in a thousand years; a share of more rounds to 1
_OF_LIGHT = ("cause", "light_counts", "light")  # which schema 1 does not know
_KEYS = ("schema_version", "needs", "model_sha256", *(field.name for field in dataclasses.fields(DriftState)))


class OtherModelError(UsageError):
    """The state is of another model, whose p-values are other ones."""


def save_drift(path: Path, state: DriftState, model_sha256: str) -> None:
    """Write the state whole or not at all. Raises OutputError."""
    known = {
        **dataclasses.asdict(state),
        # JSON has no infinity: nothing is on a bet yet.
        **{name: [None if one == -math.inf else one for one in getattr(state, name)] for name in _CAPITALS},
    }
    write_json(path, {"schema_version": SCHEMA, "needs": NEEDS, "model_sha256": model_sha256, **known})


def load_drift(path: Path, first: DriftState, model_sha256: str) -> DriftState:
    """The state that goes on from the file; `first`, that of a test which begins, where there is no file.

    Raises UsageError for a file that is damaged, or that is of another model or false-alarm rate.
    """
    instead = "give another `drift_state`, or remove the file to begin anew"
    try:
        content = read_small(path, LARGEST)
    except FileNotFoundError:
        return first
    except OSError as error:
        raise UsageError(f"Cannot read the drift state {path}: {error.strerror or error}.") from error
    try:
        known = load(content.decode())
        of_before = schema_version(known, SCHEMA) == 1
        known = fields(known, "the state", [key for key in _KEYS if not (of_before and key in _OF_LIGHT)])
        if of_before:
            cause = "scores" if known["drift"] == "scene changed" else None
            known = {**known, "cause": cause, "light_counts": [], "light": [0.0, *(None for _ in SLOPES)]}
        if known["light_counts"] == []:  # begun without light, its promise has no room for a third bet
            first = dataclasses.replace(first, light_counts=())
        if known["model_sha256"] != model_sha256:
            raise OtherModelError(f"The drift state {path} is of another model: {instead}.")
        rate = number(known["false_alarm_rate"], "false_alarm_rate", 0, 1)
        if rate != first.false_alarm_rate:
            raise UsageError(
                f"The drift state {path} was begun with `drift={rate:g}`, not {first.false_alarm_rate:g}, and a rate "
                f"that is changed later promises nothing: give the same, or {instead}."
            )
        return _state(known, first)
    except NewerError as error:
        raise UsageError(f"The drift state {path} {error}.") from error
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError are of the first kind
        why = (
            "it is no JSON" if isinstance(error, (UnicodeDecodeError, json.JSONDecodeError, RecursionError)) else error
        )
        raise UsageError(f"The drift state {path} is damaged ({why}): {instead}.") from error


def _state(known: Any, first: DriftState) -> DriftState:
    drift = choice(known["drift"], "drift", STATES)
    alarm_at = known["alarm_at"]
    if (alarm_at is None) != (drift == "stable"):
        raise ValueError("alarm_at and drift do not fit")
    cause = None if known["cause"] is None else choice(known["cause"], "cause", CAUSES)
    if (cause is None) != (drift != "scene changed"):
        raise ValueError("cause and drift do not fit")
    if whole(known["tail"], "tail", 1, len(first.counts)) != first.tail:
        raise ValueError("tail is that of another calibration")
    counts = _counts(known["counts"], "counts", len(first.counts))
    light_counts = _counts(known["light_counts"], "light_counts", len(first.light_counts))
    waited = None if known["waited"] is None else _list(known["waited"], "waited", 2)
    return dataclasses.replace(
        first,
        counts=counts,
        scene=_capital(known["scene"], "scene", len(first.scene)),
        defects=_capital(known["defects"], "defects", len(first.defects)),
        waited=None if waited is None else (whole(waited[0], "waited", 0, _MOST), whole(waited[1], "waited", 0, _MOST)),
        drift=drift,
        alarm_at=None if alarm_at is None else whole(alarm_at, "alarm_at", 1, _MOST),
        cause=cause,
        light_counts=light_counts,
        light=_capital(known["light"], "light", len(first.light)),
    )


def _counts(value: Any, name: str, count: int) -> tuple[int, ...]:
    counts = tuple(whole(one, "a count", 0, _MOST) for one in _list(value, name, count))
    whole(sum(counts), "the sum of the counts", 0, _MOST)
    return counts


def _list(value: Any, name: str, count: int) -> list[Any]:
    if not isinstance(value, list) or len(value) != count:
        raise ValueError(f"{name} is no list of {count} values")
    return value


def _capital(value: Any, name: str, count: int) -> tuple[float, ...]:
    first, *others = _list(value, name, count)
    on = (-math.inf if one is None else number(one, name, -1e9, 1e9) for one in others)
    return number(first, name, -1e9, 1e9), *on
