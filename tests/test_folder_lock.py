"""One process at a time writes to a folder."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from waiting import until

from rstpm_edge.errors import OutputError, UsageError
from rstpm_edge.folder_lock import one_writer

HOLD = """
import sys, time
from pathlib import Path
from rstpm_edge.folder_lock import one_writer
with one_writer(Path(sys.argv[1])):
    (Path(sys.argv[1]) / "held").touch()
    time.sleep(600)
"""


def test_another_process_is_refused_and_let_in_when_the_first_is_killed(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)]) as holder:
        try:
            until((tmp_path / "held").exists)
            with pytest.raises(UsageError, match=r"^Another command is writing to .*: wait for its end, or"):  # noqa: SIM117
                with one_writer(tmp_path):
                    pass
        finally:
            holder.kill()
    with one_writer(tmp_path):
        pass


def test_whoever_waits_is_let_in(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)]) as holder:
        try:
            until((tmp_path / "held").exists)
            with pytest.raises(UsageError), one_writer(tmp_path, wait=0.3):
                pass
        finally:
            holder.kill()
    started = time.monotonic()
    with one_writer(tmp_path, wait=60):
        assert time.monotonic() - started < 60


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match=r"^Cannot use the folder .*missing: No such file"),
        one_writer(tmp_path / "missing"),
    ):
        pass
