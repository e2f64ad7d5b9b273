"""Folders of images: which files there are, which are good, and where a defect's mask lies."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rstpm_edge.errors import DatasetError, ImageError
from rstpm_edge.image.decode import read_stored
from rstpm_edge.image.listing import find_images, image_stem, list_folder
from rstpm_edge.image.mask import black_and_white, one_channel
from rstpm_edge.image.placement import Placement, ResizePolicy
from rstpm_edge.image.preprocess import InputFormat
from rstpm_edge.image.roi import Roi

MINIMUM_IMAGES = 5  # four to learn from and one to calibrate on: enough to try, far too few to trust
# Shown a photo as it is stored (BGR), what became of it at the model's input, and where it lies there.
Seen: TypeAlias = Callable[[NDArray[Any], NDArray[np.uint8], Placement], None]
HALF = 127  # grey level between the black and the white of a mask
NAMED = 10  # unreadable images in one message


@dataclass(frozen=True)
class TestImage:
    """An image whose label is known. `mask` is None for a good image, and for a defect that has no mask."""

    __test__ = False  # not a pytest class

    path: Path
    kind: str  # "good", or the defect's name
    mask: Path | None
    mask_level: int = HALF  # grey values of the mask above this one are the defect

    @property
    def is_defective(self) -> bool:
        """Whether the image shows a defect."""
        return self.kind != "good"


def good_images(data: str | Path, *, below: bool = False) -> list[Path]:
    """The good training images of `data`, in natural order.

    `data` is a flat folder of good images, or has the MVTec AD layout, of which `train/good` is taken. With `below`,
    images in folders below it are taken, too.

    Raises DatasetError when there is no such folder, or when it holds fewer than five images.
    """
    folder = existing_folder(data)
    source = training_folder(folder)
    if source == folder and (folder / "test").is_dir():
        raise DatasetError(f"{folder} has a test folder but no train/good; put the good training images there.")
    files = find_images(source, recursive=True) if below else images_in(source)
    if len(files) < MINIMUM_IMAGES:
        about = list_folder(source, recursive=False).about_left_out()
        raise DatasetError(
            f"{source} holds {len(files)} image(s){f', {about}' if about else ''}; training needs at least "
            f"{MINIMUM_IMAGES} good ones, and 100 or more to be trusted."
        )
    return files


def training_folder(data: str | Path) -> Path:
    """Where the good images of `data` lie: train/good of the MVTec AD layout, else `data` itself."""
    mvtec = Path(data) / "train" / "good"
    return mvtec if mvtec.is_dir() else Path(data)


def about_left_out(*folders: Path) -> list[str]:
    """What to tell of files in `folders` that are not taken, and of images below them, where only those in it are."""
    told: list[str] = []
    for folder in filter(Path.is_dir, folders):
        try:
            listing = list_folder(folder, recursive=False)
            if note := listing.note():
                told.append(note)
            below = len(find_images(folder)) - len(listing.images)
        except ImageError:  # a folder that may not be listed is none of ours
            continue
        if below > 0:
            lie = "image lies" if below == 1 else "images lie"
            told.append(f"{below} {lie} in folders below {folder}; only those that lie in it are taken.")
    return told


def about_training_folder(data: str | Path) -> list[str]:
    """What to tell of files in the folder of `good_images` that it does not take."""
    return about_left_out(training_folder(data))


def about_test_folders(data: str | Path) -> list[str]:
    """What to tell of files that `test_images` does not take, and of masks that belong to none of its images."""
    test, told = Path(data) / "test", []
    if loose := images_in(test):
        lie = "image lies" if len(loose) == 1 else "images lie"
        told.append(f"{len(loose)} {lie} in {test} itself; only those in folders such as {test / 'good'} are taken.")
    for kind in _kinds(test):
        truth = Path(data) / "ground_truth" / kind
        told += about_left_out(test / kind, truth)
        stems = {image_stem(path) for path in images_in(test / kind)}
        if spare := [path.name for path in images_in(truth) if _mask_owner(path) not in stems]:
            belong = "mask belongs" if len(spare) == 1 else "masks belong"
            told.append(f"{len(spare)} {belong} to no image in {test / kind}: {some_of(spare)} in {truth}.")
    return told


class MissingMasks(DatasetError):
    """Some defective images of a kind have masks, and others have none."""


def test_images(data: str | Path, *, skip_unmasked: bool = False) -> list[TestImage]:  # noqa: PT028
    """The test images of a data set in the MVTec AD layout, with their masks.

    `test/good/*` are good, `test/KIND/NAME.*` defective, `ground_truth/KIND/NAME_mask.*` (or `NAME.*`) the mask.

    `skip_unmasked` takes images without a mask, too, where others of their kind have one.

    Raises DatasetError when good or defective images are missing, or, naming all of them, when only some of a kind have
    masks.
    """
    folder = existing_folder(data)
    if not (folder / "test").is_dir():
        raise DatasetError(f"{folder} has no test folder: evaluation needs test/good and test/KIND.")
    images: list[TestImage] = []
    missing: list[str] = []
    for kind in _kinds(folder / "test"):
        files = images_in(folder / "test" / kind)
        if kind == "good":
            images += [TestImage(path, kind, None) for path in files]
            continue
        truth = folder / "ground_truth" / kind
        masks = {_mask_owner(path): path for path in images_in(truth)}
        missing += _without_mask(files, masks, truth)
        images += [TestImage(path, kind, masks.get(image_stem(path))) for path in files]
    if missing and not skip_unmasked:
        raise MissingMasks(f"{'; '.join(missing)}.")
    if not both_kinds(images):
        raise DatasetError(f"{folder / 'test'} must hold both good and defective images (test/good and test/KIND).")
    return images


def defective_images(
    files: Sequence[Path], kind: str, masks: Mapping[str, Path], truth: Path, *, mask_level: int = HALF
) -> list[TestImage]:
    """Test images of one kind of defect; `masks` are by the image's name without its extension, none or all of them.

    Raises DatasetError when `truth`, where masks come from, lacks some.
    """
    if missing := _without_mask(files, masks, truth):
        raise MissingMasks(f"{missing[0]}.")
    return [TestImage(path, kind, masks.get(image_stem(path)), mask_level) for path in files]


def _without_mask(files: Sequence[Path], masks: Mapping[str, Path], truth: Path) -> list[str]:
    """What to tell of images of a kind that have none, where others have; all of them, so that they can be made."""
    without = [path.name for path in files if image_stem(path) not in masks]
    return [f"{truth} has no mask for {', '.join(without)}"] if masks and without else []


def both_kinds(images: Sequence[TestImage]) -> bool:
    """Whether there are good and defective images, without which nothing can be measured."""
    return {image.is_defective for image in images} == {False, True}


def ignore(photo: NDArray[Any], inputs: NDArray[np.uint8], placement: Placement) -> None:
    """The `Seen` that does nothing."""


def load_inputs(
    paths: Sequence[Path],
    size: tuple[int, int],
    resize: ResizePolicy,
    *,
    roi: Roi | None = None,
    skip_unreadable: bool = False,
    bits: int = 16,
    least: int = MINIMUM_IMAGES,
    seen: Seen = ignore,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[NDArray[np.uint8], list[Path], list[str]]:
    """Read images and bring them, or the part of them in `roi`, to the model's input.

    Returns the inputs (N, H, W, 3) uint8 RGB, the paths they came from, and a sentence for each file that was
    skipped. Without `skip_unreadable`, one DatasetError lists every unreadable file at once; fewer images than `least`
    are one, too. `bits` is the range of 16-bit values. `seen` is shown each photo as it is stored (BGR), and its input
    with the place that it has there. `progress` is called with the number of files done.
    """
    inputs, kept, problems = [], [], []
    model_input = InputFormat(size, resize, bits)
    for done, path in enumerate(paths, 1):
        try:
            photo = read_stored(path)
            taken, grid = model_input.prepare(photo, roi, path, channels="bgr")
        except ImageError as error:
            problems.append(str(error))
        else:
            seen(photo, taken, grid.placement)
            inputs.append(taken)
            kept.append(path)
        progress(done)
    if problems and not skip_unreadable:
        raise DatasetError(
            f"{len(problems)} of {len(paths)} images cannot be read; mend or remove them, or give "
            "`skip_unreadable`:\n  " + "\n  ".join([*problems[:NAMED], *(["…"] if len(problems) > NAMED else [])])
        )
    if len(kept) < least:
        raise DatasetError(f"Only {len(kept)} images can be read; training needs at least {least}.")
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
        stored = read_stored(image.mask)
    except ImageError as error:
        raise DatasetError(f"The mask of {image.path} must be an image of its size. {error}") from error
    mask = stored.max(axis=2)
    if mask.shape != shape:
        measures = f"measures {mask.shape[1]}×{mask.shape[0]} pixels"
        raise DatasetError(f"The mask {image.mask} {measures}; it must be an image of {shape[1]}×{shape[0]} pixels.")
    if image.mask_level != HALF:  # a data set whose masks are drawn in numbers
        return np.asarray(mask > image.mask_level)
    try:
        return black_and_white(one_channel(stored))
    except ImageError as error:
        raise DatasetError(f"The mask {image.mask} cannot be used. {error}") from error


def existing_folder(data: str | Path) -> Path:
    """`data` as a Path. Raises DatasetError when it is no folder."""
    folder = Path(data)
    if not folder.is_dir():
        raise DatasetError(f"{folder} is {'not a folder' if folder.exists() else 'missing'}; give a folder of images.")
    return folder


def images_in(folder: Path) -> list[Path]:
    """The images in `folder`, not below it, in natural order; none where there is no such folder."""
    return find_images(folder, recursive=False) if folder.is_dir() else []


def _kinds(test: Path) -> list[str]:
    return sorted(path.name for path in test.iterdir() if path.is_dir() and path.name[0] != ".")


def _mask_owner(path: Path) -> str:
    return image_stem(path).removesuffix("_mask")


def some_of(names: Sequence[str], most: int = 5) -> str:
    """`names` for a sentence: the first few, and how many more."""
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
