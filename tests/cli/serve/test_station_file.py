"""station.toml: several cameras, and what cannot be in it is told with its line and key."""

from __future__ import annotations

import contextlib
import csv
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import pytest
from bundles import ModelFactory
from numpy.typing import NDArray
from waiting import until
from workplace import command_line

from rstpm_edge.cli.main import main
from rstpm_edge.cli.serve.command import serve
from rstpm_edge.cli.serve.options import ServeOptions
from rstpm_edge.cli.serve.station import open_station
from rstpm_edge.cli.serve.station_file import StationPlan, plan_station
from rstpm_edge.cli.serve.watched import Sources, open_watched
from rstpm_edge.errors import UsageError
from rstpm_edge.sources.frames import Every
from rstpm_edge.station.access import Access
from rstpm_edge.station.app import make_app
from rstpm_edge.station.parts import PartRule
from rstpm_edge.station.routes.parts import parts_router

pytestmark = pytest.mark.extra


def plan_of(path: Path, text: str, *arguments: str) -> StationPlan:
    path.write_text(text)
    parent = click.Context(main, **main.context_settings)
    return plan_station(ServeOptions(**serve.make_context("serve", [str(path), *arguments], parent).params))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "station.toml"


def test_cameras_and_what_each_may_have(file: Path) -> None:
    plan = plan_of(
        file,
        """
        models = "models"

        [camera.top]
        source = "aravis:10.0.0.7,trigger=Line1"
        product = "bracket 3"
        roi = [320, 180, 1280, 720]
        mask = "top.png"
        alpha = "1%"
        every = "0.5s"
        drift = 0.01
        drift_state = "top.json"

        [camera.side]
        source = "camera:0"
        roi = "full"

        [camera."in"]
        source = "incoming"
        watch = true
        settle = 1

        [part]
        views = ["top", "side"]
        within = 0.2
        """,
        "--port",
        "0",
        "--registry",
        "elsewhere",
    )
    top, side, watched = plan.cameras
    assert (plan.options.models, plan.options.registry) == (file.parent / "models", None)
    assert (top.name, top.options.sources, top.options.product) == (
        "top",
        ("aravis:10.0.0.7,trigger=Line1",),
        "bracket 3",
    )
    assert (top.options.roi, top.options.mask) == ((320, 180, 1280, 720), file.parent / "top.png")
    assert (top.options.alpha, top.options.every, top.options.drift) == (0.01, Every(seconds=0.5), 0.01)
    assert (top.options.drift_state, side.options.drift_state) == (file.parent / "top.json", None)
    assert (side.options.roi, side.options.mask, side.options.every) == (None, "model", None)
    assert (top.own, side.own, watched.own) == (True, True, False)
    assert watched.options.sources == (str(file.parent / "incoming"),)
    assert (watched.options.watch, watched.options.settle) == (True, 1)
    assert {camera.options.models for camera in plan.cameras} == {file.parent / "models"}
    assert plan.part == PartRule("part", ("top", "side"), "time", 0.2)


def test_the_ways_to_join(file: Path) -> None:
    cameras = '[camera.a]\nsource = "camera:0"\n[camera.b]\nsource = "camera:1"\n'
    by_name = cameras + '[part]\nviews = ["a", "b"]\nby = "name"\nname = "bracket"\npattern = \'(?P<part>\\d+)_.*\'\n'
    assert plan_of(file, by_name).part == PartRule("bracket", ("a", "b"), "name", pattern=r"(?P<part>\d+)_.*")
    by_count = cameras + '[part]\nviews = ["b", "a"]\nby = "count"\npatience = 60\n'
    assert plan_of(file, by_count).part == PartRule("part", ("b", "a"), "count", patience=60)
    assert plan_of(file, cameras).part is None


