"""What is found in the photos of a training: their sizes, the bits that they use, their colours."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from rstpm_edge.errors import DatasetError, UsageError
from rstpm_edge.image.input_profile import InputProfile, parse_profile
from rstpm_edge.training.data.learned_photos import load_learned
from rstpm_edge.training.learning.options import TrainingOptions, check_options


def write_set(folder: Path, photos: list[NDArray[Any]]) -> list[Path]:
    paths = [folder / f"{number}.png" for number in range(len(photos))]
    for path, photo in zip(paths, photos, strict=True):
        cv2.imwrite(str(path), photo)
    return paths


def learned(paths: list[Path], **options: Any) -> tuple[InputProfile, NDArray[np.uint8], list[str]]:
    told: list[str] = []
    resize = options.pop("resize", "stretch")
    learned = load_learned(paths, (32, 32), resize, warn=told.append, **options)
    inputs, found = learned.inputs, learned.profile
    return found, inputs, told


def scenes(count: int = 5, size: tuple[int, int] = (40, 48), highest: int = 255) -> list[NDArray[Any]]:
    """Smooth pictures from black to `highest`."""
    ramp = np.linspace(0, highest, size[0] * size[1]).reshape(size)
    dtype = np.uint8 if highest < 256 else np.uint16
    return [np.roll(ramp, 3 * i, axis=1).astype(dtype) for i in range(count)]


def test_sizes_and_colours_of_a_training(tmp_path: Path) -> None:
    photos = [cv2.cvtColor(scene, cv2.COLOR_GRAY2BGR) for scene in scenes()]
    for photo in photos:
        photo[..., 0] //= 2  # less blue
    found, _, told = learned(write_set(tmp_path, photos))
    assert (found.photos, found.sizes, found.depth, found.bits) == (5, ((40, 48),), 8, 8)
    assert found.chroma == pytest.approx(63, abs=5)
    assert found.brightness[0] == pytest.approx(127 * 5 / 6, abs=6)
    assert found.tint == pytest.approx((16, 48, 80, 112), abs=6)
    assert told == []
    assert parse_profile(json.loads(json.dumps(dataclasses.asdict(found)))) == found


def test_a_roi_is_of_photos_of_one_size(tmp_path: Path) -> None:
    paths = write_set(tmp_path, [*scenes(4), *scenes(2, (80, 96))])
    assert learned(paths)[0].sizes == ((40, 48), (80, 96))
    with pytest.raises(DatasetError, match=r"several sizes \(4 of 48×40, 2 of 96×80\).*`allow_size_change`"):
        learned(paths, roi=(0, 0, 20, 20))
    found, _, told = learned(paths, roi=(0, 0, 20, 20), allow_size_change=True)
    assert len(found.sizes) == 2
    assert len(told) == 1


def test_photos_of_several_shapes_are_told(tmp_path: Path) -> None:
    paths = write_set(tmp_path, [*scenes(4), *scenes(2, (40, 96))])
    assert "letterbox" in learned(paths)[2][0]
    assert learned(paths, resize="letterbox")[2] == []


def test_of_many_sizes_the_extremes_are_kept(tmp_path: Path) -> None:
    sizes = [(40 + i, 48) for i in range(20)] + [(200, 16), (16, 200), (300, 300), (5, 5)]
    found, _, _ = learned(write_set(tmp_path, [np.zeros(size, np.uint8) for size in sizes]))
    assert len(found.sizes) == 16
    assert {(200, 16), (16, 200), (300, 300), (5, 5)} < set(found.sizes)


# Bits


@pytest.mark.parametrize(
    ("highest", "bits"),
    [(1023, 10), (1000, 10), (4095, 12), (3000, 12), (4080, 12), (16383, 14), (9000, 14), (65535, 16), (30000, 16)],
)
def test_bits_are_found_in_the_photos(tmp_path: Path, highest: int, bits: int) -> None:
    found, inputs, told = learned(write_set(tmp_path, scenes(highest=highest)))
    assert (found.depth, found.bits, found.input_bits) == (16, bits, bits)
    assert inputs.max() == pytest.approx(255 * highest / ((1 << bits) - 1), abs=3)
    assert len(told) == 1
    assert f"{(1 << bits) - 1} is taken for white" in told[0]


def test_bits_at_the_top_are_16(tmp_path: Path) -> None:
    dark = [scene // 5 << 4 for scene in scenes(highest=4095)]  # 12 bits, shifted up; nothing is bright
    assert 4095 < max(int(photo.max()) for photo in dark) < 16383
    assert learned(write_set(tmp_path, dark))[0].bits == 16
    of_ten = [scene << 6 for scene in scenes(highest=1023)]
    assert learned(write_set(tmp_path, of_ten))[0].bits == 16
    eight_in_ten = [scene.astype(np.uint16) << 2 for scene in scenes()]  # multiples of 4, up to 1020
    assert learned(write_set(tmp_path, eight_in_ten))[0].bits == 10
    eight = [scene.astype(np.uint16) for scene in scenes()]
    found = learned(write_set(tmp_path, eight))[0]
    assert (found.depth, found.bits) == (16, 8)


def test_the_same_scene_in_any_bits_is_the_same_input(tmp_path: Path) -> None:
    inputs = []
    for bits in (8, 10, 12, 14, 16):
        white = (1 << bits) - 1
        photos = [np.rint(scene / 65535 * white) for scene in scenes(highest=65535)]
        folder = tmp_path / str(bits)
        folder.mkdir()
        inputs.append(learned(write_set(folder, [p.astype(np.uint8 if bits == 8 else np.uint16) for p in photos]))[1])
    for other in inputs[1:]:
        np.testing.assert_allclose(other.astype(int), inputs[0].astype(int), atol=1)


def test_bits_may_be_told(tmp_path: Path) -> None:
    paths = write_set(tmp_path, scenes(highest=1000))
    found, inputs, told = learned(paths, bits=12)
    assert (found.bits, told) == (12, [])
    assert inputs.max() < 65
    paths = write_set(tmp_path, scenes(highest=4000))
    with pytest.raises(DatasetError, match=r"values beyond 1023, the highest of 10 bits: .* or give `bits=12`"):
        learned(paths, bits=10)
    with pytest.raises(UsageError, match="`bits` is one of 8, 10, 12, 14, 16, not"):
        check_options(TrainingOptions(bits=11))


def test_photos_of_both_depths_are_told(tmp_path: Path) -> None:
    _, _, told = learned(write_set(tmp_path, [*scenes(4, highest=4095), *scenes(2)]))
    assert told[1] == "4 of 6 photos hold 16-bit values, the others 8-bit ones; photos should be alike."
