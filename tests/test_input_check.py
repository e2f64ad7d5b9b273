"""What a model learned from is kept with it, and what is judged is compared with that: refused, or told once."""

from __future__ import annotations

import dataclasses
import json
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from bundles import ModelFactory, make_bundle
from numpy.typing import NDArray
from workplace import command_line

from rstpm_edge.detector import Detector
from rstpm_edge.errors import ImageError, ModelError
from rstpm_edge.image.input_profile import InputProfile, describe_sizes
from rstpm_edge.image.roi import scaled_roi
from rstpm_edge.image.stored_mask import pack
from rstpm_edge.input_check import InputWarning
from rstpm_edge.model.read_metadata import parse_bundle

Image = NDArray[np.uint8]
ROI = (20, 10, 100, 80)


def profile(**changes: Any) -> InputProfile:
    """Of grey photos of 160×120 pixels, 8 bits."""
    usual = InputProfile(
        photos=20,
        sizes=((120, 160),),
        depth=8,
        bits=8,
        brightness=(127.0, 2.0),
        chroma=0.0,
        tint=(0.0,) * 4,
        tint_std=(0.0,) * 4,
    )
    return dataclasses.replace(usual, **changes)


def flat(height: int, width: int, value: int = 127) -> Image:
    return np.full((height, width, 3), value, np.uint8)


class Told(list[str]):
    """What a detector says; it is what `notify` takes."""

    def __call__(self, sentence: str) -> None:
        self.append(sentence)


# The document


def test_a_profile_is_kept_in_the_document() -> None:
    bundle = make_bundle(profile=profile(sizes=((120, 160), (240, 320)), depth=16, bits=12, roi=ROI))
    again = parse_bundle(bundle.to_json())
    assert again.profile == bundle.profile
    assert again.bits == 12


def test_documents_without_a_profile_are_taken() -> None:
    document = make_bundle().to_json()
    assert json.loads(document)["profile"] is None
    bundle = parse_bundle(document)
    assert bundle.profile is None
    assert bundle.bits == 16


@pytest.mark.parametrize(
    "wrong",
    [
        {"sizes": []},
        {"sizes": [[0, 5]]},
        {"sizes": [[5]]},
        {"sizes": [["a", "b"]]},
        {"sizes": 5},
        {"photos": "many"},
        {"bits": 11},
        {"depth": 12},
        {"tint": [1]},
        {"tint": [1, 2, 3, 1e999]},
        {"brightness": [1]},
        {"chroma": None},
        {"roi": [1, 2, 3]},
    ],
    ids=str,
)
def test_a_damaged_profile_is_refused(wrong: dict[str, Any]) -> None:
    fields = json.loads(make_bundle(profile=profile()).to_json())
    fields["profile"].update(wrong)
    with pytest.raises(ModelError, match="metadata is damaged"):
        parse_bundle(json.dumps(fields))
    with pytest.raises(ModelError, match="metadata is damaged"):
        parse_bundle(json.dumps({**fields, "profile": [1]}))


def test_sizes_for_people() -> None:
    sizes = ((1, 2), (3, 4), (5, 6), (7, 8))
    assert [describe_sizes(sizes[:count]) for count in (1, 2, 3, 4)] == [
        "2×1",
        "2×1 or 4×3",
        "2×1, 4×3 or 6×5",
        "2×1, 4×3, 6×5 and 1 other sizes",
    ]


def test_info_says_what_was_learned_from(model_factory: ModelFactory) -> None:
    path = model_factory(profile=profile(depth=16, bits=12))
    result = command_line("info", "--model", path)
    assert "20 photos of 160×120 pixels, 12 bits of 16, grey" in result.output
    facts = json.loads(command_line("info", "--model", path, "--json").output)
    assert facts["profile"]["sizes"] == [[120, 160]]


# Sizes


def test_photos_of_the_size_that_was_learned_from_are_nothing_to_talk_of(model_factory: ModelFactory) -> None:
    told = Told()
    detector = Detector(model_factory(profile=profile()), notify=told)
    detector(flat(120, 160))
    detector(flat(240, 320))  # as much detail as the model sees
    detector(flat(121, 160))  # rounded
    assert told == []