CAMERA = '[camera.top]\nsource = "camera:0"\n'
TWO = CAMERA + '[camera.side]\nsource = "camera:1"\n'
DRIFT = CAMERA + "drift = 0.01\ndrift_state = 'a'\n[camera.side]\nsource = 'b'\ndrift = 0.01\n"
PART = TWO + '[part]\nviews = ["top", "side"]\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[camera.top\n", r" is no TOML: .*line 1"),
        ("", r": camera is missing: a section for each camera, such as \[camera\.top\]\.$"),
        ("camera = 1\n", r", line 1: camera is missing"),
        ("[cameras.top]\n", r", line 1: cameras is not known; there are camera, model, models, part\.$"),
        ("model = 'a'\nmodels = 'b'\n" + CAMERA, r", line 1: model goes without models: one of them\.$"),
        ("models = 3\n" + CAMERA, r", line 1: models is a text in quotes\.$"),
        ("camera.top = 1\n", r", line 1: camera\.top is a section: \[camera\.top\]\.$"),
        ('[camera.request]\nsource = "a"\n', r", line 1: camera\.request needs another name: "),
        ('[camera."a b"]\nsource = "a"\n', r": camera\.a b needs another name: "),
        ("[camera.top]\nproduct = 'a'\n", r", line 1: camera\.top has no source\.$"),
        (CAMERA + "speed = 1\n", r", line 3: camera\.top\.speed is not known; there are allow_size_change, alpha, "),
        (CAMERA + "roi = [1, 2]\n", r", line 3: camera\.top\.roi is x,y,width,height.*, or full, not '1,2'\.$"),
        (CAMERA + "roi = true\n", r", line 3: camera\.top\.roi is a text in quotes or a number, not True\.$"),
        (
            CAMERA + "\n# a comment\nalpha = 'much'\n",
            r", line 5: camera\.top\.alpha is a rate, such as 0\.05 or ",
        ),
        (
            CAMERA + "every = 0\n",
            r", line 3: camera\.top\.every is a number of frames or a time, such as 10 ",
        ),
        (CAMERA + "watch = 'yes'\n", r", line 3: camera\.top\.watch is true or false, not 'yes'\.$"),
        (CAMERA + "drift_state = 'a'\n", r", line 3: camera\.top\.drift_state goes with drift only\.$"),
        (DRIFT + "drift_state = './a'\n", r", line 8: camera\.side\.drift_state is that of another camera"),
        (CAMERA + "settle = -1\n", r", line 3: camera\.top\.settle is in seconds, 0 to 3600, not -1\.$"),
        (CAMERA + "settle = 1e9\n", r", line 3: camera\.top\.settle is in seconds, 0 to 3600, not 1e\+09\.$"),
        (CAMERA + "settle = nan\n", r", line 3: camera\.top\.settle is a number, not nan\.$"),
        (CAMERA + "mask = 3\n", r", line 3: camera\.top\.mask is a text in quotes\.$"),
        ("part = 1\n" + CAMERA, r", line 1: part is a section: \[part\]\.$"),
        (TWO + "[part]\n", r", line 5: part\.views names the cameras that see a part, two or more, such as "),
        (TWO + "[part]\nviews = ['top', 'top']\n", r", line 6: part\.views names the cameras"),
        (TWO + "[part]\nviews = ['top', 'left']\n", r", line 6: part\.views names 'left'; there are top, side\.$"),
        (PART + "name = 'top'\n", r", line 7: part\.name is letters, digits"),
        (
            PART + "by = 'luck'\n",
            r", line 7: part\.by is time, count or name, not 'luck'",
        ),
        (
            PART + "by = 'count'\nwithin = 1\n",
            r', line 8: part\.within goes with by = "t',
        ),
        (PART + "within = 0\n", r", line 7: part\.within is in seconds, more than 0"),
        (
            PART + "pattern = 'a'\n",
            r', line 7: part\.pattern goes with by = "name" only',
        ),
        (
            PART + "by = 'name'\npattern = '('\n",
            r", line 8: part\.pattern is no regular expression: ",
        ),
        (
            PART + "by = 'name'\npattern = 'a'\n",
            r", line 8: part\.pattern has no group for the part: \(\?P<part>…\), as in ",
        ),
    ],
)
def test_what_cannot_be(file: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        plan_of(file, text)
    assert str(caught.value).startswith(str(file))


def test_options_that_belong_into_a_section(file: Path) -> None:
    with pytest.raises(UsageError, match=r"^--drift belongs into a section of .*station\.toml, one for each camera\.$"):
        plan_of(file, TWO, "--drift", "1%")


def test_files_that_cannot_be_read(file: Path, model: Path) -> None:
    result = command_line("serve", file, "--model", model, "--port", 0)
    assert (result.exit_code, result.stderr) == (2, f"Error: Cannot read {file}: No such file or directory.\n")
    file.write_bytes(b"\xff")
    result = command_line("serve", file, "--model", model, "--port", 0)
    assert (result.exit_code, result.stderr) == (2, f"Error: Cannot read {file}: it is no UTF-8.\n")


def test_sources_and_products_that_there_are_not(file: Path, model: Path) -> None:
    file.write_text(CAMERA + "product = 'bracket'\n")
    result = command_line("serve", file, "--model", model, "--port", 0)
    assert (result.exit_code, result.stderr) == (
        2,
        f"Error: {file}, line 1: camera.top: There is no product bracket: there are model.\n",
    )
    file.write_text(CAMERA + "settle = 3\n")
    result = command_line("serve", file, "--model", model, "--port", 0)
    assert result.exit_code == 2
    assert result.stderr == f"Error: {file}, line 1: camera.top: --settle goes with --watch only.\n"


@pytest.mark.parametrize(
    ("keys", "options", "message"),
    [
        ("alpha = '5%'", ["--threshold", 0.5], "Give a threshold or an alpha, which asks for one, not both."),
        ("mask = 'none.png'", [], "The mask {folder}/none.png cannot be used. Cannot read {folder}/none.png: No such"),
        ("drift = '1%'\ndrift_state = 'x.png'", [], "--drift-state does not write a picture: "),
        ("drift = '1%'\ndrift_state = 'x'", ["--csv", "x"], "--csv and --drift-state must be different files."),
    ],
)
def test_what_a_camera_cannot_be_judged_by_is_told_with_its_place(
    file: Path, model: Path, monkeypatch: pytest.MonkeyPatch, keys: str, options: list[Any], message: str
) -> None:
    monkeypatch.chdir(file.parent)
    file.write_text(CAMERA + keys)
    result = command_line("serve", file, "--model", model, "--port", 0, *options)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"Error: {file}, line 1: camera.top: {message.format(folder=file.parent)}")
    assert not (file.parent / "x").exists()


