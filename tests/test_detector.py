"""The detector, on tiny models whose scores can be worked out by hand (see bundles.py)."""

from __future__ import annotations

import copy
import dataclasses
import os
import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from bundles import ModelFactory, make_bundle
from numpy.typing import NDArray

from rstpm_edge.detector import Detector
from rstpm_edge.errors import ImageError, ModelError, UsageError
from rstpm_edge.image.preprocess import to_input
from rstpm_edge.model.metadata import Fusion
from rstpm_edge.model.session_rates import SessionRates
from rstpm_edge.model_slot import ModelSlot
from rstpm_edge.postprocess.reference import fuse

Image = NDArray[np.uint8]


# Verdicts


def test_a_good_image(detector: Detector, good: Image) -> None:
    result = detector(good)
    assert (result.score, result.p_value, result.threshold, result.typical_score) == (0, 1, 0.99, 0.5)
    assert not result.is_anomalous
    assert result.regions == ()
    assert "normal" in repr(result)


def test_a_bad_image(detector: Detector, bad: Image) -> None:
    result = detector(bad)
    assert result.score == pytest.approx(6, rel=0.05)
    assert result.p_value == pytest.approx(0.01)
    assert result.is_anomalous
    (region,) = result.regions
    x, y, width, height = region.box
    assert x < 80
    assert y < 30
    assert x + width > 120
    assert y + height > 60
    assert 30 * 40 <= region.area < width * height
    assert region.peak == result.score == result.model_map.max()
    assert region.position == result.position
    assert 80 <= region.position[0] < 120
    assert 30 <= region.position[1] < 60


