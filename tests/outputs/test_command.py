"""Commands that are run for anomalous images, beside the inspection."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import Result
from numpy.typing import NDArray
from waiting import until
from workplace import command_line, finish, running

from rstpm_edge.outputs import command as on_anomaly
from rstpm_edge.outputs.command import OnAnomaly

BAD = {"path": "part.png", "verdict": "anomalous", "score": 1.5, "p_value": 0.01, "threshold": 1.0}


def program(path: Path, lines: str) -> Path:
    """A shell script that can be run."""
    path.write_text(f"#!/bin/sh\n{lines}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def run(model: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setenv("RSTPM_EDGE_MODEL", str(model))
    return lambda *arguments: command_line("infer", *arguments)


@pytest.fixture
def reports() -> list[str]:
    return []


def test_it_is_run_for_anomalous_images_only(run: Any, photos: Path, tmp_path: Path) -> None:
    script = program(tmp_path / "reject it", f'printf "%s\\n" "$@" > {tmp_path}/words; cat > {tmp_path}/stdin')
    command = f"'{script}' 'two words' {{path}} p={{p_value}} {{score}} {{threshold}} {{json}} {{other}} '{{}}'"
    result = run(photos, "--json", "--on-anomaly", command)
    assert result.exit_code == 1
    (line,) = [line for line in result.stdout.splitlines() if json.loads(line)["is_anomalous"]]
    bad = json.loads(line)
    words = (tmp_path / "words").read_text().splitlines()
    assert words == [
        "two words",
        str(photos / "sub" / "2.jpg"),
        "p=0.01",
        str(bad["score"]),
        "0.99",
        line,
        "{other}",
        "{}",
    ]
    assert (tmp_path / "stdin").read_text() == line + "\n"
    assert result.stderr == ""


def test_no_shell_reads_what_is_filled_in(tmp_path: Path, reports: list[str]) -> None:
    path = "$(touch hacked); {score} `id` 'x"
    script = program(tmp_path / "script", f'printf "%s" "$1" > {tmp_path}/word')
    with OnAnomaly(f"{script} {{path}}", report=reports.append) as command:
        command.tell({**BAD, "path": path})
    assert (tmp_path / "word").read_text() == path
    assert reports == []


def test_failures_are_reported_and_end_nothing(run: Any, photos: Path, tmp_path: Path, capfd: Any) -> None:
    script = program(tmp_path / "script", "echo from the script; echo to stderr >&2; exit 7")
    result = run(photos, photos, "--on-anomaly", script)
    assert result.exit_code == 1
    sentence = f"The command for {photos / 'sub' / '2.jpg'} failed with exit code 7."
    assert result.stderr.splitlines() == [sentence] * 2
    assert result.stdout.splitlines()[-1].endswith("; 2 failed commands")
    output, errors = capfd.readouterr()
    assert (output, errors) == ("", "from the script\nto stderr\n" * 2)


def test_the_ways_to_fail(tmp_path: Path, reports: list[str]) -> None:
    vanishing = program(tmp_path / "vanishing", "")
    no_program = tmp_path / "no program"
    no_program.write_text("#!/nowhere/sh\n")
    no_program.chmod(0o755)
    for words, problem in {
        "sh -c 'kill -9 $$'": "was ended by signal 9",
        f"'{no_program}'": "could not be started: No such file or directory",
        "sh -c 'exec 0<&-; sleep 0.1'": None,  # does not read what it is given
        "printf {json}\0": "could not be started: embedded null byte",
    }.items():
        with OnAnomaly(words, report=reports.append) as command:
            command.tell({**BAD, "padding": "x" * 200_000} if problem is None else BAD)
        assert reports == ([] if problem is None else [f"The command for part.png {problem}."])
        assert command.failed == len(reports)
        reports.clear()
    with OnAnomaly(str(vanishing), report=reports.append) as command:
        vanishing.unlink()
        command.tell(BAD)
    assert reports == ["The command for part.png could not be started: No such file or directory."]


@pytest.fixture
def held(tmp_path: Path) -> str:
    """A command that goes on until somebody writes into the pipe `gate`, and then makes the file `ended`."""
    os.mkfifo(tmp_path / "gate")
    return str(program(tmp_path / "held", f"cat {tmp_path}/gate > {tmp_path}/ended"))


def release(gate: Path) -> None:
    """Let the command end, once it waits; fails where it is no more there."""
    deadline = time.monotonic() + 30
    while True:
        try:
            descriptor = os.open(gate, os.O_WRONLY | os.O_NONBLOCK)
            break
        except OSError:
            assert time.monotonic() < deadline, "nobody reads"
            time.sleep(0.01)
    with open(descriptor, "w") as file:
        file.write("on")


def test_the_inspection_does_not_wait_for_the_command(held: str, tmp_path: Path, reports: list[str]) -> None:
    with OnAnomaly(held, timeout=60, report=reports.append) as command:
        command.tell(BAD)
        release(tmp_path / "gate")
    assert (tmp_path / "ended").read_text() == "on"
    assert reports == []  # had it waited, the command would have been killed


def test_a_command_that_takes_too_long_is_killed_with_what_it_started(tmp_path: Path, reports: list[str]) -> None:
    script = program(tmp_path / "script", f"sleep 300 & echo $! > {tmp_path}/child; wait")
    started = time.monotonic()
    with OnAnomaly(str(script), timeout=0.5, report=reports.append) as command:
        command.tell(BAD)
    assert 0.5 <= time.monotonic() - started < 100
    assert reports == ["The command for part.png was killed after 0.5 seconds."]
    child = int((tmp_path / "child").read_text())
    deadline = time.monotonic() + 10
    while Path(f"/proc/{child}").exists() and "Z" not in Path(f"/proc/{child}/stat").read_text().split(") ")[1][:1]:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_they_run_one_after_the_other_and_all_of_them(tmp_path: Path, reports: list[str]) -> None:
    script = program(tmp_path / "script", f'echo "$1" >> {tmp_path}/log; sleep 0.02; echo "$1" >> {tmp_path}/log')
    with OnAnomaly(f"{script} {{path}}", report=reports.append) as command:
        for number in range(5):
            command.tell({**BAD, "path": str(number)})
        for verdict in ("normal", "invalid"):
            command.tell({**BAD, "verdict": verdict})
        command.tell({"path": "x", "verdict": "failed", "error": "Cannot read x."})
    assert (tmp_path / "log").read_text().split() == [str(number // 2) for number in range(10)]


def test_images_that_cannot_be_judged_if_asked_for(run: Any, photos: Path, tmp_path: Path) -> None:
    (photos / "damaged.png").write_bytes(b"no image")
    script = program(tmp_path / "script", f'printf "%s|%s|\\n" "$1" "$2" >> {tmp_path}/words; cat >> {tmp_path}/stdin')
    result = run(photos, "--on-anomaly", f"{script} {{path}} {{score}}", "--on-anomaly-unjudged")
    assert result.exit_code == 3
    told = [json.loads(line) for line in (tmp_path / "stdin").read_text().splitlines()]
    assert [fields["verdict"] for fields in told] == ["failed", "anomalous"]
    assert told[0]["error"].startswith("Cannot read")
    assert f"{photos / 'damaged.png'}||\n" in (tmp_path / "words").read_text()
    (tmp_path / "words").unlink()
    result = run("camera:97", "--on-anomaly", str(script), "--on-anomaly-unjudged")
    assert result.exit_code == 3
    assert not (tmp_path / "words").exists()  # a source that is not there is no part to reject
    result = run(photos, "--on-anomaly-unjudged")
    assert result.exit_code == 2
    assert result.stderr == "Error: --on-anomaly-unjudged goes with --on-anomaly COMMAND only.\n"


def test_when_too_many_wait(tmp_path: Path, reports: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_anomaly, "WAITING", 2)
    script = program(tmp_path / "script", f"sleep 0.2; echo x >> {tmp_path}/log")
    for wait, expected in ((False, range(2, 5)), (True, range(8, 9))):
        (tmp_path / "log").write_text("")
        reports.clear()
        with OnAnomaly(str(script), wait=wait, report=reports.append) as command:
            for _ in range(8):
                command.tell(BAD)
        ran = len((tmp_path / "log").read_text().split())
        assert ran in expected
        assert command.dropped == len(reports) == 8 - ran
        assert set(reports) <= {"The command was not run for part.png: 2 others wait for it."}


def test_after_a_stop_nothing_waits_for_a_command(held: str, tmp_path: Path, reports: list[str]) -> None:
    refused = "The command was not run for {}: the program is being stopped, and another command runs."
    with OnAnomaly(f"{held} {{path}}", timeout=60, report=reports.append) as command:
        command.tell({**BAD, "path": "runs"})
        until(lambda: command._runs)
        for name in ("1", "2"):
            command.tell({**BAD, "path": name})
        command.stop()
        assert reports == [refused.format(name) for name in ("1", "2")]
        command.tell({**BAD, "path": "later"})
        assert reports[2:] == [refused.format("later")]
        release(tmp_path / "gate")
        until(lambda: not command._runs)
        (tmp_path / "ended").unlink()
        command.tell({**BAD, "path": "last"})  # which waits for none: the part under way is rejected, too
        release(tmp_path / "gate")
    assert (tmp_path / "ended").read_text() == "on"
    assert (command.dropped, len(reports), command.failed) == (3, 3, 0)


def test_a_stop_lets_go_of_who_waits_for_room(
    held: str, tmp_path: Path, reports: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_anomaly, "WAITING", 1)
    with OnAnomaly(held, timeout=60, report=reports.append) as command:
        command.tell(BAD)
        until(lambda: command._runs)
        command.tell(BAD)
        waiting = threading.Thread(target=command.tell, args=(BAD,))
        waiting.start()
        command.stop()
        waiting.join(30)
        assert not waiting.is_alive()
        assert len(reports) == 2
        release(tmp_path / "gate")


def test_infer_that_is_stopped_finishes_one_command(
    held: str, model: Path, bad: NDArray[np.uint8], tmp_path: Path
) -> None:
    folder, journal = tmp_path / "photos", tmp_path / "journal"  # with which photos that are there are judged
    folder.mkdir()
    for name in ("1.png", "2.png", "3.png"):
        cv2.imwrite(str(folder / name), bad)
    arguments = ["infer", folder, "--watch", "--journal", journal, "--model", model, "--json", "--on-anomaly", held]
    with running(*arguments, "--on-anomaly-timeout", 120) as process:
        assert [json.loads(process.stdout.readline())["verdict"] for _ in range(3)] == ["anomalous"] * 3
        process.send_signal(signal.SIGTERM)
        told = [process.stderr.readline() for _ in range(2)]  # before the one that runs has ended
        release(tmp_path / "gate")
        code, _, errors = finish(process)
    because = "the program is being stopped, and another command runs"
    assert told == [f"The command was not run for {folder / name}: {because}.\n" for name in ("2.png", "3.png")]
    assert (code, (tmp_path / "ended").read_text()) == (1, "on")
    assert errors.endswith("; 2 commands not run\n")


def test_files_wait_for_the_command_and_a_line_does_not(
    run: Any, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []
    init = OnAnomaly.__init__

    def noted(self: OnAnomaly, command: str, **options: Any) -> None:
        seen.append(options["wait"])
        init(self, command, **options)

    monkeypatch.setattr(OnAnomaly, "__init__", noted)
    run(photos, "--on-anomaly", "true")
    run("camera:97", "--on-anomaly", "true")
    assert seen == [True, False]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("", "The command for anomalies is empty."),
        ("   ", "The command for anomalies is empty."),
        ("echo 'x", "The command for anomalies cannot be split into words: No closing quotation."),
        (
            "no-such-program {path}",
            "The command 'no-such-program' for anomalies was not found; it is run without a shell, so for one write "
            "sh -c '…'.",
        ),
        (
            "{here}/1.png",
            "The command '{here}/1.png' for anomalies is not executable; it is run without a shell, so for one "
            "write sh -c '…'.",
        ),
    ],
)
def test_commands_that_cannot_be_run(run: Any, photos: Path, command: str, message: str) -> None:
    result = run(photos, "--on-anomaly", command.replace("{here}", str(photos)))
    assert result.exit_code == 2
    assert (result.stdout, result.stderr) == ("", f"Error: {message.replace('{here}', str(photos))}\n")
    assert run(photos, "--on-anomaly", "true", "--on-anomaly-timeout", 0).exit_code == 2


def test_who_will_not_wait_need_not(held: str, tmp_path: Path, reports: list[str]) -> None:
    def interrupted() -> None:
        with OnAnomaly(held, timeout=60, report=reports.append) as command:
            command.tell(BAD)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert reports == []  # nor was it killed
    release(tmp_path / "gate")
