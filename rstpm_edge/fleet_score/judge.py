"""What a worker does: it keeps one detector, and turns batches of items into rows."""

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

import fsspec
import pyarrow as pa

from rstpm_edge.detector import Detector
from rstpm_edge.errors import ImageError, InvalidImageError, ModelError, RstpmEdgeError
from rstpm_edge.fleet_score.parquet_images import ParquetImages
from rstpm_edge.fleet_score.rows import ROWS, failed, judged
from rstpm_edge.image.decode import read_encoded
from rstpm_edge.pipeline import InferenceOptions
from rstpm_edge.printable import without_password

INDEX = "index"  # column: which of the round's items a row is of
ANSWERS = ROWS.append(pa.field(INDEX, pa.int64()))


@dataclass(frozen=True)
class JudgePlan:
    """What a worker is made with. `model` are the bytes of the file, or what `fetch` gives them for."""

    model: Any
    model_sha256: str
    options: InferenceOptions
    fetch: Callable[[Any], bytes] | None = None


class Judge:
    """Called by Ray Data with tables of items; gives the rows of these, in their order."""

    def __init__(self, plan: JudgePlan) -> None:
        content = plan.model if plan.fetch is None else plan.fetch(plan.model)
        # A worker may be on a machine that does not have the file. What is loaded stays in memory.
        with tempfile.TemporaryDirectory(prefix="rstpm-") as folder:
            path = os.path.join(folder, "model.onnx")
            with open(path, "wb") as file:
                file.write(content)
            # The key was asked for where the file was read; here its hash says that it is the same.
            options = replace(plan.options, public_key=None, notify=_nobody)
            self._detector = Detector(path, **_keywords(options))
        if self._detector.sha256 != plan.model_sha256:
            raise ModelError("The model was changed on the way to the worker.")
        self._parquet = ParquetImages()

    def __call__(self, items: Any) -> Any:
        """Rows (schema ANSWERS) of a table of items with their index."""
        return pa.Table.from_pylist([self._row(item) for item in items.to_pylist()], schema=ANSWERS)

    def _row(self, item: dict[str, Any]) -> dict[str, Any]:
        digest = None
        try:
            content = self._read(item)
            digest = sha256(content).hexdigest()
            fields = judged(self._detector(content))
        except InvalidImageError as error:
            fields = failed(str(error), invalid=str(error))
        except RstpmEdgeError as error:
            fields = failed(str(error))
        except Exception as error:  # nothing that one image does may keep the others from their rows
            digest, fields = None, failed(f"{type(error).__name__}: {error}")
        return {
            **fields,
            "path": item["path"],
            "model_sha256": self._detector.sha256,
            "sha256": digest,
            "size": item["size"],
            "version": item["version"],
            INDEX: item[INDEX],
        }

    def _read(self, item: dict[str, Any]) -> bytes:
        location = os.fsdecode(item["location"])
        if item["column"]:
            return self._parquet.read(location, item["group"], item["column"], item["row"])
        if "://" not in location:
            return read_encoded(location)
        try:
            with fsspec.open(location, "rb") as file:
                content: bytes = file.read()
        except Exception as error:  # each package behind fsspec has errors of its own
            reason = str(error) or type(error).__name__
            raise ImageError(f"Cannot read {without_password(location)}: {reason}") from error
        return content


def _keywords(options: InferenceOptions) -> dict[str, Any]:
    return {name: getattr(options, name) for name in options.__dataclass_fields__}


def _nobody(sentence: str) -> None:
    """A worker has nobody to tell; the row has the verdict."""
