"""Data sets of good and defective photos, as they are published: what is learned from, and what is judged.

    load_categories("mvtec_anomaly_detection", "mvtec", ["bottle", "cable"])

Nothing is copied or rearranged. Every split is the published one; where none was published, it is drawn here, the same
for everybody. Each layout is two functions: the names of its categories, and the files of one.
"""

import csv
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rstpm_edge.errors import DatasetError, UsageError
from rstpm_edge.image.listing import image_stem

from .images import (
    MINIMUM_IMAGES,
    TestImage,
    about_left_out,
    both_kinds,
    defective_images,
    existing_folder,
    good_images,
    images_in,
    some_of,
    test_images,
)


@dataclass(frozen=True)
class Category:
    """One product of a data set. The images of `train` are good; none of them is in `test`."""

    name: str
    folder: Path  # that all of its images are in or below
    train: tuple[Path, ...]
    test: tuple[TestImage, ...]
    split: str  # who drew the line between them, for reports


@dataclass(frozen=True)
class Layout:
    """How one data set lies on disk. `names` gives nothing for a folder of another layout."""

    title: str
    expects: str
    names: Callable[[Path], list[str]]
    load: Callable[[Path, str], Category]


def load_categories(root: str | Path, dataset: str, chosen: Sequence[str] = ()) -> tuple[Category, ...]:
    """The categories of the data set in `root`, all of them or those `chosen`, in that order.

    `dataset` is one of `LAYOUTS`.

    Raises UsageError for an unknown `dataset`, or a category named twice; DatasetError when `root` is missing or of
    another layout, has no such category, or lacks images, masks or the file that says how it is split.
    """
    if dataset not in LAYOUTS:
        raise UsageError(f"There is no data set {dataset!r}; choose one of {', '.join(LAYOUTS)}.")
    try:
        return _load(existing_folder(root), LAYOUTS[dataset], chosen)
    except OSError as error:
        raise DatasetError(f"Cannot read {error.filename}: {error.strerror}.") from error


def about_category(category: Category) -> list[str]:
    """What to tell of files in the folders of a category that are not taken."""
    images = [*category.train, *(image.path for image in category.test)]
    masks = [image.mask for image in category.test if image.mask is not None]
    return about_left_out(*dict.fromkeys(path.parent for path in [*images, *masks]))


def _load(root: Path, layout: Layout, chosen: Sequence[str]) -> tuple[Category, ...]:
    names = layout.names(root)
    if not names:
        raise DatasetError(_other_layout(root, layout))
    missing = [name for name in chosen if name not in names]
    if missing:
        raise DatasetError(f"{root} has no category {some_of(missing)}; it has {', '.join(names)}.")
    if len(set(chosen)) < len(chosen):
        raise UsageError(f"A category is named twice: {', '.join(chosen)}.")
    categories = tuple(layout.load(root, name) for name in chosen or names)
    for category in categories:
        _check(category, root)
    return categories


# MVTec AD: CATEGORY/train/good, test/good, test/KIND, ground_truth/KIND/*_mask.png


def _mvtec_names(root: Path) -> list[str]:
    return [path.name for path in _folders(root) if (path / "train" / "good").is_dir()]


def _mvtec(root: Path, name: str) -> Category:
    folder = root / name
    return Category(name, folder, tuple(good_images(folder)), tuple(test_images(folder)), "train/good and test")


def _folder_names(root: Path) -> list[str]:
    return [root.resolve().name] if (root / "train" / "good").is_dir() else _mvtec_names(root)


def _folder(root: Path, name: str) -> Category:
    if not (root / "train" / "good").is_dir():
        return _mvtec(root, name)
    return Category(name, root, tuple(good_images(root)), tuple(test_images(root)), "train/good and test")


# BTAD: 01/train/ok, test/ok, test/ko, ground_truth/ko/NAME.png or .bmp; images are .bmp or .png


