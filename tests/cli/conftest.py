"""Fixtures of the tests of the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from rstpm_edge.cli.main import main


@pytest.fixture
def run(model: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs the command line with RSTPM_EDGE_MODEL set to the tiny model."""
    monkeypatch.setenv("RSTPM_EDGE_MODEL", str(model))

    def run(*arguments: object) -> Result:
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return run
