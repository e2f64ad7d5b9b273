"""The threshold moved by what a station has judged, and tables of it."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import ModelFactory
from confirmed import counted, patterned
from judged import START, failed, inspect, inspect_all, rgb
from limits import make_novelty, make_profile, make_validity

from rstpm_edge import Detector
from rstpm_edge.calibration import calibrate
from rstpm_edge.errors import UsageError
from rstpm_edge.image.mask import load_mask
from rstpm_edge.model.model_file import opened as opened_model
from rstpm_edge.recalibration.recalibrated_file import recalibrations_of
from rstpm_edge.station.history.export import COLUMNS, write_csv, write_parquet
from rstpm_edge.station.history.history import History
from rstpm_edge.station.history.recalibrating import keep_model, recalibrated, stretch_of
from rstpm_edge.station.parts import Part as ViewedPart
from rstpm_edge.station.parts import PartRule, inspection_of

NAMES = ["line", "top", "top-2"]  # of one camera, which was renamed
DISTANCES = [3, 5, 7, 9, 11, 13, 14, 15, 17, 18, 19, 20, 21, 22, 23]  # the last two are rejects: 1.03 and 1.08


def fill(history: History, detector: Detector) -> None:
    for inspection in inspect_all(detector, [patterned(one, seed) for seed, one in enumerate(DISTANCES)]):
        history.add(inspection)
    history.add(failed(50))
    assert history.flush(30)


def test_good_parts_move_it_once_all_rejects_are_decided(tmp_path: Path, detector: Detector, model: Path) -> None:
    with History(tmp_path / "kept", rgb=rgb) as history:
        fill(history, detector)
        history.add(inspect(detector, patterned(40, 90), 60))  # a defect
        history.add(inspect(detector, patterned(5, 1), 61))  # a part that was photographed twice
        with pytest.raises(UsageError, match="Rejects that nobody has decided: 3"):
            recalibrated(history, detector)
        for reject in (START + 13, START + 14):
            history.note(reject, "good")
        history.note(START + 60, "acknowledged")
        stretch = stretch_of(history, detector.sha256)
        assert stretch.counts == counted(passed=14, wrong=2, defects=1)
        moved = recalibrated(history, detector, person="Ada")
        scores = [6 * one / 128 for one in DISTANCES]
        assert moved.calibration.scores == pytest.approx(
            calibrate([*detector.info.calibration.scores, *scores], 0.01).scores
        )
        assert (moved.step.copies, moved.step.user, moved.rejected) == (1, "Ada", 2)
        history.note(START + 3, "defect")  # one that passed
        assert len(recalibrated(history, detector).step.added) == 14
        written = keep_model(history, model, moved)
        assert Detector(written, threads=1).threshold == moved.after.value
        with opened_model(written) as file:
            assert recalibrations_of(file) == (moved.step,)


def test_it_is_told_by_the_rate_that_the_station_judges_by(tmp_path: Path, detector: Detector, model: Path) -> None:
    """The file keeps the model's own rate: other stations have it."""
    stricter = Detector(model, threads=1, alpha=0.05)
    with History(tmp_path / "kept", rgb=rgb) as history:
        for inspection in inspect_all(stricter, [patterned(one, seed) for seed, one in enumerate(DISTANCES)]):
            history.add(inspection)
        for reject in history.parts.last(verdict="anomalous") if history.flush(30) else ():
            history.note(reject.id, "good")
        moved = recalibrated(history, stricter)
        own = recalibrated(history, detector)
        written = keep_model(history, model, moved)
    assert (stricter.threshold, detector.threshold) == (0.95, 0.99) == (moved.before.value, own.before.value)
    assert (moved.after.alpha, own.after.alpha) == (0.05, 0.01)
    assert (moved.before.rate_with_confidence, own.before.rate_with_confidence) == tuple(
        detector.info.calibration.rate_with_confidence(alpha) for alpha in (0.05, 0.01)
    )
    assert moved.calibration == own.calibration == Detector(written, threads=1).info.calibration
    for found, alpha in ((moved, 0.05), (own, 0.01)):
        judges = Detector(written, threads=1, alpha=alpha)
        assert (found.after.value, found.after.alpha) == (judges.threshold, judges.alpha)
        assert found.after.rate_with_confidence == judges.info.calibration.rate_with_confidence(alpha)
        assert found.rejected == sum(6 * one / 128 > found.before.value for one in DISTANCES)
        assert found.still_rejected == sum(6 * one / 128 > found.after.value for one in DISTANCES)
    assert (moved.rejected, own.rejected) == (3, 2)


