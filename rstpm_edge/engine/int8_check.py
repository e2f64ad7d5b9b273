"""Whether this processor computes a file in 8 bits right: compared, at load, with the same file computed in floats.

x86 processors without dot products of 8-bit integers add two products in 16 bits, where they may not fit: the maps are
then noise, and verdicts with them. Files exported since that was known avoid it (training/quantization/saturation.py);
older ones, and what other processors do, are found by trying. What is compared with needs nothing stored: ONNX Runtime
without its optimisations computes what stands in the file, which is products of floats between the quantizers.
"""

from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rstpm_edge.engine.no_telemetry import onnxruntime
from rstpm_edge.engine.providers import INPUT_NAME
from rstpm_edge.errors import ModelError
from rstpm_edge.model.metadata import Bundle
from rstpm_edge.model.model_file import ModelFile
from rstpm_edge.model.outputs import ModelOutputs

# Rounding alone is 0.04 to 0.12, and 0.2 in a network of 64 x 64 pixels that has hardly learned. Where sums saturate it
# is 0.24 and more where many blocks stay in float, and 0.5 where none does. In a file whose sums fit, nothing but
# another fault could be at work.
TOLERANCE, TOLERANCE_SATURATION_FREE = 0.17, 0.4


Maps = Sequence[NDArray[np.float32]]


def relative_error(before: Maps, after: Maps) -> float:
    """What of the maps `after` a change, (N, h, w) each, is not a scaled and shifted `before`: 0 nothing, 1 everything.

    Root mean square over the maps, each relative to its own deviation; maps that never vary say nothing. Scale and
    shift do not count, since the calibration takes them up.
    """
    unexplained = []
    for x, y in zip(before, after, strict=True):
        if max(x.std(), y.std()) < 1e-6:
            continue
        deviation = float(x.std()) * float(y.std())
        correlation = float(np.mean((x - x.mean()) * (y - y.mean()), dtype=np.float64)) / max(deviation, 1e-12)
        unexplained.append(1 - min(correlation, 1.0) ** 2)
    return float(np.sqrt(np.mean(unexplained))) if unexplained else 0.0


def check_integers(
    run: Callable[[NDArray[np.uint8]], ModelOutputs], model: ModelFile, bundle: Bundle, runtime: str, threads: int
) -> None:
    """Compare maps that `run` gives of an image (1, H, W, 3) with those of the same file in floats.

    Takes as long as one more start of ONNX Runtime and an image. Raises ModelError when they are others.
    """
    image = probe(bundle.height, bundle.width)[None]
    expected = open_exactly(model.source, threads).run(list(bundle.output_names), {INPUT_NAME: image})
    error = relative_error(expected, run(image).flat())
    allowed = TOLERANCE_SATURATION_FREE if bundle.saturation_free else TOLERANCE
    if not error <= allowed:  # neither is NaN
        raise ModelError(
            f"This processor computes the 8-bit model {model.path} wrongly in {runtime}: {error:.0%} of its maps is "
            f"noise, and {allowed:.0%} is allowed. Export it again with this version (`rstpm-edge export --int8`), "
            "or use the FP32 file here."
        )


def probe(height: int, width: int) -> NDArray[np.uint8]:
    """An image (H, W, 3) with structures of all sizes and high contrast, which drive sums far: always the same one."""
    random = np.random.default_rng(0)
    image = np.zeros((height, width, 3), np.float32)
    for exponent in range(1, max(height, width).bit_length()):
        coarse = random.standard_normal((2**exponent, 2**exponent, 3)).astype(np.float32)
        image += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    image = (image - image.mean()) / max(float(image.std()), 1e-6)
    return np.asarray(np.clip(127.5 + 100 * image, 0, 255), np.uint8)


def open_exactly(source: str | bytes, threads: int) -> Any:
    """A session that multiplies floats where others multiply integers: slow, and right on any processor."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4  # what goes wrong is raised
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
