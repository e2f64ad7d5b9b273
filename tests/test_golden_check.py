"""A model's goldens, judged once more: by Detector(verify=True), `infer --verify` and `verify`."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from bundles import ModelFactory
from click.testing import CliRunner, Result
from golden_models import goldens_of, put_goldens
from limits import good_photo, make_novelty, make_profile, make_validity
from numpy.typing import NDArray

from rstpm_edge import Detector
from rstpm_edge.calibration import Calibration
from rstpm_edge.cli.main import main
from rstpm_edge.engine.session import open_session
from rstpm_edge.errors import ModelError
from rstpm_edge.golden_check import TOLERANCE, TOLERANCE_REDUCED, replay
from rstpm_edge.model.goldens import Golden, stored_map

Image = NDArray[np.uint8]
SPAN = 0.99 - 0.5  # of the tiny model


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.fixture
def goldens(model: Path, good: Image, bad: Image) -> list[Golden]:
    return goldens_of(model, good=good, bad=bad)


@pytest.fixture
def verified(model: Path, goldens: list[Golden]) -> Path:
    """The model with both goldens in it."""
    put_goldens(model, goldens)
    return model


def test_the_same_device_gives_the_same(verified: Path, bad: Image) -> None:
    found = replay(open_session(verified, with_goldens=True))
    assert [(one.name, one.is_anomalous, one.flipped) for one in found.results] == [
        ("good", False, False),
        ("bad", True, False),
    ]
    assert found.score_difference == 0
    assert 0 <= found.map_difference < 1e-3  # the map's rounding to 16 bits
    assert found.margin == pytest.approx(0.99 / SPAN, rel=1e-5)  # of the good one, whose score is 0
    assert found.problem() is None
    assert Detector(verified, verify=True)(bad).is_anomalous


@pytest.mark.extra
@pytest.mark.parametrize(("precision", "tolerance"), [("f32", TOLERANCE), ("bf16", TOLERANCE_REDUCED)])
def test_another_runtime(precision: str, tolerance: float, verified: Path) -> None:
    session = open_session(verified, providers=[("openvino", {"precision": precision})], with_goldens=True)
    found = replay(session)
    assert found.problem() is None
    # OpenVINO computes in f32 where the processor has no bf16, and says so.
    assert found.tolerance == (tolerance if session.precision == precision else TOLERANCE)


def test_fewer_bits_may_differ_by_more(model_factory: ModelFactory, good: Image) -> None:
    model = model_factory(precision="fp16")
    put_goldens(model, goldens_of(model, good=good))
    assert replay(open_session(model, with_goldens=True)).tolerance == TOLERANCE_REDUCED


def test_a_golden_that_is_invalid_here(model_factory: ModelFactory) -> None:
    """As on a device that computes the embedding wrongly."""
    profile, photo = make_profile(), good_photo()
    there = model_factory("there.onnx", profile=profile, validity=make_validity(novelty=make_novelty(limit=50)))
    here = model_factory("here.onnx", profile=profile, validity=make_validity(novelty=make_novelty(limit=1e-3)))
    put_goldens(here, goldens_of(there, photo=photo))
    put_goldens(there, goldens_of(there, photo=photo))
    Detector(there, verify=True)
    (found,) = replay(open_session(here, with_goldens=True)).results
    assert found.flipped
    sentence = r"judges its golden photo as INVALID \(unlike every photo that was .*\), and it was normal when it was"
    with pytest.raises(ModelError, match=sentence):
        Detector(here, verify=True)


def test_a_flipped_verdict_is_told_and_refused(
    model: Path, goldens: list[Golden], photos: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    put_goldens(model, [dataclasses.replace(one, is_anomalous=not one.is_anomalous) for one in goldens])
    sentence = (
        r"model\.onnx is not what it was: this device judges its golden good as normal \(score 0, threshold 0\.99\), "
        r"and it was anomalous \(0\) when it was exported\."
    )
    with pytest.raises(ModelError, match=sentence):
        Detector(model, verify=True)
    for command, code in ((("verify", model), 1), (("infer", photos, "--model", model, "--verify"), 2)):
        result = run(*command)
        assert result.exit_code == code
        assert "judges its golden good as normal" in result.stderr
    assert run("infer", photos / "1.png", "--model", model).exit_code == 0  # nobody asked


@pytest.mark.parametrize(("change", "holds"), [(0.9, True), (1.1, False), (-1.1, False)])
def test_a_score_may_differ_by_the_tolerance(change: float, holds: bool, model: Path, goldens: list[Golden]) -> None:
    moved = change * TOLERANCE * SPAN
    put_goldens(model, [goldens[0], dataclasses.replace(goldens[1], score=goldens[1].score + moved)])
    assert run("verify", model).exit_code == (0 if holds else 1)
    if not holds:
        with pytest.raises(ModelError, match=r"scores its golden bad with .* where it was .*, where 0\.01 is allowed"):
            Detector(model, verify=True)


def test_one_cell_of_a_map_that_differs_is_enough(model: Path, goldens: list[Golden]) -> None:
    values = goldens[0].anomaly_map.values()
    values[3, 5] += 2 * TOLERANCE * SPAN
    put_goldens(model, [dataclasses.replace(goldens[0], anomaly_map=stored_map(values)), goldens[1]])
    result = run("verify", model)
    assert result.exit_code == 1
    assert "largest difference of the score 0, of a map 0.02 (0.01 is allowed)" in result.stdout
    assert "its map differs by 0.02 of the way from a typical score to the threshold" in result.stderr


def test_a_model_that_computes_otherwise_is_found(model_factory: ModelFactory, good: Image, bad: Image) -> None:
    goldens = goldens_of(model_factory(), good=good, bad=bad)
    other = model_factory(scale=1.02 / 128)
    put_goldens(other, goldens)
    assert run("verify", other).exit_code == 1


def test_verify_says_what_it_found(verified: Path) -> None:
    result = run("verify", verified)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith(f"{verified}: 2 goldens with cpu in f32; largest difference of the score 0, ")
    assert "smallest margin to the threshold 2; all as shares" in result.stdout
    assert result.stderr == ""


def test_the_models_own_roi_mask_and_threshold_count_and_no_option(
    model_factory: ModelFactory, good: Image, bad: Image, tmp_path: Path
) -> None:
    model = model_factory(roi=(60, 20, 80, 60), calibration=Calibration(0.05, tuple(i / 100 for i in range(1, 100))))
    put_goldens(model, goldens_of(model, good=good, bad=bad))
    mask = np.zeros((120, 160), np.uint8)
    mask[:10] = 255
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    detector = Detector(model, verify=True, roi=None, mask=tmp_path / "mask.png", threshold=1e6)
    assert not detector(bad).is_anomalous


def test_a_model_without_any(model: Path, photos: Path) -> None:
    with pytest.raises(ModelError, match="has no goldens to verify it by: export it with photos, `goldens`"):
        Detector(model, verify=True)
    told = run("infer", photos, "--model", model, "--verify")
    assert told.exit_code == 2
    assert "export it with photos, --golden, or leave --verify out. (--golden is an option of export.)" in told.stderr
    nothing = run("verify", model)
    assert nothing.exit_code == 2
    assert "There is nothing to verify" in nothing.stderr


def test_a_golden_that_the_model_would_not_judge(verified: Path, model_factory: ModelFactory, bad: Image) -> None:
    model = model_factory("other.onnx", roi=(100, 100, 400, 400))
    put_goldens(model, goldens_of(verified, bad=bad))
    with pytest.raises(ModelError, match="The model's golden bad cannot be judged: "):
        Detector(model, verify=True)


def test_a_map_of_another_size(model: Path, goldens: list[Golden]) -> None:
    small: Any = stored_map(np.zeros((3, 4), np.float32))
    put_goldens(model, [dataclasses.replace(goldens[0], anomaly_map=small)])
    with pytest.raises(ModelError, match="golden good is damaged: its map has another size than the model's"):
        Detector(model, verify=True)
    for png in (b"", cv2.imencode(".png", np.zeros((64, 64), np.uint8))[1].tobytes()):
        broken = dataclasses.replace(small, png=png)
        put_goldens(model, [dataclasses.replace(goldens[0], anomaly_map=broken)])
        with pytest.raises(ModelError, match="The model's goldens are damaged: "):
            Detector(model, verify=True)


def test_a_pickled_detector_verifies_once_more(verified: Path, goldens: list[Golden], bad: Image) -> None:
    pickled = pickle.dumps(Detector(verified, verify=True))
    assert len(pickled) < 10_000  # without the goldens
    assert pickle.loads(pickled)(bad).is_anomalous
    put_goldens(verified, [dataclasses.replace(one, is_anomalous=not one.is_anomalous) for one in goldens])
    with pytest.raises(ModelError, match="is not what it was"):
        pickle.loads(pickled)


def test_options_of_goldens_and_images_do_not_mix(verified: Path, photos: Path) -> None:
    assert "are for goldens" in run("verify", verified, photos, "--provider", "cpu").stderr
