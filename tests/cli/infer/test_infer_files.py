"""The pictures and maps that `rstpm-edge infer` writes, and what it does not judge."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from rstpm_edge import Detector
from rstpm_edge.image.decode import read_image
from rstpm_edge.outputs.overlay import draw_overlay


def one_line(text: str, start: str = "Error: ") -> None:
    assert text.startswith(start)
    assert text.count("\n") == 1


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
        assert result.exit_code == 5
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


@pytest.mark.parametrize("option", ["--save-overlay", "--save-map"])
@pytest.mark.parametrize("below", ["", "out"])
def test_what_is_written_never_makes_a_source_that_is_missing(
    run: Any, photos: Path, tmp_path: Path, option: str, below: str
) -> None:
    missing = tmp_path / "missing"
    result = run("infer", photos / "1.png", missing, option, missing / below)
    assert (result.exit_code, result.stdout) == (2, "")  # nothing was judged
    one_line(
        result.stderr, f"Error: {missing} is not there, and the first picture or map that is written would make it"
    )
    assert not missing.exists()
    assert run("infer", photos / "1.png", missing, option, tmp_path / "out").exit_code == 3
    assert not missing.exists()


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
    assert result.exit_code == 5
    one_line(result.stderr, f"Error: Cannot create the folder {tmp_path / 'round'}: ")


def test_a_disk_that_fills_up(run: Any, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **keywords: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "replace", full)
    result = run("infer", photos, "--save-overlay", tmp_path / "out")
    assert result.exit_code == 5
    one_line(result.stderr)
    assert "No space left on device" in result.stderr
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