def test_the_score_is_what_the_reference_says(model_factory: ModelFactory) -> None:
    fusion = Fusion("normalized", (0.1,) * 6, (0.2, 0.3, 0.4, 0.5, 0.6, 0.7), (1, 2, 3, 4, 5, 6), 1.5)
    detector = Detector(model_factory(fusion=fusion, height=32, width=48), channels="rgb")
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3)).astype(np.uint8)
    grey = np.abs(to_input(image, (32, 48), "stretch")[0].astype(float).mean(2) - 127) / 128
    maps = [grey.reshape(32 // s, s, 48 // s, s).mean((1, 3))[None] for s in (4, 8, 16) * 2]
    arguments = {"mean": fusion.mean, "std": fusion.std, "weights": fusion.weights, "smoothing_sigma": 1.5}
    expected, score, ((row, column),) = fuse([m.astype(np.float32) for m in maps], (32, 48), **arguments)
    result = detector(image)
    np.testing.assert_allclose(result.model_map, expected[0], rtol=1e-4, atol=1e-4)
    assert result.score == pytest.approx(score[0], rel=1e-5)
    assert result.position == (int((column + 0.5) * 70 / 48), int((row + 0.5) * 50 / 32))


def test_paths_and_arrays_agree(detector: Detector, bad: Image, tmp_path: Path) -> None:
    path = tmp_path / "bad.png"
    cv2.imwrite(str(path), bad)
    same = (path, str(path), bad, bad[..., 0], bad.astype(np.uint16) * 257)
    assert len({detector(image).score for image in same}) == 1


def test_channels_say_how_arrays_are_ordered(model: Path, tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    seen: list[Image] = []

    def look(detector: Detector) -> Image:
        put(detector, Spy(seen))
        with pytest.raises(ModelError, match="could not be run: seen"):
            detector(image)
        return seen[-1]

    np.testing.assert_array_equal(look(Detector(model, channels="rgb")), image[None])
    np.testing.assert_array_equal(look(Detector(model)), image[None, ..., ::-1])
    with pytest.raises(UsageError, match="one of bgr, rgb, but is 'hsv'"):
        Detector(model, channels="hsv")  # type: ignore[arg-type]


def put(detector: Detector, inference: Any) -> None:
    """Let something else stand for the runtime's session."""
    pipeline = detector._slot.model.running()
    put_session(detector, dataclasses.replace(pipeline.session, _inference=inference))


def put_session(detector: Detector, session: Any) -> None:
    model = detector._slot.model
    pipeline = dataclasses.replace(model.running(), session=session)
    detector._slot = ModelSlot(dataclasses.replace(model, pipeline=pipeline))


class Spy:
    """Stands for the ONNX Runtime session and keeps what it is given."""

    def __init__(self, seen: list[Image]) -> None:
        self.seen = seen

    def run(self, names: list[str], feed: dict[str, Image]) -> None:
        self.seen.append(feed["image"])
        raise RuntimeError("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : seen.\nmore")


def test_the_anomaly_map_has_the_size_of_the_image_and_is_made_once(detector: Detector, bad: Image) -> None:
    result = detector(bad)
    assert result.anomaly_map.shape == (120, 160)
    assert result.anomaly_map.dtype == np.float32
    assert result.anomaly_map is result.anomaly_map
    assert result.anomaly_map[45, 100] > 5 > 1 > result.anomaly_map[5, 5]
    assert not result.model_map.flags.writeable
    copy = pickle.loads(pickle.dumps(result))
    np.testing.assert_array_equal(copy.anomaly_map, result.anomaly_map)
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.score = 0  # type: ignore[misc]


def test_a_result_does_not_keep_the_batch_alive(detector: Detector, bad: Image) -> None:
    first, _ = detector.predict_batch([bad, bad])
    assert first.model_map.base is None


# Regions


def test_several_regions_come_highest_first(detector: Detector) -> None:
    image = np.full((128, 128, 3), 127, np.uint8)
    image[16:32, 16:32] = 190
    image[80:112, 80:96] = 255
    result = detector(image)
    high, low = result.regions
    assert high.peak == result.score > low.peak
    assert 80 <= high.position[0] < 96
    assert 80 <= high.position[1] < 112
    assert 16 <= low.position[0] < 32
    assert 16 <= low.position[1] < 32


@pytest.mark.parametrize("shape", [(40, 400), (400, 40), (1, 300), (300, 1), (2, 2), (1000, 999)])
@pytest.mark.parametrize("resize", ["letterbox", "stretch"])
def test_regions_lie_within_the_image(model_factory: ModelFactory, resize: str, shape: tuple[int, int]) -> None:
    detector = Detector(model_factory(resize=resize))
    image = np.full((*shape, 3), 255, np.uint8)
    result = detector(image)
    assert result.anomaly_map.shape == shape
    for x, y, width, height in [region.box for region in result.regions]:
        assert width >= 1
        assert height >= 1
        assert 0 <= x <= x + width <= shape[1]
        assert 0 <= y <= y + height <= shape[0]
    for x, y in [result.position, *(region.position for region in result.regions)]:
        assert 0 <= x < shape[1]
        assert 0 <= y < shape[0]
    assert bool(result.regions) == result.is_anomalous
    assert sum(region.area for region in result.regions) <= shape[0] * shape[1]


def test_a_region_in_the_padding_goes_to_the_nearest_pixel(model_factory: ModelFactory) -> None:
    detector = Detector(model_factory(resize="letterbox"), threshold=4)
    maps = [np.zeros((1, 64 // s, 64 // s), np.float32) for s in (4, 8, 16) * 2]
    maps[0][0, 0, 15] = 9  # top right corner of the input, above an image of 16 rows in the middle
    put(detector, Canned(maps))
    result = detector(np.zeros((100, 400, 3), np.uint8))
    (region,) = result.regions
    assert region.position == result.position == (390, 0)  # the first of the corner's equal cells, 62
    x, y, width, height = region.box
    assert (y, height) == (0, 1)
    assert x + width == 400
    assert region.area == 1
    assert result.score > 4 > result.model_map.max()


class Canned:
    """Stands for the ONNX Runtime session and always gives the same maps."""

    def __init__(self, maps: list[NDArray[np.float32]]) -> None:
        self.maps = maps

    def run(self, names: list[str], feed: dict[str, Image]) -> list[NDArray[np.float32]]:
        return self.maps


def test_an_image_above_the_threshold_has_a_region_however_close(detector: Detector, bad: Image) -> None:
    score = detector(bad).score
    for threshold in (np.nextafter(score, -np.inf), np.nextafter(score, np.inf), score):
        detector.threshold = threshold
        result = detector(bad)
        assert result.is_anomalous == bool(result.regions) == (score > threshold)


# Thresholds


@pytest.mark.parametrize(
    ("options", "promise"),
    [
        ({}, (0.01, 0.0298)),
        ({"alpha": 0.2}, (0.2, 0.2688)),
        ({"mask": np.full((120, 160), 255, np.uint8)}, (0.01, 0.0298)),  # rejects no more than without
        ({"roi": None}, (0.01, 0.0298)),  # as the model was made
        ({"roi": (0, 0, 64, 64), "alpha": 0.2}, None),
        ({"threshold": 0.99}, None),
    ],
)
def test_a_result_says_what_its_threshold_promises(
    model: Path, bad: Image, options: dict[str, Any], promise: tuple[float, float] | None
) -> None:
    detector = Detector(model, **options)
    for judge in (detector, copy.copy(detector)):
        for result in (judge(bad), *judge.predict_batch([bad])):
            assert result.masked == judge.masked == ("mask" in options)
            if promise is None:
                assert (result.alpha, result.rate_with_confidence) == (None, None)
            else:
                assert (result.alpha, result.rate_with_confidence) == pytest.approx(promise, abs=1e-4)
    detector.threshold = detector.threshold
    assert detector(bad).alpha is None


@pytest.mark.parametrize(
    ("p_value", "alpha", "confident"), [(0.12, 0.2, 0.2688), (0.001, 0.2, None), (0.001, None, None)]
)
def test_where_sessions_differ_nothing_is_promised_with_confidence(
    model_factory: ModelFactory, bad: Image, p_value: float, alpha: float | None, confident: float | None
) -> None:
    rates = SessionRates(13, 3, True, 0.03, 0.09, 0.05, p_value, 0.25)
    detector = Detector(model_factory(training={"sessions": dataclasses.asdict(rates)}), alpha=alpha)
    for judge in (detector, copy.copy(detector)):
        result = judge(bad)
        assert result.alpha == (alpha or 0.01)
        assert result.rate_with_confidence == (confident and pytest.approx(confident, abs=1e-4))


def test_the_threshold_can_be_changed(model: Path, bad: Image) -> None:
    detector = Detector(model, threshold=100)
    assert not detector(bad).is_anomalous
    detector.threshold = 1
    result = detector(bad)
    assert result.is_anomalous
    assert result.threshold == 1
    assert result.p_value == pytest.approx(0.01)  # has nothing to do with the threshold
    for value in (float("nan"), float("inf")):
        with pytest.raises(UsageError, match="finite"):
            detector.threshold = value
        with pytest.raises(UsageError, match="finite"):
            Detector(model, threshold=value)
    assert detector.threshold == 1


# Batches


def test_a_batch_gives_what_single_images_give(detector: Detector, bad: Image, tmp_path: Path) -> None:
    path = tmp_path / "bad.png"
    cv2.imwrite(str(path), bad)
    images: list[Any] = [bad, path, bad[:50], np.full((9, 300), 255, np.uint8)] * 5
    singles = [detector(image) for image in images]
    for batch_size in (1, 3, 20, 100):
        results = detector.predict_batch(iter(images), batch_size=batch_size)
        assert [(r.score, r.regions, r.image_size) for r in results] == [
            (r.score, r.regions, r.image_size) for r in singles
        ]
    assert detector.predict_batch([]) == []
    with pytest.raises(UsageError, match="batch size"):
        detector.predict_batch(images, batch_size=0)


def test_a_batch_reads_no_further_than_it_has_judged(detector: Detector, good: Image) -> None:
    seen = 0
    run = detector._slot.model.running().session.run
    largest = 0

    class Watching:
        sha256 = detector.sha256

        def run(self, images: Image) -> Any:
            nonlocal largest
            largest = max(largest, len(images))
            assert seen <= 12
            return run(images)

    put_session(detector, Watching())

    def images() -> Iterator[Image]:
        nonlocal seen
        for _ in range(10):
            seen += 1
            yield good

    assert len(detector.predict_batch(images(), batch_size=4)) == 10
    assert largest == 4


def test_a_bad_image_in_a_batch_is_named(detector: Detector, good: Image, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"none\.png"):
        detector.predict_batch([good, tmp_path / "none.png"])


@pytest.mark.parametrize(
    "image",
    [np.zeros((0, 0), np.uint8), np.zeros((4, 4, 3)), np.full((4, 4), np.nan), np.zeros(5, np.uint8), None],
    ids=["empty", "float", "nan", "flat", "none"],
)
def test_arrays_that_are_no_images(detector: Detector, image: Any) -> None:
    with pytest.raises(ImageError):
        detector(image)


# Life


def test_threads_share_a_detector(detector: Detector, good: Image, bad: Image) -> None:
    expected = [detector(good).score, detector(bad).score]
    with ThreadPoolExecutor(6) as pool:
        scores = list(pool.map(lambda image: detector(image).score, [good, bad] * 60))
    assert scores == expected * 60


def test_after_close_there_is_a_clear_error(model: Path, good: Image) -> None:
    with Detector(model) as detector:
        detector.warmup()
        assert detector(good).score == 0
    detector.close()
    for call in (lambda: detector(good), lambda: detector.predict_batch([good]), detector.warmup):
        with pytest.raises(UsageError, match="closed; make a new one"):
            call()
    assert detector.info.preset == "test"


def test_nothing_is_written(model: Path, bad: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    assert Detector(model)(bad).anomaly_map.any()
    assert os.listdir() == []
    assert sorted(os.listdir(tmp_path)) == ["empty", "model.onnx"]


def test_the_model_file_may_go_once_it_is_loaded(model: Path, bad: Image) -> None:
    detector = Detector(model)
    model.unlink()
    assert detector(bad).is_anomalous


@pytest.mark.parametrize("roi", [None, (0, 0, 8, 8)])
def test_a_frame_that_a_camera_did_not_give(model: Path, roi: Any) -> None:
    with pytest.raises(ImageError, match=r"^An image must be a NumPy array or a path, but the image is NoneType\.$"):
        Detector(model, roi=roi)(None)  # type: ignore[arg-type]


def test_results_share_no_memory(model_factory: ModelFactory, bad: Image, good: Image) -> None:
    for name, resize in (("s.onnx", "stretch"), ("l.onnx", "letterbox")):
        detector = Detector(model_factory(name, resize=resize))
        first = detector(bad)
        before = first.model_map.copy()
        others = [detector(good), *detector.predict_batch([good, bad, good])]
        np.testing.assert_array_equal(first.model_map, before)
        for other in others:
            assert not np.shares_memory(first.model_map, other.model_map)
        # Neither padding nor the maps of a batch are kept alive.
        for result in (first, *others):
            assert result.model_map.base is None or result.model_map.base.size == result.model_map.size


def test_facts(model: Path) -> None:
    detector = Detector(model, threads=1)
    assert detector.info == make_bundle()
    assert detector.providers == ("CPUExecutionProvider",)


# Models


def test_a_model_that_changes_size_on_the_way_is_noticed(detector: Detector, bad: Image) -> None:
    maps = [np.zeros((1, 2, 2), np.float32)] * 6
    put(detector, Canned(maps))
    with pytest.raises(ModelError, match="do not have the sizes"):
        detector(bad)


def test_the_fused_variant_loads_too(model_factory: ModelFactory, model: Path, bad: Image) -> None:
    fused = Detector(model_factory("fused.onnx", fused=True))
    assert fused(bad).score == Detector(model)(bad).score


@pytest.mark.parametrize("scale", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(model_factory: ModelFactory, bad: Image, scale: float) -> None:
    detector = Detector(model_factory(scale=scale))
    with pytest.raises(ModelError, match="NaN or infinite"):
        detector(bad)
