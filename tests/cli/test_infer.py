"""`rstpm-edge infer` and `rstpm-edge info`, as a user types them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import pytest
from bundles import ModelFactory
from checkout import ROOT
from click.testing import CliRunner, Result
from encoded import LZW, encode, page, photo, tiff
from numpy.typing import NDArray

from rstpm_edge import Detector, __version__
from rstpm_edge.cli import inspection
from rstpm_edge.cli.main import main
from rstpm_edge.image.decode import read_image
from rstpm_edge.model.c_header import c_header
from rstpm_edge.outputs.overlay import draw_overlay
from rstpm_edge.sources.frames import Frame


@pytest.fixture
def run(model: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs the command line with RSTPM_EDGE_MODEL set to the tiny model."""
    monkeypatch.setenv("RSTPM_EDGE_MODEL", str(model))

    def run(*arguments: object) -> Result:
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return run


def one_line(text: str, start: str = "Error: ") -> None:
    assert text.startswith(start)
    assert text.count("\n") == 1


# What it prints


def test_text(run: Any, photos: Path) -> None:
    result = run("infer", photos)
    assert result.exit_code == 1
    *lines, summary = result.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["normal", "normal", "ANOMALOUS"]
    assert [line.split()[-1] for line in lines] == [str(photos / name) for name in ("1.png", "10.png", "sub/2.jpg")]
    assert summary.startswith("3 images: 2 normal, 1 anomalous, 0 failed; threshold 0.99; ")
    assert result.stderr == ""


def test_what_an_image_takes_is_told_apart_from_writing_its_picture(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now, detector = [0.0], Detector(model)

    class Clock:
        def perf_counter(self) -> float:
            return now[0]

    class Judge:
        threshold, info = detector.threshold, detector.info

        def __call__(self, image: NDArray[np.uint8]) -> Any:
            now[0] += 0.012
            return detector(image)

    def encode(*_: object, **__: object) -> bytes:
        now[0] += 0.1
        return b""

    monkeypatch.setattr(inspection, "time", Clock())
    monkeypatch.setattr(inspection, "encode_overlay", encode)
    frame = Frame("a.png", np.zeros((40, 40, 3), np.uint8), "a.png", read_ms=3.0)
    for output, ending in (
        (inspection.Output(), "15 ms per image (3 reading, 12 judging)"),
        (
            inspection.Output(overlays=tmp_path),
            "15 ms per image (3 reading, 12 judging); writing pictures or maps 100 ms each",
        ),
    ):
        inspected = inspection.Inspection(Judge(), output)  # type: ignore[arg-type]
        for _ in range(4):
            inspected.take(frame)
        assert inspected.summary().endswith(f"; threshold {detector.threshold:.4g}; {ending}")
    assert inspection.Inspection(Judge(), inspection.Output()).summary().endswith("threshold 0.99")  # type: ignore[arg-type]
    capsys.readouterr()


def test_json(run: Any, photos: Path, model: Path) -> None:
    result = run("infer", photos, "--json")
    assert result.exit_code == 1
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["is_anomalous"] for line in lines] == [False, False, True]
    (expected,) = Detector(model)(photos / "sub" / "2.jpg").regions
    bad = lines[-1]
    assert bad["path"] == str(photos / "sub" / "2.jpg")
    assert bad["score"] > bad["threshold"] == 0.99
    assert bad["p_value"] == pytest.approx(0.01)
    assert bad["ms"] > 0
    assert bad["regions"] == [
        {
            "box": list(expected.box),
            "area": expected.area,
            "peak": expected.peak,
            "position": list(expected.position),
        }
    ]


def test_exit_code_of_normal_images(run: Any, photos: Path) -> None:
    assert run("infer", photos / "1.png", photos / "10.png").exit_code == 0
    assert run("infer", photos, "--threshold", 50).exit_code == 0
    assert run("infer", photos, "--threshold", 50, "--polite").exit_code == 0
    assert run("infer", photos, "--threshold", -1).exit_code == 1


