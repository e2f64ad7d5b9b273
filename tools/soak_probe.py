"""`rstpm-edge`, with a thread that writes to a file each second what the process has in use, in MB.

    PYTHONMALLOC=malloc python tools/soak_probe.py FILE serve --model model.onnx

What is in use is what was asked for and not freed: what the allocator keeps beside it grows for hours without a leak.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

from soak_memory import in_use

from rstpm_edge.__main__ import run

EACH = 1.0  # seconds


def probe(path: Path) -> None:
    """Write to it for ever, each time whole."""
    beside = path.with_name(f"{path.name}.new")
    while True:
        beside.write_text(f"{in_use():.4f}")
        os.replace(beside, path)
        time.sleep(EACH)


if __name__ == "__main__":
    threading.Thread(target=probe, args=(Path(sys.argv[1]),), daemon=True).start()
    sys.argv = ["rstpm-edge", *sys.argv[2:]]
    run()
