"""The fusion kernels against the NumPy reference, every kernel that this processor can run."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rstpm_edge.errors import ModelError, UsageError
from rstpm_edge.native import kernels
from rstpm_edge.postprocess import reference as fusion_reference
from rstpm_edge.postprocess.fusion import Fuser

KERNELS = kernels().available
PRODUCT = [(32, 32), (16, 16), (8, 8)]  # the edge preset at 256 x 256

each_kernel = pytest.mark.parametrize("kernel", KERNELS)
each_mode = pytest.mark.parametrize("mode", ["normalized", "paper"])
# A product is not smoothed.
each_mode_and_smoothing = pytest.mark.parametrize(
    ("mode", "sigma"), [("normalized", 0.0), ("normalized", 1.5), ("paper", 0.0)]
)

side = st.integers(1, 75)


def make_maps(map_sizes: Any, batch: int = 1, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    # Maps are 1 - cosine: between 0 and 2.
    return [rng.uniform(0, 2, (batch, *map_sizes[i % 3])).astype(np.float32) for i in range(6)]


def statistics(seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        "mean": list(rng.uniform(0, 1, 6)),
        "std": list(rng.uniform(0.05, 1, 6)),
        "weights": list(rng.uniform(-1, 2, 6)),
    }


def assert_is_the_maximum(result: Any) -> None:
    for image, score, (row, column) in zip(result.anomaly_map, result.score, result.position, strict=True):
        assert score == image.max()
        assert row * image.shape[1] + column == image.argmax()  # argmax: the first of equals


def assert_same(left: Any, right: Any) -> None:
    np.testing.assert_array_equal(left.anomaly_map, right.anomaly_map)
    np.testing.assert_array_equal(left.score, right.score)
    np.testing.assert_array_equal(left.position, right.position)


@each_kernel
@each_mode
@settings(max_examples=60, deadline=None)
@given(
    map_sizes=st.lists(st.tuples(side, side), min_size=3, max_size=3),
    size=st.tuples(side, side),
    batch=st.integers(0, 3),
    sigma=st.sampled_from([0.0, 0.0, 0.2, 1.0, 2.7, 9.0]),
    seed=st.integers(0, 2**16),
)
def test_agrees_with_the_reference(
    kernel: str, mode: Any, map_sizes: Any, size: Any, batch: int, sigma: float, seed: int
) -> None:
    sigma = min(sigma, max(size)) if mode == "normalized" else 0.0
    options = {"mode": mode, "smoothing_sigma": sigma, **statistics(seed)}
    maps = make_maps(map_sizes, batch, seed)
    result = Fuser(map_sizes, size, kernel=kernel, **options)(maps)
    assert result.anomaly_map.shape == (batch, *size)
    assert result.anomaly_map.dtype == result.score.dtype == np.float32
    assert result.position.dtype == np.int32
    if batch == 0:
        return
    fused, score, _ = fusion_reference.fuse(maps, size, **options)
    # What rounding is relative to: the largest terms, even where they cancel.
    if mode == "paper":
        magnitude = max(1.0, fused.max())
    else:
        zipped = zip(maps, options["mean"], options["std"], options["weights"], strict=True)
        magnitude = sum(abs(w) * np.abs(m - mean).max() / std for m, mean, std, w in zipped)
    np.testing.assert_allclose(result.anomaly_map, fused, rtol=0, atol=1e-5 * magnitude)
    np.testing.assert_allclose(result.score, score, rtol=0, atol=1e-5 * magnitude)
    assert_is_the_maximum(result)


@each_kernel
@pytest.mark.parametrize(("mode", "sigma"), [("normalized", 0.0), ("normalized", 4.0), ("paper", 0.0)])
@pytest.mark.parametrize(
    ("map_sizes", "size"),
    [
        (PRODUCT, (256, 256)),
        ([(64, 64), (32, 32), (16, 16)], (256, 256)),
        ([(28, 40), (14, 20), (7, 10)], (224, 320)),
        ([(13, 9), (100, 3), (1, 1)], (100, 333)),
        ([(50, 200), (25, 100), (2, 500)], (31, 47)),  # mostly downwards
    ],
)
def test_agrees_with_the_reference_at_real_sizes(
    kernel: str, mode: Any, map_sizes: Any, size: Any, sigma: float
) -> None:
    options = {"mode": mode, "smoothing_sigma": sigma, **statistics()}
    maps = make_maps(map_sizes, 2)
    result = Fuser(map_sizes, size, kernel=kernel, **options)(maps)
    fused, _, _ = fusion_reference.fuse(maps, size, **options)
    np.testing.assert_allclose(result.anomaly_map, fused, rtol=0, atol=1e-5 * np.abs(fused).max())
    assert_is_the_maximum(result)


@pytest.mark.training
@pytest.mark.parametrize("outputs", [1, 2, 7, 32, 50, 256])
@pytest.mark.parametrize("inputs", [1, 2, 7, 32, 49, 64])
def test_the_reference_upsamples_as_torch_does(outputs: int, inputs: int) -> None:
    torch = pytest.importorskip("torch")
    values = np.random.default_rng(0).uniform(0, 2, (1, 1, inputs, 5))
    ours = fusion_reference.bilinear_matrix(outputs, inputs) @ values[0, 0]
    theirs = torch.nn.functional.interpolate(torch.from_numpy(values), (outputs, 5), mode="bilinear")
    np.testing.assert_allclose(ours, theirs[0, 0].numpy(), atol=1e-12)


@pytest.mark.training
@each_kernel
@each_mode
@pytest.mark.parametrize("size", [(256, 256), (75, 101), (20, 9)])
def test_upsamples_as_torch_does(kernel: str, mode: Any, size: Any) -> None:
    torch = pytest.importorskip("torch")
    maps = make_maps(PRODUCT, 2)
    up = [
        torch.nn.functional.interpolate(
            torch.from_numpy(maps[i] + maps[i + 3])[:, None], size, mode="bilinear", align_corners=False
        ).numpy()[:, 0]
        for i in range(3)
    ]
    expected = up[0] + up[1] + up[2] if mode == "normalized" else up[0] * up[1] * up[2]
    result = Fuser(PRODUCT, size, mode=mode, kernel=kernel)(maps)
    np.testing.assert_allclose(result.anomaly_map, expected, rtol=0, atol=1e-5 * expected.max())


@each_kernel
def test_smoothing_is_a_gaussian_of_the_fused_map(kernel: str) -> None:
    """By OpenCV, which knows nothing of the reference's matrices."""
    cv2 = pytest.importorskip("cv2")
    maps = make_maps(PRODUCT)
    plain = Fuser(PRODUCT, (256, 256), kernel=kernel)(maps).anomaly_map[0]
    smooth = Fuser(PRODUCT, (256, 256), smoothing_sigma=4.0, kernel=kernel)(maps).anomaly_map[0]
    expected = cv2.GaussianBlur(plain, (25, 25), 4.0, borderType=cv2.BORDER_REPLICATE)
    np.testing.assert_allclose(smooth, expected, atol=1e-4)


