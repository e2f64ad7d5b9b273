"""Judging a part of a photo, and ignoring some of it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from bundles import ModelFactory, make_bundle
from numpy.typing import NDArray
from workplace import command_line

from rstpm_edge.detector import Detector
from rstpm_edge.errors import ImageError, ModelError, UsageError
from rstpm_edge.image.grid import Grid
from rstpm_edge.image.input_profile import InputProfile
from rstpm_edge.image.mask import black_and_white, load_mask, stored_mask
from rstpm_edge.image.placement import place
from rstpm_edge.image.stored_mask import pack
from rstpm_edge.model.read_metadata import parse_bundle
from rstpm_edge.outputs.overlay import HEADER, draw_overlay
from rstpm_edge.result import Result

Image = NDArray[np.uint8]
ROI = (20, 10, 100, 80)


def same_verdict(a: Result, b: Result) -> bool:
    facts = ("score", "p_value", "position", "regions", "image_size", "roi")
    return all(getattr(a, fact) == getattr(b, fact) for fact in facts) and np.array_equal(a.anomaly_map, b.anomaly_map)


@pytest.fixture
def two(good: Image) -> Image:
    """A part with two defects: a strong one at the left, a weak one at the right."""
    image = good.copy()
    image[30:60, 10:40] = 255
    image[30:60, 120:150] = 180
    return image


# The ROI


@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
def test_a_roi_is_judged_as_an_image_of_its_own(model_factory: ModelFactory, bad: Image, resize: str) -> None:
    path = model_factory(resize=resize)
    x, y, width, height = ROI
    inside, alone = Detector(path, roi=ROI)(bad), Detector(path)(bad[y : y + height, x : x + width])
    assert inside.is_anomalous
    assert (inside.score, inside.p_value) == (alone.score, alone.p_value)
    np.testing.assert_array_equal(inside.model_map, alone.model_map)
    moved = [
        dataclasses.replace(
            region,
            box=(region.box[0] + x, region.box[1] + y, *region.box[2:]),
            position=(region.position[0] + x, region.position[1] + y),
        )
        for region in alone.regions
    ]
    assert list(inside.regions) == moved
    assert inside.position == (alone.position[0] + x, alone.position[1] + y)
    assert (inside.roi, inside.image_size) == (ROI, (120, 160))


def test_the_map_has_the_photos_size_and_is_lowest_outside_of_the_roi(model: Path, bad: Image) -> None:
    x, y, width, height = ROI
    result = Detector(model, roi=ROI)(bad)
    alone = Detector(model)(bad[y : y + height, x : x + width])
    assert result.anomaly_map.shape == (120, 160)
    part = (slice(y, y + height), slice(x, x + width))
    np.testing.assert_array_equal(result.anomaly_map[part], alone.anomaly_map)
    outside = np.delete(result.anomaly_map.ravel(), np.ravel_multi_index(np.mgrid[part], (120, 160)).ravel())
    assert outside.size == 120 * 160 - width * height
    assert set(outside) == {alone.model_map.min()}
    for size in ((1, 1), (3, 500), (120, 160), (7, 7)):
        assert result.resized_map(*size).shape == size


def test_a_defect_outside_of_the_roi_does_not_count(model: Path, two: Image) -> None:
    assert Detector(model)(two).is_anomalous
    assert not Detector(model, roi=(50, 0, 60, 120))(two).is_anomalous
    whole = Detector(model, roi=(0, 0, 160, 120))(two)
    assert same_verdict(whole, Detector(model)(two))


def test_outside_of_an_anomalous_roi_there_is_no_anomaly(model: Path, bad: Image) -> None:
    whole = Detector(model)(bad)
    result = Detector(model, roi=(80, 30, 40, 30), threshold=whole.typical_score)(bad)  # nothing but the spot
    assert result.model_map.min() > result.threshold
    outside = np.ones(bad.shape[:2], bool)
    outside[30:60, 80:120] = False
    np.testing.assert_allclose(
        result.anomaly_map[outside], result.threshold - result.span, rtol=1e-6
    )  # drawn as typical


def test_the_models_own_roi_is_taken_unless_told_otherwise(model_factory: ModelFactory, bad: Image) -> None:
    plain, trained = model_factory("plain.onnx"), model_factory("roi.onnx", roi=ROI)
    detector = Detector(trained)
    assert detector.info.roi == ROI
    assert same_verdict(detector(bad), Detector(plain, roi=ROI)(bad))
    assert same_verdict(Detector(trained, roi=None)(bad), Detector(plain)(bad))
    assert Detector(trained, roi=(0, 0, 9, 9))(bad).roi == (0, 0, 9, 9)


def test_a_roi_works_for_files_batches_and_views(model: Path, bad: Image, tmp_path: Path) -> None:
    path = tmp_path / "bad.png"
    cv2.imwrite(str(path), bad)
    detector = Detector(model, roi=ROI)
    view = np.repeat(bad, 2, axis=1)[:, ::2]  # every other pixel of another array
    results = [detector(path), *detector.predict_batch([bad, path, bad[..., 0], view], batch_size=2)]
    assert all(same_verdict(result, results[0]) for result in results)
    detector.warmup()  # fits images of any size


def test_a_roi_beyond_the_image_is_named(model: Path, bad: Image, tmp_path: Path) -> None:
    detector = Detector(model, roi=(100, 0, 61, 10))
    with pytest.raises(ImageError, match=r"^The ROI 100,0,61,10 reaches beyond the image, which has 160×120 pixels\.$"):
        detector(bad)
    path = tmp_path / "bad.png"
    cv2.imwrite(str(path), bad)
    with pytest.raises(ImageError, match=f"reaches beyond {path}, which has"):
        detector(path)
    with pytest.raises(ImageError, match=r"not \(7,\)"):
        detector(np.zeros(7, np.uint8))


@pytest.mark.parametrize(
    "roi", [(0, 0, 0, 5), (-1, 0, 5, 5), (0, 0, 5), (0, 0, 5, 5, 5), (0.5, 0, 5, 5), "all", (None,) * 4], ids=str
)
def test_rois_that_are_none(model: Path, roi: Any) -> None:
    with pytest.raises(UsageError, match=r"^A ROI is x,y,width,height in pixels of the photo, such as 100,50,640,480"):
        Detector(model, roi=roi)


def test_an_overlay_darkens_what_was_not_judged(model: Path, good: Image) -> None:
    picture = draw_overlay(good, Detector(model, roi=(0, 0, 80, 120))(good))
    height, width = picture.shape[:2]
    row = HEADER + (height - HEADER) // 3
    np.testing.assert_array_equal(picture[row, width // 4], (127, 127, 127))
    np.testing.assert_array_equal(picture[row, int(0.6 * width)], (127, 127, 127))
    np.testing.assert_array_equal(picture[row, int(0.9 * width)], (63, 63, 63))


# The mask


def test_a_white_mask_changes_nothing(model_factory: ModelFactory, two: Image) -> None:
    for number, resize in enumerate(("stretch", "letterbox")):
        path = model_factory(f"{number}.onnx", resize=resize)
        assert same_verdict(Detector(path, mask=np.ones((120, 160), bool))(two), Detector(path)(two))


def test_the_score_is_the_highest_value_where_anomalies_count(model: Path, two: Image) -> None:
    mask = np.full((120, 160), 255, np.uint8)
    mask[:, :80] = 0
    plain, masked = Detector(model)(two), Detector(model, mask=mask)(two)
    counts = plain.model_map[:, 32:]
    assert masked.score == counts.max() < plain.score
    assert masked.p_value >= plain.p_value
    assert [region.position[0] >= 120 for region in plain.regions] == [False, True]
    assert masked.regions == plain.regions[1:]
    assert masked.position == plain.regions[1].position
    np.testing.assert_array_equal(masked.model_map[:, 32:], counts)
    assert (masked.model_map[:, :32] == counts.min()).all()


def test_everything_masked_but_a_good_part_is_normal(model: Path, two: Image) -> None:
    mask = np.zeros((120, 160), bool)
    mask[80:] = True
    assert not Detector(model, mask=mask)(two).is_anomalous


def test_a_threshold_below_everything_finds_no_region_under_the_mask(model: Path, two: Image) -> None:
    mask = np.zeros((120, 160), bool)
    mask[:, :40] = True
    for threshold in (-1.0, -1e300):
        (region,) = Detector(model, mask=mask, threshold=threshold)(two).regions
        assert region.box == (0, 0, 40, 120)


def test_padding_beside_black_does_not_count(model_factory: ModelFactory, good: Image) -> None:
    wide = np.hstack([good, good])  # with padding above and below
    wide[:8] = 255 - wide[:8]  # something else, which shows in the padding beside it
    mask = np.ones(wide.shape[:2], bool)
    mask[:12] = False
    detector = Detector(model_factory(resize="letterbox"), mask=mask)
    photo = detector.predict_batch([wide])[0]
    x, y = photo.position
    assert mask[y, x]
    assert all(mask[region.position[1], region.position[0]] for region in photo.regions)
    grid = Grid(place(120, 320, (64, 64), "letterbox"), 120, 320)
    ignored = load_mask(mask).ignored(grid, (64, 64))
    top, bottom = grid.placement.top, grid.placement.top + grid.placement.height
    assert ignored[: top + 1].all()
    assert not ignored[bottom - 1 :].any()


def test_a_mask_is_scaled_to_the_photo(model: Path, two: Image) -> None:
    mask = np.full((120, 160), 255, np.uint8)
    mask[:, :80] = 0
    expected = Detector(model, mask=mask)(two)
    for size in ((160, 120), (80, 60), (320, 240), (1600, 1200)):
        scaled = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)
        assert same_verdict(Detector(model, mask=np.asarray(scaled))(two), expected)
    large = cv2.resize(two, (1003, 751))  # of the same aspect ratio, to a pixel
    assert Detector(model, mask=mask)(np.asarray(large)).position[0] > 500


def test_a_mask_goes_with_a_roi(model: Path, two: Image) -> None:
    of_photo = np.zeros((120, 160), bool)
    of_photo[:, 100:] = True
    roi = (4, 8, 150, 100)
    with_photo = Detector(model, roi=roi, mask=of_photo)(two)
    with_roi = Detector(model, roi=roi, mask=of_photo[8:108, 4:154])(two)
    assert same_verdict(with_photo, with_roi)
    assert with_photo.is_anomalous
    assert with_photo.position[0] >= 115
    other = Detector(model, roi=(4, 8, 70, 60), mask=np.ones((100, 100), bool))
    with pytest.raises(UsageError, match=r"^The mask measures 100×100 pixels, which fits no photo of 160×120: "):
        other(two)
    with pytest.raises(UsageError, match=r"^The mask leaves nothing to judge; black is ignored, white is judged\.$"):
        Detector(model, roi=(4, 8, 80, 100), mask=of_photo)(two)


def test_a_mask_holds_for_every_image_of_a_batch(model: Path, two: Image, good: Image) -> None:
    mask = np.zeros((60, 80), bool)
    mask[:, 40:] = True
    detector = Detector(model, mask=mask)
    half = np.ascontiguousarray(two[::2, ::2])
    results = detector.predict_batch([two, good, half, two])
    assert [result.is_anomalous for result in results] == [True, False, True, True]
    assert all(
        same_verdict(result, detector(image)) for result, image in zip(results, [two, good, half, two], strict=True)
    )


def test_masks_in_files(model: Path, two: Image, tmp_path: Path) -> None:
    mask = np.full((120, 160), 255, np.uint8)
    mask[:, :80] = 0
    expected = Detector(model, mask=mask)(two)
    for name, pixels in {
        "grey.png": mask,
        "bgr.png": cv2.cvtColor(mask, cv2.COLOR_GRAY2BGR),
        "alpha.png": cv2.cvtColor(mask, cv2.COLOR_GRAY2BGRA),
        "deep.png": mask.astype(np.uint16) * 257,
        "lossy.jpg": mask,
        "plain.bmp": mask,
    }.items():
        cv2.imwrite(str(tmp_path / name), pixels)
        assert same_verdict(Detector(model, mask=tmp_path / name)(two), expected), name


def test_masks_that_cannot_be_used(model: Path, two: Image, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "black.png"), np.zeros((9, 9), np.uint8))
    cv2.imwrite(str(tmp_path / "colour.png"), np.full((9, 9, 3), (0, 0, 255), np.uint8))
    erased = np.full((9, 9, 4), 255, np.uint8)
    erased[:4, :, 3] = 0
    cv2.imwrite(str(tmp_path / "erased.png"), erased)
    cv2.imwrite(str(tmp_path / "deep.png"), erased.astype(np.uint16) * 257 - (erased == 255))
    (tmp_path / "text.png").write_text("this is text")
    for mask, message in [
        (tmp_path / "black.png", rf"^The mask {tmp_path}/black.png is black all over"),
        (tmp_path / "colour.png", r"cannot be used\. It has colours; a mask is black and white\.$"),
        (tmp_path / "erased.png", r"cannot be used\. It is transparent in places: make them black or white\.$"),
        (tmp_path / "deep.png", r"cannot be used\. It is transparent in places"),
        (tmp_path / "text.png", r"cannot be used\. Cannot read .*: it is not a PNG, JPEG, BMP or TIFF image\.$"),
        (tmp_path / "none.png", "No such file or directory"),
        (np.zeros((9, 9), bool), "^The mask is black all over, so nothing would be judged; "),
        (np.zeros((9, 9), np.float32), r"array \(height, width\) of bool or uint8, not float32 of shape \(9, 9\)"),
        (np.zeros((9, 9, 3), np.uint8), r"not uint8 of shape \(9, 9, 3\)"),
        (np.zeros((0, 9), np.uint8), r"not uint8 of shape \(0, 9\)"),
    ]:
        with pytest.raises(UsageError, match=message):
            Detector(model, mask=mask)


# What is a mask


def ring(width: int = 160, height: int = 120) -> Image:
    """A drawn ring with smooth edges."""
    drawn = np.zeros((height, width), np.uint8)
    cv2.circle(drawn, (width // 2, height // 2), 40, 255, 9, cv2.LINE_AA)
    return drawn


def photo_of_a_part() -> Image:
    """Light on dark, with shading and noise, as a photo has them."""
    picture = np.full((120, 160), 20.0)
    picture[20:100, 30:130] = np.linspace(90, 250, 100)
    noise = np.random.default_rng(0).normal(0, 4, picture.shape)
    return np.asarray(np.clip(picture + noise, 0, 255), np.uint8)


@pytest.mark.parametrize("kind", ["array", "png", "jpg", "deep"])
def test_a_photo_is_no_mask(model: Path, tmp_path: Path, kind: str) -> None:
    photo, file = photo_of_a_part(), tmp_path / f"photo.{'jpg' if kind == 'jpg' else 'png'}"
    cv2.imwrite(str(file), photo.astype(np.uint16) * 16 if kind == "deep" else photo)
    with pytest.raises(UsageError, match=r"cannot be used\. It is no mask but a picture with shades of grey"):
        Detector(model, mask=photo if kind == "array" else file)


def test_pictures_that_are_no_masks() -> None:
    drawn = ring()
    half = drawn.copy()
    half[:, 100:] = 128  # an area that is neither
    gradient = np.tile(np.linspace(0, 255, 160), (120, 1)).astype(np.uint8)
    labels = np.zeros((120, 160), np.uint8)
    labels[10:20], labels[50:60] = 100, 255
    dark = np.random.default_rng(0).normal(15, 12, (120, 160)).clip(0, 200).astype(np.uint8)
    for picture in (half, gradient, labels, dark, np.random.default_rng(0).integers(0, 256, (120, 160), np.uint8)):
        with pytest.raises(ImageError, match="no mask"):
            black_and_white(picture)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_numbers_of_several_objects_are_no_mask(dtype: type[np.uint8 | np.uint16]) -> None:
    picture = np.zeros((120, 160), dtype)
    picture[10:20], picture[50:60] = 1, 2
    with pytest.raises(ImageError, match="no mask" if dtype == np.uint16 else "go from 0 to 2, so nothing is white"):
        black_and_white(picture)


def test_smooth_edges_and_jpegs_are_masks(tmp_path: Path) -> None:
    drawn = ring()
    assert ((drawn > 0) & (drawn < 255)).any()
    np.testing.assert_array_equal(black_and_white(drawn), drawn >= 128)
    for quality in (50, 75, 95):
        cv2.imwrite(str(tmp_path / "mask.jpg"), drawn, [cv2.IMWRITE_JPEG_QUALITY, quality])
        found = load_mask(tmp_path / "mask.jpg").white
        assert ((found > 0) != (drawn >= 128)).mean() < 0.01
    for deep in (drawn.astype(np.uint16) * 257, drawn.astype(np.uint16) * 16):  # 16 bits, and 12
        np.testing.assert_array_equal(black_and_white(deep), drawn >= 128)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 2), (1, 2), (100, 200), (254, 255), (0, 65535), (0, 1023)])
def test_of_two_values_the_higher_one_is_white(model: Path, two: Image, tmp_path: Path, low: int, high: int) -> None:
    white = np.zeros((120, 160), bool)
    white[:, 80:] = True
    drawn = np.where(white, high, low).astype(np.uint8 if high < 256 else np.uint16)
    cv2.imwrite(str(tmp_path / "mask.png"), drawn)
    expected = Detector(model, mask=white)(two)
    assert same_verdict(Detector(model, mask=drawn)(two), expected)
    assert same_verdict(Detector(model, mask=tmp_path / "mask.png")(two), expected)


# A mask in the model


def test_a_mask_is_kept_in_the_model(model_factory: ModelFactory, two: Image, tmp_path: Path) -> None:
    white = np.zeros((120, 160), bool)
    white[:, 80:] = True
    plain = model_factory("plain.onnx")
    masked = model_factory("masked.onnx", mask=load_mask(white).stored())
    expected = Detector(plain, mask=white)(two)
    assert same_verdict(Detector(masked)(two), expected)
    assert same_verdict(Detector(masked, mask=None)(two), Detector(plain)(two))
    assert same_verdict(Detector(masked, mask=~white)(two), Detector(plain, mask=~white)(two))
    cv2.imwrite(str(tmp_path / "two.png"), two)
    outputs = {
        option: command_line("infer", tmp_path / "two.png", "--model", masked, "--json", *option).stdout
        for option in ((), ("--mask", "full"), ("--mask", "none"))
    }
    scores = {option: json.loads(output)["score"] for option, output in outputs.items()}
    assert scores[()] == pytest.approx(expected.score, rel=1e-3)
    assert scores["--mask", "full"] == scores["--mask", "none"] > scores[()]
    info = command_line("info", "--model", masked).stdout
    assert "160 x 120 pixels; anomalies count in 50% of them" in info


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (120, 160), (7, 8), (64, 9)])
def test_a_stored_mask_is_the_mask(shape: tuple[int, int]) -> None:
    white = np.random.default_rng(0).integers(0, 2, shape).astype(bool)
    white[0, 0] = True
    bundle = make_bundle(mask=load_mask(white).stored())
    kept = parse_bundle(bundle.to_json()).mask
    assert kept is not None
    np.testing.assert_array_equal(stored_mask(kept).white > 0, white)


def test_a_huge_mask_is_stored_smaller() -> None:
    white = np.zeros((3000, 8000), np.uint8)
    white[:, 4000:] = 255
    stored = load_mask(white).stored()
    assert (stored.height, stored.width) == (1500, 4000)
    assert len(stored.bits) < 6000
    assert (stored_mask(stored).white > 0).mean() == 0.5


def test_a_models_mask_of_its_roi_goes_with_a_scaled_roi(model_factory: ModelFactory, two: Image) -> None:
    white = np.zeros((80, 100), bool)  # of the ROI, whose shape is not the photo's
    white[:, 50:] = True
    profile = InputProfile(9, ((120, 160),), 8, 8, (127, 1), 0, (0,) * 4, (0,) * 4, ROI)
    path = model_factory(roi=ROI, profile=profile, mask=load_mask(white).stored())
    small = Detector(path)(two)
    large = Detector(path, notify=lambda sentence: None)(np.repeat(np.repeat(two, 2, axis=0), 2, axis=1))
    assert large.score == pytest.approx(small.score, rel=0.01)
    assert large.roi == (40, 20, 200, 160)


@pytest.mark.parametrize(
    "wrong",
    [
        {"width": 161},
        {"width": 0},
        {"height": 1 << 23},
        {"height": 121},
        {"bits": "!!!!"},
        {"bits": "AAAA"},
        {"bits": 5},
        {"more": 1},
        pack(120, 160, bytes(120 * 20)).__dict__,
        pack(120, 160, bytes(1 << 20)).__dict__,
    ],
    ids=lambda wrong: str(wrong)[:40],
)
def test_damaged_masks_are_refused(wrong: dict[str, Any]) -> None:
    fields = json.loads(make_bundle(mask=load_mask(np.ones((120, 160), bool)).stored()).to_json())
    fields["mask"].update(wrong)
    with pytest.raises(ModelError, match="metadata is damaged"):
        parse_bundle(json.dumps(fields))
