"""What an evaluation found, as a version keeps it."""

import json
from pathlib import Path
from typing import Any

from rstpm_edge import document as read
from rstpm_edge.errors import UsageError
from rstpm_edge.model.small_file import read_small

_LARGEST = 100_000_000  # bytes of a file
_LONGEST = 50_000  # bytes of what is kept


def parse_evaluation(file: Path) -> dict[str, Any]:
    """What `rstpm-edge evaluate --json FILE` wrote, but for the single images. Raises UsageError."""
    try:
        found = read.load(read_small(file, _LARGEST).decode())
    except OSError as error:
        raise UsageError(f"Cannot read {file}: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{file} is no JSON: give the file of `rstpm-edge evaluate --json`.") from error
    if not isinstance(found, dict):
        raise UsageError(f"{file} holds no object: give the file of `rstpm-edge evaluate --json`.")
    kept = {name: value for name, value in found.items() if name != "images"}
    if len(json.dumps(kept)) > _LONGEST:
        raise UsageError(f"{file} is too long to be kept: give the file of `rstpm-edge evaluate --json`.")
    return kept
