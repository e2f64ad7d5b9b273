"""INVALID: a photo that nothing can be said of, and why."""

from __future__ import annotations

import json
from typing import Any

import cv2
import numpy as np
import pytest
from bundles import ModelFactory, make_bundle
from limits import Image, good_photo, make_novelty, make_profile, make_validity

from rstpm_edge.detector import Detector
from rstpm_edge.errors import ImageError, InvalidImageError, ModelError
from rstpm_edge.image.exposure_and_focus import measure_exposure_and_focus
from rstpm_edge.model.read_metadata import parse_bundle
from rstpm_edge.postprocess.novelty import NoveltyCheck
from rstpm_edge.validity_check import ValidityCheck


def reason(image: Image, **profile: Any) -> str:
    return ValidityCheck(make_validity(), make_profile(**profile)).look(image).reason or ""


def painted(level: int, share: float) -> Image:
    image = good_photo()
    image[: round(share * len(image))] = level
    return image


def tinted(red: int, green: int, blue: int) -> Image:
    return np.clip(good_photo().astype(np.int16) + np.array([red, green, blue]), 0, 255).astype(np.uint8)


# How a photo was taken


@pytest.mark.parametrize(
    ("image", "told"),
    [
        (good_photo() // 4, "underexposed: its mean grey level is 31, and 80 to 190 are allowed"),
        (np.full((64, 64, 3), 255, np.uint8), "overexposed: its mean grey level is 255"),
        (
            np.where(painted(255, 0.52) < 255, good_photo() - 60, 255).astype(np.uint8),
            "overexposed: 52% of it is burnt",
        ),
        (np.where(painted(0, 0.52) > 0, good_photo() + 50, 0).astype(np.uint8), "underexposed: 52% of it is drowned"),
        (np.full((64, 64, 3), 127, np.uint8), "empty: its grey levels deviate by 0 from their mean"),
        (cv2.GaussianBlur(painted(160, 0.5), (0, 0), 3), "out of focus: its fine detail is "),
        (tinted(30, 0, 0), "in colour, where the model learned from grey photos"),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else "",
)
def test_a_photo_that_cannot_be_judged(image: Image, told: str) -> None:
    assert reason(image).startswith(told)


@pytest.mark.parametrize(
    "image",
    [good_photo(), painted(0, 0.3), painted(255, 0.3), painted(160, 0.4), good_photo() + np.uint8(40)],
    ids=["good", "a hole", "a burr", "a flat part", "brighter"],
)
def test_a_defect_is_none(image: Image) -> None:
    assert reason(image) == ""


def test_a_coloured_spot_on_a_grey_product_is_a_defect() -> None:
    image = good_photo()
    image[:, :28] = (200, 90, 90)
    assert reason(image) == ""


def test_photos_in_colour() -> None:
    usual = {"chroma": 40.0, "tint": (40.0,) * 4, "tint_std": (2.0,) * 4}
    assert reason(tinted(20, 0, -20), **usual) == ""
    assert reason(tinted(-20, 0, 20), **usual) == "of the wrong channel order: red and blue look exchanged"
    assert reason(good_photo(), **usual) == "grey, where the model learned from photos in colour"
    assert ValidityCheck(make_validity(), None).look(tinted(30, 0, 0)).reason is None


def test_figures_of_a_photo() -> None:
    found = measure_exposure_and_focus(np.repeat(np.uint8([[[0], [255]] * 8] * 16), 3, axis=2))
    assert (found.brightness, found.contrast, found.white, found.black) == (127.5, 127.5, 0.5, 0.5)
    photo = good_photo((128, 128))
    sharp, longer, blurred = (
        measure_exposure_and_focus(image).detail
        for image in (photo, (photo * 1.5).astype(np.uint8), cv2.GaussianBlur(photo, (0, 0), 1))
    )
    assert sharp - longer == pytest.approx(0, abs=0.15)
    assert sharp - blurred > 3


# As a whole


def test_an_image_unlike_all_good_ones() -> None:
    check = NoveltyCheck(make_novelty((0, 0, 0), (100, 0, 0), limit=10))
    near, far, beyond = check.reasons(np.float32([[95, 5, 0], [50, 0, 0], [100, 0, 100]]))
    assert near is None
    assert far is not None
    assert far.startswith("unlike every photo that was learned from: as a whole it lies 2.89 times the limit away")
    assert "5.77 times" in str(beyond)
    with pytest.raises(ModelError, match="embedding of an image is not finite"):
        check.reasons(np.float32([[np.nan, 0, 0]]))


# The detector


def test_a_detector_tells_it(model_factory: ModelFactory) -> None:
    detector = Detector(model_factory(profile=make_profile(), validity=make_validity(novelty=make_novelty(limit=20))))
    good, dark, novel = detector.predict_batch([good_photo(), good_photo() // 4, good_photo() + np.uint8(35)])
    assert (good.verdict, good.invalid_reason, good.is_anomalous) == ("normal", None, False)
    assert good.novelty == pytest.approx(abs(good_photo().mean() - 120), abs=0.01)
    assert good.novelty < 20 < novel.novelty  # the limit
    assert (dark.verdict, dark.is_anomalous) == ("invalid", True)  # by its score
    assert str(dark.invalid_reason).startswith("underexposed")
    assert str(novel.invalid_reason).startswith("unlike every photo")
    assert repr(dark).startswith("<Result invalid: score ")
    anomalous = detector(painted(0, 0.15))
    assert (anomalous.verdict, anomalous.is_anomalous) == ("anomalous", True)


def test_only_the_part_that_was_learned_from_has_limits(model_factory: ModelFactory) -> None:
    roi = (0, 0, 64, 64)
    path = model_factory(profile=make_profile(sizes=((64, 128),), roi=roi), validity=make_validity(), roi=roi)
    photo = np.concatenate([good_photo(), good_photo() // 8], axis=1)
    assert Detector(path)(photo).verdict == "normal"
    assert Detector(path)(photo[:, ::-1]).verdict == Detector(path, roi=roi)(photo[:, ::-1]).verdict == "invalid"
    assert Detector(path)(photo).novelty is not None
    elsewhere = Detector(path, roi=(64, 0, 64, 64))(photo)
    assert (elsewhere.invalid_reason, elsewhere.novelty) == (None, None)
    assert Detector(path, roi=None)(photo // 8).invalid_reason is None


def test_padding_is_no_part_of_a_photo(model_factory: ModelFactory) -> None:
    """It is grey: half of an input would be empty, and a white photo half as bright."""
    path = model_factory(
        profile=make_profile(sizes=((32, 64),)), validity=make_validity(novelty=None), resize="letterbox"
    )
    assert Detector(path)(good_photo((32, 64))).verdict == "normal"
    assert str(Detector(path)(np.full((32, 64, 3), 255, np.uint8)).invalid_reason).startswith("overexposed")


def test_models_from_before_call_nothing_invalid(model_factory: ModelFactory) -> None:
    black = np.zeros((64, 64, 3), np.uint8)
    assert Detector(model_factory(profile=make_profile()))(black).invalid_reason is None


def test_a_photo_of_another_size_has_no_result(model_factory: ModelFactory) -> None:
    detector = Detector(model_factory(profile=make_profile()))
    with pytest.raises(InvalidImageError, match="measures 128×64 pixels"):
        detector(good_photo((64, 128)))
    assert issubclass(InvalidImageError, ImageError)


def test_a_model_without_the_embedding_that_it_speaks_of(model_factory: ModelFactory) -> None:
    with pytest.raises(ModelError, match=r"The output embedding of .* is missing"):
        Detector(model_factory(validity=make_validity(), leave_out="embedding"))


# The document


@pytest.mark.parametrize(
    "wrong",
    [
        {"brightness": [190, 80]},
        {"brightness": [1]},
        {"contrast": -1},
        {"detail": None},
        {"white": 1.5},
        {"unknown": 1},
        {"novelty": {}},
        {"novelty.photos": 3},
        {"novelty.channels": 2},
        {"novelty.limit": "far"},
        {"novelty.mean": [0, 0, 0]},
        {"novelty.vectors": "eNo="},
        {"novelty.vectors": "no base64"},
    ],
    ids=str,
)
def test_a_damaged_document_is_refused(wrong: dict[str, Any]) -> None:
    fields = json.loads(make_bundle(validity=make_validity()).to_json())
    assert parse_bundle(json.dumps(fields)).validity == make_validity()
    ((name, value),) = wrong.items()
    place = fields["validity"]["novelty"] if name.startswith("novelty.") else fields["validity"]
    place[name.removeprefix("novelty.")] = value
    with pytest.raises(ModelError, match="metadata is damaged"):
        parse_bundle(json.dumps(fields))


def test_vectors_that_are_not_finite_are_refused() -> None:
    bundle = make_bundle(validity=make_validity(novelty=make_novelty((np.inf, 0, 0))))
    with pytest.raises(ModelError, match="vectors are not finite"):
        parse_bundle(bundle.to_json())
