"""Arrays at the extension's boundary: shapes, dtypes, strides, views and values, against the NumPy reference."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
from fuzz_layouts import LAYOUTS, Liar, is_taken, laid_out
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from rstpm_edge.errors import ImageError, ModelError
from rstpm_edge.image.preprocess import to_input
from rstpm_edge.model.metadata import CoarseCells, Fusion, HeadMap, ScoreFusion
from rstpm_edge.model.outputs import ByPair, ModelOutputs
from rstpm_edge.native import _native, kernels
from rstpm_edge.postprocess import reference
from rstpm_edge.postprocess.fusion import Fuser

KERNELS = kernels().available
SIDES = st.integers(1, 19)
SIZES = st.tuples(SIDES, SIDES)
ODD_FLOATS = (0.0, -0.0, 1e-45, 1e-38, 1e12, -1e12, 1e30, 3.4e38, float("nan"), float("inf"), float("-inf"))


@st.composite
def statistics(draw: st.DrawFn) -> dict[str, Any]:
    finite = st.floats(-3, 3, width=32)
    six = lambda values: draw(st.lists(values, min_size=6, max_size=6))  # noqa: E731
    return {"mean": six(finite), "std": six(st.floats(0.0625, 2, width=32)), "weights": six(finite)}


@st.composite
def maps_of(draw: st.DrawFn, levels: list[tuple[int, int]], batch: int, count: int) -> list[NDArray[np.float32]]:
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    maps = [rng.uniform(0, 2, (batch, *levels[i % 3])).astype(np.float32) for i in range(count)]
    if batch and draw(st.integers(0, 3)) == 0:
        spoiled = maps[draw(st.integers(0, count - 1))].reshape(-1)
        spoiled[draw(st.integers(0, spoiled.size - 1))] = draw(st.sampled_from(ODD_FLOATS))
    return maps


@st.composite
def geometries(draw: st.DrawFn) -> tuple[list[tuple[int, int]], tuple[int, int], int]:
    return draw(st.lists(SIZES, min_size=3, max_size=3)), draw(SIZES), draw(st.integers(0, 3))


def _fused(draw: st.DrawFn) -> None:
    """Six maps into one: the reference's, or an error where an array is not one that is taken."""
    levels, size, batch = draw(geometries())
    mode: Any = draw(st.sampled_from(["normalized", "paper"]))
    sigma = min(draw(st.sampled_from([0.0, 0.0, 0.3, 2.5])), max(size)) if mode == "normalized" else 0.0
    options = {"mode": mode, "smoothing_sigma": sigma, **draw(statistics())}
    fuser = Fuser(levels, size, kernel=draw(st.sampled_from(KERNELS)), **options)
    maps = draw(maps_of(levels, batch, 6))
    at, layout = draw(st.integers(0, 5)), draw(st.sampled_from(LAYOUTS))
    given_maps: list[Any] = list(maps)
    given_maps[at] = laid_out(maps[at], layout)
    given_maps = given_maps[: draw(st.sampled_from([6, 6, 6, 5, 0]))]
    threads = draw(st.sampled_from([1, 1, 2, 5, 0, -1]))
    out = draw(st.sampled_from([None, None, "plain", "read-only", "fortran", "other size", "swapped", "broadcast"]))
    place = None if out is None else laid_out(np.zeros((batch, *size), np.float32), out)
    good = len(given_maps) == 6 and threads >= 1
    good = good and all(is_taken(one, (batch, *levels[i % 3])) for i, one in enumerate(given_maps))
    good = good and (place is None or (is_taken(place, (batch, *size)) and place.flags.writeable))
    try:
        result = fuser(given_maps, out=place, threads=threads)
    except (TypeError, ValueError):
        assert not good, (layout, out, threads)
        return
    except ModelError:
        assert not all(np.isfinite(one).all() and np.abs(one).max(initial=0) <= 1e12 for one in given_maps)
        return
    assert good, (layout, out, threads)
    assert result.anomaly_map.shape == (batch, *size)
    assert np.isfinite(result.anomaly_map).all()
    if batch == 0:
        return
    values = [np.asarray(one) for one in given_maps]
    fused, score, _ = reference.fuse(values, size, **options)
    if mode == "paper":
        magnitude = np.prod([np.abs(values[i] + values[i + 3]).max() for i in range(3)])
    else:
        zipped = zip(values, options["mean"], options["std"], options["weights"], strict=True)
        magnitude = sum(abs(w) * np.abs(m - mean).max() / std for m, mean, std, w in zipped)
    atol = 2e-5 * max(1.0, float(magnitude))
    np.testing.assert_allclose(result.anomaly_map, fused, rtol=0, atol=atol)
    np.testing.assert_allclose(result.score, score, rtol=0, atol=atol)


