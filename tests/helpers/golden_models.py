"""Model files with goldens, made with the runtime alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray

from rstpm_edge import Detector
from rstpm_edge.model.goldens import Golden, golden_image, goldens_to_json, stored_map
from rstpm_edge.model.model_file import golden_entries


def goldens_of(model: Path, **photos: NDArray[Any]) -> list[Golden]:
    """What the model makes of photos (H, W, 3) BGR."""
    detector = Detector(model, threads=1)
    found = {name: detector(photo) for name, photo in photos.items()}
    return [
        Golden(name, golden_image(photos[name]), one.score, one.is_anomalous, stored_map(one.model_map))
        for name, one in found.items()
    ]


def put_goldens(model: Path, goldens: list[Golden]) -> None:
    put_document(model, goldens_to_json(goldens))


def put_document(model: Path, document: str) -> None:
    """In the place of those that were there, with a checksum that fits."""
    content = onnx.load(model)
    kept = {entry.key: entry.value for entry in content.metadata_props}
    onnx.helper.set_model_props(content, {**kept, **golden_entries(document)})
    model.write_bytes(content.SerializeToString())