def test_another_shape_is_refused(model_factory: ModelFactory, tmp_path: Path) -> None:
    path, wide = model_factory(profile=profile()), flat(90, 160)
    with pytest.raises(ImageError, match=r"^The image measures 160×90 pixels; the model learned from 160×120, and its"):
        Detector(path)(wide)
    cv2.imwrite(str(tmp_path / "wide.png"), wide)
    with pytest.raises(ImageError, match=rf"^{tmp_path}/wide.png measures 160×90 pixels; .* `allow_size_change`"):
        Detector(path)(tmp_path / "wide.png")
    told = Told()
    detector = Detector(path, allow_size_change=True, notify=told)
    assert detector(wide).score == Detector(model_factory("old.onnx"))(wide).score
    detector(flat(90, 161))
    assert len(told) == 1
    assert "160×90" in told[0]


def test_nearly_the_same_shape_is_told_once(model_factory: ModelFactory) -> None:
    path = model_factory(profile=profile(sizes=((1200, 1600),)))
    told = Told()
    detector = Detector(path, notify=told)
    for _ in range(2):
        detector.predict_batch([flat(1200, 1630), flat(1200, 1635)])
    assert [sentence.split(";")[0] for sentence in told] == ["The image measures 1630×1200 pixels"]


def test_a_letterbox_keeps_shapes(model_factory: ModelFactory) -> None:
    told = Told()
    Detector(model_factory(profile=profile(), resize="letterbox"), notify=told)(flat(90, 160))
    assert len(told) == 1


def test_a_set_of_many_shapes_has_none_that_is_wrong(model_factory: ModelFactory) -> None:
    told = Told()
    detector = Detector(model_factory(profile=profile(sizes=((120, 160), (100, 200)))), notify=told)
    detector(flat(100, 180))
    assert told == []
    detector(flat(100, 300))
    assert len(told) == 1


def test_by_default_it_is_a_warning(model_factory: ModelFactory) -> None:
    path = model_factory(profile=profile())
    detector = Detector(path)
    with pytest.warns(InputWarning, match=r"^The image, of 40×30 pixels where .* is enlarged"):
        detector(flat(30, 40))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        detector(flat(30, 40))
        assert caught == []
        warnings.simplefilter("ignore", InputWarning)
        Detector(path)(flat(30, 40))
        assert caught == []


def test_sharper_photos_than_those_that_were_learned_from_are_told(model_factory: ModelFactory) -> None:
    told = Told()
    Detector(model_factory(profile=profile(sizes=((30, 40),))), notify=told)(flat(120, 160))
    assert len(told) == 1
    assert "sharper" in told[0]


def test_the_models_roi_is_scaled_with_the_photo(model_factory: ModelFactory, bad: Image) -> None:
    told = Told()
    detector = Detector(model_factory(profile=profile(roi=ROI), roi=ROI), notify=told)
    small = detector(bad)
    assert told == []
    large = detector(np.asarray(cv2.resize(bad, (320, 240), interpolation=cv2.INTER_NEAREST)))
    assert large.roi == (40, 20, 200, 160)
    assert large.score == pytest.approx(small.score, rel=0.01)
    assert told == [
        "The image measures 320×240 pixels, and the model's ROI was drawn on 160×120: it is scaled with the photo, to "
        "40,20,200,160."
    ]
    detector(flat(150, 200))
    assert len(told) == 1
    assert Detector(model_factory(profile=profile(roi=ROI), roi=ROI), roi=(0, 0, 100, 80))(bad).roi == (0, 0, 100, 80)


def test_scaling_a_roi() -> None:
    assert scaled_roi(ROI, (120, 160), (120, 160)) == ROI
    assert scaled_roi(ROI, (120, 160), (75, 100)) == (12, 6, 63, 50)
    assert scaled_roi((159, 119, 1, 1), (120, 160), (3, 4)) == (3, 2, 1, 1)
    assert scaled_roi((0, 0, 160, 120), (120, 160), (751, 1003)) == (0, 0, 1003, 751)
    assert scaled_roi(ROI, (120, 160), (160, 120)) is None


