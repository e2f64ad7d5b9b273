"""The JSON documents of a run: read, with the schema that they are written in.

A document says which schema it has: 2, or none in those from before, which `old_names` reads.
"""

import json
from pathlib import Path
from typing import Any

from rstpm_edge import document as read
from rstpm_edge.errors import TrainingError

SCHEMA_VERSION = 2
SCHEMA = {"schema_version": SCHEMA_VERSION, "needs": "0.1.0"}  # of what is written; and the first release that reads it
CALIBRATE_AGAIN = "remove it, and calibrate again"  # what to do about a damaged calibration.json


def schema_version(fields: dict[str, Any], folder: Path) -> int:
    """The schema's version of a run's document, which is taken out of it. Raises ValueError, and TrainingError for a
    newer one, before any other field is looked at."""
    try:
        version = read.schema_version(fields, SCHEMA_VERSION, first=1)
    except read.NewerError as error:
        raise TrainingError(f"The run {folder} {error}; upgrade, or train again with this version.") from error
    for name in SCHEMA:
        fields.pop(name, None)
    return version


def read_json(path: Path, otherwise: str, mend: str = "train again") -> dict[str, Any]:
    """The object in a file. Raises TrainingError: with `otherwise` where there is none, with `mend` for what to do."""
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise TrainingError(f"{otherwise}.") from error
    except OSError as error:
        raise TrainingError(f"{path} cannot be read ({error}).") from error
    except (ValueError, RecursionError) as error:
        raise TrainingError(f"{path} is damaged ({error}); {mend}.") from error
    if not isinstance(content, dict):
        raise TrainingError(f"{path} is damaged; {mend}.")
    return content
