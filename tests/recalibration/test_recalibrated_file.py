"""A model file whose threshold confirmed good photos have moved: what is new in it, what stays, what is refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from bundles import ModelFactory
from confirmed import patterned, write_confirmed
from golden_models import goldens_of, put_goldens

from rstpm_edge import Detector
from rstpm_edge.calibration import Calibration, calibrate
from rstpm_edge.errors import ModelError, UsageError
from rstpm_edge.golden_check import replay
from rstpm_edge.model.goldens import parse_goldens
from rstpm_edge.model.model_file import opened
from rstpm_edge.model.recalibrations import parse_recalibrations, recalibrations_to_json
from rstpm_edge.pipeline import InferenceOptions, Pipeline, open_pipeline
from rstpm_edge.recalibration.confirmed_photos import ConfirmedPhotos, score_photos
from rstpm_edge.recalibration.moved_threshold import MovedThreshold, move_threshold
from rstpm_edge.recalibration.recalibrated_file import recalibrations_of, write_recalibrated

DISTANCES = [3, 5, 7, 9, 11, 13, 14, 15, 17, 18, 19, 20, 21, 22, 23]  # scores of 0.14 to 1.08


def opened_pipeline(model: Path, **options: Any) -> Pipeline:
    return open_pipeline(model, InferenceOptions(mask=None, threads=1, notify=lambda sentence: None, **options))


def moved(model: Path, photos: list[Path], **options: Any) -> MovedThreshold:
    pipeline = opened_pipeline(model)
    return move_threshold(pipeline.session.bundle, pipeline.session.sha256, score_photos(pipeline, photos), **options)


def test_the_threshold_is_that_of_all_scores(model: Path, tmp_path: Path) -> None:
    found = moved(model, write_confirmed(tmp_path / "new", DISTANCES))
    new = tmp_path / "new.onnx"
    write_recalibrated(model, found, new)
    before, after = Detector(model, threads=1), Detector(new, threads=1)
    scores = [before(patterned(distance, i)).score for i, distance in enumerate(DISTANCES)]
    assert after.info.calibration == calibrate([*before.info.calibration.scores, *scores], 0.01)
    assert after.threshold == pytest.approx(6 * 23 / 128)  # of 114, the 114th
    assert after(patterned(40, 0)).score == before(patterned(40, 0)).score
    assert dataclasses.replace(after.info, calibration=before.info.calibration) == before.info
    graphs = [onnx.load(path).graph.SerializeToString() for path in (model, new)]
    assert graphs[0] == graphs[1]
    assert (found.rejected, found.still_rejected) == (2, 0)  # 1.03 and 1.08 are above 0.99


def test_the_file_keeps_both_histories(model: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first.onnx", tmp_path / "second.onnx"
    once = moved(model, write_confirmed(tmp_path / "a", DISTANCES), user="ada")
    write_recalibrated(model, once, first)
    again = moved(
        first, write_confirmed(tmp_path / "b", [2, 4, 6, 8, 10, 12, 24, 25, 26], seed=50), only_new=True, alpha=0.1
    )
    write_recalibrated(first, again, second)
    with opened(second) as file:
        steps = recalibrations_of(file)
    assert steps == (once.step, again.step)
    assert steps[0].user == "ada"
    assert steps[0].before == Calibration(0.01, tuple(i / 100 for i in range(1, 100)))
    assert steps[1].before.scores == tuple(sorted([*steps[0].scores, *steps[0].added]))
    assert steps[1].model_sha256 == Detector(first, threads=1).sha256
    assert (steps[1].replaced, Detector(second, threads=1).info.calibration.alpha) == (True, 0.1)
    assert Detector(second, threads=1).info.calibration.scores == steps[1].added


def test_photos_that_are_the_same_count_once(model: Path, tmp_path: Path) -> None:
    paths = write_confirmed(tmp_path / "new", DISTANCES)
    noisy = patterned(DISTANCES[4], 4).astype(np.int16)
    noisy[::2] += 1  # the same part, photographed again
    cv2.imwrite(str(tmp_path / "new" / "again.png"), noisy.astype(np.uint8))
    cv2.imwrite(str(tmp_path / "new" / "copy.bmp"), patterned(DISTANCES[0], 0))
    found = score_photos(opened_pipeline(model), sorted((tmp_path / "new").iterdir()))
    assert (found.photos, len(found.scores), found.copies, found.known) == (17, 15, 2, 0)
    assert found.scores == score_photos(opened_pipeline(model), paths).scores


def test_held_out_photos_do_not_count_again(model: Path, tmp_path: Path) -> None:
    write_confirmed(tmp_path / "new", [16, *DISTANCES])  # the first one scores 0.75, as the 75th held-out one
    found = score_photos(opened_pipeline(model), sorted((tmp_path / "new").iterdir()))
    assert (len(found.scores), found.known) == (15, 1)


def test_photos_that_were_learned_from_do_not_count(workplace: Any, parts: Path) -> None:
    pipeline = opened_pipeline(workplace.model)
    learned_or_held_out = sorted((parts / "train" / "good").iterdir())
    found = score_photos(pipeline, learned_or_held_out)
    assert (found.known, found.scores) == (len(learned_or_held_out), ())
    with pytest.raises(UsageError, match=r"^None of the 12 photos is new: .* Give good photos that it has never seen"):
        move_threshold(pipeline.session.bundle, pipeline.session.sha256, found)
    unseen = score_photos(pipeline, sorted((parts / "test" / "good").iterdir()))
    assert (len(unseen.scores), unseen.known) == (4, 0)


def test_invalid_and_unreadable_photos_are_refused_by_name(
    model_factory: ModelFactory, workplace: Any, parts: Path, tmp_path: Path
) -> None:
    (first, *_) = sorted((parts / "test" / "good").iterdir())
    photo = cv2.imread(str(first))
    for number in range(7):
        cv2.imwrite(str(tmp_path / f"dark{number}.png"), photo // 20 + number)
    paths = [first, *sorted(tmp_path.glob("dark*.png"))]
    with pytest.raises(UsageError) as error:
        score_photos(opened_pipeline(workplace.model), paths)
    assert "7 photos are INVALID" in str(error.value)
    assert "dark0.png, dark1.png, dark2.png, dark3.png, dark4.png and 2 more" in str(error.value)
    assert "is underexposed" in str(error.value)
    (tmp_path / "cut.png").write_bytes(first.read_bytes()[:200])
    with pytest.raises(UsageError, match=r"cut\.png"):
        score_photos(opened_pipeline(workplace.model), [first, tmp_path / "cut.png"])


def test_what_scores_otherwise_is_not_added(model: Path, tmp_path: Path) -> None:
    higher = write_confirmed(tmp_path / "higher", [21, 22, 23, 24, 25, 26] * 3)
    with pytest.raises(UsageError, match=r"score higher than .* chosen for their high scores.*with `only_new`\.$"):
        moved(model, higher)
    lower = write_confirmed(tmp_path / "lower", [1, 2, 3, 4] * 4)
    with pytest.raises(UsageError, match=r"score lower than .* or were learned from"):
        moved(model, lower)
    found = moved(model, higher, only_new=True, alpha=0.06)
    assert found.after.value == pytest.approx(6 * 26 / 128)


def test_too_few_for_the_promise(model: Path, tmp_path: Path) -> None:
    photos = write_confirmed(tmp_path / "new", DISTANCES)
    with pytest.raises(UsageError, match=r"To promise 1% takes 99 photos, and here are 15 .* `alpha` of 0\.0625\.$"):
        moved(model, photos, only_new=True)
    with pytest.raises(UsageError, match=r"between 0 and 1"):
        moved(model, photos, alpha=1.5)


def test_goldens_get_the_verdict_of_the_new_threshold(model: Path, tmp_path: Path) -> None:
    """1.03 was anomalous and is normal; 0.28 stays normal; 1.08, the new threshold, would turn by rounding."""
    golden_photos = {"turned": patterned(22, 90), "normal": patterned(6, 91), "near": patterned(23, 92)}
    put_goldens(model, goldens_of(model, **golden_photos))
    new = tmp_path / "new.onnx"
    written = write_recalibrated(model, moved(model, write_confirmed(tmp_path / "new", DISTANCES)), new)
    assert (written.turned_goldens, written.dropped_goldens) == (("turned",), ("near",))
    with opened(new) as file:
        assert file.goldens is not None
        assert {one.name: one.is_anomalous for one in parse_goldens(file.goldens)} == {"turned": False, "normal": False}
    assert replay(opened_pipeline(new, verify=True).session).problem() is None
    Detector(new, threads=1, verify=True)


def test_a_file_that_has_none_left_says_so(model: Path, tmp_path: Path) -> None:
    put_goldens(model, goldens_of(model, near=patterned(23, 92)))
    write_recalibrated(model, moved(model, write_confirmed(tmp_path / "new", DISTANCES)), tmp_path / "new.onnx")
    with opened(tmp_path / "new.onnx") as file:
        assert file.goldens is None
    with pytest.raises(ModelError, match="has no goldens"):
        Detector(tmp_path / "new.onnx", threads=1, verify=True)


def test_a_fused_graph_scores_as_before(model_factory: ModelFactory, tmp_path: Path) -> None:
    """Its outputs are map and score, without a threshold: that is the metadata's alone."""
    fused = model_factory("fused.onnx", fused=True)
    new = tmp_path / "new.onnx"
    write_recalibrated(fused, moved(fused, write_confirmed(tmp_path / "new", DISTANCES)), new)
    assert onnx.load(fused).graph.SerializeToString() == onnx.load(new).graph.SerializeToString()
    (document,) = (entry.value for entry in onnx.load(new).metadata_props if entry.key == "rstpm_edge")
    assert json.loads(document)["calibration"]["threshold"] == Detector(new, threads=1).threshold


