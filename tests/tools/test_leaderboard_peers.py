"""The leaderboard's other side: anomalib in an environment of its own, for which a stub stands here."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from leaderboard_peers import fit, layer_names, own_aspect
from leaderboard_stub import calls, executable
from workplace import document

from rstpm_edge.errors import UsageError
from rstpm_edge.training.data.datasets import load_categories


def test_layers_have_the_strides_asked_for() -> None:
    info = [{"module": "stem", "reduction": 4}, {"module": "body", "reduction": 16}]
    assert layer_names(info, (16, 4)) == ["body", "stem"]
    with pytest.raises(UsageError, match="no features at stride 8, only at 4, 16"):
        layer_names(info, (4, 8, 16))


def test_photos_own_aspect(sets: Path) -> None:
    (bottle, _) = load_categories(sets, "folder")  # 64×80
    height, width = own_aspect(bottle)
    assert (height, width) == (224, 288)
    assert own_aspect(bottle, area=64) == (32, 32)


def test_anomalib_learns_once_even_where_its_result_is_measured_anew(
    board: Callable[..., Result], tmp_path: Path
) -> None:
    options = ["--method", "padim,patchcore", "--sets", "bottle"]
    first = board(*options)
    shutil.rmtree(tmp_path / "board" / "results")
    assert board(*options).stdout == first.stdout
    assert [(method, layers) for method, _, layers, *_ in calls(tmp_path / "board")] == [
        ("padim", ["blocks.1", "blocks.2", "blocks.4"]),
        ("patchcore", ["blocks.2", "blocks.4"]),
    ]


def test_a_worker_that_fails_leaves_its_last_words_and_its_log(
    board: Callable[..., Result], venv: Path, tmp_path: Path
) -> None:
    executable(venv / "bin" / "python", "#!/bin/sh\necho first; echo Error: no memory >&2; exit 3\n")
    found = board("--method", "edge,padim", "--sets", "bottle")
    assert found.exit_code == 1
    (folder,) = (tmp_path / "board" / "fits").glob("padim-*")
    assert (folder / "log.txt").read_text() == "first\nError: no memory\n"
    assert found.stderr.splitlines()[-1] == (
        "Error: 1 of the results could not be had; bottle, padim, seed 0: bottle, padim, seed 0 could not be trained: "
        f"Error: no memory (all of it in {folder / 'log.txt'})"
    )
    assert "| edge | 1.000" in found.stdout  # the others are shown
    executable(venv / "bin" / "python", "#!/bin/sh\nkill -9 $$\n")
    assert "it was stopped by SIGKILL" in board("--method", "padim", "--sets", "bottle").stderr
    executable(venv / "bin" / "python", "#!/bin/sh\n")
    assert "left no result in" in board("--method", "padim", "--sets", "bottle").stderr


def test_only_the_very_job_counts_as_done(tmp_path: Path, venv: Path) -> None:
    (tmp_path / "inputs").mkdir()
    for name in ("train", "test"):
        np.save(tmp_path / "inputs" / f"{name}.npy", np.zeros((2, 4, 4, 3), np.uint8))
    job = {"method": "padim", "size": [4, 4], "layers": [], "seed": 0}

    def ran(job: dict[str, Any]) -> int:
        _, folder = fit("it", venv / "bin" / "python", tmp_path, tmp_path / "inputs", job)
        assert document(folder / "result.json")["job"] == job
        return len((tmp_path / "calls").read_text().splitlines())

    assert ran(job) == 1
    assert ran(job) == 1
    assert ran({**job, "seed": 1}) == 2
    (folder, _) = tmp_path.glob("padim-*")
    for content in ("", "{", "[]", '{"job": {"seed": 9}}'):
        (folder / "result.json").write_text(content)
        seen = json.loads((folder / "job.json").read_text())
        assert ran(seen) == 3
        (tmp_path / "calls").write_text("1\n2\n")