def test_two_folders_and_one_verdict_for_the_part(
    file: Path, model_factory: ModelFactory, good: NDArray[Any], bad: NDArray[Any]
) -> None:
    (file.parent / "models").mkdir()
    for name in ("from_above", "from_the_side"):
        model_factory(f"models/{name}.onnx")
    for name in ("top", "side"):
        (file.parent / name).mkdir()
    text = """
    models = "models"
    [camera.top]
    source = "top"
    watch = true
    product = "from_above"
    [camera.side]
    source = "side"
    watch = true
    product = "from_the_side"
    roi = "10,10,140,100"
    [part]
    views = ["top", "side"]
    by = "name"
    """

    def write(view: str, name: str, image: NDArray[Any]) -> None:
        cv2.imwrite(str(file.parent / f"{view}.png"), image)
        (file.parent / f"{view}.png").rename(file.parent / view / f"{name}.png")

    with contextlib.ExitStack() as stack:
        plan = plan_of(file, text, "--threads", "1", "--csv", str(file.parent / "table.csv"))
        opened = open_station(plan, Access(), open_watched(plan, stack), None, stack)
        assert opened.parts is not None
        make_app(opened.station, routers=[parts_router(opened.station, opened.parts)])
        subscription = stack.enter_context(opened.station.feed.subscribe("test"))
        opened.station.start()
        until(lambda: all(line.state.condition == "running" for line in opened.station.lines))
        for name, top, side in (("17", good, good), ("18", good, bad)):
            write("top", name, top)
            write("side", name, side)
            found = []
            while not found or found[-1].origin != "part":
                inspection = subscription.get(20)
                assert inspection is not None
                found.append(inspection)
            part = found[-1]
            assert {one.origin for one in found} == {"top", "side", "part"}
            assert part.fields["path"] == f"part {name}"
            assert part.verdict == ("normal" if side is good else "anomalous")
            assert part.fields["views"]["side"]["verdict"] == part.verdict
        assert (part.fields["view"], part.fields["roi"]) == ("side", (10, 10, 140, 100))
        assert np.array_equal(part.photo, bad)  # type: ignore[arg-type]
        assert {one.product for one in found} == {"part", "from_above", "from_the_side"}
        assert opened.station.shift.counts().total(origin="part") == {
            "normal": 1, "anomalous": 1, "invalid": 0, "failed": 0,
        }  # fmt: skip
    rows = list(csv.DictReader((file.parent / "table.csv").read_text().splitlines()))
    assert [(row["path"], row["verdict"]) for row in rows] == [("part 17", "normal"), ("part 18", "anomalous")]


def test_sources_are_there_when_all_are() -> None:
    told: list[bool] = []
    sources = Sources(told.append)
    for name, there in (("a", True), ("a", False), ("b", False), ("a", True), ("b", True), ("b", True)):
        sources.tell(name, there)
    assert told == [False, True]
