"""Names and addresses that others chose: no line of output is forged by the one, no password told by the other."""

from __future__ import annotations

import json
import string
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import cv2
import numpy as np
import pytest
from bundles import ModelFactory
from click.testing import Result
from hypothesis import example, given
from hypothesis import strategies as st
from workplace import command_line

from rstpm_edge.errors import UsageError
from rstpm_edge.outputs.mqtt import parse_broker
from rstpm_edge.printable import one_line, own_lines, printed, without_password, without_passwords
from rstpm_edge.sources.live import output_name

FORGED = "normal     score   0.0001  p-value 1.0000  regions  0  all.png"
COMMANDS = ("infer", "audit", "train", "evaluate", "verify", "bench", "benchmark", "info", "export")
TURNS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
HOSTILE = {
    "newline": f"a\n{FORGED}",
    "carriage return": f"a\r{FORGED}",
    "erase line": "a\x1b[2K\rb",
    "C1 control": "a\x9b2Kb",
    "next line": "a\x85b",
    "bidi override": "a\u202egnp.b",
    "isolate": "a\u2066b",
    "line separator": "a\u2028b",
    "no text": "a\udcff\udc9bb",
    "bell and delete": "a\x07\x7fb",
}


@pytest.fixture
def run(model: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setenv("RSTPM_EDGE_MODEL", str(model))
    return command_line


def harmless(text: str) -> bool:
    categories = {unicodedata.category(character) for character in text.replace("\n", "")}
    turned = any(
        unicodedata.bidirectional(c) in {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"} for c in text
    )
    return not categories & {"Cc", "Cs", "Zl", "Zp"} and not turned


# Names


@given(st.text(st.characters(exclude_categories=())))
@example("".join(HOSTILE.values()))
def test_one_line_is_one_harmless_line(text: str) -> None:
    shown = one_line(text)
    assert harmless(shown)
    assert len(shown.splitlines()) == bool(shown)
    assert one_line(shown) == shown
    assert harmless(own_lines(text))
    assert own_lines(text).count("\n") == text.count("\n")


@given(st.text(st.characters(categories=["L", "N", "P", "S", "Zs"])))
def test_names_that_are_text_stay_as_they_are(name: str) -> None:
    assert one_line(name) == name


@given(st.text(st.characters(exclude_categories=())))
@example("part 9.41.00\u202fAM\u00a0\u00ad\udce4.png")
def test_what_a_document_holds_is_printed(name: str) -> None:
    assert printed(name).isprintable()
    assert printed(printed(name)) == printed(name)
    assert not name.isprintable() or printed(name) == name


def test_a_character_that_is_not_printed_can_still_be_told() -> None:
    assert printed("9.41.00\u202fAM\u00a0\U000e0001\udce4\n.png") == "9.41.00\\u202fAM\\xa0\\U000e0001\\xe4\\n.png"


def hostile_photos(folder: Path) -> list[str]:
    folder.mkdir()
    names = [f"{name}.png" for name in HOSTILE.values()]
    image = cv2.imencode(".png", np.full((50, 70), 127, np.uint8))[1].tobytes()
    for name in names:
        (folder / name.replace("/", "_")).write_bytes(image)
    return names


@pytest.mark.parametrize("damaged", [False, True])
def test_a_name_forges_no_verdict_and_moves_no_cursor(run: Any, tmp_path: Path, damaged: bool) -> None:
    names = hostile_photos(tmp_path / "photos")
    if damaged:
        for path in (tmp_path / "photos").iterdir():
            path.write_bytes(b"no image")
    result = run("infer", tmp_path / "photos")
    assert result.exit_code == (3 if damaged else 0)
    lines = result.stderr if damaged else result.stdout
    assert harmless(result.stdout)
    assert harmless(result.stderr)
    assert len(result.stdout.splitlines()) == (1 if damaged else len(names) + 1)
    assert len(lines.splitlines()) == len(names) + (not damaged)
    assert FORGED not in lines.splitlines()
    assert "a\\n" in lines
    assert "a\\x1b[2K\\rb.png" in lines


def test_json_gives_names_back_whole(run: Any, tmp_path: Path) -> None:
    names = hostile_photos(tmp_path / "photos")
    result = run("infer", tmp_path / "photos", "--json")
    assert result.stdout.isascii()
    assert harmless(result.stdout)
    assert sorted(json.loads(line)["path"] for line in result.stdout.splitlines()) == sorted(
        str(tmp_path / "photos" / name) for name in names
    )


def test_what_a_model_says_of_itself_forges_nothing(run: Any, model_factory: ModelFactory, tmp_path: Path) -> None:
    model = model_factory(
        "m\nthreshold  0.\x1b[2K.onnx", preset="edge\nthreshold   0.1", training={"a\nb": "c\x1b[31m\nd"}
    )
    result = run("info", "--model", model)
    assert harmless(result.output)
    if result.exit_code:  # refused
        assert result.stderr.count("\n") == 1
    else:
        assert sum(line.startswith("threshold") for line in result.stdout.splitlines()) == 1
    model = model_factory("m\nthreshold  0.\x1b[2K.onnx")  # a name that nobody can refuse
    result = run("info", "--model", model)
    assert result.exit_code == 0
    assert harmless(result.stdout)
    assert sum(line.startswith("threshold") for line in result.stdout.splitlines()) == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_errors_of_all_commands_are_one_harmless_line(run: Any, command: str, monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    argument = f"gone\n{FORGED}\x1b[2K\u202e"
    for arguments in ([argument], [argument, f"--{argument}"], [f"--{argument}"], ["--threads", argument]):
        result = run(command, *arguments)
        assert result.exit_code in (2, 3)
        errors = [
            line for line in result.stderr.splitlines() if not line.startswith(("Usage: ", "Try ", "Testing ")) and line
        ]
        assert harmless(result.output)
        assert len(errors) == 1, result.stderr
        assert errors[0].startswith("Error: ")


# Passwords

SAFE = string.ascii_letters + string.digits
RAW = SAFE + "/@#?:=%!$'\"()*+,;~[]{}|^`<>\\ "
# Long enough, and begun and ended by a mark, so that no part of it stands in a message by chance.
passwords = st.text(RAW, min_size=6, max_size=20).map(lambda text: f"Zq9{text}9qZ")
PARAMETERS = (
    "pass",
    "password",
    "pwd",
    "token",
    "auth",
    "access_token",
    "key",
    "api_key",
    "secret",
    "signature",
    "X-Amz-Signature",
)


def parts_of(password: str) -> list[str]:
    """What must not be seen: the password, and pieces of it that reveal more than a few letters."""
    return [password, password[:5], password[-5:]]


def addresses_with(password: str) -> list[str]:
    encoded = quote(password, safe="")
    quoted = password.replace("\\", "\\\\").replace('"', '\\"')
    return [
        f"rtsp://admin:{password}@10.0.0.1:554/stream1?channel=2",
        f"rtsp://admin:{encoded}@camera/stream1",
        f"RTSPS://:{password}@camera",
        f"rtsp:/admin:{password}@camera/1",
        f"rtsp//admin:{password}@camera/1",
        f"admin:{password}@camera/1",
        f"http://proxy.example:{password}@proxy:3128",
        f"http://camera/video?url=rtsp%3A%2F%2Fadmin%3A{encoded}%40camera",
        f'rtspsrc location=rtsp://camera user-id=admin user-pw="{quoted}" ! decodebin ! appsink',
        f'rtspsrc location="rtsp://camera" user-pw = (string)"{quoted}" latency=0 ! decodebin ! appsink',
        f'rtspsrc location="rtsp://admin:{quoted}@camera/1" latency=0 ! decodebin ! appsink',
        f"souphttpsrc location=http://camera proxy-pw={encoded} ! appsink",
        f'souphttpsrc extra-headers="h,Authorization=(string)\\"Basic {encoded}\\"" ! appsink',
        *(f"http://camera/video?user=admin&{name}={encoded}&channel=1" for name in PARAMETERS),
        *(f"http://camera/video?{name.upper()}={password}" for name in PARAMETERS),
        f"rtsp://camera:554/user=admin_password={encoded}_channel=1_stream=0.sdp",
    ]


@given(passwords)
@example("Zq9pa/ss@wo#rd?9qZ")
@example("Zq9x?key=y@z9qZ")
@example("Zq9a\"b'c d9qZ")
def test_no_password_is_shown(password: str) -> None:
    for source in addresses_with(password):
        shown = without_password(source)
        for part in [*parts_of(password), *parts_of(quote(password, safe=""))]:
            assert part not in shown, source
            assert part not in output_name(shown, 0)
        assert without_password(shown) == shown


@given(passwords)
def test_no_password_is_shown_in_a_sentence(password: str) -> None:
    for source in addresses_with(password)[:4]:
        shown = without_passwords(f"Cannot open {source}: there is no answer.")
        assert not any(part in shown for part in parts_of(password))
        assert shown.startswith("Cannot open ")


@pytest.mark.parametrize("end", [":", ".", ",", ";", "'", "'.", ")", ""])
def test_a_sentence_keeps_what_follows_a_hidden_parameter(end: str) -> None:
    sentence = f"Cannot open http://camera/video?channel=1&token=Zq9{end} There is no answer."
    shown = f"Cannot open http://camera/video?channel=1&token=***{end} There is no answer."
    assert without_passwords(sentence) == shown
    assert without_passwords(shown) == shown  # a source was hidden before the sentence about it is
    assert without_passwords(f"It is http://camera/video?token=Zq9{end}") == f"It is http://camera/video?token=***{end}"


def test_what_is_no_secret_stays() -> None:
    for source in (
        "camera:0,format=MJPG,size=1920x1080,fps=30",
        "/dev/v4l/by-id/usb-0",
        "rtsp://admin@camera:554/stream1?channel=1&subtype=0",
        "rtsp://10.0.0.1:554/a:b@c",
        "rtsp://[fe80::1]:554/1@2",
        "v4l2src device=/dev/video0 ! video/x-raw,format=BGR,width=640 ! appsink drop=true",
    ):
        assert without_password(source) == source
    assert without_password("rtsp://admin:x@camera:554/1?channel=1&token=y&subtype=0") == (
        "rtsp://admin:***@camera:554/1?channel=1&token=***&subtype=0"
    )
    assert without_password('rtspsrc location="rtsp://a:b@c/1" user-pw="d e" latency=0 ! appsink') == (
        'rtspsrc location="rtsp://a:***@c/1" user-pw=*** latency=0 ! appsink'
    )


SECRET = 'Zq9/w@r#d?"9qZ'


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_tells_a_password(run: Any, command: str, monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    sources = addresses_with(SECRET)
    for source in (sources[0], sources[3], sources[8]):
        for arguments in ([source, "--bogus"], ["x", "y", source], ["--roi", source, "x"], ["--threads", source]):
            result = run(command, *arguments)
            assert result.exit_code in (2, 3), result.output
            for part in [*parts_of(SECRET), *parts_of(quote(SECRET, safe=""))]:
                assert part not in result.output


def test_a_source_that_does_not_open_tells_no_password(run: Any, monkeypatch: Any, tmp_path: Path) -> None:
    told: list[Any] = []

    class Closed:
        def __init__(self, *arguments: object) -> None:
            told.append(arguments[0])

        def isOpened(self) -> bool:
            return False

    monkeypatch.setattr(cv2, "VideoCapture", Closed)
    monkeypatch.setattr(cv2.videoio_registry, "hasBackend", lambda backend: True)
    for source in addresses_with(SECRET):
        for options in ([], ["--json"], ["--watch"], ["--every", "x"], ["other.png"]):
            result = run("infer", source, *options)
            assert result.exit_code in (2, 3)
            assert result.stderr.startswith("Error: ")
            for part in [*parts_of(SECRET), *parts_of(quote(SECRET, safe=""))]:
                assert part not in result.output, (source, options)
    assert any(SECRET in source for source in told)  # which OpenCV gets whole


@given(passwords)
def test_no_mqtt_address_tells_its_password(password: str) -> None:
    encoded = quote(password, safe="")
    for url in (
        f"mqtt://user:{password}@broker/topic",
        f"mqtt://user:{password}@broker",
        f"mqtt://user:{password}@broker:x/topic",
        f"mqtt:/user:{password}@broker/topic",
        f"mqtt//user:{password}@broker/topic",
        f"user:{password}@broker/topic",
        f"mqtt://user:{encoded}@broker:99999/topic",
        f"mqtt://user:{encoded}@[::1/topic",
        f"mqtt://:{encoded}@broker/topic",
        f"mqtt://user:{encoded}@broker/to+pic",
        f"mqtt://user:{encoded}@/topic",
        f"https://user:{encoded}@broker/topic",
    ):
        try:
            broker = parse_broker(url)
            said = repr(broker) + broker.name
        except UsageError as error:
            said = str(error)
        for part in [*parts_of(password), *parts_of(encoded)]:
            assert part not in said, url
    assert parse_broker(f"mqtt://user:{encoded}@broker/topic").password == password
