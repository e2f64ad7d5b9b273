"""The threshold moved by what a station has judged: no photo is judged again, since its score is known."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import cv2
import numpy as np

from rstpm_edge.detector import Detector
from rstpm_edge.errors import UsageError
from rstpm_edge.image.duplicates import find_alike, fine_detail, fingerprint
from rstpm_edge.recalibration.confirmed_photos import ConfirmedPhotos, is_held_out, was_learned
from rstpm_edge.recalibration.moved_threshold import MovedThreshold, move_threshold
from rstpm_edge.recalibration.recalibrated_file import write_recalibrated
from rstpm_edge.station.history.history import History
from rstpm_edge.station.history.parts import Part
from rstpm_edge.station.history.pictures import SMALL, Pictures

MOST = 2000  # parts, the newest ones of a model


@dataclass(frozen=True)
class Stretch:
    """The parts of a stretch of production, by what became of them.

    `passed` were not rejected, `wrong` were and are good, as a person said. Both count. `defects` are rejects that a
    person confirmed, and defects that a person found among those that passed. `undecided` are rejects that nobody has
    looked at. The others do not count: `unjudged`, which are INVALID or failed; `judged_otherwise`, with a mask,
    another ROI than the model's or a threshold that was set by hand; `without_pictures`, which are not kept any more.
    """

    passed: tuple[Part, ...]
    wrong: tuple[Part, ...]
    defects: tuple[Part, ...]
    undecided: tuple[Part, ...]
    unjudged: tuple[Part, ...]
    judged_otherwise: tuple[Part, ...]
    without_pictures: tuple[Part, ...]

    @property
    def counts(self) -> dict[str, int]:
        """How many of each kind, by its name."""
        return {one.name: len(getattr(self, one.name)) for one in fields(self)}

    @property
    def good(self) -> list[Part]:
        """Those that count, oldest first."""
        return sorted(self.passed + self.wrong, key=lambda part: part.id)


def stretch_of(history: History, model_sha256: str, most: int = MOST) -> Stretch:
    """The newest parts that a model judged, oldest first: of lines, whatever they are called now, and of requests."""
    history.flush(2.0)
    kinds: dict[str, list[Part]] = {one.name: [] for one in fields(Stretch)}
    for part in history.parts.of_model(model_sha256, most):
        kinds[_kind(part)].append(part)
    return Stretch(**{name: tuple(parts) for name, parts in kinds.items()})


def recalibrated(
    history: History,
    detector: Detector,
    *,
    only_new: bool = False,
    person: str | None = None,
) -> MovedThreshold:
    """The calibration that the good parts of the newest stretch ask for, told by the rate that the detector judges by;
    nothing is written.

    Good are those that passed, unless a person found a defect, and rejects that a person called good. All rejects must
    be decided: those alone that somebody complained of are no sample. Parts that look the same count once,
    and photos that the model learned from, or was calibrated on, not again.

    They are those of the model file, of whatever camera: all that judge by it get its new threshold.

    Raises UsageError where some are not decided, where the station judges otherwise than the model was calibrated, and
    as `move_threshold` does.
    """
    bundle = detector.info
    if detector.masked:
        raise UsageError(
            "Scores with a mask are others than the model was calibrated on: use `rstpm-edge recalibrate`."
        )
    if detector.alpha is None:
        raise UsageError(
            "Nothing is promised here that a calibration could keep: the threshold was set by hand, or another part of "
            "the photo (ROI) is judged than the model was calibrated with."
        )
    stretch = stretch_of(history, detector.sha256)
    if stretch.undecided:
        raise UsageError(
            f"Rejects that nobody has decided: {len(stretch.undecided)}. Say of each whether it is a defect or a good "
            "part: without them, the good parts are no fair sample."
        )
    if not stretch.good:
        raise UsageError(_about_none(stretch))
    parts, copies = _once(history.pictures, stretch.good)
    known = [was_learned(part.fields.get("novelty")) or is_held_out(bundle.calibration, _score(part)) for part in parts]
    scores = tuple(_score(part) for part, seen in zip(parts, known, strict=True) if not seen)
    confirmed = ConfirmedPhotos(len(stretch.good), scores, copies, sum(known))
    return move_threshold(bundle, detector.sha256, confirmed, only_new=only_new, judged_by=detector.alpha, user=person)


def keep_model(history: History, model: Path, moved: MovedThreshold) -> Path:
    """Write the new model file into the history's folder, named for the model and the time.

    Raises as `write_recalibrated` does.
    """
    folder = history.folder / "models"
    folder.mkdir(exist_ok=True)
    time = moved.step.time.partition("+")[0].replace(":", "-")
    return write_recalibrated(model, moved, folder / f"{model.stem}.{time}.onnx").path


def _kind(part: Part) -> str:
    """The name of a field of `Stretch`."""
    if part.verdict not in ("normal", "anomalous"):
        return "unjudged"
    if part.fields.get("alpha") is None or part.fields.get("masked"):
        return "judged_otherwise"
    if not part.has_pictures:
        return "without_pictures"
    if part.verdict == "normal":
        return "defects" if part.standing == "defect" else "passed"
    if part.standing is None:
        return "undecided"
    return "wrong" if part.standing == "good" else "defects"


def _about_none(stretch: Stretch) -> str:
    """Why no part counts."""
    others = {
        "judged with a mask, another ROI or a threshold that was set by hand": stretch.judged_otherwise,
        "without a picture, which is not kept any more": stretch.without_pictures,
    }
    told = "; ".join(f"{len(parts)} {what}" for what, parts in others.items() if parts)
    none = "There is no good part yet that this model judged, and whose picture is kept."
    return f"{none} What does not count: {told}." if told else none


def _score(part: Part) -> float:
    assert part.score is not None  # normal and anomalous ones have one
    return part.score


def _once(pictures: Pictures, parts: Sequence[Part]) -> tuple[list[Part], int]:
    """One of each group that looks the same, the oldest one, and how many others there were."""
    seen = []
    for part in parts:
        content = pictures.read(part.id, SMALL)
        bgr = None if content is None else cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
        if bgr is not None:
            image = np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)
            seen.append((part, fingerprint(image), fine_detail(image)))
    copies = find_alike([one[1] for one in seen], [one[2] for one in seen])
    repeated = {row for group in copies for row in group.rows[1:]}
    return [one[0] for row, one in enumerate(seen) if row not in repeated], len(repeated)
