"""The synthetic inspection data set: what lies where, the same bytes every time, and defects one can see."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from rstpm_edge.training.demo.part import DEFECT_KINDS, render_part, write_dataset

SIZE = (160, 192)  # not square, and smaller than the default to save time


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.png")}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "not" / "there" / "yet"
    write_dataset(folder, seed=3, train=3, test_good=2, test_per_kind=1, size=SIZE)
    return folder


def test_layout_is_that_of_mvtec_ad(dataset: Path) -> None:
    expected = {f"train/good/{index:03}.png" for index in range(3)}
    expected |= {f"test/good/{index:03}.png" for index in range(2)}
    expected |= {f"test/{kind}/000.png" for kind in DEFECT_KINDS}
    expected |= {f"ground_truth/{kind}/000_mask.png" for kind in DEFECT_KINDS}
    assert set(files_of(dataset)) == expected


def test_files_hold_images_and_masks_of_the_size_asked_for(dataset: Path) -> None:
    for path in dataset.rglob("*.png"):
        image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert image is not None
        assert image.dtype == np.uint8
        assert image.shape == (SIZE if "ground_truth" in path.parts else (*SIZE, 3)), path


def test_no_picture_occurs_twice(dataset: Path) -> None:
    files = files_of(dataset)
    assert len(set(files.values())) == len(files)


def test_a_picture_depends_on_its_seed_folder_and_number_alone(dataset: Path, tmp_path: Path) -> None:
    write_dataset(tmp_path, seed=3, train=1, test_good=0, test_per_kind=1, size=SIZE)
    before, now = files_of(dataset), files_of(tmp_path)
    assert len(now) == 1 + 2 * len(DEFECT_KINDS)
    assert all(before[name] == content for name, content in now.items())


def test_another_seed_gives_other_pictures(dataset: Path, tmp_path: Path) -> None:
    write_dataset(tmp_path, seed=4, train=3, test_good=0, test_per_kind=0, size=SIZE)
    before = files_of(dataset)
    assert all(before[name] != content for name, content in files_of(tmp_path).items())


def test_good_parts_have_an_empty_mask_and_look_alike_but_not_the_same() -> None:
    (first, mask), (second, _) = render_part(0, size=SIZE), render_part(1, size=SIZE)
    assert first.dtype == mask.dtype == np.uint8
    assert first.shape == (*SIZE, 3)
    assert mask.shape == SIZE
    assert not mask.any()
    assert not np.array_equal(first, second)
    blurred = [cv2.GaussianBlur(image, (0, 0), 4)[..., 1].ravel() for image in (first, second)]
    assert np.corrcoef(blurred)[0, 1] > 0.9


def test_the_part_is_neither_black_nor_burnt_out() -> None:
    image, _ = render_part(2, size=SIZE)
    assert image[:8, :8].mean() < 90  # belt
    plate = image[SIZE[0] // 2 - 40 : SIZE[0] // 2 + 40, SIZE[1] // 2 + 20 : SIZE[1] // 2 + 30]
    assert 110 < plate.mean() < 235
    assert (image == 255).mean() < 0.01


@pytest.mark.parametrize("kind", DEFECT_KINDS)
@pytest.mark.parametrize("seed", [11, 12, 13])
def test_a_defect_is_visible_where_its_mask_is_and_nowhere_else(kind: str, seed: int) -> None:
    good, _ = render_part(seed, size=SIZE)
    bad, mask = render_part(seed, size=SIZE, defect=kind)
    assert set(np.unique(mask)) == {0, 255}
    share = (mask > 0).mean()
    assert 1e-4 < share < 0.08

    # Same seed: same part, pose, light and sensor noise, so that only the defect differs.
    change = np.abs(good.astype(float) - bad).max(axis=2)
    around = cv2.dilate(mask, np.ones((9, 9), np.uint8)) > 0
    assert change[mask > 0].mean() > 12
    assert change[~around].mean() < 0.5
    # A mask may pad the defect by a little, not be a box around it.
    assert (change[mask > 0] > 6).mean() > 0.5


def test_a_generator_gives_a_new_part_each_time_and_the_same_series_again() -> None:
    rng, again = np.random.default_rng(5), np.random.default_rng(5)
    series = [render_part(rng, size=SIZE)[0] for _ in range(2)]
    assert not np.array_equal(*series)
    assert all(np.array_equal(image, render_part(again, size=SIZE)[0]) for image in series)


def test_unknown_defect_is_refused_with_the_valid_names() -> None:
    with pytest.raises(ValueError, match="unknown defect 'rot'") as refusal:
        render_part(0, defect="rot")
    assert all(kind in str(refusal.value) for kind in DEFECT_KINDS)


def test_size_too_small_to_show_the_part_is_refused() -> None:
    with pytest.raises(ValueError, match="at least"):
        render_part(0, size=(320, 20))
