"""The examples do what they say."""

from __future__ import annotations

import configparser
import importlib.util
import json
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from checkout import ROOT
from mjpeg_server import MjpegServer
from mqtt_broker import Broker, Message
from notify_socket import NotifySocket
from systemd_unit import assert_systemd_agrees
from videos import BAD, write_video
from waiting import until
from workplace import running

from rstpm_edge.cli.infer.run import SOMETHING_ANOMALOUS, SOMETHING_INVALID
from rstpm_edge.cli.line.reactions import SOMETHING_UNWRITTEN
from rstpm_edge.outputs.chain_check import check_chain

EXAMPLES = ROOT / "examples"
UNIT = EXAMPLES / "rstpm-edge.service"


# The loop of a station


def test_the_loop_of_a_station(model: Path, tmp_path: Path) -> None:
    script = EXAMPLES / "inspect_line.py"
    assert len(script.read_text().splitlines()) < 40
    command = [sys.executable, script, model, write_video(tmp_path / "v.avi")]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    verdicts = [line.split()[0] for line in result.stdout.splitlines()]
    assert verdicts == ["REJECT" if number in BAD else "pass" for number in range(30)]
    assert result.stderr == ""


# The service


def unit() -> dict[str, dict[str, str]]:
    """The sections of the unit file; of a key that comes twice, the last value."""
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(re.sub(r"\\\n\s*", "", UNIT.read_text()))
    return {section: dict(parser[section]) for section in parser.sections()}


def command_of_the_unit(places: dict[str, str]) -> list[str]:
    """ExecStart with the places of an installation, and the variables, replaced."""
    words = []
    for word in shlex.split(unit()["Service"]["ExecStart"]):
        for name, place in places.items():
            word = word.replace(name, place)
        assert "$" not in word
        words.append(word)
    return words


@pytest.mark.extra
def test_the_service_runs_feeds_its_watchdog_and_writes_where_it_may(model: Path, tmp_path: Path) -> None:
    service = unit()["Service"]
    state = tmp_path / "state"
    state.mkdir()
    (tmp_path / "mqtt-password").write_text("secret\n")
    with MjpegServer(rate=30) as server, Broker() as broker, NotifySocket(tmp_path / "notify", 0.9) as systemd:
        broker.users = {"station4": "secret"}
        server.defect = True
        places = {
            "/opt/rstpm-edge/bin": str(Path(sys.executable).parent),
            "/etc/rstpm-edge/model.onnx": str(model),
            f"/var/lib/{service['StateDirectory']}": str(state),
            "${SOURCE}": server.url,
            "${MQTT}": f"mqtt://station4@127.0.0.1:{broker.port}/station4",
            "${CREDENTIALS_DIRECTORY}": str(tmp_path),
        }
        command = command_of_the_unit(places)
        process = subprocess.Popen(command, env=systemd.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            assert systemd.receive() == "READY=1"
            assert [systemd.receive() for _ in range(3)] == ["WATCHDOG=1"] * 3
            until(lambda: len(broker.payloads("station4/verdict")) > 3)
            assert broker.payloads("station4/status") == ["online"]
            process.send_signal(signal.SIGTERM)
            output, errors = process.communicate(timeout=float(service["TimeoutStopSec"]))
        finally:
            process.kill()
            process.wait()
        assert process.returncode in (0, *map(int, service["SuccessExitStatus"].split()))
        assert broker.payloads("station4/status") == ["online", "offline"]
        assert broker.payloads("station4/verdict") == output.decode().splitlines()
        assert b" images: 0 normal, " in errors
        checked = check_chain(state / "audit.jsonl")
        assert (checked.entries, checked.faults, checked.notes) == (2, [], [])
        assert len(list((state / "rejects").iterdir())) == len(output.splitlines())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "mqtt-password", "notify", "state"]


def test_a_station_that_is_stopped_has_not_failed() -> None:
    """Whatever the verdicts were that it gave."""
    ended_well = map(int, unit()["Service"]["SuccessExitStatus"].split())
    assert list(ended_well) == [SOMETHING_ANOMALOUS, SOMETHING_INVALID]


def test_the_service_can_write_nowhere_else() -> None:
    service = unit()["Service"]
    assert service["DynamicUser"] == service["NoNewPrivileges"] == service["ProtectHome"] == "yes"
    assert service["ProtectSystem"] == "strict"
    assert not {"ReadWritePaths", "User", "BindPaths", "PrivateDevices"} & service.keys()
    assert service["Type"] == "notify"
    assert float(service["WatchdogSec"]) > 0
    assert service["RestartPreventExitStatus"] == "2"  # a full disk, 5, may have room in a minute
    assert str(SOMETHING_UNWRITTEN) not in service["SuccessExitStatus"].split()
    assert "network-online.target" in unit()["Unit"]["After"]


@pytest.mark.systemd
def test_systemd_has_nothing_to_object_to(tmp_path: Path) -> None:
    assert_systemd_agrees(UNIT, tmp_path)


# The line's controller