def _btad_names(root: Path) -> list[str]:
    return [path.name for path in _folders(root) if (path / "train" / "ok").is_dir()]


def _btad(root: Path, name: str) -> Category:
    folder, truth = root / name, root / name / "ground_truth" / "ko"
    masks = {image_stem(path): path for path in images_in(truth)}
    good = [TestImage(path, "good", None) for path in images_in(folder / "test" / "ok")]
    bad = defective_images(images_in(folder / "test" / "ko"), "ko", masks, truth)
    return Category(name, folder, tuple(images_in(folder / "train" / "ok")), (*good, *bad), "train/ok and test")


# VisA: split_csv/1cls.csv beside CATEGORY/Data/Images/{Normal,Anomaly} and CATEGORY/Data/Masks/Anomaly. The split and
# the masks' meaning (all that is not 0) are those of utils/prepare_data.py in github.com/amazon-science/spot-diff.

VISA_SPLIT = Path("split_csv") / "1cls.csv"
VISA_COLUMNS = ("object", "split", "label", "image", "mask")
VISA_KINDS = (("train", "normal"), ("test", "normal"), ("test", "anomaly"))


def _visa_names(root: Path) -> list[str]:
    if not (root / VISA_SPLIT).is_file() and not any((path / "Data" / "Images").is_dir() for path in _folders(root)):
        return []
    return list(dict.fromkeys(row["object"] for row in _visa_rows(root)))


def _visa(root: Path, name: str) -> Category:
    train: list[Path] = []
    test: list[TestImage] = []
    for row in _visa_rows(root):
        image = root / row["image"]
        if row["object"] != name:
            continue
        if row["split"] == "train":
            train.append(image)
        elif row["label"] == "normal":
            test.append(TestImage(image, "good", None))
        else:
            test.append(TestImage(image, "anomaly", root / row["mask"] if row["mask"] else None, mask_level=0))
    truth = root / name / "Data" / "Masks" / "Anomaly"
    masks = {image_stem(image.path): image.mask for image in test if image.mask is not None and image.mask.is_file()}
    bad = defective_images([image.path for image in test if image.is_defective], "anomaly", masks, truth, mask_level=0)
    good = [image for image in test if not image.is_defective]
    return Category(name, root / name, tuple(train), (*good, *bad), VISA_SPLIT.as_posix())


def _visa_rows(root: Path) -> Iterator[Mapping[str, str]]:
    path = root / VISA_SPLIT
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            if not set(VISA_COLUMNS) <= set(reader.fieldnames or ()):
                raise DatasetError(f"{path} must have the columns {', '.join(VISA_COLUMNS)}; get it again.")
            for row in reader:
                name = row["object"]  # of a folder: that of its results, too
                known = (row["split"], row["label"]) in VISA_KINDS and None not in row.values()
                simple = name not in ("", ".", "..") and os.path.basename(name) == name
                if not (known and simple and row["image"].startswith(f"{name}/")):
                    raise DatasetError(f"Line {reader.line_num} of {path} is none of VisA's; get the file again.")
                yield row
    except FileNotFoundError as error:
        raise DatasetError(
            f"{path} is missing: it says how VisA is split; it comes with the data set, and with "
            "https://github.com/amazon-science/spot-diff."
        ) from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path} cannot be read ({error}); get it again.") from error


# Magnetic tile defects (Huang et al.): MT_Free/Imgs/*.jpg are good, MT_KIND/Imgs/*.jpg are not; masks are *.png beside.
# It came without a split. DifferNet (Rudolph et al., WACV 2021) and CS-Flow learn from four fifths of the good images
# and test on all others; mtd_train_filenames.txt in github.com/marco-rudolph/differnet says which.

MTD_LIST = "mtd_train_filenames.txt"
MTD_SHARE, MTD_SEED = 0.8, 0


def _mtd_names(root: Path) -> list[str]:
    return ["magnetic_tile"] if (root / "MT_Free" / "Imgs").is_dir() else []


