"""How long fusion takes, next to the obvious ways of doing it, all on one thread.

    python tools/bench_fusion.py                     # 256 x 256, strides 8, 16, 32: the edge preset
    python tools/bench_fusion.py --size 1024 --batch 16 --strides 4,8,16 --json

Each round times fusion before and after every other contestant, so that a machine that is slow for a while is
slow for all; medians over many rounds. "fill" writes a constant into the output: no code that writes the map can
be faster by much.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import click
import cv2
import numpy as np
from numpy.typing import NDArray

from rstpm_edge.native import kernels
from rstpm_edge.postprocess.fusion import Fuser

Maps = list[NDArray[np.float32]]
MEAN, STD, WEIGHTS = [0.3] * 6, [0.2] * 6, [0.5] * 6
MINIMUM_ROUNDS = 15
# After another contestant the caches hold its buffers; the large sizes need some calls to be themselves again.
WARM_UP_CALLS = 3


def opencv_way(maps: Maps, out: NDArray[np.float32], sigma: float) -> Callable[[], Any]:
    """Six cv2.resize and NumPy; statistics are applied at the maps' own small size, buffers are reused."""
    size = out.shape[2], out.shape[1]
    resized = np.empty(out.shape[1:], np.float32)
    radius = int(np.ceil(3 * sigma))

    def run() -> Any:
        positions = []
        for image in range(len(out)):
            total = out[image]
            for i, maps_of_kind in enumerate(maps):
                normalized = (maps_of_kind[image] - MEAN[i]) * (WEIGHTS[i] / STD[i])
                if i == 0:
                    cv2.resize(normalized, size, dst=total, interpolation=cv2.INTER_LINEAR)
                else:
                    cv2.resize(normalized, size, dst=resized, interpolation=cv2.INTER_LINEAR)
                    np.add(total, resized, out=total)
            if sigma > 0:
                kernel = 2 * radius + 1, 2 * radius + 1
                cv2.GaussianBlur(total, kernel, sigma, dst=total, borderType=cv2.BORDER_REPLICATE)
            positions.append(cv2.minMaxLoc(total))
        return positions

    return run


def torch_way(maps: Maps, out: NDArray[np.float32], sigma: float) -> Callable[[], Any] | None:
    """Six interpolations, their sum and its maximum; None where torch is missing or smoothing is asked for."""
    try:
        import torch
    except ImportError:
        return None
    if sigma > 0:
        return None
    torch.set_num_threads(1)
    size = out.shape[1:]
    tensors = [torch.from_numpy(m)[:, None] for m in maps]

    def run() -> Any:
        with torch.inference_mode():
            total = torch.zeros(1)
            for i, tensor in enumerate(tensors):
                normalized = (tensor - MEAN[i]) * (WEIGHTS[i] / STD[i])
                up = torch.nn.functional.interpolate(normalized, size, mode="bilinear", align_corners=False)
                total = up if i == 0 else total + up
            return total, total.flatten(1).max(dim=1)

    return run


def microseconds(run: Callable[[], Any]) -> float:
    for _ in range(WARM_UP_CALLS):
        run()
    start = time.perf_counter_ns()
    run()
    return (time.perf_counter_ns() - start) / 1000


def measure(contestants: dict[str, Callable[[], Any]], seconds: float) -> dict[str, float]:
    """Median microseconds of "fused" and of every other contestant."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for run in contestants.values():
        run()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times["fill"]) < MINIMUM_ROUNDS:
        for name, run in contestants.items():
            if name == "fused":
                continue
            times["fused"].append(microseconds(contestants["fused"]))
            times[name].append(microseconds(run))
        times["fused"].append(microseconds(contestants["fused"]))
    return {name: median(values) for name, values in times.items()}


def benchmark(
    size: int, batch: int, strides: list[int], kernel: str | None, sigma: float, seconds: float
) -> dict[str, Any]:
    cv2.setNumThreads(1)
    rng = np.random.default_rng(0)
    map_sizes = [(size // stride, size // stride) for stride in strides]
    maps: Maps = [rng.random((batch, *level), dtype=np.float32) for level in map_sizes * 2]
    fuser = Fuser(
        map_sizes,
        (size, size),
        mean=MEAN,
        std=STD,
        weights=WEIGHTS,
        smoothing_sigma=sigma,
        kernel=kernel,
    )
    out, other = np.empty((2, batch, size, size), np.float32)
    contestants: dict[str, Callable[[], Any]] = {
        "fused": lambda: fuser(maps, out=out),
        "cv2": opencv_way(maps, other, sigma),
        "fill": lambda: other.fill(1.0),
    }
    torch_run = torch_way(maps, other, sigma)
    if torch_run is not None:
        contestants["torch"] = torch_run

    contestants["fused"]()
    contestants["cv2"]()
    if not np.allclose(out, other, atol=1e-3):  # OpenCV's own interpolation weights are a little coarse
        raise click.ClickException("fusion and OpenCV disagree: these times would compare different things")

    times = measure(contestants, seconds)
    ratio = {name: round(times[name] / times["fused"], 2) for name in times}
    return {
        "size": size,
        "batch": batch,
        "strides": strides,
        "smoothing": sigma,
        "kernel": fuser.last_kernel,
        "fused_us": round(times["fused"], 2),
        "cv2_us": round(times["cv2"], 1),
        "torch_us": round(times["torch"], 1) if "torch" in times else None,
        "fill_us": round(times["fill"], 2),
        "cv2_ratio": ratio["cv2"],
        "torch_ratio": ratio.get("torch"),
        "fill_ratio": round(times["fused"] / times["fill"], 2),
    }


@click.command(help=__doc__)
@click.option("--size", default=256, show_default=True, help="Side of the fused map.")
@click.option("--batch", default=1, show_default=True)
@click.option("--strides", default="8,16,32", show_default=True)
@click.option("--kernel", multiple=True, type=click.Choice(kernels().available), help="Default: the active one.")
@click.option("--smoothing", default=0.0, show_default=True, help="Gaussian sigma in pixels.")
@click.option("--seconds", default=2.0, show_default=True, help="How long to measure each kernel.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per kernel and nothing else.")
def main(
    size: int, batch: int, strides: str, kernel: tuple[str, ...], smoothing: float, seconds: float, as_json: bool
) -> None:
    parsed = [int(stride) for stride in strides.split(",")]
    if len(parsed) != 3:
        raise click.UsageError("--strides takes three numbers, as 8,16,32")
    if not as_json:
        print(f"{size} x {size}, batch {batch}, strides {strides}, smoothing {smoothing}; microseconds, one thread")
        print(f"{'kernel':>8} {'fused':>9} {'cv2':>17} {'torch':>17} {'fill':>15}")
    for name in kernel or (kernels().active,):
        result = benchmark(size, batch, parsed, name, smoothing, seconds)
        if as_json:
            print(json.dumps(result))
            continue
        torch = "-" if result["torch_us"] is None else f"{result['torch_us']} ({result['torch_ratio']}x)"
        cv2_text = f"{result['cv2_us']} ({result['cv2_ratio']}x)"
        fill = f"{result['fill_us']} (1/{result['fill_ratio']})"
        print(f"{result['kernel']:>8} {result['fused_us']:>9} {cv2_text:>17} {torch:>17} {fill:>15}")


if __name__ == "__main__":
    main()
