"""Another model takes the place of the one that judges: checked, between two images, and undone where it fails."""

from __future__ import annotations

import dataclasses
import pickle
import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from bundles import ModelFactory, make_bundle, write_model
from golden_models import goldens_of, put_goldens
from numpy.typing import NDArray

from rstpm_edge import Detector
from rstpm_edge.errors import ImageError, InvalidImageError, ModelError, UsageError
from rstpm_edge.image.input_profile import InputProfile
from rstpm_edge.loaded_model import LoadedModel
from rstpm_edge.model.metadata import Fusion
from rstpm_edge.model_slot import TRIAL
from rstpm_edge.result import Result

Image = NDArray[np.uint8]
TWICE = Fusion(weights=(2.0,) * 6)
PROFILE = InputProfile(9, ((120, 160),), 8, 8, (127.0, 5.0), 0.0, (0.0,) * 4, (1.0,) * 4)


def test_the_next_image_is_judged_by_the_new_model(model: Path, model_factory: ModelFactory, bad: Image) -> None:
    detector = Detector(model, threads=1)
    before = detector(bad)
    other = model_factory("other.onnx", fusion=TWICE)
    assert detector.swap(other)
    after = detector(bad)
    alone = Detector(other, threads=1)
    assert after.score == alone(bad).score == pytest.approx(2 * before.score)
    assert (before.model_sha256, after.model_sha256) == (Detector(model).sha256, alone.sha256)
    assert (detector.sha256, detector.info.fusion) == (alone.sha256, TWICE)
    copy = pickle.loads(pickle.dumps(detector))
    assert copy(bad).score == after.score


def test_the_same_file_is_no_swap(detector: Detector, model: Path) -> None:
    assert not detector.swap(model)
    detector.threshold = 3.0  # which no other model may take
    assert not detector.swap(model)


def test_what_the_station_set_stays(model: Path, model_factory: ModelFactory, tmp_path: Path, bad: Image) -> None:
    """Also a mask whose file has gone by then."""
    mask = tmp_path / "mask.png"
    white = np.full((120, 160), 255, np.uint8)
    white[:, 60:] = 0
    cv2.imwrite(str(mask), white)
    detector = Detector(model, threads=1, alpha=0.2, mask=mask)
    mask.unlink()
    detector.swap(model_factory("other.onnx", fusion=TWICE))
    result = detector(bad)
    assert (result.alpha, result.threshold) == (0.2, 0.8)
    assert result.score < 1  # the spot lies where nothing counts


@pytest.mark.parametrize(
    ("spoiled", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-99]), "is damaged, or not an ONNX file"),
        (lambda path: path.unlink(), "There is no model file"),
        (lambda path: write_model(path, scale=float("nan")), "hold NaN or infinite values"),
        (lambda path: write_model(path, make_bundle(), leave_out="recon_8"), "is missing or does not match"),
    ],
)
def test_a_model_that_is_refused_changes_nothing(
    detector: Detector, model_factory: ModelFactory, bad: Image, spoiled: Any, message: str
) -> None:
    expected = detector(bad)
    other = model_factory("other.onnx", fusion=TWICE)
    spoiled(other)
    with pytest.raises(ModelError, match=message):
        detector.swap(other)
    result = detector(bad)
    assert (result.score, result.model_sha256) == (expected.score, expected.model_sha256)


def test_goldens_are_verified_where_there_are_any(
    detector: Detector, model_factory: ModelFactory, good: Image, bad: Image
) -> None:
    other = model_factory("other.onnx", fusion=TWICE)
    found = goldens_of(other, good=good, bad=bad)
    put_goldens(other, [dataclasses.replace(found[1], is_anomalous=False)])
    with pytest.raises(ModelError, match="judges its golden bad as anomalous"):
        detector.swap(other)
    put_goldens(other, found)
    assert detector.swap(other)


def test_goldens_that_the_station_asks_for_must_be_there(model: Path, model_factory: ModelFactory, bad: Image) -> None:
    put_goldens(model, goldens_of(model, bad=bad))
    detector = Detector(model, threads=1, verify=True)
    with pytest.raises(ModelError, match="has no goldens to verify it by"):
        detector.swap(model_factory("other.onnx", fusion=TWICE))


