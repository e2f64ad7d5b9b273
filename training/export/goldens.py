"""Photos that go into a model file, with what it makes of them: a device can then tell whether it judges as here."""

from collections.abc import Sequence
from pathlib import Path

import onnx

from rstpm_edge.errors import ExportError, ImageError, UsageError
from rstpm_edge.golden_check import TOLERANCE, TOLERANCE_REDUCED
from rstpm_edge.image.decode import read_stored
from rstpm_edge.model.goldens import (
    MOST,
    MOST_BYTES,
    Golden,
    golden_image,
    goldens_to_json,
    parse_goldens,
    stored_map,
)
from rstpm_edge.model.metadata import Bundle
from rstpm_edge.model.model_file import golden_entries
from rstpm_edge.model.outputs import ModelOutputs
from rstpm_edge.postprocess.postprocessor import Postprocessor
from rstpm_edge.preprocessor import Preprocessor
from rstpm_edge.printable import printed

from ..graph.session import open_graph, run_maps


def read_goldens(photos: Sequence[Path]) -> list[tuple[str, bytes]]:
    """Names and PNGs of the photos. Raises UsageError for too many, or too much, and ImageError."""
    if len(photos) > MOST:
        raise UsageError(f"A model file takes up to {MOST} goldens, but here are {len(photos)}.")
    images = [(printed(path.name)[:255], golden_image(read_stored(path))) for path in photos]
    size = sum(len(image) for _, image in images)
    if size > MOST_BYTES:
        raise UsageError(
            f"The goldens take {size / 1e6:.1f} MB as PNG, and {MOST_BYTES / 1e6:.0f} MB is the most: give fewer."
        )
    return images


def add_goldens(content: bytes, bundle: Bundle, images: Sequence[tuple[str, bytes]]) -> bytes:
    """The model file `content` with these photos, and with its verdicts on them in ONNX Runtime on this machine.

    Raises UsageError for a photo that the model does not judge, that it calls INVALID, or that is so near the threshold
    that rounding may turn its verdict; ExportError where the file does not give back what was put in.
    """
    session = open_graph(content)
    preprocessor, postprocessor = Preprocessor(bundle, notify=lambda sentence: None), Postprocessor(bundle)
    threshold = bundle.calibration.promised()
    goldens = []
    for name, image in images:
        try:
            batch = preprocessor.batch([preprocessor.load(image)])
        except ImageError as error:
            raise UsageError(f"{name} cannot be a golden, since the model does not judge it: {error}") from error
        outputs = ModelOutputs.named(bundle.output_names, run_maps(session, bundle.output_names, batch.pixels))
        (found,) = postprocessor.results(outputs, batch.grids, batch.ignored, threshold, invalid=batch.invalid)
        if found.invalid_reason is not None:
            raise UsageError(
                f"{name} cannot be a golden, since it is INVALID ({found.invalid_reason}): give a photo that says "
                "something of its part."
            )
        margin = abs(found.score - threshold.value) / found.span
        if margin <= (TOLERANCE if bundle.precision == "fp32" else TOLERANCE_REDUCED):
            raise UsageError(
                f"{name} cannot be a golden: its score {found.score:.4g} is so near the threshold "
                f"{threshold.value:.4g} that rounding on another device may turn its verdict; give another photo."
            )
        goldens.append(Golden(name, image, found.score, found.is_anomalous, stored_map(found.model_map)))
    document = goldens_to_json(goldens)
    if goldens_to_json(parse_goldens(document)) != document:
        raise ExportError("The goldens do not come back as they were put in: nothing was written; report it.")
    model = onnx.load_from_string(content)
    for key, value in golden_entries(document).items():
        model.metadata_props.add(key=key, value=value)
    complete: bytes = model.SerializeToString()
    return complete
