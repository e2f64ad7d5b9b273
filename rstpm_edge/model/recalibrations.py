"""What a model file was calibrated on before, each time that confirmed good photos have moved its threshold.

It stands under a metadata key of its own. A reader from before skips it, and loses nothing that decides a verdict: the
calibration that holds is in the document.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from rstpm_edge import document as read
from rstpm_edge.calibration import Calibration
from rstpm_edge.errors import ModelError

SCHEMA_VERSION, NEEDS = 1, "0.1.0"  # of this document, and the first release that reads it
MOST = 100  # times; whoever comes here has another problem than the threshold
_MOST_PHOTOS = 1_000_000
_LARGEST = 3.4e38


@dataclass(frozen=True)
class Recalibration:
    """One time: when (UTC), by whom, and what was calibrated on before and was added.

    `alpha` and `scores` are the calibration that held before, in a file of the SHA-256 `model_sha256`; `added` are the
    new photos' scores, ascending. `replaced`: only these hold from then on. Of `photos` that were given, `copies`
    showed what another of them did, `known` had been learned from or held out; neither are among the `added`.
    """

    time: str
    user: str | None
    model_sha256: str
    replaced: bool
    photos: int
    copies: int
    known: int
    alpha: float
    scores: tuple[float, ...]
    added: tuple[float, ...]

    @property
    def before(self) -> Calibration:
        """The calibration that held before."""
        return Calibration(self.alpha, self.scores)


def recalibrations_to_json(steps: Sequence[Recalibration]) -> str:
    """The document, the first one first."""
    listed = [asdict(step) for step in steps]
    return json.dumps({"schema_version": SCHEMA_VERSION, "needs": NEEDS, "recalibrations": listed}, allow_nan=False)


def parse_recalibrations(document: str) -> tuple[Recalibration, ...]:
    """Read the document. Raises ModelError when it is damaged, or of a newer schema than this package reads."""
    try:
        loaded = read.load(document)
        read.schema_version(loaded, SCHEMA_VERSION)
        found = read.fields(loaded, "it", ("schema_version", "needs", "recalibrations"))["recalibrations"]
        if not isinstance(found, list) or not 0 < len(found) <= MOST:
            raise ValueError(f"they are no list of 1 to {MOST}")
        return tuple(map(_recalibration, found))
    except read.NewerError as error:
        raise ModelError(f"The model's history of calibrations {error}; upgrade to read it.") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(
            f"The model's history of calibrations is damaged ({str(error).rstrip('.')}); export the model again."
        ) from error


def _recalibration(value: Any) -> Recalibration:
    found = read.fields(value, "a recalibration", [one.name for one in fields(Recalibration)])
    if not isinstance(found["replaced"], bool):
        raise ValueError("whether a recalibration replaced the one before is neither true nor false")
    return Recalibration(
        time=read.text(found["time"], "a time", 50),
        user=None if found["user"] is None else read.text(found["user"], "a user", 200),
        model_sha256=read.text(found["model_sha256"], "a model's SHA-256", 64),
        replaced=found["replaced"],
        **{name: read.whole(found[name], f"the number of {name}", 0, _MOST_PHOTOS) for name in _COUNTS},
        alpha=read.number(found["alpha"], "an alpha", 0, 1),
        scores=_scores(found["scores"]),
        added=_scores(found["added"]),
    )


_COUNTS = ("photos", "copies", "known")


def _scores(value: Any) -> tuple[float, ...]:
    if not isinstance(value, list) or not 0 < len(value) <= _MOST_PHOTOS:
        raise ValueError(f"scores are no list of 1 to {_MOST_PHOTOS} numbers")
    scores = tuple(read.number(score, "a score", -_LARGEST, _LARGEST) for score in value)
    if list(scores) != sorted(scores):
        raise ValueError("scores are not ascending")
    return scores