def test_statements_of_the_threshold_before_go(model_factory: ModelFactory, tmp_path: Path) -> None:
    sessions = {"sessions": 9, "held_out": 4, "whole": True, "left_out": 0.1, "worst": 0.3, "promised": 0.01}
    sessions |= {"p_value": 0.001, "unseen": 0.2}
    synthetic = {"count": 10, "rates": [{"alpha": 0.01, "found": 0.5}]}
    model = model_factory(training={"epochs": 3, "sessions": sessions, "synthetic_defects": synthetic})
    photos = write_confirmed(tmp_path / "new", DISTANCES)
    added, alone = moved(model, photos), moved(model, photos, only_new=True, alpha=0.1)
    assert set(added.bundle.training) == {"epochs", "sessions"}  # the old photos' sessions still differ
    assert (added.before.rate_with_confidence, added.after.rate_with_confidence) == (None, None)
    assert set(alone.bundle.training) == {"epochs"}
    assert alone.after.rate_with_confidence == pytest.approx(alone.calibration.rate_with_confidence())


def test_a_model_that_changed_meanwhile_is_refused(
    model: Path, model_factory: ModelFactory, older: Path, tmp_path: Path
) -> None:
    found = moved(model, write_confirmed(tmp_path / "new", DISTANCES))
    model_factory(model.name, preset="another")
    with pytest.raises(ModelError, match="was written to while its photos were judged"):
        write_recalibrated(model, found, older)