def _scored(draw: st.DrawFn) -> None:
    """All outputs into a score, with masks that are right, wrong, or say that they are more than they are."""
    levels, size, batch = draw(geometries())
    fusion = Fusion(head=draw(st.sampled_from([None, HeadMap(0.1, 0.5, 0.7)])), **_tuples(draw(statistics())))
    if fusion.head is not None and fusion.weights[0] == 0:
        return
    coarse = CoarseCells((0.1, 0.2), (0.5, 0.7), (0.75, 0.5))
    scoring = draw(st.sampled_from([None, ScoreFusion(Fusion(), map_weight=0.25, bias=-2.0, coarse=coarse)]))
    count = 6 + (6 if scoring else 0) + (1 if fusion.head else 0)
    levels = [*levels]
    flat = draw(maps_of(levels, batch, count))
    if fusion.head is not None:
        flat[-1] = np.ascontiguousarray(np.resize(flat[-1], (batch, *levels[0])))
    head = None if fusion.head is None else (fusion.head.mean, fusion.head.std, fusion.head.weight)
    six = lambda one: (one.mode, one.mean, one.std, one.weights, one.smoothing_sigma)  # noqa: E731
    cells = (coarse.mean, coarse.std, coarse.weights)
    told = None if scoring is None else (six(scoring.fusion), cells, scoring.map_weight, scoring.bias)
    try:
        scorer = _native.Scorer(levels, size, six(fusion), head, told, None)
    except ValueError:
        assert head is not None  # whose part of the sum is too large, beside a weight that is nearly nothing
        return
    mask = np.zeros((1, *size), np.uint8)
    mask.reshape(-1)[draw(st.integers(0, mask.size - 1)) :] = 1
    kind = draw(st.sampled_from(["none", "none", "one each", "lying", "too few", "black", *LAYOUTS[4:]]))
    masks: Any = None if kind == "none" else [mask] * batch
    if kind == "lying":
        masks = Liar([mask] * draw(st.integers(0, batch + 1)), batch)
    elif kind == "too few":
        masks = [mask] * (batch - 1) if batch else [mask]
    elif kind == "black":
        masks = [np.zeros_like(mask)] * batch
    elif kind in LAYOUTS:
        masks = [laid_out(mask, kind)] * batch
    try:
        anomaly_map, score, _, nonfinite = scorer.run(flat, masks, None, draw(st.integers(1, 3)))
    except (TypeError, ValueError):
        assert kind not in ("none", "one each"), kind
        return
    assert kind not in ("too few", "black") or batch == 0, kind
    assert anomaly_map.shape == (batch, *size)
    finite = all(np.isfinite(one).all() and np.abs(one).max(initial=0) <= 1e12 for one in flat)
    assert nonfinite < 0 or not finite
    if nonfinite >= 0 or not finite or batch == 0 or kind not in ("none", "one each"):
        return
    six_by_six = ByPair.of(flat[:6]), None if scoring is None else ByPair.of(flat[6:12])
    outputs = ModelOutputs(*six_by_six, head_map=None if fusion.head is None else flat[-1])
    counts = None if masks is None else mask[0].astype(bool)
    expected_map, expected, _ = reference.score_outputs(outputs, fusion, scoring, size, counts)
    largest = max(float(np.abs(one).max()) for one in flat)
    gains = sum(
        abs(w / s) * (largest + abs(m)) for w, s, m in zip(fusion.weights, fusion.std, fusion.mean, strict=True)
    )
    atol = 2e-5 * max(1.0, gains + 12 * largest + 2 * (largest + 1))
    np.testing.assert_allclose(anomaly_map, expected_map, rtol=0, atol=atol)
    np.testing.assert_allclose(score, expected, rtol=0, atol=atol)


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(one) for name, one in values.items()}


