"""Reading files, converting arrays, and resizing to the model's input."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from rstpm_edge.errors import ImageError
from rstpm_edge.image.decode import read_image
from rstpm_edge.image.listing import find_images
from rstpm_edge.image.preprocess import PADDING, InputFormat, to_input, to_rgb

FORMATS = (".png", ".jpg", ".bmp", ".tif")


def noise(*shape: int, dtype: Any = np.uint8) -> NDArray[Any]:
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)


def encode(extension: str, image: NDArray[Any]) -> bytes:
    return cv2.imencode(extension, image)[1].tobytes()


def save(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


# Files that are fine


@pytest.mark.parametrize("extension", [".png", ".bmp", ".tif", ".tiff"])
def test_lossless_files_read_as_rgb(tmp_path: Path, extension: str) -> None:
    bgr = noise(30, 41, 3)
    path = save(tmp_path / f"image{extension}", encode(extension, bgr))
    np.testing.assert_array_equal(read_image(path), bgr[..., ::-1])
    np.testing.assert_array_equal(read_image(str(path)), bgr[..., ::-1])


def test_files_can_be_read_in_opencv_order(tmp_path: Path) -> None:
    for name, image in (("a.png", noise(30, 41, 3)), ("b.jpg", noise(30, 41)), ("c.png", noise(9, 9, 4))):
        path = save(tmp_path / name, encode(name[1:], image))
        np.testing.assert_array_equal(read_image(path, channels="bgr"), read_image(path)[..., ::-1])


def test_jpeg_reads_as_rgb(tmp_path: Path) -> None:
    bgr = np.full((32, 32, 3), (200, 100, 50), np.uint8)
    rgb = read_image(save(tmp_path / "image.jpg", encode(".jpg", bgr)))
    assert np.abs(rgb[16, 16].astype(int) - (50, 100, 200)).max() <= 3


def test_grey_becomes_three_equal_channels(tmp_path: Path) -> None:
    grey = noise(30, 41)
    np.testing.assert_array_equal(
        read_image(save(tmp_path / "image.png", encode(".png", grey))), np.stack([grey] * 3, -1)
    )


@pytest.mark.parametrize("extension", [".png", ".tif"])
@pytest.mark.parametrize("shape", [(30, 41), (30, 41, 3)])
def test_sixteen_bits_are_scaled_to_eight(tmp_path: Path, extension: str, shape: tuple[int, ...]) -> None:
    deep = noise(*shape, dtype=np.uint16)
    deep[0, 0], deep[0, 1] = 0, 65535
    image = read_image(save(tmp_path / f"image{extension}", encode(extension, deep)))
    expected = np.rint(deep / 257)
    expected = np.stack([expected] * 3, -1) if deep.ndim == 2 else expected[..., ::-1]
    np.testing.assert_array_equal(image, expected)


def test_alpha_is_dropped_not_blended(tmp_path: Path) -> None:
    bgra = noise(30, 41, 4)
    image = read_image(save(tmp_path / "image.png", encode(".png", bgra)))
    np.testing.assert_array_equal(image, bgra[..., 2::-1])


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    image = np.zeros((40, 60), np.uint8)
    image[:20, :20] = 255  # top left; "rotate by 90° clockwise to view" (6) puts it top right
    jpeg = encode(".jpg", image)
    tiff = b"MM\0*\0\0\0\x08" + struct.pack(">HHHIHHI", 1, 0x0112, 3, 1, 6, 0, 0)
    app1 = b"\xff\xe1" + struct.pack(">H", 2 + 6 + len(tiff)) + b"Exif\0\0" + tiff
    turned = read_image(save(tmp_path / "image.jpg", jpeg[:2] + app1 + jpeg[2:]))
    assert turned.shape == (60, 40, 3)
    assert turned[5, 35, 0] > 250 > 5 > turned[5, 5, 0]


def test_bmp_variants(tmp_path: Path) -> None:
    grey = noise(7, 5)
    upside_down = bytearray(encode(".bmp", grey[::-1]))
    struct.pack_into("<i", upside_down, 22, -7)  # a negative height: rows from the top
    struct.pack_into("<I", upside_down, 2, 0)  # the file size in the header is often wrong
    np.testing.assert_array_equal(read_image(save(tmp_path / "a.bmp", bytes(upside_down)))[..., 0], grey)


def test_bytes_after_a_jpeg_do_no_harm(tmp_path: Path) -> None:
    path = save(tmp_path / "image.jpg", encode(".jpg", noise(30, 41)) + bytes(10_000))
    assert read_image(path).shape == (30, 41, 3)


# Files that are not


@pytest.mark.parametrize("extension", FORMATS)
@pytest.mark.parametrize("part", [0.001, 0.01, 0.1, 0.5, 0.9, 0.999])
def test_truncated_files(tmp_path: Path, extension: str, part: float) -> None:
    content = encode(extension, noise(64, 80, 3))
    path = save(tmp_path / f"image{extension}", content[: int(len(content) * part)])
    with pytest.raises(ImageError, match=rf"^Cannot read {path}: .*(truncated|damaged|empty|not a PNG).*\.$"):
        read_image(path)


@pytest.mark.parametrize("extension", [".png", ".jpg", ".bmp"])
def test_files_that_lack_their_last_bytes(tmp_path: Path, extension: str) -> None:
    path = save(tmp_path / f"image{extension}", encode(extension, noise(64, 80, 3))[:-2])
    with pytest.raises(ImageError, match="truncated"):
        read_image(path)


def test_a_thumbnail_does_not_hide_that_a_jpeg_is_truncated(tmp_path: Path) -> None:
    jpeg, thumbnail = encode(".jpg", noise(64, 80)), encode(".jpg", noise(8, 8))
    app1 = b"\xff\xe1" + struct.pack(">H", 2 + len(thumbnail)) + thumbnail
    path = save(tmp_path / "image.jpg", (jpeg[:2] + app1 + jpeg[2:])[:-100])
    with pytest.raises(ImageError, match="truncated"):
        read_image(path)


def test_a_flipped_bit_in_a_png(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    content = bytearray(encode(".png", noise(64, 80)))
    content[len(content) // 2] ^= 1
    with pytest.raises(ImageError, match="damaged"):
        read_image(save(tmp_path / "image.png", bytes(content)))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"just some text\n" * 50, "not a PNG, JPEG, BMP or TIFF"),
        (b"GIF89a" + bytes(100), "not a PNG, JPEG, BMP or TIFF"),
        (b"\xff\xd8\xff" + bytes(100), "truncated"),
        (b"\xff\xd8" + b"\xff" * 1000, "truncated"),
        (b"BM" + bytes(10), "truncated"),
        (b"II*\0" + b"\xff" * 20, "truncated"),
    ],
)
def test_other_content(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        read_image(save(tmp_path / "image.jpg", content))


def test_a_huge_png_is_refused_by_its_header(tmp_path: Path, huge_png: bytes) -> None:
    with pytest.raises(ImageError, match="60000×60000 pixels; at least one and at most 268,435,456"):
        read_image(save(tmp_path / "image.png", huge_png))


def test_huge_files_of_other_types(tmp_path: Path) -> None:
    bmp = bytearray(encode(".bmp", noise(4, 4)))
    struct.pack_into("<ii", bmp, 18, 60000, -60000)
    tiff = b"II*\0\x08\0\0\0" + struct.pack("<HHHIIHHII", 2, 256, 4, 1, 60000, 257, 4, 1, 60000)
    jpeg = bytearray(encode(".jpg", noise(4, 4)))
    frame = jpeg.index(b"\xff\xc0")
    struct.pack_into(">HH", jpeg, frame + 5, 60000, 60000)
    for content in (bmp, tiff, jpeg):
        with pytest.raises(ImageError, match="60000×60000"):
            read_image(save(tmp_path / "image", bytes(content)))


def test_a_float_tiff_is_refused(tmp_path: Path) -> None:
    for shape in ((4, 4), (4, 4, 3)):
        path = save(tmp_path / "image.tif", encode(".tif", np.zeros(shape, np.float32)))
        with pytest.raises(
            ImageError, match=r"image\.tif( is float32|: it is .* OpenCV does not decode|: its compression)"
        ):
            read_image(path)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"Cannot read .*none\.png: No such file or directory\."):
        read_image(tmp_path / "none.png")
    with pytest.raises(ImageError, match="Is a directory"):
        read_image(tmp_path)
    with pytest.raises(ImageError, match="the name has a null byte"):
        read_image("a\0b.png")


# Arrays


@pytest.mark.parametrize("channels", ["bgr", "rgb"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("depth", [None, 1, 3, 4])
def test_arrays(channels: Any, dtype: Any, depth: int | None) -> None:
    image = noise(30, 41, *([] if depth is None else [depth]), dtype=dtype)
    eight = image if dtype == np.uint8 else np.rint(image / 257).astype(np.uint8)
    if depth in (None, 1):
        expected = np.repeat(eight.reshape(30, 41, 1), 3, axis=2)
    else:
        expected = eight[..., 2::-1] if channels == "bgr" else eight[..., :3]
    np.testing.assert_array_equal(to_rgb(image, channels), expected)


def test_views_and_read_only_arrays_are_taken() -> None:
    image = noise(60, 82, 3)
    image.flags.writeable = False
    np.testing.assert_array_equal(to_rgb(image[::2, ::-2], "rgb"), image[::2, ::-2])
    turned = image.transpose(1, 0, 2)
    np.testing.assert_array_equal(to_rgb(turned, "bgr"), turned[..., ::-1])


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4, 3)), "uint8 .* but the image is float64: convert it first"),
        (np.full((4, 4), np.nan, np.float32), "float32"),
        (np.zeros((4, 4), bool), "bool"),
        (np.zeros((4, 4), np.int16), "int16"),
        (np.zeros((4, 4), ">u2"), ">u2"),
        (np.zeros((0, 0), np.uint8), "measures 0×0 pixels"),
        (np.zeros((0, 5, 3), np.uint8), "measures 5×0 pixels"),
        (np.zeros(4, np.uint8), r"shape .* not \(4,\)"),
        (np.zeros((4, 4, 2), np.uint8), "shape"),
        (np.zeros((1, 4, 4, 3), np.uint8), "shape"),
        (np.broadcast_to(np.uint8(0), (60000, 60000)), "60000×60000"),
        ([[1, 2], [3, 4]], "but the image is list"),
        (None, "but the image is NoneType"),  # what cv2.imread gives for a missing file
    ],
)
def test_arrays_that_are_refused(image: Any, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        to_rgb(image, "bgr")


# Resizing


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 40), st.integers(1, 40))
def test_letterbox_keeps_the_aspect_ratio_and_fills_the_rest(h: int, w: int, height: int, width: int) -> None:
    image = np.full((h, w, 3), 200, np.uint8)
    pixels, placement = to_input(image, (height, width), "letterbox")
    assert pixels.shape == (height, width, 3)
    assert (pixels[placement.window] == 200).all()
    assert (pixels == 200).sum() == 3 * placement.height * placement.width
    assert set(np.unique(pixels)) <= {200, PADDING}
    assert placement.height == height or placement.width == width
    scale = min(height / h, width / w)
    assert abs(placement.height - h * scale) <= 0.5 or placement.height == 1
    assert abs(placement.width - w * scale) <= 0.5 or placement.width == 1
    assert abs(2 * placement.top + placement.height - height) <= 1  # centred
    assert abs(2 * placement.left + placement.width - width) <= 1


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 40), st.integers(1, 40))
def test_stretch_fills_the_input(h: int, w: int, height: int, width: int) -> None:
    pixels, placement = to_input(np.full((h, w, 3), 200, np.uint8), (height, width), "stretch")
    assert pixels.shape == (height, width, 3)
    assert (pixels == 200).all()
    assert placement.window == (slice(0, height), slice(0, width))


def test_fine_stripes_are_averaged_on_both_axes_also_where_one_grows() -> None:
    stripes = np.zeros((16, 128, 3), np.uint8)
    stripes[:, ::2] = 254
    pixels, _ = to_input(stripes, (32, 32), "stretch")  # rows grow, columns shrink
    assert (pixels == 127).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 40_000), (40_000, 1), (3, 70_000)])
def test_extreme_shapes(shape: tuple[int, int]) -> None:
    image = np.full((*shape, 3), 9, np.uint8)
    for policy in ("stretch", "letterbox"):
        pixels, placement = to_input(image, (64, 96), policy)  # type: ignore[arg-type]
        assert (pixels[placement.window] == 9).all()


def test_an_image_of_the_right_size_passes_unchanged() -> None:
    image = noise(64, 96, 3)
    for policy in ("stretch", "letterbox"):
        np.testing.assert_array_equal(to_input(image, (64, 96), policy)[0], image)  # type: ignore[arg-type]


# Folders


def test_images_come_in_natural_order_and_without_hidden_files(tmp_path: Path) -> None:
    visible = ("b10.png", "b9.PNG", "a/2.jpg", "a/10.jpg", "c.tiff")
    for name in (*visible, ".hidden.png", ".git/x.png", "notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    names = [str(path.relative_to(tmp_path)) for path in find_images(tmp_path)]
    assert names == ["a/2.jpg", "a/10.jpg", "b9.PNG", "b10.png", "c.tiff"]


def test_a_folder_that_cannot_be_listed(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="Cannot list the folder"):
        find_images(tmp_path / "none")


def test_a_part_of_a_photo_becomes_the_input_and_knows_where_it_lies() -> None:
    photo = np.random.default_rng(0).integers(0, 256, (90, 120, 3)).astype(np.uint8)
    row, grid = InputFormat((32, 64), "letterbox").prepare(photo, (10, 20, 40, 30), channels="bgr")
    expected, placement = to_input(photo[20:50, 10:50], (32, 64), "letterbox", channels="bgr")
    np.testing.assert_array_equal(row, expected)
    assert (grid.placement, grid.roi, grid.photo_size) == (placement, (10, 20, 40, 30), (90, 120))
    assert grid.pixel(placement.top, placement.left) == (10, 20)
    whole, grid = InputFormat((32, 64), "stretch").prepare(photo)
    np.testing.assert_array_equal(whole, to_input(photo, (32, 64), "stretch")[0])
    assert grid.roi == (0, 0, 120, 90)
    with pytest.raises(ImageError, match="reaches beyond photo 7"):
        InputFormat((32, 64), "stretch").prepare(photo, (100, 0, 40, 30), "photo 7")
