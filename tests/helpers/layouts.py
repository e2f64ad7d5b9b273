"""Miniatures of public data sets, each in the layout in which it is published: grey parts, some with a white spot."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

TRAIN, GOOD, BAD = 6, 2, 2  # images of each category


def put_good(path: Path) -> Path:
    """A grey part, 64×80, with noise that follows from its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(list(path.as_posix()[-30:].encode())).integers(-20, 21, (64, 80, 3))
    assert cv2.imwrite(str(path), (127 + noise).astype(np.uint8))
    return path


def put_bad(path: Path, mask: Path | None, value: int = 255) -> Path:
    """The same with a white spot, which the mask shows with `value`."""
    image = cv2.imread(str(put_good(path)))
    assert image is not None
    image[20:40, 30:60] = 255
    assert cv2.imwrite(str(path), image)
    if mask is not None:
        drawn: NDArray[Any] = np.zeros((64, 80), np.uint8)
        drawn[20:40, 30:60] = value
        mask.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(mask), drawn)
    return path


def mvtec(root: Path, *names: str) -> Path:
    for name in names or ("bottle", "cable"):
        for i in range(TRAIN):
            put_good(root / name / "train" / "good" / f"{i:03}.png")
        for i in range(GOOD):
            put_good(root / name / "test" / "good" / f"{i:03}.png")
        for i in range(BAD):
            mask = root / name / "ground_truth" / "spot" / f"{i:03}_mask.png"
            put_bad(root / name / "test" / "spot" / f"{i:03}.png", mask)
    (root / "license.txt").write_text("")
    return root


def folder(root: Path) -> Path:
    """One category, by itself."""
    return mvtec(root, "bottle") / "bottle"


def btad(root: Path) -> Path:
    for name, image, mask in (("01", "bmp", "png"), ("02", "png", "png"), ("03", "bmp", "bmp")):
        for i in range(TRAIN):
            put_good(root / name / "train" / "ok" / f"{i:04}.{image}")
        for i in range(GOOD):
            put_good(root / name / "test" / "ok" / f"{i:04}.{image}")
        for i in range(BAD):
            put_bad(
                root / name / "test" / "ko" / f"{i:04}.{image}", root / name / "ground_truth" / "ko" / f"{i:04}.{mask}"
            )
    return root


def visa(root: Path) -> Path:
    """Masks hold small numbers, not 255, and the split is not that of the folders."""
    rows = []
    for name in ("candle", "pcb1"):
        normal = [put_good(root / name / "Data" / "Images" / "Normal" / f"{i:04}.JPG") for i in range(TRAIN + GOOD)]
        for i, path in enumerate(normal[::-1]):
            rows.append((name, "train" if i < TRAIN else "test", "normal", path.relative_to(root).as_posix(), ""))
        for i in range(BAD):
            mask = root / name / "Data" / "Masks" / "Anomaly" / f"{i:03}.png"
            path = put_bad(root / name / "Data" / "Images" / "Anomaly" / f"{i:03}.JPG", mask, value=1 + i)
            rows.append((name, "test", "anomaly", path.relative_to(root).as_posix(), mask.relative_to(root).as_posix()))
    write_visa_split(root, rows)
    return root


def write_visa_split(root: Path, rows: list[Any]) -> Path:
    path = root / "split_csv" / "1cls.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([("object", "split", "label", "image", "mask"), *rows])
    return path


def mtd(root: Path) -> Path:
    for i in range(TRAIN + GOOD):
        path = put_good(root / "MT_Free" / "Imgs" / f"exp1_num_{100 + i}.jpg")
        assert cv2.imwrite(str(path.with_suffix(".png")), np.zeros((64, 80), np.uint8))  # as it is published
    for kind in ("Blowhole", "Crack"):
        path = root / f"MT_{kind}" / "Imgs" / "exp1_num_7.jpg"
        put_bad(path, path.with_suffix(".png"))
    (root / "README.md").write_text("")
    return root


MINIATURES: dict[str, Callable[[Path], Path]] = {
    "mvtec": mvtec,
    "visa": visa,
    "btad": btad,
    "mtd": mtd,
    "folder": folder,
}
