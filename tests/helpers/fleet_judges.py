"""A worker of `fleet score` that an image can kill."""

from __future__ import annotations

import os
import signal
from typing import Any

from rstpm_edge.fleet_score.judge import Judge

POISON = b"\x89PNG\r\n\x1a\npoison"


class DiesOfPoison(Judge):
    def _read(self, item: dict[str, Any]) -> bytes:
        content = super()._read(item)
        if content == POISON:
            os.kill(os.getpid(), signal.SIGKILL)
        return content
