"""Verdicts over MQTT, with a broker of our own; test_mosquitto.py has a real one."""

from __future__ import annotations

import gc
import json
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import trustme
from click.testing import Result
from mqtt_broker import Broker
from waiting import until
from workplace import command_line, finish, running

from rstpm_edge.errors import UsageError
from rstpm_edge.outputs import mqtt
from rstpm_edge.outputs.mqtt import Mqtt, parse_broker

BAD = {"path": "part.png", "verdict": "anomalous"}


@pytest.fixture(autouse=True)
def no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RSTPM_EDGE_MQTT_PASSWORD", raising=False)


@pytest.fixture
def broker() -> Iterator[Broker]:
    with Broker() as broker:
        yield broker


@pytest.fixture
def reports() -> list[str]:
    return []


@pytest.fixture
def run(model: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setenv("RSTPM_EDGE_MODEL", str(model))
    return lambda *arguments: command_line("infer", *arguments)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def url(broker: Broker, before: str = "mqtt://", topic: str = "line/4") -> str:
    return f"{before}127.0.0.1:{broker.port}/{topic}"


def test_verdicts_and_failures_are_published(run: Any, broker: Broker, photos: Path) -> None:
    (photos / "3.png").write_text("this is text")
    result = run(photos, "--json", "--mqtt", url(broker))
    assert result.exit_code == 3
    assert broker.payloads("line/4/verdict") == result.stdout.splitlines()
    assert len(broker.payloads("line/4/verdict")) == 4
    verdicts = [message for message in broker.received if message.topic == "line/4/verdict"]
    assert all(message.qos == 1 and not message.retain for message in verdicts)
    assert broker.payloads("line/4/status") == ["online", "offline"]
    assert broker.retained["line/4/status"].payload == "offline"
    assert broker.retained.keys() == {"line/4/status"}
    assert result.stderr.count("\n") == 1  # of the damaged image


def test_drift_is_a_state_for_whoever_comes_later(run: Any, broker: Broker, photos: Path) -> None:
    result = run(photos, "--json", "--drift", "1%", "--mqtt", url(broker))
    assert result.exit_code == 1
    (told,) = broker.payloads("line/4/drift")
    assert json.loads(told) == {
        "drift": "stable",
        "cause": None,
        "alarm_at": None,
        "images": 0,
        "false_alarm_rate": 0.01,
    }
    assert broker.retained.keys() == {"line/4/status", "line/4/drift"}
    assert [json.loads(one)["drift"] for one in broker.payloads("line/4/verdict")] == ["stable"] * 3


def test_an_alarm_comes_once_and_stays_for_whoever_comes_later(run: Any, broker: Broker, tmp_path: Path) -> None:
    for number in range(40):  # each brighter than all but a tenth of the held-out ones
        cv2.imwrite(str(tmp_path / f"{number:02}.png"), np.full((64, 64), 146, np.uint8))
    run(tmp_path, "--json", "--drift", "1%", "--mqtt", url(broker))
    *before, alarm = (json.loads(one) for one in broker.payloads("line/4/drift"))
    assert alarm["drift"] == "scene changed"
    assert [one["drift"] for one in before] in ([], ["stable"])  # where the alarm was quicker than the connection, none
    assert alarm["alarm_at"] == alarm["images"] < 40
    assert json.loads(broker.retained["line/4/drift"].payload) == alarm


def test_whoever_is_killed_is_offline(broker: Broker, model: Path, photos: Path) -> None:
    code = f"""
from rstpm_edge.outputs.mqtt import Mqtt, parse_broker
with Mqtt(parse_broker({url(broker)!r}), report=print) as mqtt:
    mqtt.tell({{"path": "x"}})
    input()
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
    until(lambda: broker.payloads("line/4/status") == ["online"])
    process.kill()
    process.communicate()
    until(lambda: broker.payloads("line/4/status") == ["online", "offline"])
    assert broker.retained["line/4/status"].retain


def test_what_is_said_while_the_broker_is_away_is_kept(reports: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt, "GOODBYE", 20)
    port = free_port()
    with Mqtt(parse_broker(f"mqtt://127.0.0.1:{port}/t"), report=reports.append) as publisher:
        for number in range(50):
            publisher.tell({"path": str(number)})
        until(lambda: len(reports) == 1)
        with Broker(port) as broker:
            until(lambda: len(broker.payloads("t/verdict")) == 50)
        publisher.tell({"path": "50"})  # once more
        until(lambda: len(reports) == 3)
        with Broker(port) as second:
            until(lambda: len(second.payloads("t/verdict")) == 1)
    assert [json.loads(payload)["path"] for payload in broker.payloads("t/verdict")] == [str(n) for n in range(50)]
    assert [json.loads(payload)["path"] for payload in second.payloads("t/verdict")] == ["50"]
    assert publisher.lost == 0
    assert reports[:4] == [
        f"The MQTT broker 127.0.0.1:{port} cannot be reached; up to 1000 messages wait for it.",
        f"The MQTT broker 127.0.0.1:{port} is back.",
        f"The MQTT broker 127.0.0.1:{port} is lost; up to 1000 messages wait for it.",
        f"The MQTT broker 127.0.0.1:{port} is back.",
    ]


def test_a_message_without_an_answer_is_sent_again(broker: Broker, reports: list[str]) -> None:
    with Mqtt(parse_broker(url(broker)), report=reports.append) as publisher:
        until(lambda: broker.payloads("line/4/status") == ["online"])
        broker.acknowledges = False
        publisher.tell(BAD)
        until(lambda: len(broker.payloads("line/4/verdict")) == 1)
        broker.acknowledges = True
        broker.cut()
        until(lambda: len(broker.payloads("line/4/verdict")) == 2)
    assert publisher.lost == 0


def test_a_source_that_is_lost_is_told(broker: Broker, reports: list[str]) -> None:
    with Mqtt(parse_broker(url(broker)), report=reports.append) as publisher:
        until(lambda: broker.payloads("line/4/status") == ["online"])
        publisher.tell(BAD)
        publisher.tell_source(False)
        until(lambda: broker.payloads("line/4/status") == ["online", "no source"])
        assert [message.topic for message in broker.received][-2:] == ["line/4/verdict", "line/4/status"]
        assert broker.retained["line/4/status"].payload == "no source"
        broker.cut()  # the next connection begins with what holds then, not with "online"
        until(lambda: broker.payloads("line/4/status")[-2:] == ["offline", "no source"])
        publisher.tell_source(True)
        until(lambda: broker.payloads("line/4/status")[-1] == "online")
    assert broker.payloads("line/4/status")[-1] == "offline"
    assert publisher.lost == 0


def test_a_watched_folder_that_goes_away_is_told(broker: Broker, model: Path, photos: Path, tmp_path: Path) -> None:
    incoming = tmp_path / "incoming"
    incoming.mkdir()
    photo = (photos / "1.png").read_bytes()
    with running("infer", incoming, "--watch", "--model", model, "--mqtt", url(broker)) as process:

        def watched() -> bool:  # "online" comes before the folder is looked at; what is in it by then is not judged
            (incoming / f"{time.monotonic_ns()}.png").write_bytes(photo)
            time.sleep(0.2)
            return bool(broker.payloads("line/4/verdict"))

        until(watched, 60)
        incoming.rename(tmp_path / "elsewhere")
        until(lambda: broker.payloads("line/4/status") == ["online", "no source"])
        (tmp_path / "elsewhere").rename(incoming)
        until(lambda: broker.payloads("line/4/status") == ["online", "no source", "online"])
        process.send_signal(signal.SIGTERM)
        assert finish(process, 60)[0] == 0


def test_the_queue_is_bounded_and_the_inspection_does_not_wait(
    reports: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt, "QUEUE", 10)
    monkeypatch.setattr(mqtt, "GOODBYE", 0.2)
    port = free_port()
    with Mqtt(parse_broker(f"mqtt://127.0.0.1:{port}/t"), report=reports.append) as publisher:
        until(lambda: len(reports) == 1)
        started = time.monotonic()
        for _ in range(25):
            publisher.tell(BAD)
        assert time.monotonic() - started < 10
        assert publisher.lost == 15
        assert reports[1:] == [f"10 messages wait for the MQTT broker 127.0.0.1:{port}; further ones are lost."]
    assert publisher.lost == 25


def test_what_holds_at_last_is_told_after_a_full_queue(reports: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt, "QUEUE", 10)
    port = free_port()
    with Mqtt(parse_broker(f"mqtt://127.0.0.1:{port}/t"), report=reports.append) as publisher:
        publisher.tell(BAD)
        publisher.tell_source(False)
        publisher.tell_source(True)
        for _ in range(12):
            publisher.tell(BAD)
        publisher.tell_source(False)
        publisher.tell_drift({"drift": "stable", "line": "top"})
        publisher.tell_drift({"drift": "stable", "line": "side"})
        publisher.tell_drift({"drift": "scene changed", "line": "top"})
        with Broker(port) as broker:
            until(lambda: len(broker.payloads("t/drift")) == 2)
            assert [message.topic for message in broker.received] == [
                "t/status",  # the greeting
                *["t/verdict"] * 9,
                "t/status",
                *["t/drift"] * 2,
            ]
            assert broker.payloads("t/status") == ["no source", "no source"]
            assert [json.loads(one)["line"] for one in broker.payloads("t/drift")] == ["side", "top"]
            assert json.loads(broker.retained["t/drift"].payload)["drift"] == "scene changed"
    assert publisher.lost == 13 - 9


class Slow(int):
    """A count in the middle of whose change another thread gets its turn."""

    def __add__(self, other: int) -> Slow:
        time.sleep(0.0005)
        return Slow(int(self) + other)

    def __sub__(self, other: int) -> Slow:
        time.sleep(0.0005)
        return Slow(int(self) - other)


def test_messages_of_several_threads_are_all_counted(reports: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt, "GOODBYE", 0)
    with Mqtt(parse_broker(f"mqtt://127.0.0.1:{free_port()}/t"), report=reports.append) as publisher:
        publisher._unanswered._number = Slow()

        def source() -> None:  # is lost, and is back: its thread, not that of the inspection
            for number in range(25):
                publisher.tell_source(bool(number % 2))

        def broker() -> None:
            for number in range(25):
                publisher._on_publish(None, None, number, None, None)

        threads = [threading.Thread(target=one) for one in (source, source, source, source, broker, broker)]
        for thread in threads:
            thread.start()
        for _ in range(25):
            publisher.tell(BAD)
        for thread in threads:
            thread.join()
    assert publisher.lost == 25 + 1 - 2 * 25  # of the source only the latest state waits


def test_lost_messages_are_in_the_summary(run: Any, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt, "GOODBYE", 0.5)
    result = run(photos, "--mqtt", f"mqtt://127.0.0.1:{free_port()}/t")
    assert result.exit_code == 1  # what the broker does is no verdict
    assert result.stdout.splitlines()[-1].endswith("; 3 messages lost")
    assert "cannot be reached; up to 1000 messages wait for it." in result.stderr


# Users and passwords


@pytest.mark.parametrize("where", ["address", "variable", "file"])
def test_passwords(
    broker: Broker, tmp_path: Path, reports: list[str], where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker.users = {"line@4": "pass:w/örd"}
    file = None
    if where == "variable":
        monkeypatch.setenv("RSTPM_EDGE_MQTT_PASSWORD", "pass:w/örd")
    elif where == "file":
        monkeypatch.setenv("RSTPM_EDGE_MQTT_PASSWORD", "another")  # the file is meant more than it
        file = tmp_path / "password"
        file.write_text("pass:w/örd\n")
    login = "line%404:pass%3Aw%2F%C3%B6rd@" if where == "address" else "line%404@"
    with Mqtt(parse_broker(url(broker, f"mqtt://{login}"), password_file=file), report=reports.append) as publisher:
        publisher.tell(BAD)
        until(lambda: len(broker.payloads("line/4/verdict")) == 1)
    assert reports == []


def test_a_refusal_is_told_once_and_without_the_password(
    broker: Broker, reports: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt, "GOODBYE", 2.5)
    broker.users = {"line": "right"}
    with Mqtt(parse_broker(url(broker, "mqtt://line:wrong@")), report=reports.append) as publisher:
        publisher.tell(BAD)
    assert publisher.lost == 1
    assert reports == [f"The MQTT broker 127.0.0.1:{broker.port} refuses the connection: Not authorized."]
    assert "wrong" not in repr(parse_broker(url(broker, "mqtt://line:wrong@")))


# TLS


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """Signs certificates, and nobody but these tests trusts it."""
    return trustme.CA()


@pytest.fixture
def secure_broker(authority: trustme.CA) -> Iterator[Broker]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with Broker(tls=context) as broker:
        yield broker


def test_tls(secure_broker: Broker, authority: trustme.CA, run: Any, photos: Path, tmp_path: Path) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    result = run(photos, "--mqtt", url(secure_broker, "mqtts://"), "--mqtt-ca", tmp_path / "ca.pem")
    assert (result.exit_code, result.stderr) == (1, "")
    assert len(secure_broker.payloads("line/4/verdict")) == 3


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # paho leaves its socket open
def test_a_certificate_that_nobody_vouches_for(
    secure_broker: Broker, run: Any, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt, "GOODBYE", 1)
    result = run(photos / "1.png", "--mqtt", url(secure_broker, "mqtts://"))
    gc.collect()
    assert result.stderr == (
        f"The MQTT broker 127.0.0.1:{secure_broker.port} cannot be reached, or its certificate cannot be trusted; "
        "up to 1000 messages wait for it.\n"
    )
    assert secure_broker.received == []


# Addresses


def test_addresses(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("secret\n")
    broker = parse_broker("mqtt://host/line%201/part/", password_file=None)
    assert (broker.host, broker.port, broker.topic, broker.tls) == ("host", 1883, "line 1/part", False)
    broker = parse_broker("mqtts://me@[::1]/t", password_file=tmp_path / "password")
    assert (broker.host, broker.port, broker.user, broker.password) == ("::1", 8883, "me", "secret")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["host:1883/t"], "The broker's address is mqtt://user@host:1883/topic or mqtts://…; yours lacks "),
        (["http://host/t"], "yours lacks one of these, or has something else."),
        (["mqtt:///t"], "yours lacks one of these"),
        (["mqtt://host/t?x=1"], "yours lacks one of these, or has something else."),
        (["mqtt://host/t/#"], "yours lacks one of these, or has something else."),
        (["mqtt://host:port/t"], "which yours is not: Port could not be cast to integer value as 'port'."),
        (["mqtt://host:99999/t"], "which yours is not: Port out of range 0-65535."),
        (["mqtt://" + "x" * 80 + "/t"], "which yours is not: "),
        (
            ["mqtt://host/t\udcff"],
            "The broker's address and its password are text in UTF-8, which one of yours is not.",
        ),
        (["mqtt://me:secret\udcff@host/t"], "The broker's address and its password are text in UTF-8"),
        (["mqtt://host"], "ends in a topic, without + and #, such as mqtt://host/line1."),
        (["mqtt://host/a/%23"], "ends in a topic, without + and #"),
        (["mqtt://:secret@host/t"], "An MQTT password goes with a user: mqtt://user@host/topic."),
        (["mqtt://me@host/t", "--mqtt-password-file", "/none"], "Cannot read the MQTT password from /none: "),
        (["mqtt://host/t", "--mqtt-ca", "/none"], "Certificates of a CA are for mqtts:// only."),
        (
            ["mqtts://host/t", "--mqtt-ca", "/none"],
            "Cannot use /none as certificates of a CA: No such file or directory.",
        ),
        (["mqtts://host/t", "--mqtt-ca", __file__], f"Cannot use {__file__} as certificates of a CA: "),
    ],
)
def test_addresses_that_cannot_be(run: Any, photos: Path, arguments: list[str], message: str) -> None:
    result = run(photos, "--mqtt", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    assert "secret" not in result.stderr
    assert result.stdout == ""


def test_a_password_that_is_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RSTPM_EDGE_MQTT_PASSWORD", "secret\udcff")
    with pytest.raises(UsageError, match="are text in UTF-8"):
        parse_broker("mqtt://me@host/t")


def test_without_paho(run: Any, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "paho.mqtt.client", None)
    result = run(photos, "--mqtt", "mqtt://host/t")
    assert result.exit_code == 2
    assert result.stderr == "Error: MQTT needs paho-mqtt: pip install paho-mqtt\n"
    with pytest.raises(UsageError):
        Mqtt(parse_broker("mqtt://host/t"), report=print)
