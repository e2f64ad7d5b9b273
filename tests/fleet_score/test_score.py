"""Scoring an archive by Ray on this machine: each image has exactly one row, whatever died on the way."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import fleet_judges
import moto.server as moto_server
import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
import ray_workers
import s3fs
from bundles import make_bundle, write_model
from waiting import until

from rstpm_edge import Detector
from rstpm_edge.errors import ModelError, UsageError
from rstpm_edge.fleet_score import rounds
from rstpm_edge.fleet_score.score import Scored, ScorePlan, score_archive
from rstpm_edge.pipeline import InferenceOptions
from rstpm_edge.progress import Progress
from rstpm_edge.ray_cluster import cluster

pytestmark = pytest.mark.extra


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """A cluster of two processors, which all tests here use: it takes seconds to start."""
    with cluster(None, 2) as ray:
        yield ray


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "model.onnx", make_bundle())


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """24 flat pictures, of which every fifth is white, and one that is none."""
    folder = tmp_path / "archive"
    folder.mkdir()
    for number in range(24):
        cv2.imwrite(str(folder / f"{number}.png"), np.full((50, 70), 127 if number % 5 else 255, np.uint8))
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    return folder


def score(archive: object, model: Path, out: Path, **changes: Any) -> Scored:
    report = changes.pop("report", lambda progress: None)
    options = InferenceOptions(notify=lambda sentence: None)
    return score_archive(ScorePlan(str(archive), model, out, options, **{"batch": 4, **changes}), 2, report=report)


def rows(out: Path) -> dict[str, dict[str, Any]]:
    """By the last part of the path. Fails where an image has two."""
    found = pa.dataset.dataset(out, partitioning="hive").to_table().to_pylist()
    named = {Path(row["path"]).name: row for row in found}
    assert len(named) == len(found)
    return named


def test_each_image_has_the_row_that_a_detector_gives(
    ray: Any, model_file: Path, archive: Path, tmp_path: Path
) -> None:
    scored = score(archive, model_file, tmp_path / "out")
    assert scored.counts == {"normal": 19, "anomalous": 5, "failed": 1}
    assert scored.is_whole
    found = rows(tmp_path / "out")
    with Detector(model_file, threads=1) as detector:
        for number in range(24):
            row, result = found[f"{number}.png"], detector(archive / f"{number}.png")
            assert (row["verdict"], row["score"], row["p_value"]) == (result.verdict, result.score, result.p_value)
            assert row["model_sha256"] == detector.sha256
            assert [tuple(region["box"]) for region in row["regions"]] == [one.box for one in result.regions]
    assert found["broken.png"]["verdict"] == "failed"
    assert found["broken.png"]["error"] == "Cannot read the image: the file is truncated or damaged; copy it again."

    before = {path: path.stat() for path in scored.folder.iterdir()}
    again = score(archive, model_file, tmp_path / "out")
    assert (again.done_before, again.counts) == (25, scored.counts)
    assert {path: path.stat() for path in scored.folder.iterdir()} == before

    cv2.imwrite(str(archive / "1.png"), np.full((60, 70), 255, np.uint8))
    cv2.imwrite(str(archive / "24.png"), np.full((60, 70), 127, np.uint8))
    third = score(archive, model_file, tmp_path / "out")
    assert (third.images, third.done_before) == (26, 24)
    assert rows(tmp_path / "out")["1.png"]["verdict"] == "anomalous"


def test_workers_that_are_killed(ray: Any, model_file: Path, archive: Path, tmp_path: Path) -> None:
    killed: list[int] = []

    def alive() -> list[int]:
        return [process for process in ray_workers.judges() if process not in killed]

    def report(progress: Progress) -> None:
        if progress.done and len(killed) < 2:
            until(lambda: bool(alive()))  # the second one may yet start
            killed.append(alive()[0])
            ray_workers.kill(killed[-1])

    scored = score(archive, model_file, tmp_path / "out", batch=2, report=report)
    assert len(killed) == 2
    assert scored.counts == {"normal": 19, "anomalous": 5, "failed": 1}
    assert len(rows(tmp_path / "out")) == 25


@pytest.mark.slow
def test_an_image_that_kills_its_worker(
    ray: Any, model_file: Path, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray.cloudpickle.register_pickle_by_value(fleet_judges)
    monkeypatch.setattr(rounds, "Judge", fleet_judges.DiesOfPoison)
    monkeypatch.setattr(rounds, "RETRIES", 0)
    (archive / "7.png").write_bytes(fleet_judges.POISON)
    scored = score(archive, model_file, tmp_path / "out", batch=5)
    assert scored.counts == {"normal": 18, "anomalous": 5, "failed": 2}
    poisoned = rows(tmp_path / "out")["7.png"]
    assert poisoned["error"] == "Each worker process that judged it died, 2 by this image alone."
    monkeypatch.undo()
    scored = score(archive, model_file, tmp_path / "out")
    assert scored.done_before == 24  # that one is tried again
    assert "Cannot read" in rows(tmp_path / "out")["7.png"]["error"]


def test_images_in_parquet(ray: Any, model_file: Path, archive: Path, tmp_path: Path) -> None:
    contents = [(archive / f"{number}.png").read_bytes() for number in range(10)]
    pq.write_table(pa.table({"id": range(10), "photo": contents}), tmp_path / "a.parquet", row_group_size=4)
    pairs = [{"bytes": content, "path": "x.png"} for content in contents[:3]]
    pq.write_table(pa.table({"image": [*pairs, None]}), tmp_path / "b.parquet")
    scored = score(f"{tmp_path}/*.parquet", model_file, tmp_path / "out")
    assert scored.counts == {"normal": 10, "anomalous": 3, "failed": 1}
    found = rows(tmp_path / "out")
    assert [name for name, row in sorted(found.items()) if row["verdict"] == "anomalous"] == [
        "a.parquet#0",
        "a.parquet#5",
        "b.parquet#0",
    ]
    assert found["b.parquet#3"]["error"] == "There are no bytes in this row."


@pytest.mark.slow
def test_a_command_that_is_killed_goes_on(model_file: Path, archive: Path, tmp_path: Path, ray: Any) -> None:
    program = (
        "import sys; from pathlib import Path; from rstpm_edge.fleet_score import score as s\n"
        "from rstpm_edge.pipeline import InferenceOptions\n"
        "s.PART_SECONDS = 0\n"
        "archive, model, out = sys.argv[1:]\n"
        "plan = s.ScorePlan(archive, Path(model), Path(out), InferenceOptions(), workers=1, batch=1)\n"
        "s.score_archive(plan, 1)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program, archive, model_file, tmp_path / "out"])
    try:
        until(lambda: len(list((tmp_path / "out").rglob("part-*.parquet"))) >= 3, 120)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    judged = len(rows(tmp_path / "out"))
    assert 3 <= judged <= 25
    scored = score(archive, model_file, tmp_path / "out")
    assert scored.done_before == judged
    assert scored.counts == {"normal": 19, "anomalous": 5, "failed": 1}
    assert len(rows(tmp_path / "out")) == 25


@pytest.mark.slow
def test_a_cluster_that_there_is(ray: Any, model_file: Path, archive: Path, tmp_path: Path) -> None:
    address = ray.get_runtime_context().gcs_address
    command = [sys.executable, "-m", "rstpm_edge", "fleet", "score", archive, "--model", model_file]
    done = subprocess.run(
        [*command, "--out", tmp_path / "out", "--address", address, "--json"], capture_output=True, text=True
    )
    assert done.returncode == 3, done.stderr  # one cannot be read
    assert json.loads(done.stdout)["counts"] == {"normal": 19, "anomalous": 5, "failed": 1}
    assert ray.cluster_resources()["CPU"] == 2  # it is there still


@pytest.mark.slow
def test_an_object_store(model_file: Path, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        login = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "tests", "AWS_DEFAULT_REGION": "us-east-1"}
        for name, value in {**login, "AWS_ENDPOINT_URL": f"http://{host}:{port}"}.items():
            monkeypatch.setenv(name, value)
        store = s3fs.S3FileSystem()
        store.mkdir("line4")
        store.put(str(archive), "line4/photos", recursive=True)
        command = [sys.executable, "-m", "rstpm_edge", "fleet", "score", "s3://line4/photos", "--model", model_file]
        for before in (0, 25):
            done = subprocess.run([*command, "--out", tmp_path / "out", "--json"], capture_output=True, text=True)
            assert done.returncode == 3, done.stderr
            said = json.loads(done.stdout)
            assert said["counts"] == {"normal": 19, "anomalous": 5, "failed": 1}
            assert said["done_before"] == before
        assert rows(tmp_path / "out")["5.png"]["path"] == "s3://line4/photos/5.png"
    finally:
        server.stop()


def test_it_reports_to_nobody_and_listens_on_the_loopback_alone(ray: Any) -> None:
    from ray._common.usage.usage_lib import usage_stats_enabled

    assert not usage_stats_enabled()
    assert ray_workers.listening() <= {"127.0.0.1", "::1"}


def test_a_model_that_cannot_be_loaded(tmp_path: Path, archive: Path) -> None:
    (tmp_path / "no.onnx").write_bytes(b"none")
    with pytest.raises(ModelError):
        score(archive, tmp_path / "no.onnx", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("127.0.0.1:1", "There is no Ray cluster to use at 127.0.0.1:1: Connection refused."),
        ("here", "`address` is host:port of a Ray cluster, or auto, not 'here'."),
        ("here:99999999", "There is no Ray cluster to use at here:99999999"),
    ],
)
def test_an_address_where_nothing_answers(address: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=f"^{re.escape(sentence)}"), cluster(address, 1):
        pass


def test_without_ray(monkeypatch: pytest.MonkeyPatch, archive: Path, model_file: Path, tmp_path: Path) -> None:
    from click.testing import CliRunner

    from rstpm_edge.cli.main import main

    monkeypatch.setitem(sys.modules, "ray", None)
    result = CliRunner().invoke(
        main, ["fleet", "score", str(archive), "--model", str(model_file), "--out", os.fspath(tmp_path / "out")]
    )
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: This command needs Ray (ray is missing): pip install '.[fleet]'")