@pytest.mark.extra
def test_the_key_is_the_one_that_was_read_at_the_start(
    model: Path, model_factory: ModelFactory, tmp_path: Path
) -> None:
    from keys import make_pair

    from rstpm_edge.model.signing import sign_model

    ours, theirs = make_pair(tmp_path), make_pair(tmp_path, "other")
    sign_model(model, ours.key)
    detector = Detector(model, threads=1, public_key=ours.public)
    other = model_factory("other.onnx", fusion=TWICE)
    with pytest.raises(ModelError, match="is not signed"):
        detector.swap(other)
    ours.public.write_bytes(theirs.public.read_bytes())
    sign_model(other, theirs.key)
    with pytest.raises(ModelError, match="was signed with another key"):
        detector.swap(other)
    sign_model(other, ours.key)
    assert detector.swap(other)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 3.0}, "the threshold 3 was set by hand for the model that runs"),
        ({"roi": (0, 0, 80, 60)}, "the ROI that was set is the one that the model that runs was calibrated with"),
    ],
)
def test_an_option_that_belongs_to_the_model_before(model_factory: ModelFactory, options: Any, message: str) -> None:
    detector = Detector(model_factory(roi=(0, 0, 80, 60)), threads=1, **options)
    with pytest.raises(UsageError, match=message):
        detector.swap(model_factory("other.onnx", fusion=TWICE))


def test_a_threshold_that_is_set_later_belongs_to_its_model(detector: Detector, model_factory: ModelFactory) -> None:
    new = detector.prepare(model_factory("other.onnx", fusion=TWICE))
    detector.threshold = 3.0
    with pytest.raises(UsageError, match="the threshold 3 was set by hand"):
        detector.swap(new)
    assert detector.threshold == 3.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sizes": ((100, 100),)}, "photos of 100×100, and the one that runs from 160×120"),
        ({"depth": 16, "bits": 12}, "12 bits in 16, and the one that runs from 8 in 8"),
        ({"chroma": 20.0}, "photos in colour, and the one that runs from grey ones"),
        ({"sizes": ((240, 320),), "brightness": (90.0, 5.0)}, None),
    ],
)
def test_a_model_of_another_product(model_factory: ModelFactory, changes: Any, message: str | None) -> None:
    detector = Detector(model_factory(profile=PROFILE), threads=1)
    other = model_factory("other.onnx", profile=dataclasses.replace(PROFILE, **changes))
    if message is None:
        assert detector.swap(other)
    else:
        with pytest.raises(ModelError, match=f"it learned from {message}, so it is of another product"):
            detector.swap(other)


def failing(detector: Detector, path: Path, *, from_image: int = 1) -> LoadedModel:
    """The model at `path`, whose runtime fails from this image on."""
    new = detector.prepare(path)
    session = new.running().session
    seen = 0

    class Runtime:
        def run(self, names: list[str], feed: dict[str, Any]) -> Any:
            nonlocal seen
            seen += 1
            if seen >= from_image:
                raise RuntimeError("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : no memory")
            return session._inference.run(names, feed)

    pipeline = dataclasses.replace(new.running(), session=dataclasses.replace(session, _inference=Runtime()))
    return dataclasses.replace(new, pipeline=pipeline)


@pytest.mark.parametrize("from_image", [1, TRIAL])
def test_a_model_that_fails_on_trial_gives_its_place_back(
    detector: Detector, model_factory: ModelFactory, bad: Image, from_image: int
) -> None:
    before, told = detector(bad), []
    new = failing(detector, model_factory("other.onnx", fusion=TWICE), from_image=from_image)
    assert detector.swap(new, on_rollback=told.append)
    results = [detector(bad) for _ in range(TRIAL + 1)]
    assert [one.model_sha256 for one in results] == [new.sha256] * (from_image - 1) + [before.model_sha256] * (
        TRIAL + 2 - from_image
    )
    assert results[-1].score == before.score
    (why,) = told
    assert "cannot judge an image that the one before it can, which judges again: " in str(why)
    assert "no memory" in str(why)
    assert detector.sha256 == before.model_sha256


def test_a_rollback_is_a_warning_where_nobody_asks(detector: Detector, model_factory: ModelFactory, bad: Image) -> None:
    detector.swap(failing(detector, model_factory("other.onnx", fusion=TWICE)))
    with pytest.warns(RuntimeWarning, match="which judges again"):
        detector(bad)


