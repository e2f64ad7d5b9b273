"""`rstpm-edge infer`, as a user types it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import pytest
from bundles import ModelFactory
from click.testing import CliRunner
from encoded import LZW, encode, page, photo, tiff
from numpy.typing import NDArray

from rstpm_edge import Detector, __version__
from rstpm_edge.cli.infer import inspection
from rstpm_edge.cli.main import main
from rstpm_edge.sources.frames import Frame


def one_line(text: str, start: str = "Error: ") -> None:
    assert text.startswith(start)
    assert text.count("\n") == 1


def test_text(run: Any, photos: Path) -> None:
    result = run("infer", photos)
    assert result.exit_code == 1
    *lines, summary = result.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["normal", "normal", "ANOMALOUS"]
    assert [line.split()[-1] for line in lines] == [str(photos / name) for name in ("1.png", "10.png", "sub/2.jpg")]
    assert summary.startswith("3 images: 2 normal, 1 anomalous, 0 invalid, 0 failed; threshold 0.99; ")
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
    for alpha, threshold, confident in ((0.01, 0.99, 0.0298), (0.05, 0.95, 0.0901), (0.2, 0.8, 0.2688)):
        result = run("infer", photos, "--alpha", alpha, "--json")
        told = [json.loads(line) for line in result.stdout.splitlines()]
        assert {(line["threshold"], line["alpha"]) for line in told} == {(threshold, alpha)}
        assert all(line["rate_with_confidence"] == pytest.approx(confident, abs=1e-4) for line in told)
    for line in run("infer", photos, "--threshold", 0.95, "--json").stdout.splitlines():
        assert (json.loads(line)["alpha"], json.loads(line)["rate_with_confidence"]) == (None, None)


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
