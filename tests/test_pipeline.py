"""Preprocess, engine, postprocess: what each step takes and gives, and that `Detector` is no more than the three."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from bundles import ModelFactory
from numpy.typing import NDArray

from rstpm_edge.calibration import Threshold
from rstpm_edge.detector import Detector
from rstpm_edge.errors import UsageError
from rstpm_edge.pipeline import InferenceOptions, open_pipeline
from rstpm_edge.preprocessor import Photo

Image = NDArray[np.uint8]


def noise(height: int, width: int, seed: int = 0) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def test_the_three_steps_are_the_detector(model: Path, tmp_path: Path) -> None:
    images = [noise(50, 70), noise(64, 64, 1), noise(90, 40, 2)]
    mask = np.zeros((64, 64), np.bool_)
    mask[:, :40] = True
    cv2.imwrite(str(tmp_path / "1.png"), images[1])
    for options, photos in (({"roi": (5, 3, 30, 40)}, images), ({"mask": mask}, [images[1], tmp_path / "1.png"])):
        pipeline = open_pipeline(model, InferenceOptions(threads=1, **options))  # type: ignore[arg-type]
        batch = pipeline.preprocessor.batch(map(pipeline.preprocessor.load, photos))
        assert batch.pixels.shape == (len(photos), 64, 64, 3)
        outputs = pipeline.session.run(batch.pixels)
        found = pipeline.postprocessor.results(outputs, batch.grids, batch.ignored, Threshold(-1.0))
        detector = Detector(model, threads=1, threshold=-1.0, **options)  # type: ignore[arg-type]
        for result, expected in zip(found, detector.predict_batch(photos), strict=True):
            assert (result.score, result.position, result.roi) == (expected.score, expected.position, expected.roi)
            assert result.regions == expected.regions
            np.testing.assert_array_equal(result.model_map, expected.model_map)
        scored = pipeline.postprocessor.score(outputs, batch.ignored)
        assert [result.score for result in found] == scored.score.tolist()


def test_a_batch_holds_one_photo_at_a_time(model: Path) -> None:
    pipeline = open_pipeline(model, InferenceOptions(threads=1))
    held = 0

    class Held(Photo):
        def __del__(self) -> None:
            nonlocal held
            held -= 1

    def photos() -> Iterator[Photo]:
        nonlocal held
        for seed in range(5):
            assert held <= 1
            held += 1
            yield Held(noise(64, 64, seed), "rgb")

    batch = pipeline.preprocessor.batch(photos(), room=2)
    for seed, row in enumerate(batch.pixels):
        np.testing.assert_array_equal(row, noise(64, 64, seed))
    assert len(batch.grids) == len(batch.ignored) == 5


def test_what_is_loaded_knows_its_channels(model: Path, tmp_path: Path) -> None:
    image = noise(20, 30)
    cv2.imwrite(str(tmp_path / "a.png"), image)
    preprocessor = open_pipeline(model, InferenceOptions(channels="rgb")).preprocessor
    read, given = preprocessor.load(tmp_path / "a.png"), preprocessor.load(image)
    np.testing.assert_array_equal(read.pixels, image)
    assert (read.channels, read.name) == ("bgr", tmp_path / "a.png")
    assert (given.channels, given.name) == ("rgb", "the image")


def test_the_cells_that_a_mask_leaves_out(model_factory: ModelFactory) -> None:
    white = np.full((64, 64), 255, np.uint8)
    white[:16] = 0
    masked = open_pipeline(model_factory(), InferenceOptions(mask=white)).preprocessor
    _, grid = masked.prepare(masked.load(noise(64, 64)))
    ignored = masked.ignored(grid)
    assert ignored is not None
    np.testing.assert_array_equal(ignored, white == 0)
    whole = open_pipeline(model_factory(), InferenceOptions(mask=None)).preprocessor
    assert whole.ignored(grid) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": "hsv"}, "one of bgr, rgb, but is 'hsv'"),
        ({"threshold": 1.0, "alpha": 0.1}, "not both"),
        ({"threshold": float("nan")}, "must be a finite number, but is nan"),
        ({"roi": (0, 0, 0, 5)}, "it is not empty"),
        ({"roi": "part"}, "x,y,width,height"),
    ],
)
def test_options_that_cannot_work(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        InferenceOptions(**options)


def test_options_for_another_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    found = InferenceOptions(mask="mask.png", engine_cache=Path("cache"), alpha=0.1).from_anywhere()
    here = os.path.realpath(tmp_path)
    assert (found.mask, found.engine_cache, found.alpha) == (f"{here}/mask.png", f"{here}/cache", 0.1)
    own = InferenceOptions().from_anywhere()
    assert (own.mask, own.engine_cache, own.roi) == ("model", None, "model")
