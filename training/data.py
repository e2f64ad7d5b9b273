"""Folders of images: which files there are, which are good, and where a defect's mask lies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rstpm_edge.errors import DatasetError, ImageError
from rstpm_edge.image.decode import read_image
from rstpm_edge.image.listing import find_images
from rstpm_edge.image.placement import ResizePolicy
from rstpm_edge.image.preprocess import to_input
from rstpm_edge.image.roi import Roi, crop

MINIMUM_IMAGES = 5  # four to learn from and one to calibrate on: enough to try, far too few to trust
NAMED = 10  # unreadable images in one message


@dataclass(frozen=True)
class TestImage:
    """An image whose label is known. `mask` is None for a good image, and for a defect that was not outlined."""

    __test__ = False  # not a pytest class

    path: Path
    kind: str  # "good", or the defect's name
    mask: Path | None
    mask_level: int = 127  # grey values of the mask above this one are the defect

    @property
    def is_defective(self) -> bool:
        """Whether the image shows a defect."""
        return self.kind != "good"


def good_images(data: str | Path) -> list[Path]:
    """The good training images of `data`, in natural order.

    `data` is a flat folder of good images, or has the MVTec AD layout, of which `train/good` is taken.

    Raises DatasetError when there is no such folder, or when it holds fewer than five images.
    """
    folder = existing_folder(data)
    mvtec = folder / "train" / "good"
    if not mvtec.is_dir() and (folder / "test").is_dir():
        raise DatasetError(f"{folder} has a test folder but no train/good; put the good training images there.")
    source = mvtec if mvtec.is_dir() else folder
    files = images_in(source)
    if len(files) < MINIMUM_IMAGES:
        raise DatasetError(
            f"{source} holds {len(files)} image(s) (PNG, JPEG, BMP or TIFF); training needs at least "
            f"{MINIMUM_IMAGES} good ones, and 100 or more to be trusted."
        )
    return files


def about_images_below(folder: Path) -> str | None:
    """What to tell of images below `folder`, where only those in it are taken; None where there are none."""
    try:
        below = len(find_images(folder)) - len(images_in(folder))
    except ImageError:  # a folder that may not be listed is none of ours
        return None
    lie = "image lies" if below == 1 else "images lie"
    return f"{below} {lie} in folders below {folder}; only those that lie in it are taken." if below else None


def test_images(data: str | Path) -> list[TestImage]:
    """The test images of a data set in the MVTec AD layout, with their masks.

    `test/good/*` are good, `test/KIND/NAME.*` defective, `ground_truth/KIND/NAME_mask.*` (or `NAME.*`) the mask.

    Raises DatasetError when good or defective images are missing, or when only some of a kind have masks.
    """
    folder = existing_folder(data)
    if not (folder / "test").is_dir():
        raise DatasetError(f"{folder} has no test folder: evaluation needs test/good and test/KIND.")
    images: list[TestImage] = []
    for kind in sorted(path.name for path in (folder / "test").iterdir() if path.is_dir() and path.name[0] != "."):
        files = images_in(folder / "test" / kind)
        if kind == "good":
            images += [TestImage(path, kind, None) for path in files]
            continue
        truth = folder / "ground_truth" / kind
        images += defective_images(files, kind, {_mask_owner(path): path for path in images_in(truth)}, truth)
    if not both_kinds(images):
        raise DatasetError(f"{folder / 'test'} must hold both good and defective images (test/good and test/KIND).")
    return images


def defective_images(
    files: Sequence[Path], kind: str, masks: Mapping[str, Path], truth: Path, *, mask_level: int = 127
) -> list[TestImage]:
    """Test images of one kind of defect; `masks` are by the image's name without its extension, none or all of them.

    Raises DatasetError when `truth`, where masks come from, lacks some.
    """
    without = [path.name for path in files if path.stem not in masks]
    if masks and without:
        raise DatasetError(f"{truth} has no mask for {some_of(without)}.")
    return [TestImage(path, kind, masks.get(path.stem), mask_level) for path in files]


def both_kinds(images: Sequence[TestImage]) -> bool:
    """Whether there are good and defective images, without which nothing can be measured."""
    return {image.is_defective for image in images} == {False, True}


def load_inputs(
    paths: Sequence[Path],
    size: tuple[int, int],
    resize: ResizePolicy,
    *,
    roi: Roi | None = None,
    skip_unreadable: bool = False,
) -> tuple[NDArray[np.uint8], list[Path], list[str]]:
    """Read images and bring them, or the part of them in `roi`, to the model's input.

    Returns the inputs (N, H, W, 3) uint8 RGB, the paths they came from, and a sentence for each file that was
    skipped. Without `skip_unreadable`, one DatasetError lists every unreadable file at once.
    """
    inputs, kept, problems = [], [], []
    for path in paths:
        try:
            inputs.append(to_input(crop(read_image(path), roi, path), size, resize)[0])
            kept.append(path)
        except ImageError as error:
            problems.append(str(error))
    if problems and not skip_unreadable:
        raise DatasetError(
            f"{len(problems)} of {len(paths)} images cannot be read; mend or remove them, or give "
            "--skip-unreadable:\n  " + "\n  ".join([*problems[:NAMED], *(["…"] if len(problems) > NAMED else [])])
        )
    if len(kept) < MINIMUM_IMAGES:
        raise DatasetError(f"Only {len(kept)} images can be read; training needs at least {MINIMUM_IMAGES}.")
    return np.stack(inputs), kept, problems


def read_mask(image: TestImage, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask of a test image, (H, W) bool; all False for a good one.

    Raises DatasetError when it cannot be read, or is not of the image's size.
    """
    if not image.is_defective:
        return np.zeros(shape, bool)
    if image.mask is None:
        raise DatasetError(f"{image.path} has no mask in ground_truth; pixel metrics need one.")
    try:
        mask = read_image(image.mask).max(axis=2)
    except ImageError as error:
        raise DatasetError(f"The mask of {image.path} must be an image of its size. {error}") from error
    if mask.shape != shape:
        measures = f"measures {mask.shape[1]}×{mask.shape[0]} pixels"
        raise DatasetError(f"The mask {image.mask} {measures}; it must be an image of {shape[1]}×{shape[0]} pixels.")
    return np.asarray(mask > image.mask_level)


def existing_folder(data: str | Path) -> Path:
    """`data` as a Path. Raises DatasetError when it is no folder."""
    folder = Path(data)
    if not folder.is_dir():
        raise DatasetError(f"{folder} is {'not a folder' if folder.exists() else 'missing'}; give a folder of images.")
    return folder


def images_in(folder: Path) -> list[Path]:
    """The images in `folder`, not below it, in natural order; none where there is no such folder."""
    return find_images(folder, recursive=False) if folder.is_dir() else []


def _mask_owner(path: Path) -> str:
    return path.stem.removesuffix("_mask")


def some_of(names: Sequence[str], most: int = 5) -> str:
    """`names` for a sentence: the first few, and how many more."""
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
