"""What a detector takes besides paths and arrays, and what it says of all else: how to make an image of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from rstpm_edge import Detector
from rstpm_edge.errors import ImageError

Image = pytest.importorskip("PIL.Image")


@pytest.fixture
def photo() -> np.ndarray[Any, Any]:
    """Of colours that tell the channels' order: a reddish part, BGR."""
    image = np.full((60, 80, 3), (40, 120, 200), np.uint8)
    image[20:30, 30:50] = (250, 10, 60)
    return image


def test_bytes_are_decoded_as_a_file_is(detector: Detector, tmp_path: Path, photo: Any) -> None:
    for suffix in (".png", ".jpg", ".bmp", ".tiff"):
        path = tmp_path / f"photo{suffix}"
        cv2.imwrite(str(path), photo)
        expected = detector(path)
        for content in (path.read_bytes(), bytearray(path.read_bytes()), memoryview(path.read_bytes())):
            assert detector(content).score == expected.score
    with pytest.raises(ImageError, match=r"^Cannot read the image: "):
        detector(b"no image")
    with pytest.raises(ImageError, match=r"^Cannot read the image: "):
        detector(b"")
    with pytest.raises(ImageError, match=r"^Cannot read the image: "):
        detector((tmp_path / "photo.png").read_bytes()[:-40])


@pytest.mark.parametrize("channels", ["bgr", "rgb"])
def test_pictures_of_pil_know_their_channels(model: Path, photo: Any, channels: Any) -> None:
    detector = Detector(model, threads=1, channels=channels)
    expected = Detector(model, threads=1)(photo)
    picture = Image.fromarray(photo[:, :, ::-1])
    assert detector(picture).score == expected.score
    np.testing.assert_array_equal(detector(picture).anomaly_map, expected.anomaly_map)
    transparent = picture.convert("RGBA")
    transparent.putalpha(7)
    assert detector(transparent).score == expected.score
    grey = picture.convert("L")
    assert detector(grey).score == detector(np.asarray(grey)).score
    deep = np.full((60, 80), 40000, np.uint16)
    assert detector(Image.fromarray(deep)).score == detector(deep).score
    assert [result.score for result in detector.predict_batch([picture, grey])] == [
        expected.score,
        detector(grey).score,
    ]


@pytest.mark.parametrize("mode", ["1", "P", "CMYK", "YCbCr", "LA", "I", "F", "HSV"])
def test_other_modes_are_refused_with_the_way_out(detector: Detector, photo: Any, mode: str) -> None:
    picture = Image.fromarray(photo[:, :, ::-1]).convert("L" if mode in ("I", "F", "LA", "1") else "RGB").convert(mode)
    with pytest.raises(ImageError, match=rf"in the mode {mode}: give image\.convert\('RGB'\)\.$"):
        detector(picture)


def test_a_picture_that_lies_on_its_side(detector: Detector, tmp_path: Path, photo: Any) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(photo[:, :, ::-1]).save(tmp_path / "turned.jpg", exif=exif)
    with Image.open(tmp_path / "turned.jpg") as picture:
        with pytest.raises(ImageError, match=r"exif_transpose"):
            detector(picture)
        from PIL import ImageOps

        upright = ImageOps.exif_transpose(picture)
    assert detector(upright).image_size == detector(tmp_path / "turned.jpg").image_size == (80, 60)


class Tensor:
    """As torch's, without torch."""

    def detach(self) -> None: ...

    def cpu(self) -> None: ...

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.zeros((3, 8, 8), np.float32)


class Arrayed:
    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.zeros((8, 8), np.uint8)


@pytest.mark.parametrize(
    ("image", "how"),
    [
        (Tensor(), "permute(1, 2, 0)"),
        (Arrayed(), "numpy.asarray(image)"),
        ([[1, 2], [3, 4]], "numpy.array(image, numpy.uint8)"),
        ((1, 2), "numpy.array(image, numpy.uint8)"),
        (np.zeros((8, 8, 3), np.float32), "(255 * image).round().astype(numpy.uint8)"),
        (np.zeros((8, 8), np.float64), "(255 * image).round().astype(numpy.uint8)"),
        (np.zeros((3, 60, 80), np.uint8), "image.transpose(1, 2, 0)"),
        (np.zeros((1, 60, 80), np.uint8), "image.transpose(1, 2, 0)"),
        (None, "but the image is NoneType."),
        (7, "but the image is int."),
    ],
)
def test_what_is_no_image_is_told_how_to_become_one(detector: Detector, image: Any, how: str) -> None:
    with pytest.raises(ImageError) as error:
        detector(image)
    assert how in str(error.value)
    assert "\n" not in str(error.value)


def test_what_is_advised_works(detector: Detector, photo: Any) -> None:
    expected = detector(photo).score
    floats = (photo / 255).astype(np.float32)
    assert detector((255 * floats).round().astype(np.uint8)).score == expected
    assert detector(np.ascontiguousarray(photo.transpose(2, 0, 1)).transpose(1, 2, 0)).score == expected


@pytest.mark.training
def test_a_tensor_is_told_its_way(detector: Detector, photo: Any) -> None:
    import torch

    tensor = torch.from_numpy(photo).permute(2, 0, 1) / 255
    with pytest.raises(ImageError, match="Tensor"):
        detector(tensor)  # type: ignore[arg-type]
    array = (255 * tensor).round().byte().permute(1, 2, 0).cpu().numpy()
    assert detector(array).score == detector(photo).score