@each_kernel
@each_mode_and_smoothing
def test_the_first_of_equal_maxima_counts(kernel: str, mode: Any, sigma: float) -> None:
    maps = [np.ones((1, *PRODUCT[i % 3]), np.float32) for i in range(6)]
    result = Fuser(PRODUCT, (64, 65), mode=mode, kernel=kernel)(maps)
    assert result.score[0] == (6 if mode == "normalized" else 8)
    assert result.position.tolist() == [[0, 0]]
    # Far below zero: a maximum that starts at zero would be wrong.
    offset = Fuser(PRODUCT, (64, 65), mean=[100] * 6, smoothing_sigma=sigma, kernel=kernel)(maps)
    assert offset.score[0] == offset.anomaly_map.max() < 0


@each_kernel
@each_mode_and_smoothing
def test_out_is_written_in_place(kernel: str, mode: Any, sigma: float) -> None:
    fuser = Fuser(PRODUCT, (40, 37), mode=mode, smoothing_sigma=sigma, kernel=kernel)
    maps = make_maps(PRODUCT, 2)
    expected = fuser(maps)
    for offset in range(5):  # any alignment of the rows
        guarded = np.full(2 * 40 * 37 + 32, np.nan, np.float32)
        out = guarded[offset : offset + 2 * 40 * 37].reshape(2, 40, 37)
        result = fuser(maps, out=out)
        assert result.anomaly_map is out
        assert_same(result, expected)
        assert np.isnan(guarded[:offset]).all()  # nothing outside is touched
        assert np.isnan(guarded[offset + 2 * 40 * 37 :]).all()


