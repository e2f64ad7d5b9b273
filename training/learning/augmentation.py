"""Which copies of the photos a run learns from beside them, and in how many epochs."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rstpm_edge.image.decode import read_image
from rstpm_edge.image.roi import crop

from ..data import rotation_augmentation, shift_augmentation
from ..data.flip_augmentation import flipped_copies, with_flipped_copies
from ..data.rotation_augmentation import rotated_copies, with_rotated_copies
from ..data.shift_augmentation import lie_alike, shifted_copies, with_shifted_copies
from ..model.presets import Preset
from .options import TrainingOptions
from .run_config import RunConfig

ROTATED_EPOCHS = 2  # times as many with rotated copies: there is more to learn


def run_preset(options: TrainingOptions) -> Preset:
    """The preset of a run, with the augmentation and the epochs that `options` ask for.

    With rotated copies there are `ROTATED_EPOCHS` times as many epochs, unless `options.epochs` says how many.
    """
    preset = replace(options.preset, augmentation=options.augment or options.preset.augmentation)
    rotated = ROTATED_EPOCHS if preset.augmentation == "rotate" else 1
    return replace(preset, epochs=options.epochs or rotated * preset.epochs)


def with_rotation_aspect(config: RunConfig, photo: Path) -> RunConfig:
    """`config`, with what rotated copies need to know: how `photo`, one of those to learn from, fills the input."""
    if config.preset.augmentation != "rotate":
        return config
    if config.resize == "letterbox":
        return replace(config, rotation_aspect=1.0)
    height, width = crop(read_image(photo), config.roi, photo).shape[:2]
    return replace(config, rotation_aspect=float((width / config.width) / (height / config.height)))


def with_decided_augmentation(config: RunConfig, photos: NDArray[np.uint8]) -> tuple[RunConfig, str | None]:
    """`config` with shifted copies or none in the place of "auto", as `photos` (N, H, W, 3), those to learn from, ask.

    And what to say of it where so many photos would have copies.
    """
    if config.preset.augmentation != "auto":
        return config, None
    if not shifted_copies(len(photos)):
        alike, sentence = False, None
    elif alike := lie_alike(photos):
        sentence = "Parts lie alike in these photos, and photos are few: students learn from shifted copies, too."
    else:
        sentence = "Parts do not lie alike in these photos: students learn from them alone, not from shifted copies."
    preset = replace(config.preset, augmentation="shift" if alike else "none")
    return replace(config, preset=preset), sentence


def with_copies(config: RunConfig, photos: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """`photos` (N, H, W, 3), and after all of them their copies, in the same order, as often as it takes."""
    match config.preset.augmentation:
        case "auto":
            raise ValueError("which copies there are is to be decided before")
        case "none":
            return photos
        case "shift":
            return with_shifted_copies(photos, config.seed)
        case "rotate":
            assert config.rotation_aspect is not None
            return with_rotated_copies(photos, config.rotation_aspect, config.seed)
        case "flip":
            return with_flipped_copies(photos, config.seed)


def versions(preset: Preset, photos: int) -> int:
    """How many images `with_copies` gives of each of so many photos, at most: itself, and its copies."""
    copies = {
        "auto": shifted_copies(photos),
        "none": 0,
        "shift": shifted_copies(photos),
        "rotate": rotated_copies(photos),
        "flip": flipped_copies(photos),
    }
    return 1 + copies[preset.augmentation]


def about_missing_copies(options: TrainingOptions, photos: int) -> str | None:
    """What to say where somebody asks for copies, and there are too few or too many photos for any."""
    if options.augment in (None, "auto", "none") or versions(run_preset(options), photos) > 1:
        return None
    few, many = shift_augmentation.FEWEST, shift_augmentation.ENOUGH // 2
    if options.augment == "rotate":
        few, many = 1, rotation_augmentation.ENOUGH // 2
    return (
        f"`augment={options.augment}` makes no copies here: it is for {few} to {many} photos to learn from, and there "
        f"are {photos}."
    )