def test_a_threshold_that_is_set_during_a_trial_goes_with_its_model(
    detector: Detector, model_factory: ModelFactory, bad: Image
) -> None:
    """Scores of the one before have another unit; it takes models again, as before."""
    before, told = detector(bad), []
    new = failing(detector, model_factory("other.onnx", fusion=TWICE), from_image=2)
    detector.swap(new, on_rollback=told.append)
    detector.threshold = 1234.0
    assert detector(bad).threshold == 1234.0
    after = detector(bad)
    assert (after.model_sha256, after.threshold, after.alpha) == (before.model_sha256, before.threshold, before.alpha)
    assert detector.threshold == before.threshold
    assert f"which judges again, by its own threshold {before.threshold:g}: " in str(told[0])
    assert detector.swap(model_factory("third.onnx", preset="third"))


def test_after_the_trial_a_failure_is_an_error(detector: Detector, model_factory: ModelFactory, bad: Image) -> None:
    new = failing(detector, model_factory("other.onnx", fusion=TWICE), from_image=TRIAL + 1)
    detector.swap(new)
    for _ in range(TRIAL):
        detector(bad)
    with pytest.raises(ModelError, match="no memory"):
        detector(bad)
    assert detector.sha256 == new.sha256


def test_an_image_that_nobody_can_judge_says_nothing_of_the_model(
    detector: Detector, model_factory: ModelFactory, tmp_path: Path, bad: Image
) -> None:
    detector.swap(model_factory("other.onnx", fusion=TWICE))
    new = detector.sha256
    with pytest.raises(ImageError, match="Cannot read"):
        detector(tmp_path / "none.png")
    assert detector(bad).model_sha256 == detector.sha256 == new


def test_a_model_on_trial_that_calls_a_photo_invalid_stays(detector: Detector, model_factory: ModelFactory) -> None:
    """One from before the photos' shape was kept would let its part pass."""
    assert detector.info.profile is None
    detector.swap(model_factory("other.onnx", profile=PROFILE))
    new = detector.sha256
    with pytest.raises(InvalidImageError):
        detector(np.full((60, 240, 3), 127, np.uint8))
    assert detector.sha256 == new


def test_of_two_untried_models_the_one_before_both_comes_back(
    detector: Detector, model_factory: ModelFactory, bad: Image
) -> None:
    first = detector.sha256
    detector.swap(model_factory("other.onnx", fusion=TWICE))
    detector.swap(failing(detector, model_factory("third.onnx", preset="third")), on_rollback=lambda why: None)
    assert detector(bad).model_sha256 == first


def test_a_batch_is_judged_through_a_rollback(detector: Detector, model_factory: ModelFactory, bad: Image) -> None:
    expected, first = detector(bad), detector.sha256
    new = failing(detector, model_factory("other.onnx", fusion=TWICE), from_image=3)
    detector.swap(new, on_rollback=lambda why: None)
    results = detector.predict_batch(iter([bad] * 9), batch_size=4)
    assert [one.model_sha256 for one in results] == [new.sha256] * 2 + [first] * 7
    assert results[-1].score == expected.score


def test_a_call_ends_with_the_model_that_it_began_with(
    detector: Detector, model_factory: ModelFactory, bad: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = detector(bad)
    began, go_on = threading.Event(), threading.Event()
    pipeline = detector._slot.model.running()
    load = pipeline.preprocessor.load

    def slowly(image: Any) -> Any:
        began.set()
        assert go_on.wait(30)
        return load(image)

    monkeypatch.setattr(pipeline.preprocessor, "load", slowly)
    found: list[Result] = []
    thread = threading.Thread(target=lambda: found.append(detector(bad)))
    thread.start()
    assert began.wait(30)
    detector.swap(
        model_factory("other.onnx", fusion=TWICE, calibration=dataclasses.replace(make_bundle().calibration, alpha=0.5))
    )
    for _ in range(TRIAL):
        assert detector(bad).threshold == 0.5
    go_on.set()
    thread.join()
    assert (found[0].model_sha256, found[0].score, found[0].threshold) == (
        expected.model_sha256,
        expected.score,
        expected.threshold,
    )


def test_a_closed_detector(detector: Detector, model_factory: ModelFactory) -> None:
    other = model_factory("other.onnx", fusion=TWICE)
    new = detector.prepare(other)
    detector.close()
    for model in (other, new):
        with pytest.raises(UsageError, match="is closed"):
            detector.swap(model)