def test_another_rate_of_false_rejects(run: Any, photos: Path) -> None:
    for alpha, threshold in ((0.01, 0.99), (0.05, 0.95), (0.2, 0.8)):
        result = run("infer", photos, "--alpha", alpha, "--json")
        assert {json.loads(line)["threshold"] for line in result.stdout.splitlines()} == {threshold}


def test_unreadable_images_are_told_and_the_others_judged(run: Any, photos: Path, huge_png: bytes) -> None:
    (photos / "2.jpg").write_text("this is text")
    (photos / "3.png").write_bytes(b"")
    (photos / "4.png").write_bytes(huge_png)
    (photos / "5.bmp").write_bytes(cv2.imencode(".bmp", np.zeros((9, 9), np.uint8))[1].tobytes()[:-9])
    result = run("infer", photos, photos / "missing.png", "--json")
    assert result.exit_code == 3
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    errors = {Path(line["path"]).name: line["error"] for line in lines if "error" in line}
    assert sorted(errors) == ["2.jpg", "3.png", "4.png", "5.bmp", "missing.png"]
    assert sum("score" in line for line in lines) == 3
    assert result.stderr.splitlines() == [f"Error: {error}" for error in errors.values()]
    assert "5 failed" in run("infer", photos, photos / "missing.png").stdout


