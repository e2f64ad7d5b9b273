"""A file that is to be delivered, run in ONNX Runtime on real images before it is written."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from rstpm_edge.cpu import usable_cores
from rstpm_edge.engine.no_telemetry import onnxruntime
from rstpm_edge.errors import ExportError, RstpmEdgeError
from rstpm_edge.image.decode import read_image
from rstpm_edge.image.listing import find_images
from rstpm_edge.image.preprocess import InputFormat
from rstpm_edge.image.roi import Roi, crop
from rstpm_edge.model.metadata import Bundle
from rstpm_edge.model.outputs import ModelOutputs
from rstpm_edge.postprocess.postprocessor import Postprocessor

from ..graph.session import open_graph, run_maps
from ..model.rstpm import RSTPM

MAP_TOLERANCE = 1e-4  # see `map_difference`
SCORE_TOLERANCE = 1e-3  # see `score_difference`


def images_to_check_on(run: Path, roi: Roi | None, bits: int) -> list[NDArray[np.uint8]]:
    """The run's samples as learned from, and each once more cropped and enlarged: larger, and not square."""
    samples = run / "samples"
    files = sorted(find_images(samples, recursive=False)) if samples.is_dir() else []
    if not files:
        raise ExportError(f"{run / 'samples'} holds no image, so the export cannot be checked; train again.")
    images = [crop(read_image(path, bits=bits), roi, path) for path in files]
    large = []
    for image in images:
        cropped = image[: max(1, image.shape[0] * 3 // 4)]
        large.append(np.asarray(cv2.resize(cropped, (900, 500), interpolation=cv2.INTER_LINEAR), np.uint8))
    return images + large


def check(
    content: bytes, model: RSTPM, bundle: Bundle, images: Sequence[NDArray[np.uint8]], fused: bool
) -> tuple[float, float]:
    """Compare the file in ONNX Runtime with `model` on real images, one at a time and as a batch.

    Returns the largest difference of any map, or of an embedding, relative to its largest value where that is above 1,
    and of any score (relative), or anomaly map that the graph itself fuses.
    Raises ExportError when either exceeds its tolerance, or is NaN, or when the file does not run.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is raised
    options.intra_op_num_threads = usable_cores()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    inputs = _inputs(bundle, images)
    expected = model.outputs(inputs)
    names = list(bundle.graph_outputs)
    try:
        single = ModelOutputs.named(names, run_maps(session, names, inputs))
        batch = ModelOutputs.named(names, session.run(names, {"image": inputs}))
    except Exception as error:  # ONNX Runtime's exceptions have no base class but Exception
        raise ExportError(f"ONNX Runtime cannot run the exported graph ({error}): nothing was written.") from error
    # By NumPy, here and below: Python's max lets NaN pass.
    maps_apart = float(np.max([_difference(found, expected) for found in (single, batch)]))
    scores_apart = float("nan")
    if maps_apart <= MAP_TOLERANCE:  # what is not finite cannot be fused
        postprocessor = Postprocessor(bundle)
        want = postprocessor.score(expected)
        apart = [score_difference(postprocessor.score(single).score, want.score)]
        if fused:
            score, anomaly_map = session.run(["score", "anomaly_map"], {"image": inputs})
            apart += [score_difference(score, want.score), map_difference([anomaly_map], [want.anomaly_map])]
        scores_apart = float(np.max(apart))
    if not scores_apart <= SCORE_TOLERANCE:
        raise ExportError(
            f"ONNX Runtime and PyTorch disagree (maps {maps_apart:.2g}, score {scores_apart:.2g} relative; "
            f"allowed are {MAP_TOLERANCE:g} and {SCORE_TOLERANCE:g}): nothing was written. Train again, and report it."
        )
    return maps_apart, scores_apart


def map_difference(found: Sequence[NDArray[np.float32]], expected: Sequence[NDArray[np.float32]]) -> float:
    """The largest difference between maps (N, h, w), each as a share of its largest value, or of 1 where that is less.

    Anomaly maps and cosines lie below 2, log odds within 8, normalized angles wherever they like. NaN where a
    map holds one.
    """
    pairs = zip(found, expected, strict=True)
    return float(np.max([np.abs(got - want).max() / np.maximum(1, np.abs(want).max()) for got, want in pairs]))


def _difference(found: ModelOutputs, expected: ModelOutputs) -> float:
    apart = [map_difference(found.flat(), expected.flat())]
    if found.embedding is not None and expected.embedding is not None:
        apart.append(map_difference([found.embedding], [expected.embedding]))
    return float(np.max(apart))


def score_difference(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """The largest difference between scores (N,), each as a share of itself, or of their mean size where that is more.

    A normalized score may lie near zero.
    """
    scale = np.maximum(np.abs(expected), np.abs(expected).mean())
    return float(np.max(np.abs(found - expected) / scale))


def check_alone(content: bytes, bundle: Bundle, images: Sequence[NDArray[np.uint8]], fused: bool) -> None:
    """Run a file that is not PyTorch's to the last digit: single images and a batch, and its fusion by the extension.

    Raises ExportError when it does not run, or gives what is not finite, or scores that are not those of its maps.
    """
    names = [*bundle.graph_outputs, *(["score", "anomaly_map"] if fused else [])]
    inputs = _inputs(bundle, images)
    session, postprocessor = open_graph(content), Postprocessor(bundle)
    try:
        for some in (inputs[:1], inputs):
            found = dict(zip(names, session.run(names, {"image": some}), strict=True))
            outputs = ModelOutputs.named(list(bundle.graph_outputs), [found[name] for name in bundle.graph_outputs])
            scored = postprocessor.score(outputs)  # refuses what is not finite
            if outputs.embedding is not None and not np.isfinite(outputs.embedding).all():
                raise ExportError("The graph's embedding is not finite: nothing was written. This network needs FP32.")
            if fused and not (
                score_difference(found["score"], scored.score) <= SCORE_TOLERANCE
                and map_difference([found["anomaly_map"]], [scored.anomaly_map]) <= SCORE_TOLERANCE
            ):
                raise ExportError(
                    "The fused graph's score or anomaly map is not that of its maps: nothing was written; report it."
                )
    except (RstpmEdgeError, KeyboardInterrupt):
        raise
    except Exception as error:  # ONNX Runtime's exceptions have no base class but Exception
        raise ExportError(f"ONNX Runtime cannot run the exported graph ({error}): nothing was written.") from error


def _inputs(bundle: Bundle, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """(N, H, W, 3) for images in RGB."""
    model_input = InputFormat(bundle.size, bundle.resize)
    return np.stack([model_input.prepare(image)[0] for image in images])