def _mtd(root: Path, name: str) -> Category:
    good = _photos(root / "MT_Free" / "Imgs")
    if (root / MTD_LIST).is_file():
        split = f"{MTD_LIST} (DifferNet's)"
        learned = set((root / MTD_LIST).read_text(errors="replace").split())
        unknown = sorted(learned - {path.name for path in good})
        if unknown:
            raise DatasetError(f"{root / MTD_LIST} names images that MT_Free/Imgs lacks: {some_of(unknown)}.")
    else:
        split = f"{MTD_SHARE:.0%} of MT_Free at random, seed {MTD_SEED}: there is no {MTD_LIST}"
        order = np.random.default_rng(MTD_SEED).permutation(len(good))
        learned = {good[i].name for i in order[: round(MTD_SHARE * len(good))]}
    test = [TestImage(path, "good", None) for path in good if path.name not in learned]
    for folder in _folders(root):
        if folder.name.startswith("MT_") and folder.name != "MT_Free":
            files, truth = _photos(folder / "Imgs"), folder / "Imgs"
            masks = {image_stem(path): path for path in images_in(truth) if _is_mtd_mask(path)}
            test += defective_images(files, folder.name.removeprefix("MT_").lower(), masks, truth)
    return Category(name, root, tuple(path for path in good if path.name in learned), tuple(test), split)


def _photos(folder: Path) -> list[Path]:
    return [path for path in images_in(folder) if not _is_mtd_mask(path)]


def _is_mtd_mask(path: Path) -> bool:
    return path.suffix.lower() == ".png"  # photos are JPEG, or whatever somebody made of them


MVTEC_FOLDERS = "train/good, test/good, test/KIND and ground_truth/KIND"

LAYOUTS: Mapping[str, Layout] = {
    "mvtec": Layout("MVTec AD", f"folders such as bottle, with {MVTEC_FOLDERS} in each", _mvtec_names, _mvtec),
    "visa": Layout("VisA", f"{VISA_SPLIT.as_posix()} beside folders such as candle/Data/Images", _visa_names, _visa),
    "btad": Layout("BTAD", "folders 01, 02 and 03, with train/ok, test and ground_truth in each", _btad_names, _btad),
    "mtd": Layout("magnetic tile defects", "folders MT_Free, MT_Blowhole, …, with Imgs in each", _mtd_names, _mtd),
    "folder": Layout("MVTec AD", f"{MVTEC_FOLDERS}, or folders that have these", _folder_names, _folder),
}


def _check(category: Category, root: Path) -> None:
    where = f"{category.name} in {root}"
    if len(category.train) < MINIMUM_IMAGES:
        raise DatasetError(
            f"{where} has {len(category.train)} good images to learn from; training needs at least {MINIMUM_IMAGES}."
        )
    if not both_kinds(category.test):
        missing = "defective" if category.test and not category.test[0].is_defective else "good"
        raise DatasetError(f"{where} has no {missing} images to test on; both kinds are needed.")
    files = [*category.train, *(image.path for image in category.test)]
    absent = [os.path.relpath(path, root) for path in files if not path.is_file()]
    if absent:
        raise DatasetError(f"{where} lacks {len(absent)} of its {len(files)} images: {some_of(absent)}.")


def _other_layout(root: Path, layout: Layout) -> str:
    found = [path.name for path in sorted(root.iterdir())]
    alike = [name for name, other in LAYOUTS.items() if other is not layout and _fits(other, root)]
    hint = f" It looks like `dataset={alike[0]}`." if alike else ""
    return (
        f"{root} does not have the layout of {layout.title} ({layout.expects}): it holds "
        f"{some_of(found) if found else 'nothing'}.{hint}"
    )


def _fits(layout: Layout, root: Path) -> bool:
    try:
        return bool(layout.names(root))
    except DatasetError:  # of that layout, but damaged
        return True


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
