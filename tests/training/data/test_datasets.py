"""Public data sets as they are published: who is learned from, who is judged, and what is said of another layout."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import pytest
from layouts import BAD, GOOD, MINIATURES, TRAIN, btad, folder, mtd, mvtec, visa, write_visa_split
from workplace import command_line

from rstpm_edge.cli.benchmark import DATASETS
from rstpm_edge.errors import DatasetError, UsageError
from rstpm_edge.training.data.datasets import LAYOUTS, MTD_LIST, load_categories
from rstpm_edge.training.data.images import read_mask

NAMES = {
    "mvtec": ["bottle", "cable"],
    "visa": ["candle", "pcb1"],
    "btad": ["01", "02", "03"],
    "mtd": ["magnetic_tile"],
    "folder": ["bottle"],
}


def names(paths: Any) -> list[str]:
    return [path.name for path in paths]


def refused(root: Path, dataset: str, *chosen: str) -> str:
    with pytest.raises(DatasetError) as error:
        load_categories(root, dataset, chosen)
    message = str(error.value)
    assert "\n" not in message
    assert message.endswith(".")
    return message.replace(str(root), "ROOT")


def rows_of(root: Path) -> list[Any]:
    with open(root / "split_csv" / "1cls.csv", newline="") as file:
        return list(csv.reader(file))[1:]


def test_the_command_line_offers_all_of_them() -> None:
    assert set(DATASETS) == set(LAYOUTS) == set(MINIATURES)


@pytest.mark.parametrize("dataset", DATASETS)
def test_every_layout(tmp_path: Path, dataset: str) -> None:
    root = MINIATURES[dataset](tmp_path / "data")
    found = load_categories(root, dataset)
    assert [category.name for category in found] == NAMES[dataset]
    for category in found:
        if dataset != "mtd":
            assert len(category.train) == TRAIN
        assert len([image for image in category.test if not image.is_defective]) == GOOD
        assert len([image for image in category.test if image.is_defective]) == BAD
        tested = {image.path for image in category.test}
        assert all(path.is_relative_to(category.folder) for path in (*category.train, *tested))
        assert not tested & set(category.train)
        assert all(path.is_file() for path in (*category.train, *tested))
        for image in category.test:  # the spot, whatever number the data set writes for it
            mask = read_mask(image, (64, 80))
            assert mask.sum() == (600 if image.is_defective else 0)
            assert mask[20:40, 30:60].all() == image.is_defective


@pytest.mark.parametrize("dataset", DATASETS)
def test_chosen_categories_in_the_order_asked_for(tmp_path: Path, dataset: str) -> None:
    root = MINIATURES[dataset](tmp_path / "data")
    chosen = NAMES[dataset][::-1]
    found = load_categories(root, dataset, chosen)
    assert [category.name for category in found] == chosen
    assert refused(root, dataset, "teapot").startswith("ROOT has no category teapot; it has ")
    with pytest.raises(UsageError, match=f"^A category is named twice: {chosen[0]}, {chosen[0]}"):
        load_categories(root, dataset, [chosen[0], chosen[0]])


def test_a_folder_of_categories_is_a_folder_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = mvtec(tmp_path / "data")
    assert load_categories(root, "folder") == load_categories(root, "mvtec")
    monkeypatch.chdir(root / "cable")
    (category,) = load_categories(".", "folder")
    assert category.name == "cable"


def test_a_category_that_is_not_asked_for_may_be_broken(tmp_path: Path) -> None:
    root = mvtec(tmp_path)
    shutil.rmtree(root / "cable" / "test")
    (category,) = load_categories(root, "mvtec", ["bottle"])
    assert category.name == "bottle"
    assert "cable has no test folder" in refused(root, "mvtec")


# VisA


def test_visa_is_split_by_its_csv(tmp_path: Path) -> None:
    root = visa(tmp_path)
    candle, _ = load_categories(root, "visa")
    assert names(candle.train) == [f"{i:04}.JPG" for i in (7, 6, 5, 4, 3, 2)]
    assert [image.path.name for image in candle.test] == ["0001.JPG", "0000.JPG", "000.JPG", "001.JPG"]
    assert [image.kind for image in candle.test] == ["good", "good", "anomaly", "anomaly"]
    assert {image.mask_level for image in candle.test if image.is_defective} == {0}
    assert candle.split == "split_csv/1cls.csv"


def test_visa_without_its_csv(tmp_path: Path) -> None:
    root = visa(tmp_path)
    (root / "split_csv" / "1cls.csv").unlink()
    said = refused(root, "visa")
    assert said.startswith("ROOT/split_csv/1cls.csv is missing: it says how VisA is split; it comes with the data set")
    assert "github.com/amazon-science/spot-diff" in said


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "1cls.csv must have the columns object, split, label, image, mask; get it again."),
        ("object,split,label,image\n", "must have the columns"),
        ("object,split,label,image,mask\ncandle,val,normal,a.JPG,\n", "Line 2 of "),
        ("object,split,label,image,mask\ncandle,train,anomaly,a.JPG,\n", "Line 2 of "),
        ("object,split,label,image,mask\ncandle,train\n", "Line 2 of "),
        ("object,split,label,image,mask\n../candle,train,normal,a.JPG,\n", "Line 2 of "),
        ("object,split,label,image,mask\ncandle,train,normal,../a.JPG,\n", "Line 2 of "),
        ("object,split,label,image,mask\n..,train,normal,a.JPG,\n", "Line 2 of "),
        (b"object,split,label,image,mask\n\xff\xfe", "cannot be read"),
    ],
)
def test_a_csv_that_is_not_visas(tmp_path: Path, content: str | bytes, says: str) -> None:
    root = visa(tmp_path)
    path = root / "split_csv" / "1cls.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert says in refused(root, "visa")


def test_a_csv_from_a_spreadsheet(tmp_path: Path) -> None:
    root = visa(tmp_path)
    path = root / "split_csv" / "1cls.csv"
    before = load_categories(root, "visa")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert load_categories(root, "visa") == before


def test_visa_without_some_images_or_masks(tmp_path: Path) -> None:
    root = visa(tmp_path)
    masks = root / "candle" / "Data" / "Masks" / "Anomaly"
    (masks / "001.png").unlink()
    assert refused(root, "visa") == "ROOT/candle/Data/Masks/Anomaly has no mask for 001.JPG."
    shutil.rmtree(masks)
    candle, _ = load_categories(root, "visa")
    assert {image.mask for image in candle.test} == {None}
    (root / "candle" / "Data" / "Images" / "Normal" / "0004.JPG").unlink()
    assert refused(root, "visa") == "candle in ROOT lacks 1 of its 10 images: candle/Data/Images/Normal/0004.JPG."


def test_visa_with_too_few_images_in_its_split(tmp_path: Path) -> None:
    root = visa(tmp_path)
    write_visa_split(root, rows_of(root)[3:])
    assert refused(root, "visa") == ("candle in ROOT has 3 good images to learn from; training needs at least 5.")


# BTAD


def test_btad_pairs_masks_by_name_whatever_their_format(tmp_path: Path) -> None:
    for category in load_categories(btad(tmp_path), "btad"):
        for image in category.test:
            assert image.kind == ("ko" if image.is_defective else "good")
            if image.is_defective:
                assert image.mask is not None
                assert image.mask.stem == image.path.stem
    truth = tmp_path / "02" / "ground_truth" / "ko"
    (truth / "0000.png").unlink()
    assert refused(tmp_path, "btad") == "ROOT/02/ground_truth/ko has no mask for 0000.png."


# Magnetic tile defects


def test_the_tiles_are_split_alike_for_everybody(tmp_path: Path) -> None:
    (first,) = load_categories(mtd(tmp_path / "a"), "mtd")
    (again,) = load_categories(mtd(tmp_path / "b"), "mtd")
    assert names(first.train) == names(again.train)
    assert len(first.train) == round(0.8 * (TRAIN + GOOD))
    assert first.split.startswith("80% of MT_Free at random, seed 0")
    assert {image.kind for image in first.test} == {"good", "blowhole", "crack"}
    assert all(path.suffix == ".jpg" for path in first.train)


def test_the_tiles_that_differnet_learned_from(tmp_path: Path) -> None:
    root = mtd(tmp_path)
    listed = [f"exp1_num_{number}.jpg" for number in (101, 107, 103, 100, 104)]
    (root / MTD_LIST).write_text("\n".join(listed) + "\n")
    (found,) = load_categories(root, "mtd")
    assert names(found.train) == sorted(listed)
    good = [image.path.name for image in found.test if not image.is_defective]
    assert good == [f"exp1_num_{number}.jpg" for number in (102, 105, 106)]
    assert found.split == "mtd_train_filenames.txt (DifferNet's)"
    (root / MTD_LIST).write_text("exp1_num_1.jpg\n")
    assert refused(root, "mtd") == "ROOT/mtd_train_filenames.txt names images that MT_Free/Imgs lacks: exp1_num_1.jpg."


def test_tiles_without_masks(tmp_path: Path) -> None:
    root = mtd(tmp_path)
    for path in root.rglob("*.png"):
        path.unlink()
    (found,) = load_categories(root, "mtd")
    assert {image.mask for image in found.test} == {None}


# Other layouts


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("asked", ["mvtec", "visa", "btad", "mtd"])
def test_another_layout_is_told_and_the_right_one_guessed(tmp_path: Path, dataset: str, asked: str) -> None:
    root = MINIATURES[dataset](tmp_path / "data")
    if dataset == asked:
        assert load_categories(root, asked)
        return
    said = refused(root, asked)
    assert said.startswith(f"ROOT does not have the layout of {LAYOUTS[asked].title} (")
    assert said.endswith(f"It looks like `dataset={dataset}`.")
    assert f"it holds {sorted(root.iterdir())[0].name}" in said


def test_nothing_that_is_known(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    said = refused(tmp_path, "mvtec")
    assert said == (
        "ROOT does not have the layout of MVTec AD (folders such as bottle, with train/good, test/good, test/KIND and "
        "ground_truth/KIND in each): it holds photos."
    )
    assert refused(tmp_path / "photos", "folder").endswith("it holds nothing.")
    assert refused(tmp_path / "none", "mtd") == "ROOT is missing; give a folder of images."


def test_magnetic_tiles_that_somebody_has_converted(tmp_path: Path) -> None:
    root = mtd(tmp_path)
    for path in sorted(root.rglob("*.jpg"))[::2]:
        path.rename(path.with_suffix(".webp"))
    before = {image.path.stem for image in load_categories(mtd(tmp_path / "before"), "mtd")[0].test}
    (found,) = load_categories(root, "mtd")
    assert {image.path.stem for image in found.test} == before
    assert all(image.mask for image in found.test if image.is_defective)


def test_a_data_set_of_another_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no data set 'coco'; choose one of mvtec, visa, btad, mtd, folder\."):
        load_categories(tmp_path, "coco")


@pytest.mark.parametrize("kind", ["good", "spot"])
def test_a_category_without_one_kind_of_test_images(tmp_path: Path, kind: str) -> None:
    root = folder(tmp_path)
    shutil.rmtree(root / "test" / kind)
    assert "must hold both good and defective images" in refused(root, "folder")
    root = btad(tmp_path / "btad")
    shutil.rmtree(root / "01" / "test" / ("ok" if kind == "good" else "ko"))
    missing = "good" if kind == "good" else "defective"
    assert refused(root, "btad") == f"01 in ROOT has no {missing} images to test on; both kinds are needed."


def test_the_command_line_says_so_before_any_work(tmp_path: Path) -> None:
    root = visa(tmp_path / "data")
    result = command_line("benchmark", root, "--dataset", "mvtec", "--output", tmp_path / "out")
    assert result.exit_code == 2
    assert result.stderr.startswith(f"Error: {root} does not have the layout of MVTec AD (")
    assert result.stderr.endswith("It looks like --dataset visa.\n")
    assert not (tmp_path / "out").exists()