@pytest.mark.parametrize(
    ("own", "judged_by", "said"),
    [
        (0.01, 0.05, "To promise 1%, the model's own rate, takes 99 photos, and here are 32 that are new: give more"),
        (0.05, 0.01, "To promise 1%, by which this station judges, takes 99 photos, and here are 32 that are new"),
    ],
)
def test_too_few_for_either_rate(
    tmp_path: Path, model_factory: ModelFactory, own: float, judged_by: float, said: str
) -> None:
    model = model_factory(calibration=calibrate([one / 100 for one in range(1, 100)], own))
    detector = Detector(model, threads=1, alpha=judged_by)
    with History(tmp_path / "kept", rgb=rgb) as history:
        for inspection in inspect_all(detector, [patterned(3 + seed % 9, seed) for seed in range(40)]):
            history.add(inspection)
        assert history.flush(30)
        with pytest.raises(UsageError, match=said):
            recalibrated(history, detector, only_new=True)


def test_what_says_nothing_of_the_model_does_not_count(tmp_path: Path, detector: Detector, model: Path) -> None:
    with History(tmp_path / "kept", rgb=rgb) as history:
        with pytest.raises(UsageError, match=r"There is no good part yet .* is kept\.$"):
            recalibrated(history, detector)
        by_hand = Detector(model, threads=1, threshold=0.5)
        history.add(inspect(by_hand, patterned(3, 0), 0))
        without = dataclasses.replace(inspect(detector, patterned(5, 1), 1), photo=None)
        history.add(without)
        assert history.flush(30)
        stretch = stretch_of(history, detector.sha256)
        assert (stretch.counts, stretch.good) == (counted(judged_otherwise=1, without_pictures=1), [])
        assert stretch_of(history, "0" * 64).counts == counted()


@pytest.mark.parametrize("options", [{"mask": np.ones((64, 64), bool)}, {"roi": (0, 0, 48, 48)}, {"threshold": 0.99}])
def test_after_a_restart_parts_that_were_judged_otherwise_do_not_count(
    tmp_path: Path, detector: Detector, model: Path, options: dict[str, Any]
) -> None:
    """Their scores are none of the model's calibration, whatever the model was; nor need their rejects be decided."""
    with History(tmp_path / "kept", rgb=rgb) as history:
        before = Detector(model, threads=1, notify=lambda sentence: None, **options)
        for inspection in inspect_all(before, [patterned(5, 0), patterned(40, 1)]):
            history.add(inspection)
        assert history.flush(30)
        with pytest.raises(UsageError):
            recalibrated(history, before)
    with History(tmp_path / "kept", rgb=rgb) as history:
        with pytest.raises(
            UsageError, match=r"What does not count: 2 judged with a mask, another ROI or a threshold th"
        ):
            recalibrated(history, detector)
        for inspection in inspect_all(detector, [patterned(one, 10 + one) for one in (7, 9, 11)], start=10):
            history.add(inspection)
        assert history.flush(30)
        assert stretch_of(history, detector.sha256).counts == counted(passed=3, judged_otherwise=2)
        assert recalibrated(history, detector).step.added == pytest.approx([6 * one / 128 for one in (7, 9, 11)])