@pytest.fixture(scope="module")
def controller() -> ModuleType:
    spec = importlib.util.spec_from_file_location("line_controller", EXAMPLES / "line_controller.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def verdict(taken: float, kind: str = "anomalous") -> str:
    moment = datetime.fromtimestamp(taken, timezone.utc).isoformat(timespec="milliseconds")
    return json.dumps({"path": "camera:0", "time": moment, "verdict": kind})


def started(controller: Any) -> tuple[list[str], Any]:
    """What it did since the inspection came online, and the controller."""
    done: list[str] = []
    line = controller.LineController(
        2.0, eject=lambda: done.append("eject"), stop=done.append, ready=lambda: done.append("ready")
    )
    line.work(99.0)
    assert done == ["the inspection has not said that it is online"]
    line.status("online")
    assert done.pop() == "ready"
    done.clear()
    return done, line


@pytest.mark.extra
def test_a_part_is_ejected_when_it_has_arrived(controller: Any) -> None:
    done, line = started(controller)
    line.verdict(verdict(100.0), now=100.1)
    line.verdict(verdict(100.5, "normal"), now=100.6)
    line.verdict(verdict(101.0), now=101.05)
    line.verdict(verdict(101.0), now=101.06)  # once more, as QoS 1 may
    assert line.work(101.0) == pytest.approx(1.0)
    assert done == []
    assert line.work(102.001) == pytest.approx(0.999)
    assert done == ["eject"]
    line.work(103.5)
    assert done == ["eject", "eject"]
    line.verdict(verdict(101.0), now=103.6)  # and once more, when it is done
    assert done == ["eject", "eject"]


@pytest.mark.extra
def test_the_line_stops_when_a_part_could_pass_unjudged(controller: Any) -> None:
    done, line = started(controller)
    line.verdict(verdict(100.0), now=102.5)
    line.verdict(json.dumps({"path": "x.png", "error": "Cannot read x.png."}), now=103.0)
    line.verdict(json.dumps({"path": "x.png", "verdict": "invalid", "invalid_reason": "too dark"}), now=103.2)
    line.verdict(json.dumps({"path": "x.png", "verdict": "anomalous", "time": None}), now=103.5)
    line.status("offline")
    line.status("no source")
    assert done == [
        "a reject came 0.50 s too late",
        "a part was not judged: Cannot read x.png.",
        "a photo says nothing of its part: too dark",
        "a reject came without its time",
        "the inspection says: offline",
        "the inspection says: no source",
    ]
    line.work(200.0)
    assert "eject" not in done


@pytest.fixture
def line(tmp_path: Path) -> Iterator[tuple[Broker, Callable[[], list[str]]]]:
    """A broker, and what the controller that listens to it has printed so far."""
    printed = tmp_path / "controller"
    with Broker() as broker, open(printed, "w") as output:
        script = [sys.executable, EXAMPLES / "line_controller.py", "127.0.0.1", "station4"]
        options = ["--port", str(broker.port), "--delay", "2"]
        with subprocess.Popen([*script, *options], stdout=output) as process:
            try:
                until(lambda: len(broker.subscriptions) == 2)
                yield broker, lambda: printed.read_text().splitlines()
            finally:
                process.kill()


@pytest.mark.extra
def test_from_the_camera_to_the_ejector(line: Any, model: Path) -> None:
    broker, printed = line
    with MjpegServer(rate=20) as server:
        arguments = ["infer", server.url, "--model", model, "--mqtt", f"mqtt://127.0.0.1:{broker.port}/station4"]
        with running(*arguments, "--every", "0.3s") as process:
            until(lambda: len(broker.payloads("station4/verdict")) > 2)
            server.defect = True
            until(lambda: any(json.loads(payload)["is_anomalous"] for payload in broker.payloads("station4/verdict")))
            server.defect = False
            until(lambda: not json.loads(broker.payloads("station4/verdict")[-1])["is_anomalous"])
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)
    rejects = [v for v in map(json.loads, broker.payloads("station4/verdict")) if v["is_anomalous"]]
    until(lambda: len(printed()) == len(rejects) + 3)
    waiting, ready, *lines = printed()
    assert waiting.endswith("STOP: the inspection has not said that it is online")
    assert ready.endswith("READY")
    (stopped,) = [text for text in lines if "STOP" in text]
    assert stopped.endswith("STOP: the inspection says: offline")
    ejected = [text.removesuffix(" EJECT") for text in lines if text != stopped]
    for reject, at in zip(rejects, ejected, strict=True):
        assert 1.99 < float(at) - datetime.fromisoformat(reject["time"]).timestamp() < 4


@pytest.mark.extra
def test_a_broker_that_goes_away_stops_the_line(line: Any) -> None:
    broker, printed = line
    broker.publish(Message("station4/verdict", verdict(time.time() - 57), False, 1))
    until(lambda: len(printed()) == 2)
    assert re.search(r"STOP: a reject came 5\d\.\d\d s too late$", printed()[1])
    broker.cut()
    until(lambda: len(printed()) == 3)
    assert printed()[2].endswith("STOP: the inspection says: offline")
