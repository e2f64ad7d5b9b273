"""The resize kernels against a reference in exact fractions and against OpenCV, every kernel that there is here."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rstpm_edge import _native
from rstpm_edge.errors import ImageError
from rstpm_edge.image.preprocess import PADDING, THREADED_PIXELS, to_input, to_rgb
from rstpm_edge.native import kernels

KERNELS = kernels().available
Image = NDArray[np.uint8]

each_kernel = pytest.mark.parametrize("kernel", KERNELS)
side = st.one_of(st.integers(1, 90), st.sampled_from([1, 2, 15, 16, 17, 32, 64, 300, 700]))


def noise(*shape: int, seed: int = 0, dtype: Any = np.uint8) -> NDArray[Any]:
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)


def resize_matrix(sources: int, outputs: int) -> NDArray[np.float64]:
    """(outputs, sources): the mean of what lies under an output, or linear interpolation where there are more."""
    matrix = np.zeros((outputs, sources))
    for i in range(outputs):
        if sources >= outputs:
            low, high = Fraction(i * sources, outputs), Fraction((i + 1) * sources, outputs)
            for j in range(int(low), min(int(high) + 1, sources)):
                matrix[i, j] = (min(high, j + 1) - max(low, j)) / (high - low)
        else:
            position = Fraction((2 * i + 1) * sources, 2 * outputs) - Fraction(1, 2)
            position = min(max(position, Fraction(0)), Fraction(sources - 1))
            j = int(position)
            matrix[i, j] += 1 - float(position - j)
            matrix[i, min(j + 1, sources - 1)] += float(position - j)
    return matrix


def colours(image: Image, bgr: bool) -> Image:
    if image.shape[2] == 1:
        return np.repeat(image, 3, axis=2)
    return image[..., 2::-1] if bgr else image[..., :3]


def reference(image: Image, height: int, width: int, bgr: bool) -> NDArray[np.float64]:
    """Not rounded."""
    down = resize_matrix(image.shape[0], height) @ colours(image, bgr).transpose(2, 0, 1)
    return (down @ resize_matrix(image.shape[1], width).T).transpose(1, 2, 0)


def resize(
    image: Image, height: int, width: int, bgr: bool = False, threads: int = 1, kernel: str | None = None
) -> Image:
    """Into a window of a larger array, of which nothing else may change."""
    canvas = np.full((height + 2, width + 5, 3), 77, np.uint8)
    window = canvas[1:-1, 2:-3]
    ran = _native.resize(image, window, bgr, threads, kernel)
    assert ran == (kernel or kernels().active)
    result = window.copy()
    window[...] = 77
    assert (canvas == 77).all()
    return result


@settings(max_examples=300, deadline=None)
@given(
    shape=st.tuples(side, side),
    size=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    channels=st.sampled_from([1, 3, 4]),
    bgr=st.booleans(),
    threads=st.integers(1, 3),
    seed=st.integers(0, 2**16),
)
def test_agrees_with_the_reference(
    shape: tuple[int, int], size: tuple[int, int], channels: int, bgr: bool, threads: int, seed: int
) -> None:
    image = noise(*shape, channels, seed=seed)
    if seed % 3 == 0:
        image = np.where(image > 127, 255, 0).astype(np.uint8)
    expected = reference(image, *size, bgr)
    results = [resize(image, *size, bgr, threads if kernel == KERNELS[-1] else 1, kernel) for kernel in KERNELS]
    assert np.abs(results[0] - expected).max() <= 0.5 + 1e-9
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])  # not only close


@each_kernel
@pytest.mark.parametrize(
    "shape", [(480, 640), (1080, 1920), (256, 256), (100, 1000), (1000, 100), (129, 2049), (31, 47)]
)
@pytest.mark.parametrize("size", [(256, 256), (192, 256)])
def test_agrees_with_opencv(kernel: str, shape: tuple[int, int], size: tuple[int, int]) -> None:
    image = noise(*shape, 3)
    shrunk = (min(size[1], shape[1]), min(size[0], shape[0]))
    expected = cv2.resize(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), shrunk, interpolation=cv2.INTER_AREA)
    expected = cv2.resize(expected, size[::-1], interpolation=cv2.INTER_LINEAR)
    twice_rounded = shrunk not in (shape[::-1], size[::-1])
    difference = np.abs(resize(image, *size, bgr=True, kernel=kernel).astype(int) - expected)
    assert difference.max() <= (2 if twice_rounded else 1)


@each_kernel
def test_halves_are_rounded_up(kernel: str) -> None:
    image = np.array([[0, 1, 254, 255, 10, 11, 3, 3]], np.uint8)[..., None]
    np.testing.assert_array_equal(resize(image, 1, 4, kernel=kernel)[0, :, 0], [1, 255, 11, 3])
    # A divisor whose reciprocal is no binary fraction: 3 of 6 pixels are one brighter.
    image = np.array([[7, 8, 7, 8, 7, 8]] * 6, np.uint8)[..., None]
    np.testing.assert_array_equal(resize(image, 1, 1, kernel=kernel), [[[8, 8, 8]]])


@each_kernel
@pytest.mark.parametrize("shape", [(1, 3_000_000), (3_000_000, 1), (1 << 23, 1), (1, 1 << 23), (40_001, 251)])
@pytest.mark.parametrize("channels", [1, 3])
def test_long_images_do_not_overflow(kernel: str, shape: tuple[int, int], channels: int) -> None:
    image = np.full((*shape, channels), 255, np.uint8)
    assert (resize(image, 7, 13, kernel=kernel) == 255).all()
    half = image[:, : shape[1] // 2] if shape[1] > 1 else image[: shape[0] // 2]
    half[...] = 0
    assert abs(resize(image, 1, 1, kernel=kernel)[0, 0, 0].astype(float) - 127.5) <= 1


@each_kernel
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("width", [1, 2, 5, 6, 7, 15, 16, 17, 21, 256])
def test_the_same_size_is_copied(kernel: str, channels: int, width: int) -> None:
    image = noise(9, width, channels)
    for bgr in (False, True):
        np.testing.assert_array_equal(resize(image, 9, width, bgr, kernel=kernel), colours(image, bgr))


@each_kernel
def test_nothing_outside_the_image_is_read(kernel: str) -> None:
    """The last row ends where the memory does; and what lies between rows has no influence."""
    canvas = noise(40, 100, 3)
    for size in [(40, 60), (20, 30), (64, 90)]:
        first = resize(canvas[:, 40:], *size, kernel=kernel)
        canvas[:, :40] = noise(40, 40, 3, seed=1)
        np.testing.assert_array_equal(resize(canvas[:, 40:], *size, kernel=kernel), first)
        np.testing.assert_array_equal(resize(canvas[:, 40:].copy(), *size, kernel=kernel), first)
        np.testing.assert_array_equal(
            resize(canvas[::-1, 40:], *size, kernel=kernel), resize(canvas[::-1, 40:].copy(), *size, kernel=kernel)
        )


def test_threads_give_the_same_and_may_share() -> None:
    images = [noise(300 + i, 400, 3, seed=i) for i in range(6)]
    expected = [resize(image, 64, 96) for image in images]
    with ThreadPoolExecutor(6) as pool:
        for threads in (2, 3, 500):
            results = pool.map(lambda image, threads=threads: resize(image, 64, 96, threads=threads), images * 5)
            for result, right in zip(results, expected * 5, strict=True):
                np.testing.assert_array_equal(result, right)


@pytest.mark.parametrize(
    ("image", "out", "error", "message"),
    [
        (noise(4, 4, 3, dtype=np.uint16), noise(2, 2, 3), TypeError, "image must be a NumPy array of uint8"),
        (None, noise(2, 2, 3), TypeError, "image must be"),
        (noise(4, 4, 3), noise(2, 2, 3).astype(float), TypeError, "out must be"),
        (noise(4, 4), noise(2, 2, 3), ValueError, "three dimensions"),
        (noise(4, 4, 2), noise(2, 2, 3), ValueError, r"\(H, W, 4\), not \(4, 4, 2\)"),
        (noise(4, 4, 3), noise(2, 2, 4), ValueError, r"shape \(h, w, 3\)"),
        (noise(4, 8, 3)[:, ::2], noise(2, 2, 3), ValueError, "rows of image must be contiguous"),
        (noise(4, 4, 3), noise(2, 4, 3)[:, ::2], ValueError, "rows of out must be contiguous"),
        (noise(4, 4, 3)[..., ::-1], noise(2, 2, 3), ValueError, "contiguous"),
        (noise(0, 4, 3), noise(2, 2, 3), ValueError, "sides in 1.."),
        (noise(4, 4, 3), noise(2, 0, 3), ValueError, "sides in 1.."),
        (np.broadcast_to(np.uint8(0), (1 << 24, 1, 1)), noise(2, 2, 3), ValueError, "sides in 1..8388608"),
    ],
)
def test_wrong_arguments(image: Any, out: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        _native.resize(image, out, False)


def test_wrong_options() -> None:
    out = noise(2, 2, 3)
    with pytest.raises(ValueError, match="threads must be at least 1"):
        _native.resize(noise(4, 4, 3), out, False, 0)
    with pytest.raises(ValueError, match="unknown kernel 'abacus'"):
        _native.resize(noise(4, 4, 3), out, False, 1, "abacus")
    out.flags.writeable = False
    with pytest.raises(ValueError, match="out must be writable"):
        _native.resize(noise(4, 4, 3), out, False)


# From any image to the model's input


@pytest.mark.parametrize("policy", ["stretch", "letterbox"])
@pytest.mark.parametrize("channels", ["bgr", "rgb"])
@pytest.mark.parametrize("depth", [None, 1, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_colours_in_the_same_step(policy: Any, channels: Any, depth: int | None, dtype: Any) -> None:
    image = noise(50, 83, *([] if depth is None else [depth]), dtype=dtype)
    pixels, placement = to_input(image, (32, 48), policy, channels=channels)
    expected, expected_placement = to_input(to_rgb(image, channels), (32, 48), policy)
    np.testing.assert_array_equal(pixels, expected)
    assert placement == expected_placement


@pytest.mark.parametrize("policy", ["stretch", "letterbox"])
def test_views_are_taken(policy: Any) -> None:
    image = noise(60, 82, 3)
    image.flags.writeable = False
    for view in (image[::2, ::-2], image.transpose(1, 0, 2), image[..., ::-1], image[:1], image[:, :1], image[5:, 7:]):
        pixels, _ = to_input(view, (16, 24), policy)
        np.testing.assert_array_equal(pixels, to_input(view.copy(), (16, 24), policy)[0])


@pytest.mark.parametrize("policy", ["stretch", "letterbox"])
def test_a_buffer_is_filled_whole(policy: Any) -> None:
    batch = np.full((3, 16, 24, 3), 200, np.uint8)
    pixels, _ = to_input(noise(10, 80, 3), (16, 24), policy, out=batch[1])
    assert pixels.base is batch
    np.testing.assert_array_equal(batch[1], to_input(noise(10, 80, 3), (16, 24), policy)[0])
    assert (batch[::2] == 200).all()
    assert (batch[1, 0] == PADDING).all() == (policy == "letterbox")


def test_threads_and_kernels_change_nothing() -> None:
    image = noise(1 + THREADED_PIXELS // 1000, 1000, 3)
    expected, _ = to_input(image, (64, 96), "letterbox")
    for kernel in KERNELS:
        pixels, _ = to_input(image, (64, 96), "letterbox", threads=3, kernel=kernel)
        np.testing.assert_array_equal(pixels, expected)


def test_what_is_no_image_is_refused() -> None:
    for image in (None, np.zeros((4, 4, 3)), np.zeros((0, 4), np.uint8), np.zeros((4, 4, 2), np.uint8)):
        with pytest.raises(ImageError):
            to_input(image, (16, 24), "stretch")  # type: ignore[arg-type]
    with pytest.raises(ImageError, match="at most 8,388,608 in a row or column"):
        to_input(np.broadcast_to(np.uint8(0), (1 << 24, 1)), (16, 24), "stretch")
