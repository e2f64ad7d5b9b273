"""Verdicts over MQTT with a real broker: make test-mqtt, with Debian's package mosquitto installed."""

from __future__ import annotations

import getpass
import json
import signal
import socket
import ssl
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion
from waiting import until
from workplace import finish, running, start

pytestmark = pytest.mark.mosquitto
PASSWORDS = {"line": "p@ss:word", "watcher": "watcher"}


class Mosquitto:
    """The broker, on a free loopback port, with the users PASSWORDS and TLS; it can be stopped and started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.port: int = server.getsockname()[1]
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(folder / "ca.pem"))
        server_certificate = authority.issue_cert("127.0.0.1")
        server_certificate.cert_chain_pems[0].write_to_path(str(folder / "certificate.pem"))
        server_certificate.private_key_pem.write_to_path(str(folder / "key.pem"))
        (folder / "users").touch(0o600)
        (folder / "kept").mkdir()
        for user, password in PASSWORDS.items():
            command = ["mosquitto_passwd", "-b", str(folder / "users"), user, password]
            subprocess.run(command, check=True, capture_output=True)
        (folder / "mosquitto.conf").write_text(
            f"user {getpass.getuser()}\n"
            f"listener {self.port} 127.0.0.1\n"
            f"allow_anonymous false\npassword_file {folder}/users\n"
            f"cafile {folder}/ca.pem\ncertfile {folder}/certificate.pem\nkeyfile {folder}/key.pem\n"
            f"persistence true\npersistence_location {folder}/kept/\n"
        )
        self.start()

    def start(self) -> None:
        with open(self.folder / "log", "ab") as log:
            command = ["mosquitto", "-c", str(self.folder / "mosquitto.conf")]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        until(self._answers)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()

    def _answers(self) -> bool:
        assert self._process.poll() is None, (self.folder / "log").read_text()
        try:
            socket.create_connection(("127.0.0.1", self.port)).close()
        except OSError:
            return False
        return True


class Subscriber:
    """Collects what is published below line/4, as (topic, payload, whether it was retained).

    The broker keeps its session: when both have lost the broker, the detector may be back first, and what it publishes
    then has to wait for the subscriber.
    """

    def __init__(self, broker: Mosquitto) -> None:
        self.received: list[tuple[str, str, bool]] = []
        self.subscribed = False
        client = Client(CallbackAPIVersion.VERSION2, client_id=uuid.uuid4().hex, clean_session=False)
        client.username_pw_set("watcher", PASSWORDS["watcher"])
        client.tls_set_context(ssl.create_default_context(cafile=str(broker.folder / "ca.pem")))
        client.on_connect = lambda client, *rest: client.subscribe("line/4/#", qos=1)
        client.on_subscribe = self._note_subscription
        client.on_message = self._note
        client.reconnect_delay_set(1, 1)
        client.connect("127.0.0.1", broker.port)
        client.loop_start()
        self.client = client

    def _note(self, client: Any, userdata: Any, message: Any) -> None:
        self.received.append((message.topic, message.payload.decode(), message.retain))

    def _note_subscription(self, *arguments: Any) -> None:
        self.subscribed = True

    def payloads(self, topic: str) -> list[str]:
        return [payload for name, payload, _ in self.received if name == topic]

    def __enter__(self) -> Subscriber:
        until(lambda: self.subscribed)
        return self

    def __exit__(self, *exception: object) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    broker = Mosquitto(tmp_path_factory.mktemp("mosquitto"))
    yield broker
    broker.stop()


def options(broker: Mosquitto, model: Path, password: str = PASSWORDS["line"]) -> list[object]:
    secret = broker.folder / "password"
    secret.write_text(password)
    address = f"mqtts://line@127.0.0.1:{broker.port}/line/4"
    return ["--model", model, "--mqtt", address, "--mqtt-password-file", secret, "--mqtt-ca", broker.folder / "ca.pem"]


def test_verdicts_and_status(broker: Mosquitto, model: Path, photos: Path) -> None:
    with Subscriber(broker) as subscriber:
        code, output, errors = finish(start("infer", photos, "--json", *options(broker, model)))
        assert (code, errors) == (1, "")
        until(lambda: len(subscriber.received) == 5)
    assert subscriber.payloads("line/4/verdict") == output.splitlines()
    assert subscriber.payloads("line/4/status") == ["online", "offline"]
    with Subscriber(broker) as later:
        until(lambda: len(later.received) == 1)
        assert later.received == [("line/4/status", "offline", True)]


def test_the_last_will(broker: Mosquitto, model: Path, tmp_path: Path) -> None:
    (tmp_path / "incoming").mkdir()
    with Subscriber(broker) as subscriber:
        with running("infer", tmp_path / "incoming", "--watch", *options(broker, model)):
            until(lambda: subscriber.payloads("line/4/status") == ["online"])
        until(lambda: subscriber.payloads("line/4/status") == ["online", "offline"])


def test_a_broker_that_goes_away(broker: Mosquitto, model: Path, photos: Path, tmp_path: Path) -> None:
    incoming = tmp_path / "incoming"
    incoming.mkdir()
    printed = tmp_path / "printed"
    arguments = ["infer", incoming, "--watch", "--json", *options(broker, model)]
    with open(printed, "w") as output, running(*arguments, stdout=output) as process:
        with Subscriber(broker) as subscriber:
            until(lambda: subscriber.payloads("line/4/status") == ["online"])
            broker.stop()
            for number in range(3):
                (incoming / f"{number}.png").write_bytes((photos / "1.png").read_bytes())
            until(lambda: len(printed.read_text().splitlines()) == 3)  # the inspection goes on
            broker.start()
            until(lambda: len(subscriber.payloads("line/4/verdict")) == 3)
        process.send_signal(signal.SIGTERM)
        code, _, errors = finish(process)
    assert code == 0
    assert subscriber.payloads("line/4/verdict") == printed.read_text().splitlines()
    name = f"The MQTT broker 127.0.0.1:{broker.port}"
    lost, back, summary = errors.splitlines()
    assert lost == f"{name} is lost; up to 1000 messages wait for it."
    assert back == f"{name} is back."
    assert json.loads(printed.read_text().splitlines()[0])["is_anomalous"] is False
    assert summary.startswith("3 images: 3 normal, 0 anomalous, 0 invalid, 0 failed; ")


def test_a_wrong_password(broker: Mosquitto, model: Path, photos: Path) -> None:
    code, output, errors = finish(start("infer", photos, *options(broker, model, "wrong")))
    assert code == 1
    assert errors == f"The MQTT broker 127.0.0.1:{broker.port} refuses the connection: Not authorized.\n"
    assert output.splitlines()[-1].endswith("; 3 messages lost")