def _resized(draw: st.DrawFn) -> None:
    """An image of any dtype, shape and layout to a model's input: as a plain copy of it, or an ImageError."""
    shape = draw(st.sampled_from([(), (3,), (3, 1), (4,), (2,), (0,), (1, 1), (3, 2)]))
    height, width = draw(st.integers(0, 40)), draw(st.integers(0, 40))
    dtype = draw(
        st.sampled_from(["u1", "u1", "u1", "<u2", ">u2", "i1", "i4", "f4", "f8", "?", "c8", "O", "S1", "M8[s]"])
    )
    values = np.random.default_rng(draw(st.integers(0, 99))).integers(0, 256, (height, width, *shape))
    image = values.astype(dtype)
    view = draw(
        st.sampled_from(
            ["plain", "fortran", "reversed", "every other", "upside down", "turned", "read-only", "broadcast"]
        )
    )
    if view == "upside down":
        image = image[::-1]
    elif view == "turned":
        image = image.swapaxes(0, 1)
    elif dtype not in ("O", "S1", "M8[s]"):
        image = laid_out(image, view)
    size, channels = draw(SIZES), draw(st.sampled_from(["bgr", "rgb"]))
    options: Any = {
        "channels": channels,
        "bits": draw(st.sampled_from([8, 10, 12, 16])),
        "threads": draw(st.integers(1, 3)),
    }
    options["kernel"] = draw(st.sampled_from(KERNELS))
    good = image.size > 0 and shape in ((), (3,), (4,)) and dtype in ("u1", "<u2")
    try:
        row, _ = to_input(image, size, draw(st.sampled_from(["stretch", "letterbox"])), **options)
    except ImageError:
        assert not good, (image.shape, image.dtype, view)
        return
    assert image.size > 0, image.shape
    assert dtype in ("u1", "<u2"), dtype
    plain, _ = to_input(np.array(image, order="C"), size, "stretch", **{**options, "kernel": "generic", "threads": 1})
    again, _ = to_input(image, size, "stretch", **options)
    np.testing.assert_array_equal(again, plain)
    assert row.shape == (*size, 3)


def _raw_resize(draw: st.DrawFn) -> None:
    """The binding itself, whose `out` may be anything: what lies around it is never written."""
    guarded = np.full((40, 40, 3), 77, np.uint8)
    rows, columns = draw(st.integers(0, 12)), draw(st.integers(0, 12))
    top, left = draw(st.integers(0, 20)), draw(st.integers(0, 20))
    step = draw(st.sampled_from([1, 1, 2, -1]))
    out = guarded[top : top + rows, left : left + columns][::step]
    if draw(st.integers(0, 7)) == 0:
        out = draw(st.sampled_from([guarded[:, ::2], guarded[..., :2], guarded[0], guarded.astype(">u2"), None, "out"]))
    image: Any = np.zeros((draw(st.integers(0, 9)), draw(st.integers(0, 9)), draw(st.integers(0, 5))), np.uint8)
    try:
        _native.resize(
            image,
            out,
            draw(st.booleans()),
            draw(st.integers(-1, 4)),
            draw(st.sampled_from([None, "generic", "abacus", ""])),
        )
    except (TypeError, ValueError):
        assert (guarded == 77).all()
        return
    written = np.zeros((40, 40), bool)
    written[top : top + rows, left : left + columns][::step] = True
    assert (guarded[~written] == 77).all()
    assert (guarded[written] == 0).all()


def _compressed(draw: st.DrawFn) -> None:
    """The readers of compressed data: any bytes, tables and counts, also those that no decoder would pass on."""
    data: Any = draw(st.binary(max_size=200))
    data = draw(
        st.sampled_from(
            [data, bytearray(data), memoryview(data), memoryview(data)[::2], np.frombuffer(data, np.uint8), "x", None]
        )
    )
    number = st.one_of(st.integers(-3, 100), st.sampled_from([2**31, 2**62, 2**63 - 1, -(2**63), 2**63]))
    counts = draw(st.one_of(st.lists(st.integers(0, 3), min_size=16, max_size=16).map(bytes), st.binary(max_size=20)))
    table = (counts, draw(st.binary(max_size=60)))
    parts = [(draw(st.integers(-1, 3)), table, table, draw(number)) for _ in range(draw(st.integers(0, 3)))]
    calls: list[Any] = [
        lambda: _native.lzw_length(data, draw(number)),
        lambda: _native.packbits_length(data, draw(number)),
        lambda: _native.scan_end(data, draw(number)),
        lambda: _native.is_whole_scan(
            data, parts, draw(number), draw(number), draw(st.booleans()), draw(st.booleans())
        ),
        lambda: _native.ProgressiveComponent(draw(st.integers(-1, 50))).is_whole_scan(
            data, table, draw(st.integers(-1, 70)), draw(st.integers(-1, 70)), draw(st.booleans()), draw(number)
        ),
    ]
    with contextlib.suppress(TypeError, ValueError, BufferError):
        draw(st.sampled_from(calls))()


KINDS = {_fused: 3, _scored: 3, _resized: 2, _raw_resize: 1, _compressed: 2}


@given(st.data(), st.sampled_from([kind for kind, share in KINDS.items() for _ in range(share)]))
def arrays(data: Any, kind: Any) -> None:
    kind(data.draw)


def seeds() -> list[bytes]:
    """Any bytes: hypothesis makes arrays of them."""
    rng = np.random.default_rng(0)
    return [rng.bytes(length) for length in (64, 200, 400, 800, 1500) for _ in range(8)]


def check(data: bytes) -> bool:
    return arrays.hypothesis.fuzz_one_input(data) is not None  # type: ignore[attr-defined]
