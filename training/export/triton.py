"""A model repository for NVIDIA's Triton Inference Server, which OpenVINO Model Server takes, too.

    FOLDER/NAME/config.pbtxt          what goes in and out, as `ModelConfig` of Triton's model_config.proto has it
    FOLDER/NAME/1/model.onnx          a fused model, which needs no code of ours; a later one is 2, 3, …

https://github.com/triton-inference-server/common/blob/main/protobuf/model_config.proto
"""

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rstpm_edge.atomic_files import make_folder, write_bytes
from rstpm_edge.errors import OutputError, UsageError
from rstpm_edge.model.metadata import Bundle
from rstpm_edge.model.model_file import opened
from rstpm_edge.model.read_metadata import parse_bundle

CONFIG, MODEL = "config.pbtxt", "model.onnx"
LARGEST_BATCH = 8  # images that a server may put together; each takes its time, so that more only wait longer
_NEW = ".new"  # servers take numbers for versions, and nothing else
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass
class NewVersion:
    """Where a fused model file is to be written, and where it lies when that is done."""

    model: Path


@contextlib.contextmanager
def new_version(folder: Path, name: str) -> Iterator[NewVersion]:
    """The block writes a fused model file: it is the next version of `name` after it.

    It comes there by a rename, and its configuration after that, so that a server which looks meanwhile finds a whole
    model, or none. Raises UsageError for a name that is none, or whose versions take other images; OutputError.
    """
    home = folder / _checked_name(name)
    new = home / _NEW
    try:
        shutil.rmtree(new, ignore_errors=True)  # of a process that was killed
        make_folder(new)
        version = NewVersion(new / MODEL)
        yield version
        text = _text_of(name, new / MODEL)
        older = _read(home / CONFIG)
        if older is not None and _tensors(older) != _tensors(text):
            raise UsageError(
                f"The versions of {name} in {folder} take or give other tensors, and one configuration holds for all "
                "of them: give another `triton_name`, or another folder."
            )
        placed = home / str(_latest(home) + 1)
        try:
            os.rename(new, placed)
        except OSError as error:
            raise OutputError(f"Cannot write to {home}: {error.strerror or error}.") from error
        version.model = placed / MODEL
        write_bytes(home / CONFIG, text.encode())
    finally:
        shutil.rmtree(new, ignore_errors=True)
        with contextlib.suppress(OSError):  # where nothing came of it
            home.rmdir()


def config_text(name: str, bundle: Bundle, sha256: str) -> str:
    """The configuration of a fused model: Protocol Buffers' text format.

    The batch is Triton's own. `score` is [N] in the graph; a tensor has at least one side beside the batch in Triton,
    so it is [N, 1] to clients. The parameters are for them: the server does not look at them.
    """
    height, width = bundle.size
    parameters = {
        "threshold": repr(bundle.calibration.threshold),
        "alpha": repr(bundle.calibration.alpha),
        "sha256": sha256,
        "rstpm_edge": bundle.package_version,
    }
    return "\n".join(
        [
            "# Written by `rstpm-edge export --triton`. An image is anomalous where its score is above the threshold.",
            f"name: {json.dumps(name)}",
            'backend: "onnxruntime"',
            f"max_batch_size: {LARGEST_BATCH}",
            "input [",
            f'  {{ name: "image" data_type: TYPE_UINT8 dims: [ {height}, {width}, 3 ] }}',
            "]",
            "output [",
            f'  {{ name: "anomaly_map" data_type: TYPE_FP32 dims: [ {height}, {width} ] }},',
            '  { name: "score" data_type: TYPE_FP32 dims: [ 1 ] reshape: { shape: [ ] } }',
            "]",
            "dynamic_batching { }",
            "model_warmup [",
            "  {",
            '    name: "zeros"',
            "    batch_size: 1",
            "    inputs {",
            '      key: "image"',
            f"      value {{ data_type: TYPE_UINT8 dims: [ {height}, {width}, 3 ] zero_data: true }}",
            "    }",
            "  }",
            "]",
            *(
                f"parameters {{ key: {json.dumps(key)} value {{ string_value: {json.dumps(value)} }} }}"
                for key, value in parameters.items()
            ),
            "",
        ]
    )


def _text_of(name: str, model: Path) -> str:
    with opened(model) as found:
        document, sha256 = found.document, found.sha256
    return config_text(name, parse_bundle(document), sha256)


def _tensors(text: str) -> list[str]:
    """The lines that say what goes in and out."""
    return [line.strip() for line in text.splitlines() if "data_type:" in line]


def _latest(home: Path) -> int:
    return max((int(entry.name) for entry in home.iterdir() if re.fullmatch("[1-9][0-9]{0,17}", entry.name)), default=0)


def _read(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OutputError(f"Cannot read {path}: {error.strerror or error}.") from error


def _checked_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"`triton_name` has up to 100 letters a to z, digits, and . _ - behind the first of them, not {name!a}."
        )
    return name
