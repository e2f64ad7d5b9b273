"""Audit logs that tests write, and what stands in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rstpm_edge.outputs.audit_log import AuditLog
from rstpm_edge.outputs.hash_chain import files_of

GOOD, BAD, INVALID = ({"verdict": verdict} for verdict in ("normal", "anomalous", "invalid"))
UNREAD = {"verdict": "failed", "error": "it is damaged"}


def write_runs(path: Path, runs: int = 3, **options: Any) -> None:
    """A start and a stop each: two entries."""
    for run in range(runs):
        with AuditLog(path, **options) as log:
            log.start({"run": run})
            log.tell(GOOD)


def entries(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for file in files_of(path) for line in file.read_text().splitlines()]
