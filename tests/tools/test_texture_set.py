"""The data set that is made from one photo of a surface."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from checkout import ROOT
from click.testing import CliRunner
from numpy.typing import NDArray

from rstpm_edge.image.decode import read_image
from rstpm_edge.training.data import images as data

TOOL = ROOT / "tools" / "texture_set.py"
KINDS = {"crack", "hole", "stain", "smear", "foreign", "warp"}
FEW = ("--size", 96, "--train", 5, "--good", 2, "--defective", 2)

Make = Callable[..., Any]


@pytest.fixture(scope="module")
def make() -> Make:
    main = runpy.run_path(str(TOOL))["main"]

    def run(*arguments: object) -> Any:
        return CliRunner().invoke(main, [str(argument) for argument in arguments])

    return run


def surface(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Speckles, darker from left to right."""
    speckles = np.random.default_rng(seed).normal(0, 40, (height // 4, width // 4, 3)).astype(np.float32)
    shade = np.linspace(200, 60, width)[None, :, None]
    return (cv2.resize(speckles, (width, height)) + shade).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "surface.png"
    cv2.imwrite(str(path), surface(160, 256))
    return path


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.png")}


def test_a_set_in_the_layout_of_mvtec(make: Make, photo: Path, tmp_path: Path) -> None:
    output = tmp_path / "set"
    found = make(photo, "--output", output, *FEW)
    assert found.exit_code == 0, found.output
    assert len(data.good_images(output)) == 5
    tests = data.test_images(output)
    assert {image.kind for image in tests} == {"good", *KINDS}
    assert len(tests) == 2 + 2 * len(KINDS)
    for image in tests:
        picture = read_image(image.path)
        assert picture.shape == (96, 96, 3)
        if image.is_defective:
            share = float(data.read_mask(image, (96, 96)).mean())
            assert 0 < share < 0.2, image.path


def test_foreign_pieces_come_from_the_other_photo(make: Make, photo: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "green.png"), np.full((96, 96, 3), (0, 255, 0), np.uint8))
    output = tmp_path / "set"
    assert make(photo, "--other", tmp_path / "green.png", "--output", output, *FEW).exit_code == 0
    for image in data.test_images(output):
        if image.kind == "foreign":
            red, green, blue = read_image(image.path)[data.read_mask(image, (96, 96))].mean(0)
            assert green > max(red, blue) + 50


def test_learned_from_the_left_half_and_judged_on_the_right(make: Make, photo: Path, tmp_path: Path) -> None:
    assert make(photo, "--halves", "--output", tmp_path / "set", *FEW).exit_code == 0
    learned, tested = (
        [read_image(path).mean() for path in (tmp_path / "set" / split / "good").iterdir()]
        for split in ("train", "test")
    )
    assert min(learned) > max(tested)  # the photo darkens from 200 to 60, the lamp varies by 6 %


def test_an_aligned_part_is_whole_and_lies_nearly_alike(make: Make, tmp_path: Path) -> None:
    part = np.full((400, 400, 3), 60, np.uint8)
    cv2.rectangle(part, (40, 40), (360, 360), (200, 200, 200), -1)  # all of it in the picture, at any scale
    cv2.imwrite(str(tmp_path / "part.png"), part)
    found = make(
        tmp_path / "part.png", "--aligned", "--other", tmp_path / "part.png", "--output", tmp_path / "set", *FEW
    )
    assert found.exit_code == 0, found.output
    images = np.stack([read_image(path) for path in data.good_images(tmp_path / "set")]).mean(-1)
    bright = images > images.mean((1, 2), keepdims=True)
    assert bright.mean((1, 2)) == pytest.approx(0.8**2, abs=0.05)
    same = bright.all(0) | ~bright.any(0)
    assert 0.8 < same.mean() < 1  # moved, but by little


def test_a_turned_part_lies_at_any_angle_with_defects_on_it_only(make: Make, tmp_path: Path) -> None:
    part = surface(300, 300, 3) // 4 + 80  # with something to see everywhere, but no other mark
    cv2.circle(part, (220, 150), 25, (250, 250, 250), -1)  # a mark to the right of the middle
    cv2.imwrite(str(tmp_path / "part.png"), part)
    output = tmp_path / "set"
    found = make(tmp_path / "part.png", "--turned", "--output", output, *FEW, "--train", "24")
    assert found.exit_code == 0, found.output
    rows, columns = np.mgrid[:96, :96] - 47.5
    distance = np.hypot(rows, columns)
    angles = []
    for path in data.good_images(output):
        image = read_image(path).mean(-1)
        assert abs(image[distance > 50].mean() - 70) < 15  # the ground, under a lamp that varies
        y, x = np.argwhere(image > 200).mean(0) - 47.5
        assert np.hypot(x, y) == pytest.approx(70 * 96 / 300, abs=4)
        angles.append(np.arctan2(y, x))
    assert len(set(np.floor(np.array(angles) / (np.pi / 4)))) >= 6  # of eight eighths of the circle
    for test in data.test_images(output):
        assert not data.read_mask(test, (96, 96))[distance > 0.46 * 96].any()


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_defect_is_where_its_mask_says(kind: str) -> None:
    tool = runpy.run_path(str(TOOL))
    image, other = (surface(256, 256, seed).astype(np.float32) for seed in (1, 2))
    for seed in range(20):
        changed, mask = tool["KINDS"][kind](image, other, np.random.default_rng(seed))
        change = np.abs(changed - image).mean(-1)
        assert changed.shape == image.shape
        assert changed.dtype == np.float32
        near = cv2.dilate(mask.astype(np.uint8), np.ones((33, 33), np.uint8)) > 0
        assert change[~near].max() < 1  # grey value; a soft edge reaches so far
        assert change[mask].sum() > 0.5 * change.sum()


def test_the_same_seed_gives_the_same_images(make: Make, photo: Path, tmp_path: Path) -> None:
    for name, seed in (("one", 0), ("again", 0), ("other", 1)):
        assert make(photo, "--output", tmp_path / name, "--seed", seed, *FEW).exit_code == 0
    one, again, other = (files_of(tmp_path / name) for name in ("one", "again", "other"))
    assert one == again
    assert one.keys() == other.keys()
    assert one != other


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        pytest.param(surface(160, 160), "has 160×160 pixels; at least 192×96 are needed", id="too narrow"),
        pytest.param(np.full((160, 256, 3), 128, np.uint8), "No smear can be seen on this surface", id="blank"),
    ],
)
def test_photos_that_will_not_do(make: Make, tmp_path: Path, picture: NDArray[np.uint8], message: str) -> None:
    cv2.imwrite(str(tmp_path / "photo.png"), picture)
    found = make(tmp_path / "photo.png", "--halves", "--output", tmp_path / "set", *FEW)
    assert found.exit_code == 1
    assert message in found.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["photo.png"]  # nothing half made


def test_files_that_will_not_do(make: Make, photo: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(photo.read_bytes()[:100])
    assert "broken.png" in make(broken, "--output", tmp_path / "set", *FEW).stderr
    assert (
        f"Cannot make {tmp_path}: Directory not empty; give a new folder."
        in make(photo, "--output", tmp_path, *FEW).stderr
    )
    assert "is a file" in make(photo, "--output", broken, *FEW).stderr
    assert "Cannot create the folder" in make(photo, "--output", broken / "set", *FEW).stderr
    assert "Cannot make" in make(photo, "--output", tmp_path / ("long" * 80), *FEW).stderr
    assert (
        "Choose one of --aligned, --turned and --halves"
        in make(photo, "--aligned", "--halves", "--output", tmp_path / "set", *FEW).stderr
    )
    cv2.imwrite(str(tmp_path / "small.png"), surface(64, 64))
    other = make(photo, "--other", tmp_path / "small.png", "--output", tmp_path / "set", *FEW)
    assert "small.png has 64×64 pixels; at least 96×96 are needed." in other.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken.png", "small.png"]
