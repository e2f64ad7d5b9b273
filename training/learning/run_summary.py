"""What a finished training found: a run's summary.json, and what calibration.json puts in its place."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rstpm_edge.atomic_files import write_json
from rstpm_edge.calibration import Calibration
from rstpm_edge.errors import TrainingError
from rstpm_edge.model.metadata import CoarseCells, Fusion, HeadMap, ScoreFusion
from rstpm_edge.model.read_metadata import coarsest_of_map, kind_of
from rstpm_edge.model.session_rates import SessionRates, session_rates
from rstpm_edge.model.validity import Novelty, parse_novelty
from rstpm_edge.printable import quoted

from ..model.old_names import current_summary
from .run_documents import CALIBRATE_AGAIN, SCHEMA, read_json, schema_version


@dataclass(frozen=True)
class Summary:
    """What a finished training found.

    `teacher_sha256` guards an export against other weights. `highest` names the images that set the threshold.
    `synthetic_scores` are those, ascending, of synthetic defects; none in runs from before. `defective` names held-out
    images that a person has confirmed to show a defect: the calibration is without them. `sessions` says what holds
    from one session to the next, by the rule `session_rule`; None where nobody said which there are. `novelty` says how
    unlike good photos another may be as a whole, and `novelty_of_learned` which limit the photos that were learned from
    ask for alone; None in runs from before.
    """

    epochs: int
    minutes: float
    losses: tuple[tuple[float, float], ...]
    fusion: Fusion
    calibration: Calibration
    teacher_sha256: tuple[str, str]
    highest: tuple[tuple[str, float], ...] = ()  # of the held-out images: name and score, highest first
    score_fusion: ScoreFusion | None = None
    synthetic_scores: tuple[float, ...] = ()
    defective: tuple[str, ...] = ()
    sessions: SessionRates | None = None
    session_rule: str | None = None
    novelty: Novelty | None = None
    novelty_of_learned: float | None = None


def save_summary(folder: Path, summary: Summary) -> None:
    """Raises OutputError."""
    write_json(folder / "summary.json", {**SCHEMA, **asdict(summary)}, below=folder)


def load_summary(folder: Path, *, as_trained: bool = False) -> Summary:
    """With the calibration that holds now, or with that of the training.

    Raises TrainingError when the run has not finished, or a file is damaged.
    """
    path, again = folder / "summary.json", folder / "calibration.json"
    fields = read_json(
        path, f"The run {folder} has not finished; go on with `rstpm-edge train --resume {quoted(folder)}`"
    )
    try:
        fields = current_summary(fields, schema_version(fields, folder))
        if again.exists() and not as_trained:
            path = again
            fields |= _calibrated_again(again)
        fusion, scores = _fusion(fields["fusion"]), fields["score_fusion"]
        calibration = Calibration(fields["calibration"]["alpha"], tuple(fields["calibration"]["scores"]))
        return Summary(
            epochs=int(fields["epochs"]),
            minutes=float(fields["minutes"]),
            losses=tuple((float(a), float(b)) for a, b in fields["losses"]),
            fusion=fusion,
            calibration=calibration,
            teacher_sha256=(fields["teacher_sha256"][0], fields["teacher_sha256"][1]),
            highest=tuple((str(name), float(score)) for name, score in fields.get("highest", ())),
            score_fusion=scores and _score_fusion(scores, fusion),
            synthetic_scores=tuple(map(float, fields.get("synthetic_scores", ()))),
            defective=tuple(map(str, fields.get("defective", ()))),
            sessions=session_rates(fields),
            session_rule=fields.get("session_rule"),
            novelty=None if fields.get("novelty") is None else parse_novelty(fields["novelty"]),
            novelty_of_learned=None
            if fields.get("novelty_of_learned") is None
            else float(fields["novelty_of_learned"]),
        )
    except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
        mend = CALIBRATE_AGAIN if path == again else "train again"
        raise TrainingError(f"{path} is damaged ({error}); {mend}.") from error


def _calibrated_again(path: Path) -> dict[str, Any]:
    """The fields of the summary that another calibration has; none where it was taken back."""
    fields = read_json(path, f"{path} is gone", CALIBRATE_AGAIN)
    return current_summary(fields["summary"] or {}, max(2, schema_version(fields, path.parent)))


def _score_fusion(fields: Mapping[str, Any], of_map: Fusion) -> ScoreFusion:
    # Runs from before the coarsest cells were part of the score have nothing of them, or one weight for all of them.
    coarse, weight = fields.get("coarse"), float(fields.get("coarse_weight", 0.0))
    if coarse is not None:
        cells: CoarseCells | None = CoarseCells(**{name: tuple(map(float, row)) for name, row in coarse.items()})
    else:
        cells = coarsest_of_map(of_map, weight)
    kind = fields.get("kind") or kind_of(cells)  # which runs from before do not say
    return ScoreFusion(_fusion(fields["fusion"]), fields["bias"], cells, fields["map_weight"], kind)


def _fusion(fields: Mapping[str, Any]) -> Fusion:
    values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in fields.items()}
    head = values.pop("head", None)
    return Fusion(**values, head=head and HeadMap(**head))
