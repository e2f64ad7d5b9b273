"""The examples of a server: its unit for systemd, and its container."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from bundles import ModelFactory
from checkout import ROOT
from notify_socket import NotifySocket
from numpy.typing import NDArray
from systemd_unit import assert_systemd_agrees
from watcher import encoded

from rstpm_edge.cli.main import main

UNIT = ROOT / "examples" / "rstpm-edge-serve.service"
DOCKERFILE = ROOT / "examples" / "serve.Dockerfile"
TOKEN = "inspect-0123456789"


def setting(name: str) -> str:
    """The value of a setting of the unit, its lines joined."""
    found = re.search(rf"^{name}=((?:.*\\\n)*.*)$", UNIT.read_text(), re.M)
    assert found
    return found[1].replace("\\\n", " ")


@pytest.mark.extra
def test_the_unit_serves(tmp_path: Path, model_factory: ModelFactory, good: NDArray[object]) -> None:
    (tmp_path / "models").mkdir()
    model_factory("models/bracket.onnx")
    (tmp_path / "tokens").write_text(f"inspect {TOKEN}\n")
    places = {
        "/opt/rstpm-edge/bin": str(Path(sys.executable).parent),
        "/etc/rstpm-edge/models": str(tmp_path / "models"),
        "$SOURCE": "",
        "${HOST}": "127.0.0.1",
        "${CREDENTIALS_DIRECTORY}": str(tmp_path),
    }
    command = setting("ExecStart")
    for place, put in places.items():
        assert place in command
        command = command.replace(place, put)
    with NotifySocket(tmp_path / "notify", 0.9) as systemd:
        words = [*shlex.split(command), "--port", "0"]
        process = subprocess.Popen(words, env=systemd.environment, stderr=subprocess.PIPE, text=True)
        try:
            assert systemd.receive() == "READY=1"
            assert systemd.receive() == "WATCHDOG=1"
            assert process.stderr is not None
            address = process.stderr.readline().split()[-1]
            request = urllib.request.Request(
                f"{address}/v1/inspect",
                encoded(good),
                {"Authorization": f"Bearer {TOKEN}"},  # type: ignore[arg-type]
            )
            with urllib.request.urlopen(request, timeout=30) as answer:
                assert b'"verdict": "normal"' in answer.read()
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=float(setting("TimeoutStopSec")))
        finally:
            process.kill()
            process.wait()
        assert (process.returncode, errors) == (0, "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["models", "notify", "tokens"]


@pytest.mark.systemd
def test_systemd_has_nothing_to_object_to(tmp_path: Path) -> None:
    assert_systemd_agrees(UNIT, tmp_path)


def test_options_that_they_name_exist() -> None:
    options = {option for parameter in main.commands["serve"].params for option in parameter.opts}
    (entry,) = re.findall(r'^ENTRYPOINT \["rstpm-edge", "serve", (.*)\]$', DOCKERFILE.read_text(), re.M)
    for text in (setting("ExecStart"), entry.replace('"', "").replace(",", ""), "--tls-certificate --product"):
        named = {word for word in text.split() if word.startswith("--")}
        assert named
        assert named <= options


def test_the_container_is_built_as_the_other_one() -> None:
    """But for what is installed, and how it is started."""

    def lines(name: str) -> list[str]:
        text = (ROOT / "examples" / name).read_text()
        return [line for line in text.splitlines() if line and not line.startswith("#")]

    build, of_serve = lines("Dockerfile"), lines("serve.Dockerfile")
    different = [line for line in of_serve if line not in build]
    assert [line.split()[0] for line in different] == [
        "&&",
        "PYTHONUNBUFFERED=1",
        "EXPOSE",
        "HEALTHCHECK",
        "CMD",
        "ENTRYPOINT",
    ]
    assert "'.[serve]'" in different[0]
    assert [line for line in of_serve if line.startswith("USER")] == ["USER 10001:10001"]


@pytest.mark.extra
def test_the_health_check_asks_what_there_is(tmp_path: Path, model_factory: ModelFactory) -> None:
    from station_server import serving

    (found,) = re.findall(r'CMD \["python", "-c", "(.*)"\]', DOCKERFILE.read_text())
    with serving(model_factory()) as client:
        code = found.replace("127.0.0.1:8080", client.address)
        assert subprocess.run([sys.executable, "-c", code], env=os.environ, check=False).returncode == 0
    refused = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert refused.returncode != 0