def test_the_models_roi_is_of_photos_of_one_shape(model_factory: ModelFactory) -> None:
    path, tall = model_factory(profile=profile(roi=ROI), roi=ROI), flat(200, 160)
    with pytest.raises(ImageError, match=r"^The image measures 160×200 pixels, but the model's ROI 20,10,100,80 is of"):
        Detector(path)(tall)
    told = Told()
    assert Detector(path, allow_size_change=True, notify=told)(tall).roi == ROI
    assert len(told) == 1
    Detector(path, roi=(0, 0, 100, 80))(tall)  # the user's own is as it is
    with pytest.warns(InputWarning, match=r"The ROI of 160×30 pixels in the image"):
        Detector(path, roi=(0, 0, 160, 30), allow_size_change=True)(tall)
    several = model_factory("several.onnx", profile=profile(sizes=((120, 160), (240, 320)), roi=ROI), roi=ROI)
    for known in ((120, 160), (240, 320)):
        assert Detector(several)(flat(*known)).roi == ROI
    with pytest.raises(ImageError, match="is of photos of 160×120 or 320×240"):
        Detector(several)(flat(60, 80))


def test_models_without_a_profile_judge_as_ever(model_factory: ModelFactory) -> None:
    told = Told()
    detector = Detector(model_factory(roi=ROI), notify=told)
    assert detector(flat(200, 160)).roi == ROI
    assert Detector(model_factory("old.onnx"), notify=told)(flat(20, 900)).score == 0
    assert told == []


def test_infer_refuses_and_tells(model_factory: ModelFactory, tmp_path: Path) -> None:
    path = model_factory(profile=profile())
    for name, size in {"1.png": (120, 160), "2.png": (90, 160), "3.png": (30, 40), "4.png": (33, 44)}.items():
        cv2.imwrite(str(tmp_path / name), flat(*size))
    images = [tmp_path / f"{number}.png" for number in (1, 2, 3, 4)]
    result = command_line("infer", *images, "--model", path)
    assert result.exit_code == 4
    assert f"INVALID    {images[1]}: The image measures 160×90 pixels" in result.stdout
    assert "4 images: 3 normal, 0 anomalous, 1 invalid, 0 failed" in result.stdout
    assert f"{images[2]}: The image, of 40×30 pixels" in result.stderr
    assert str(images[3]) not in result.stderr
    result = command_line("infer", *images, "--model", path, "--allow-size-change")
    assert result.exit_code == 0
    assert str(images[1]) in result.stderr


def test_a_benchmark_takes_a_frame_of_any_size(model_factory: ModelFactory) -> None:
    mask = pack(120, 160, bytes([255] * 120 * 20))
    path = model_factory(profile=profile(roi=ROI), roi=ROI, mask=mask)
    result = command_line("bench", "--model", path, "--frame", "200x20", "--runs", "2")
    assert result.exit_code == 0
    assert result.stderr == ""


# Bits


def deep(value: int, size: tuple[int, int] = (120, 160)) -> NDArray[np.uint16]:
    return np.full((*size, 3), value, np.uint16)


def of_bits(bits: int) -> InputProfile:
    return profile(depth=16, bits=bits)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_values_are_scaled_from_the_range_that_was_learned(
    model_factory: ModelFactory, bits: int, tmp_path: Path
) -> None:
    told = Told()
    detector = Detector(model_factory(profile=of_bits(bits)), notify=told)
    white = (1 << bits) - 1
    path = tmp_path / "deep.png"
    cv2.imwrite(str(path), deep(white))
    assert {detector(image).score for image in (deep(white), path, deep(white)[..., :1])} == {6}
    assert detector(deep(round(white * 127 / 255))).score == pytest.approx(0, abs=0.05)
    assert told == []


def test_values_beyond_the_learned_range_are_refused(model_factory: ModelFactory, tmp_path: Path) -> None:
    path = model_factory(profile=of_bits(12))
    image = deep(2000)
    image[5, 5] = 4096
    with pytest.raises(ImageError, match=r"^The image holds the value 4096, but the model learned from 12 bits, which"):
        Detector(path)(image)
    opaque = np.dstack([deep(2000), np.full((120, 160), 65535, np.uint16)])
    assert Detector(path)(opaque).score == Detector(path)(deep(2000)).score  # whose alpha is no value of the part
    cv2.imwrite(str(tmp_path / "deep.png"), image)
    result = command_line("infer", tmp_path / "deep.png", "--model", path)
    assert result.exit_code == 4
    assert "4096" in result.stdout