def test_parts_follow_the_model_whatever_the_camera_is_called(tmp_path: Path, detector: Detector) -> None:
    """What several cameras see is told once more, as a part: its views count."""
    with History(tmp_path / "kept", rgb=rgb) as history:
        for number, (name, photo) in enumerate((name, patterned(5 + 2 * i, i)) for i, name in enumerate(NAMES)):
            history.add(dataclasses.replace(inspect(detector, photo, number), origin=name))
        views = {name: inspect(detector, patterned(11, 9), 9) for name in ("top", "side")}
        joined = inspection_of(ViewedPart("1", 0, 0, views), PartRule("part", ("top", "side")), (START + 10) / 1000)
        history.add(dataclasses.replace(joined, id=START + 10))
        assert history.flush(30)
        assert history.parts.last(1)[0].model_sha256 == detector.sha256
        stretch = stretch_of(history, detector.sha256)
        assert (stretch.counts, [part.origin for part in stretch.good]) == (counted(passed=3), NAMES)
        assert len(recalibrated(history, detector).step.added) == 3


def test_a_mask_of_the_model_that_was_left_out_is_none(tmp_path: Path, model_factory: ModelFactory) -> None:
    masked = model_factory(mask=load_mask(np.ones((64, 64), bool)).stored())
    with History(tmp_path / "kept", rgb=rgb) as history:
        for number, detector in enumerate((Detector(masked, threads=1), Detector(masked, threads=1, mask=None))):
            history.add(inspect(detector, patterned(5 + 2 * number, number), number))
        assert history.flush(30)
        with pytest.raises(UsageError, match="Scores with a mask are others than the model was calibrated on"):
            recalibrated(history, Detector(masked, threads=1))
        moved = recalibrated(history, detector)
        assert moved.step.added == pytest.approx([6 * 7 / 128])


def test_photos_that_the_model_knows_do_not_count_again(tmp_path: Path, model_factory: ModelFactory) -> None:
    """Those that it learned from are known by their embedding, those that were held out by their score."""
    learned = np.concatenate([patterned(9, 100)[:32], 254 - patterned(9, 100)[:32]])  # whose mean is mid-grey
    held_out = patterned(16, 101)  # scores 0.75, as the 75th held-out one
    validity = make_validity(novelty=make_novelty((127, 127, 127)), contrast=0.0, detail=-60.0)
    detector = Detector(model_factory(profile=make_profile(), validity=validity), threads=1)
    with History(tmp_path / "kept", rgb=rgb) as history:
        photos = [learned, held_out, *(patterned(one, seed) for seed, one in enumerate(DISTANCES[:9]))]
        for inspection in inspect_all(detector, photos):
            assert inspection.fields["verdict"] == "normal"
            history.add(inspection)
        assert history.flush(30)
        moved = recalibrated(history, detector)
        assert (moved.step.photos, moved.step.known, len(moved.step.added)) == (11, 2, 9)
        assert moved.step.added == pytest.approx([6 * one / 128 for one in DISTANCES[:9]])


def test_tables(tmp_path: Path, detector: Detector) -> None:
    with History(tmp_path / "kept", rgb=rgb) as history:
        fill(history, detector)
        history.note(START + 13, "good", person="Ada", comment="=cmd()")
        history.note(START + 14, "good")
        history.note(START + 14, "withdrawn")
        assert write_csv(history.parts.all(), tmp_path / "parts.csv") == 16
        with open(tmp_path / "parts.csv", encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        assert list(rows[0]) == list(COLUMNS)
        assert rows[0]["judged"] == "2026-09-21T14:13:20.000+00:00"
        assert float(rows[0]["score"]) == detector(patterned(3, 0)).score
        assert (rows[13]["decision"], rows[13]["person"], rows[13]["comment"]) == ("good", "Ada", "'=cmd()")
        assert (rows[14]["decision"], rows[14]["regions"]) == ("", "1")
        assert (rows[15]["verdict"], rows[15]["score"], rows[15]["reason"]) == ("failed", "", "Cannot read in/50.png.")


def test_parquet(tmp_path: Path, detector: Detector) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    with History(tmp_path / "kept", rgb=rgb) as history:
        fill(history, detector)
        history.note(START + 13, "good", person="Ada")
        assert write_parquet(history.parts.all(), tmp_path / "parts.parquet") == 16
    rows = parquet.read_table(tmp_path / "parts.parquet").to_pylist()
    assert list(rows[0]) == list(COLUMNS)
    assert rows[0]["judged"].timestamp() * 1000 == START
    assert (rows[13]["decision"], rows[13]["person"], rows[15]["score"]) == ("good", "Ada", None)