def test_images_that_opencv_would_decode_past_their_damage(run: Any, photos: Path) -> None:
    grey = photo(96, 130)
    strips = page(grey, compression=LZW)
    strips.data = [*strips.data[:3], *(bytes(len(part)) for part in strips.data[3:])]
    (photos / "3.tif").write_bytes(tiff(strips))
    jpeg = encode(".jpg", grey)
    (photos / "4.jpg").write_bytes(jpeg[: len(jpeg) // 2] + jpeg[len(jpeg) // 2 + 300 :])
    (photos / "5.tif").write_bytes(tiff(page(grey), page(grey)))
    os.mkfifo(photos / "6.png")
    for name in ("3.tif", "4.jpg", "5.tif", "6.png"):
        result = run("infer", photos / name)
        assert result.exit_code == 3
        one_line(result.stderr)
        assert f"Cannot read {photos / name}: " in result.stderr


def test_a_model_whose_maps_are_nan(run: Any, photos: Path, model_factory: ModelFactory) -> None:
    path = model_factory("nan.onnx", scale=float("nan"))
    result = run("infer", photos / "1.png", "--model", path)
    assert result.exit_code == 3
    one_line(result.stderr, f"Error: Cannot judge {photos / '1.png'}: ")


def test_the_model_is_model_onnx_unless_told_otherwise(
    model: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RSTPM_EDGE_MODEL", raising=False)
    monkeypatch.chdir(model.parent)
    assert CliRunner().invoke(main, ["infer", "photos/1.png"]).exit_code == 0
    monkeypatch.chdir("/")
    result = CliRunner().invoke(main, ["infer", str(photos / "1.png")])
    assert result.exit_code == 2
    one_line(result.stderr, "Error: There is no model file model.onnx; ")


# Files it writes


def test_output_files_keep_their_places(run: Any, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run("infer", photos, "--save-overlay", out, "--save-map", out)
    written = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    names = ["1.png", "10.png", "sub/2.jpg"]
    assert written == sorted(f"{name}.{kind}.png" for name in names for kind in ("map", "overlay"))


def test_images_of_the_same_name_do_not_collide(run: Any, tmp_path: Path, good: NDArray[np.uint8]) -> None:
    for name in ("a/x.png", "b/x.png", "b/x.bmp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / name), good)
    run("infer", tmp_path / "a" / "x.png", tmp_path / "b", "--save-overlay", tmp_path / "out")
    written = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.png")}
    assert written == {"a/x.png.overlay.png", "b/x.png.overlay.png", "b/x.bmp.overlay.png"}


def test_what_an_earlier_run_wrote_is_not_judged(run: Any, photos: Path) -> None:
    for _ in range(2):
        result = run("infer", photos, "--save-overlay", photos / "out", "--save-map", photos / "maps")
        assert "3 images" in result.stdout


def test_an_overlay_is_what_draw_overlay_draws(run: Any, photos: Path, model: Path, tmp_path: Path) -> None:
    path = photos / "sub" / "2.jpg"
    run("infer", path, "--save-overlay", tmp_path)
    image = read_image(path)
    expected = draw_overlay(image, Detector(model)(path), name="2.jpg")
    np.testing.assert_array_equal(read_image(tmp_path / "2.jpg.overlay.png"), expected)


@pytest.mark.parametrize("options", [[], ["--threshold", 3], ["--threshold", 0.1], ["--threshold", -4]])
def test_a_16_bit_map_can_be_turned_back(
    run: Any, photos: Path, model: Path, tmp_path: Path, options: list[Any]
) -> None:
    path = photos / "sub" / "2.jpg"
    run("infer", path, "--save-map", tmp_path, *options)
    run("infer", path, "--save-map", tmp_path, "--map-format", "npy", *options)
    result = Detector(model, threshold=options[1] if options else None)(path)
    floats = np.load(tmp_path / "2.jpg.map.npy")
    np.testing.assert_array_equal(floats, result.anomaly_map)

    content = (tmp_path / "2.jpg.map.png").read_bytes()
    values = cv2.imread(str(tmp_path / "2.jpg.map.png"), cv2.IMREAD_UNCHANGED)
    assert values is not None
    assert values.dtype == np.uint16
    text = json.loads(content.split(b"tEXtrstpm_edge\0")[1].split(b"}")[0] + b"}")
    back = text["offset"] + text["scale"] * values.astype(float)
    inside = (values > 0) & (values < 65535)
    np.testing.assert_allclose(back[inside], floats[inside], atol=0.51 * text["scale"])
    assert (floats[values == 0] <= text["offset"] + text["scale"]).all()
    assert text["offset"] + 4096 * text["scale"] == pytest.approx(result.threshold)
    assert read_image(tmp_path / "2.jpg.map.png").shape == (120, 160, 3)  # our own check of the chunks


@pytest.mark.parametrize("option", ["--save-overlay", "--save-map"])
def test_folders_that_cannot_be_written(run: Any, photos: Path, option: str) -> None:
    for folder in (photos / "1.png" / "out", "/proc/out"):
        result = run("infer", photos, option, folder)
        assert result.exit_code == 2
        one_line(result.stderr, f"Error: Cannot create the folder {folder}: ")


@pytest.mark.parametrize(
    "arguments", [("infer", "x" * 300), ("info", "--model", "x" * 300), ("infer", ".", "--model", "x" * 300)]
)
def test_paths_that_may_not_be_looked_at(
    run: Any, arguments: tuple[str, ...], model: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos)
    extra = () if "--model" in arguments else ("--model", model)
    result = run(*arguments, *extra)
    assert result.exit_code in (2, 3)
    one_line(result.stderr, "Error: ")
    assert "File name too long" in result.stderr


def test_pictures_beside_the_folder_that_is_judged(run: Any, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photos.parent)
    result = run("infer", photos.name, "--save-overlay", ".")
    assert result.exit_code == 1
    written = sorted(path.name for path in photos.parent.glob("*.overlay.png"))
    assert written == sorted(f"{path.name}.overlay.png" for path in photos.iterdir() if path.suffix == ".png")


def test_links_that_lead_in_a_circle(run: Any, photos: Path, tmp_path: Path) -> None:
    (photos / "loop.png").symlink_to(photos / "loop.png")
    result = run("infer", photos, "--save-overlay", tmp_path / "out")
    assert result.exit_code == 1
    one_line(result.stderr, f"Took 3 of 4 files in {photos}: left out 1 link that leads nowhere (loop.png).")
    result = run("infer", photos / "loop.png")  # by its name
    assert result.exit_code == 3
    assert "loop.png: Too many levels of symbolic links." in result.stderr
    (tmp_path / "round").symlink_to(tmp_path / "round")
    result = run("infer", photos, "--save-overlay", tmp_path / "round")
    assert result.exit_code == 2
    one_line(result.stderr, f"Error: Cannot create the folder {tmp_path / 'round'}: ")


def test_a_disk_that_fills_up(run: Any, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **keywords: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "replace", full)
    result = run("infer", photos, "--save-overlay", tmp_path / "out")
    assert result.exit_code == 2
    one_line(result.stderr)
    assert "No space left on device" in result.stderr
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


# Wrong use


def test_wrong_use(run: Any, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for arguments, message in [
        ([tmp_path / "empty"], "There are no images in the folder"),
        ([photos, "--provider", "quantum"], "This ONNX Runtime has no execution provider 'quantum', only "),
        ([photos, "--threshold", "nan"], "The threshold must be a finite number"),
        ([photos, "--alpha", "0.001"], "A false-reject rate of 0.001 needs at least 999 held-out good images"),
        ([photos, "--alpha", "5"], "alpha must lie between 0 and 1, but is 5."),
        ([photos, "--alpha", "0.1", "--threshold", "1"], "Give a threshold or an alpha, which asks for one, not both."),
        ([photos, "--rejects-only"], "--rejects-only goes with --save-overlay or --save-map"),
        ([photos, "--mqtt-ca", photos / "1.png"], "--mqtt-password-file and --mqtt-ca go with --mqtt URL only"),
        ([photos, "--model", photos], "is a folder"),
        ([photos, "--model", photos / "1.png"], "is damaged, or not an ONNX file"),
    ]:
        result = run("infer", *arguments)
        assert result.exit_code == 2
        one_line(result.stderr)
        assert message in result.stderr
        assert result.stdout == ""
    assert run("infer").exit_code == 2
    assert run("infer", photos, "--threads", 0).exit_code == 2
    assert run("infer", photos, "--map-format", "gif").exit_code == 2
    assert run("nonsense").exit_code == 2


def test_a_kernel_that_does_not_exist(run: Any, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RSTPM_EDGE_KERNEL", "quantum")
    for arguments in (["infer", photos], ["info"]):
        result = run(*arguments)
        assert result.exit_code == 2
        one_line(result.stderr)


def test_every_help_has_an_example(run: Any) -> None:
    assert "Example" in run("--help").stdout
    assert isinstance(main, click.Group)
    for name in main.commands:
        result = run(name, "--help")
        assert result.exit_code == 0
        assert f"rstpm-edge {name}" in result.stdout.split("Example")[1]


def test_version(run: Any) -> None:
    assert run("--version").stdout == f"rstpm-edge, version {__version__}\n"


# info


def test_info(run: Any, model: Path) -> None:
    text = run("info").stdout
    for fact in ("64 pixels wide, 64 high", "strides 4, 8, 16", "Apache-2.0", "99 good images", "1.00%", "0.99", "cpu"):
        assert fact in text
    facts = json.loads(run("info", "--json").stdout)
    assert facts["preset"] == "test"
    thresholds = [(0.01, 0.99), (0.02, 0.98), (0.05, 0.95), (0.1, 0.9), (0.2, 0.8)]
    assert facts["calibration"] == {
        "alpha": 0.01,
        "images": 99,
        "threshold": 0.99,
        "typical_score": 0.5,
        "thresholds": [{"alpha": alpha, "threshold": threshold} for alpha, threshold in thresholds],
    }
    assert facts["runtime"]["kernel"] in facts["runtime"]["kernels"]
    assert run("info", "--model", model.parent / "none").exit_code == 2


def test_info_as_a_c_header(run: Any, model: Path) -> None:
    text = run("info", model, "--c-header").stdout
    assert text == c_header(Detector(model).info)
    assert "    /* threshold */ 0.99,\n" in text
    assert " *    5  recon_16, 4 x 4\n" in text
    assert run("info", model, "--c-header", "--json").exit_code == 2


# A process of its own


def start(model: Path, *arguments: object, **keywords: Any) -> subprocess.Popen[bytes]:
    code = "from rstpm_edge.cli.main import main; main(prog_name='rstpm-edge')"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RSTPM_EDGE_MODEL": str(model)}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, **{"stderr": subprocess.PIPE, **keywords})


def test_a_reader_that_goes_away(model: Path, photos: Path) -> None:
    process = start(model, "infer", *[photos] * 20, stdout=subprocess.PIPE)
    assert process.stdout
    process.stdout.readline()
    process.stdout.close()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 141
    assert errors == b""


def test_standard_output_on_a_full_disk(model: Path, photos: Path) -> None:
    with open("/dev/full", "wb") as full:
        process = start(model, "infer", photos, "--json", stdout=full)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert errors == b"Error: Cannot write to standard output: No space left on device.\n"


def test_standard_error_on_a_full_disk(model: Path, photos: Path, tmp_path: Path) -> None:
    (photos / "a.png").write_bytes(b"no image")
    arguments = ["--json", "--on-anomaly", f"sh -c 'echo x >> {tmp_path}/ran; exit 7'"]
    with open("/dev/full", "wb") as full, open(tmp_path / "verdicts", "wb") as verdicts:
        process = start(model, "infer", photos, photos, *arguments, stdout=verdicts, stderr=full)
        assert process.wait(60) == 3
    lines = [json.loads(line) for line in (tmp_path / "verdicts").read_text().splitlines()]
    assert ["error" in line for line in lines].count(True) == 2
    rejects = sum(line.get("is_anomalous", False) for line in lines)
    assert rejects == (tmp_path / "ran").read_text().count("x") > 0


@pytest.mark.parametrize("arguments", [["--help"], ["infer", "--help"]])
def test_help_that_nobody_reads(model: Path, arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    process = start(model, *arguments, stdout=writer)
    os.close(writer)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (141, b"")


def test_wrong_use_that_nobody_can_be_told(model: Path) -> None:
    with open("/dev/full", "wb") as full:
        assert start(model, "infer", "--none", stdout=full, stderr=full).wait(60) == 2


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["infer", "--help"]])
def test_help_onto_a_full_disk(model: Path, arguments: list[str]) -> None:
    with open("/dev/full", "wb") as full:
        process = start(model, *arguments, stdout=full)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert errors == b"Error: Cannot go on: No space left on device.\n"


def test_an_interrupt(model: Path, photos: Path) -> None:
    process = start(model, "infer", *[photos] * 2000, stdout=subprocess.PIPE)
    assert process.stdout
    process.stdout.readline()
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == b""


def test_a_damaged_image_gets_one_line_and_odd_names_survive(model: Path, tmp_path: Path) -> None:
    content = bytearray(cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 255, (64, 64)))[1].tobytes())
    folder = os.fsencode(tmp_path) + b"/photos"
    os.mkdir(folder)
    with open(folder + b"/\xff\xfe.png", "wb") as file:
        file.write(cv2.imencode(".png", np.full((9, 9), 127, np.uint8))[1].tobytes())
    with open(folder + b"/broken\xff.jpg", "wb") as file:
        file.write(content[: len(content) // 2] + content[-2:])
    out = tmp_path / "out"
    process = start(model, "infer", tmp_path / "photos", "--json", "--save-overlay", out, stdout=subprocess.PIPE)
    output, errors = process.communicate(timeout=60)
    assert process.returncode in (0, 1, 3)
    assert errors.count(b"\n") <= 1
    assert b"Traceback" not in errors
    assert len(output.splitlines()) == 2
    process = start(model, "infer", tmp_path / "photos", stdout=subprocess.PIPE)
    output, errors = process.communicate(timeout=60)
    assert b"Traceback" not in errors
    assert b"2 images" in output