def test_few_bits_for_a_model_of_8_are_told_once(model_factory: ModelFactory) -> None:
    told = Told()
    tinted = profile(chroma=30.0, tint=(10.0,) * 4)
    detector = Detector(model_factory(profile=profile()), notify=told)
    assert detector(deep(127 * 257)).score == 0  # 16 bits, as ever
    assert told == []
    for _ in range(3):
        detector(deep(2032))
    assert len(told) == 1
    assert "at most 2032, where 65535 is taken for white" in told[0]
    told.clear()
    Detector(model_factory(profile=tinted), notify=told)(deep(2032))  # too dark to have a colour
    assert len(told) == 1


def test_8_bits_for_a_model_of_12_are_told_once(model_factory: ModelFactory) -> None:
    path = model_factory(profile=of_bits(12))
    for value, what in {127: "is as bright as they were", 8: "its verdict means little"}.items():
        told = Told()
        detector = Detector(path, notify=told)
        detector.predict_batch([flat(120, 160, value)] * 3)
        assert len(told) == 1
        assert what in told[0]


def test_fewer_bits_than_were_learned_are_told(model_factory: ModelFactory) -> None:
    told = Told()
    Detector(model_factory(profile=of_bits(14)), notify=told)(deep(1000))
    assert len(told) == 1
    assert "does it use fewer?" in told[0]


def test_an_overlay_shows_the_learned_range(model_factory: ModelFactory, tmp_path: Path) -> None:
    path = model_factory(profile=of_bits(12))
    cv2.imwrite(str(tmp_path / "deep.png"), deep(2040))
    command_line("infer", tmp_path / "deep.png", "--model", path, "--save-overlay", tmp_path / "out")
    picture = cv2.imread(str(tmp_path / "out" / "deep.png.overlay.png"))
    assert picture is not None
    assert (np.abs(picture.astype(int) - 127).max(axis=2) <= 1).mean() > 0.3


# Colours


def coloured(red: int, green: int, blue: int) -> Image:
    """A part of this colour, in RGB, with some shading."""
    shade = np.linspace(0.6, 1, 160)[None, :, None]
    return np.asarray(np.broadcast_to(np.array([red, green, blue]) * shade, (120, 160, 3)).astype(np.uint8))


TINTED = profile(chroma=40.0, tint=(20.0, 30.0, 35.0, 40.0), tint_std=(2.0,) * 4)


def test_exchanged_channels_are_told_once(model_factory: ModelFactory) -> None:
    path, image = model_factory(profile=TINTED), coloured(140, 120, 100)
    told = Told()
    wrong = Detector(path, notify=told)
    for _ in range(3):
        wrong(image)  # RGB, taken for BGR
    assert len(told) == 1
    assert 'channels="rgb"' in told[0]
    told.clear()
    Detector(path, channels="rgb", notify=told)(image)
    Detector(path, notify=told)(np.ascontiguousarray(image[..., ::-1]))
    assert told == []


def test_products_without_a_tint_say_nothing_of_channels(model_factory: ModelFactory) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (120, 160, 3)).astype(np.uint8)
    balanced = profile(chroma=60.0, tint=(0.5, -0.5, 0.3, -0.2), tint_std=(0.1,) * 4)
    for known, images in ((profile(), [flat(120, 160)]), (balanced, [noise, noise // 2, coloured(130, 120, 110)])):
        told = Told()
        detector = Detector(model_factory(profile=known), notify=told)
        for image in images:
            detector(image)
            detector(np.ascontiguousarray(image[..., ::-1]))
        assert [sentence for sentence in told if "exchanged" in sentence] == []


def test_colour_for_grey_and_grey_for_colour_are_told(model_factory: ModelFactory) -> None:
    told = Told()
    Detector(model_factory(profile=profile()), notify=told)(coloured(140, 120, 100))
    Detector(model_factory(profile=TINTED), notify=told)(flat(120, 160))
    assert [sentence.split(",")[0] for sentence in told] == ["The image is in colour", "The image is grey"]


def test_only_the_first_images_are_looked_at(model_factory: ModelFactory) -> None:
    told = Told()
    detector = Detector(model_factory(profile=TINTED), channels="rgb", notify=told)
    for _ in range(8):
        detector(coloured(140, 120, 100))
    detector(coloured(100, 120, 140))
    assert told == []