@each_kernel
@each_mode_and_smoothing
@pytest.mark.parametrize(("batch", "threads"), [(1, 2), (1, 7), (3, 2), (5, 4), (2, 1000)])
def test_threads_change_nothing(kernel: str, mode: Any, sigma: float, batch: int, threads: int) -> None:
    fuser = Fuser(PRODUCT, (90, 70), mode=mode, smoothing_sigma=sigma, kernel=kernel, **statistics())
    maps = make_maps(PRODUCT, batch)
    assert_same(fuser(maps, threads=threads), fuser(maps))


def test_threads_find_the_first_maximum_across_their_borders() -> None:
    maps = [np.ones((1, *PRODUCT[i % 3]), np.float32) for i in range(6)]
    result = Fuser(PRODUCT, (64, 64))(maps, threads=4)
    assert result.position.tolist() == [[0, 0]]


@each_kernel
def test_many_callers_share_one_fuser(kernel: str) -> None:
    fuser = Fuser(PRODUCT, (128, 120), kernel=kernel, smoothing_sigma=1.0)
    inputs = [make_maps(PRODUCT, 2, seed) for seed in range(8)]
    expected = [fuser(maps) for maps in inputs]
    with ThreadPoolExecutor(8) as pool:
        for i, result in enumerate(pool.map(fuser, inputs * 10)):
            assert_same(result, expected[i % 8])


@each_kernel
@each_mode_and_smoothing
def test_a_batch_is_its_images_one_by_one(kernel: str, mode: Any, sigma: float) -> None:
    fuser = Fuser(PRODUCT, (60, 80), mode=mode, smoothing_sigma=sigma, kernel=kernel)
    maps = make_maps(PRODUCT, 20)
    together = fuser(maps)
    for i in range(20):
        single = fuser([m[i : i + 1] for m in maps])
        np.testing.assert_array_equal(single.anomaly_map[0], together.anomaly_map[i])
        assert single.score[0] == together.score[i]
        assert (single.position[0] == together.position[i]).all()


@each_kernel
def test_the_forced_kernel_really_runs(kernel: str) -> None:
    fuser = Fuser(PRODUCT, (32, 32), kernel=kernel)
    assert fuser.kernel == kernel
    assert fuser.last_kernel is None
    fuser(make_maps(PRODUCT))
    assert fuser.last_kernel == kernel


RUN_IN_CHILD = """
import numpy as np
from rstpm_edge.native import kernels
from rstpm_edge.postprocess.fusion import Fuser
fuser = Fuser([(2, 2)] * 3, (8, 8))
fuser([np.ones((1, 2, 2), np.float32)] * 6)
print(kernels().active, fuser.last_kernel)
"""


def run_in_child(kernel: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "RSTPM_EDGE_KERNEL": kernel}
    return subprocess.run(
        [sys.executable, "-c", RUN_IN_CHILD], env=environment, capture_output=True, text=True, timeout=60
    )


@each_kernel
def test_the_environment_forces_a_kernel(kernel: str) -> None:
    child = run_in_child(kernel)
    assert child.returncode == 0, child.stderr
    assert child.stdout.split() == [kernel, kernel]


def test_an_unknown_kernel_is_an_error_when_a_fuser_is_made() -> None:
    with pytest.raises(ValueError, match="unknown kernel 'abacus'; kernels are generic, neon, avx2, avx512"):
        Fuser(PRODUCT, (32, 32), kernel="abacus")
    child = run_in_child("abacus")
    assert child.returncode == 1
    assert "unknown kernel 'abacus' (from the environment variable RSTPM_EDGE_KERNEL)" in child.stderr


def test_a_kernel_of_another_processor_is_an_error() -> None:
    foreign = next(name for name in ("neon", "avx2") if name not in KERNELS)
    with pytest.raises(ValueError, match=f"kernel '{foreign}' does not run on this processor; .*generic"):
        Fuser(PRODUCT, (32, 32), kernel=foreign)


