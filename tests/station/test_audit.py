"""The audit log of a station: which models judge, who steers it, and how many of what; never a token or an image."""

from __future__ import annotations

import hashlib
import json
import signal
import urllib.request
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from bundles import ModelFactory
from numpy.typing import NDArray
from serve_process import ask, served
from waiting import until
from watcher import encoded
from workplace import command_line, finish

from rstpm_edge.model.metadata import Fusion
from rstpm_edge.outputs.audit_log import AuditLog
from rstpm_edge.station.audit import StationAudit
from rstpm_edge.station.event import Inspection

pytestmark = pytest.mark.extra
TOKEN = "manage-0123456789"


def entries(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def post(url: str, document: object) -> Any:
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}
    request = urllib.request.Request(url, json.dumps(document).encode(), headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read())


def test_what_judges_and_who_steers(
    tmp_path: Path, model_factory: ModelFactory, good: NDArray[np.uint8], bad: NDArray[np.uint8]
) -> None:
    models, incoming, log = tmp_path / "models", tmp_path / "incoming", tmp_path / "audit.jsonl"
    models.mkdir()
    incoming.mkdir()
    (tmp_path / "tokens").write_text(f"manage {TOKEN}\n")
    first, second = model_factory("models/bolt.onnx"), model_factory("models/nut.onnx")
    changed = model_factory("changed.onnx", fusion=Fusion(weights=(2.0,) * 6))
    arguments = [incoming, "--watch", "--models", models, "--product", "bolt", "--tokens", tmp_path / "tokens"]
    arguments += ["--history", tmp_path / "history"]
    with served(*arguments, "--audit-log", log) as (process, address):
        cv2.imwrite(str(tmp_path / "secret-part.png"), bad)
        (tmp_path / "secret-part.png").rename(incoming / "secret-part.png")
        ask(f"{address}/v1/inspect?product=bolt&name=secret-name", encoded(good), TOKEN)
        until(lambda: ask(f"{address}/v1/station", token=TOKEN)["lines"][0]["images"] == 1)
        ask(f"{address}/v1/station/pause", b"", TOKEN)
        ask(f"{address}/v1/station/resume", b"", TOKEN)
        post(f"{address}/v1/station/product", {"product": "nut"})
        ask(f"{address}/v1/station/shift", b"", TOKEN)
        (reject,) = ask(f"{address}/v1/inspections?verdict=anomalous", token=TOKEN)["inspections"]
        note = {"kind": "good", "person": "Ada\nLovelace", "comment": "secret-comment"}
        post(f"{address}/v1/inspections/{reject['id']}/notes", note)
        before = second.read_bytes()
        changed.replace(second)
        until(lambda: entries(log)[-1]["event"] == "model swapped")  # an entry is there once the answer is
        ask(f"{address}/v2/repository/models/bolt/unload", b"", TOKEN)
        process.send_signal(signal.SIGTERM)
        assert finish(process)[0] == 0
    found = entries(log)
    assert [entry["event"] for entry in found] == [
        "start", "model loaded", "line paused", "line resumed", "model loaded", "product selected", "shift begun",
        "note made", "model swapped", "unload asked", "stop",
    ]  # fmt: skip
    start, loaded, paused, _, _, selected, shift, noted, swapped, unloaded, stop = found
    assert (start["models"], start["typed"]["tokens"]) == (str(models), True)
    assert start["lines"]["line"]["source"] == str(incoming)
    assert (loaded["product"], loaded["sha256"]) == ("bolt", hashlib.sha256(first.read_bytes()).hexdigest())
    assert (loaded["threshold"], loaded["mask"]) == (0.99, "model")
    who = {"address": "127.0.0.1", "token": hashlib.sha256(TOKEN.encode()).hexdigest()[:8]}
    assert all(entry["by"] == who for entry in (paused, selected, shift, unloaded))
    assert noted["by"] == {**who, "person": "Ada\\nLovelace"}
    assert (noted["part"], noted["kind"], noted["verdict"]) == (reject["id"], "good", "anomalous")
    assert (paused["line"], paused["product"], selected["product"]) == ("line", "bolt", "nut")
    assert shift["ended"] == {"normal": 1, "anomalous": 1, "invalid": 0, "failed": 0}
    assert swapped["sha256_before"] == hashlib.sha256(before).hexdigest()
    assert swapped["sha256"] == hashlib.sha256(second.read_bytes()).hexdigest()
    assert (stop["ending"], stop["normal"], stop["anomalous"]) == ("signal 15", 1, 1)
    assert stop["origins"]["line"]["anomalous"] == stop["origins"]["request"]["normal"] == 1
    for secret in (TOKEN, "secret-name", "secret-part", "secret-comment"):
        assert secret not in log.read_text()
    assert command_line("audit-log", log).exit_code == 0


def test_a_model_that_is_refused_stands_in_it(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_text("no model")
    log = tmp_path / "audit.jsonl"
    result = command_line("serve", "--port", 0, "--model", tmp_path / "model.onnx", "--audit-log", log)
    assert result.exit_code == 2, result.stderr
    start, refused, stop = entries(log)
    assert (start["event"], refused["event"], stop["event"]) == ("start", "model refused", "stop")
    assert refused["product"] == "model"
    assert refused["error"] in result.stderr
    assert stop["ending"] == "ModelError"


def test_counts_come_after_a_while_with_verdicts(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    with AuditLog(path) as log, StationAudit(log, interval=0.02) as audit:
        log.start({})
        audit.add(Inspection(0.0, "request", "bolt", "1", {"verdict": "normal"}))
        until(lambda: len(entries(path)) == 2)
    assert [entry["event"] for entry in entries(path)] == ["start", "counts", "stop"]
    assert entries(path)[1]["origins"] == {"request": {"normal": 1, "anomalous": 0, "invalid": 0, "failed": 0}}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--audit-log-size", "5"], "--audit-log-size goes with --audit-log FILE only."),
        (["in", "--watch", "--audit-log", "x", "--csv", "x"], "--audit-log and --csv must be different files."),
        (["--audit-log", "x.png"], "--audit-log"),
    ],
)
def test_wrong_use_is_one_sentence(model: Path, arguments: list[str], words: str) -> None:
    result = command_line("serve", "--port", 0, "--model", model, *arguments)
    assert result.exit_code == 2
    assert words in result.stderr