def test_a_damaged_history_is_noticed(model: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.onnx"
    write_recalibrated(model, moved(model, write_confirmed(tmp_path / "new", DISTANCES), user="ada"), new)
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(new.read_bytes().replace(b'"user": "ada"', b'"user": "bob"'))
    with pytest.raises(ModelError, match="has been changed since it was exported"):
        Detector(damaged, threads=1)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("scores", []),
        ("added", [2.0, 1.0]),
        ("scores", ["a"]),
        ("replaced", 1),
        ("alpha", 7),
        ("user", "a\nb"),
        ("photos", -1),
    ],
)
def test_a_history_of_another_form_is_refused(model: Path, tmp_path: Path, field: str, value: Any) -> None:
    step = moved(model, write_confirmed(tmp_path / "new", DISTANCES)).step
    document = json.loads(recalibrations_to_json([step]))
    assert parse_recalibrations(json.dumps(document)) == (step,)
    document["recalibrations"][0][field] = value
    with pytest.raises(ModelError, match="history of calibrations is damaged"):
        parse_recalibrations(json.dumps(document))
    with pytest.raises(ModelError, match=r"history of calibrations .*; upgrade"):
        parse_recalibrations(json.dumps({**document, "schema_version": 2}))


def test_no_score_is_invented(model: Path) -> None:
    bundle = Detector(model, threads=1).info
    with pytest.raises(UsageError, match="finite"):
        move_threshold(bundle, "0" * 64, ConfirmedPhotos(1, (float("nan"),), 0, 0), only_new=True, alpha=0.5)