def test_kernels_names_one_that_there_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RSTPM_EDGE_KERNEL", "abacus")
    with pytest.raises(UsageError, match=r"^unknown kernel 'abacus' \(from the environment variable .*\.$"):
        kernels()


def test_kernels_names_what_runs() -> None:
    assert KERNELS[0] == "generic"
    assert kernels().active in KERNELS
    assert Fuser(PRODUCT, (32, 32)).kernel == kernels().active


def test_every_kernel_that_the_processor_can_run_is_there() -> None:
    """By what Linux says of it: a compiler's own answer may be that of an empty table."""
    found = set(Path("/proc/cpuinfo").read_text().split())
    needs = {"neon": {"asimd"}, "avx2": {"avx2", "fma"}, "avx512": {"avx512f", "avx512bw", "avx512vl"}}
    runnable = [kernel for kernel, flags in needs.items() if flags <= found]
    assert list(KERNELS) == ["generic", *runnable]


@each_kernel
@each_mode_and_smoothing
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_found(kernel: str, mode: Any, sigma: float, value: float) -> None:
    fuser = Fuser(PRODUCT, (32, 32), mode=mode, smoothing_sigma=sigma, kernel=kernel)
    for i in range(6):
        maps = make_maps(PRODUCT, 2)
        maps[i][1, -1, -1] = value
        for threads in (1, 3):
            with pytest.raises(ModelError, match="image 1 of the batch hold NaN or infinite"):
                fuser(maps, threads=threads)
    # The next call is none the worse for it.
    maps = make_maps(PRODUCT, 2)
    assert_same(fuser(maps), Fuser(PRODUCT, (32, 32), mode=mode, smoothing_sigma=sigma, kernel=kernel)(maps))


def test_a_value_that_downsampling_skips_is_checked_too() -> None:
    maps = make_maps([(50, 50)] * 3)
    maps[2][0, 1, 1] = np.nan
    with pytest.raises(ModelError):
        Fuser([(50, 50)] * 3, (2, 2))(maps)


def test_the_score_is_right_when_the_map_and_the_weights_are_negative() -> None:
    maps = make_maps(PRODUCT)
    result = Fuser(PRODUCT, (64, 64), weights=[-1.0] * 6)(maps)
    assert result.score[0] == result.anomaly_map.max() < 0


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"map_sizes": PRODUCT[:2]}, ValueError, "map_sizes must have 3"),
        ({"map_sizes": [(0, 4), (2, 2), (1, 1)]}, ValueError, r"must lie in 1\.\."),
        ({"map_sizes": [(4, 100_000), (2, 2), (1, 1)]}, ValueError, r"must lie in 1\.\."),
        ({"size": (0, 32)}, ValueError, r"must lie in 1\.\."),
        ({"size": (32, -1)}, ValueError, r"must lie in 1\.\."),
        ({"mode": "median"}, ValueError, "mode must be 'normalized' or 'paper', not 'median'"),
        ({"mean": [0.0] * 5}, ValueError, "mean must have 6 values, one per map, not 5"),
        ({"std": [1.0] * 7}, ValueError, "std must have 6 values"),
        ({"weights": []}, ValueError, "weights must have 6 values"),
        ({"std": [1.0] * 5 + [0.0]}, ValueError, "every std positive"),
        ({"std": [1.0] * 5 + [-1.0]}, ValueError, "every std positive"),
        ({"mean": [float("nan")] * 6}, ValueError, "must be finite"),
        ({"weights": [float("inf")] * 6}, ValueError, "must be finite"),
        ({"weights": [3e38] * 6}, ValueError, "at most 1e24"),
        ({"weights": [1e300] * 6}, ValueError, "at most 1e24"),
        ({"std": [1e-39] * 6}, ValueError, "no denormal number"),
        ({"mean": [1e13] * 6}, ValueError, "at most 1e12"),
        ({"smoothing_sigma": 1e-200}, ValueError, "smoothing_sigma must be 0"),
        ({"smoothing_sigma": 0.009}, ValueError, "smoothing_sigma must be 0"),
        ({"size": (32, 1000), "smoothing_sigma": 64.5}, ValueError, "smoothing_sigma must be 0"),
        ({"smoothing_sigma": -1.0}, ValueError, "smoothing_sigma must be 0"),
        ({"smoothing_sigma": float("nan")}, ValueError, "smoothing_sigma must be 0"),
        ({"smoothing_sigma": 33.0}, ValueError, "smoothing_sigma must be 0"),
        ({"mode": "paper", "smoothing_sigma": 1.0}, ValueError, "the product of mode 'paper' is not smoothed"),
        ({"size": "large"}, TypeError, "incompatible constructor arguments"),
    ],
)
def test_bad_geometry(change: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments: dict[str, Any] = {"map_sizes": PRODUCT, "size": (32, 32), **change}
    with pytest.raises(error, match=message):
        Fuser(**arguments)


def replaced(i: int, array: Any) -> list[Any]:
    maps: list[Any] = make_maps(PRODUCT)
    maps[i] = array
    return maps


def read_only() -> np.ndarray:
    array = np.zeros((1, 32, 32), np.float32)
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    ("maps", "options", "error", "message"),
    [
        (make_maps(PRODUCT)[:5], {}, ValueError, "there must be 6 outputs, not 5"),
        (7, {}, TypeError, "outputs must be a sequence of 6 arrays, not int"),
        (replaced(1, [[1.0]]), {}, TypeError, "stpm_b must be a NumPy array of float32, not list"),
        (replaced(1, None), {}, TypeError, "stpm_b must be a NumPy array of float32, not NoneType"),
        (replaced(3, np.zeros((1, 32, 32))), {}, TypeError, "recon_a must have dtype float32, not float64"),
        (replaced(0, np.zeros((1, 32, 32), ">f4")), {}, TypeError, "stpm_a must have dtype float32, not >f4"),
        (
            replaced(4, np.zeros((2, 16, 16), np.float32)),
            {},
            ValueError,
            r"recon_b must have shape \(1, 16, 16\), not \(2, 16, 16\)",
        ),
        (
            replaced(0, np.zeros((32, 32), np.float32)),
            {},
            ValueError,
            r"stpm_a must have shape \(N, 32, 32\), not \(32, 32\)",
        ),
        (
            replaced(5, np.zeros((1, 8, 16), np.float32)[:, :, ::2]),
            {},
            ValueError,
            "recon_c must be C-contiguous",
        ),
        (
            replaced(5, np.zeros(257, np.uint8)[1:].view(np.float32).reshape(1, 8, 8)),
            {},
            ValueError,
            "recon_c must be aligned to its items",
        ),
        (make_maps(PRODUCT), {"out": np.zeros((1, 32, 32))}, TypeError, "out must have dtype float32"),
        (make_maps(PRODUCT), {"out": [1.0]}, TypeError, "out must be a NumPy array"),
        (
            make_maps(PRODUCT),
            {"out": np.zeros((1, 32, 31), np.float32)},
            ValueError,
            r"out must have shape \(1, 32, 32\), not \(1, 32, 31\)",
        ),
        (
            make_maps(PRODUCT),
            {"out": np.zeros((1, 32, 64), np.float32)[:, :, ::2]},
            ValueError,
            "out must be C-contiguous",
        ),
        (make_maps(PRODUCT), {"out": read_only()}, ValueError, "out must be writable"),
        (make_maps(PRODUCT), {"threads": 0}, ValueError, "threads must be at least 1, not 0"),
    ],
)
def test_bad_arguments_of_a_call(maps: Any, options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Fuser(PRODUCT, (32, 32))(maps, **options)


def test_no_memory_is_kept_from_call_to_call() -> None:
    """Scratch memory is lent and taken back: ten thousand calls need no more of it than a hundred did."""
    resource = pytest.importorskip("resource")
    fuser = Fuser(PRODUCT, (64, 64))
    maps, out = make_maps(PRODUCT), np.empty((1, 64, 64), np.float32)
    for _ in range(100):
        fuser(maps, out=out)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(10_000):
        fuser(maps, out=out)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 4096  # KiB


def test_a_missing_extension_says_what_to_do() -> None:
    code = "import sys; sys.modules['rstpm_edge._native'] = None; import rstpm_edge.postprocess.fusion"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert child.returncode == 1
    assert "ImportError: The C++ extension of rstpm_edge is not built: run `pip install .`" in child.stderr
