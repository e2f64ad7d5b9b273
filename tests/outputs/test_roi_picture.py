"""`rstpm-edge roi`: a picture with the photo's pixel numbers, and a page to draw on."""

from __future__ import annotations

import base64
import json
import re
from html import unescape
from pathlib import Path

import cv2
import numpy as np
import pytest
from mjpeg_server import MjpegServer
from numpy.typing import NDArray
from videos import write_video
from workplace import command_line

from rstpm_edge.errors import ImageError, UsageError
from rstpm_edge.image.mask import load_mask
from rstpm_edge.outputs.roi_page import page_of
from rstpm_edge.outputs.roi_picture import MARGIN, _lines, draw_grid

GREY = 127


def photo(width: int, height: int) -> NDArray[np.uint8]:
    return np.full((height, width, 3), GREY, np.uint8)


@pytest.mark.parametrize(("width", "height"), [(200, 150), (640, 480), (5472, 3648), (2000, 90), (90, 2000), (1, 1)])
def test_the_picture_is_of_a_handy_size_and_its_lines_lie_at_round_numbers(width: int, height: int) -> None:
    drawn = draw_grid(photo(width, height))
    assert max(drawn.shape) < 2000
    scale = (drawn.shape[0] - 2 * MARGIN - 34) / height
    for length, apart in ((width, 56), (height, 56)):
        lines = _lines(length, scale, apart)
        assert lines[0] == 0
        assert len(lines) <= 30
        steps = set(np.diff(lines).tolist())
        assert len(steps) <= 1
        assert all(re.fullmatch("[125]0*", str(step)) and step * scale >= apart for step in steps)


def test_what_a_roi_leaves_out_is_dark_and_what_a_mask_ignores_is_hatched() -> None:
    white = np.full((300, 400), 255, np.uint8)
    white[100:200, 200:300] = 0
    drawn = draw_grid(photo(400, 300), (100, 50, 200, 200), load_mask(white))
    scale = 900 / 400

    def around(x: int, y: int) -> NDArray[np.uint8]:
        top, left = MARGIN + round(y * scale), MARGIN + round(x * scale)
        return drawn[top : top + 20, left : left + 20]

    assert np.median(around(130, 90)) == GREY  # judged
    assert np.median(around(30, 30)) < GREY / 2  # outside
    hatched = around(230, 130)
    assert (hatched[..., 0].astype(int) - hatched[..., 1] > 100).mean() > 0.2
    whole = draw_grid(photo(400, 300))
    assert np.median(whole[MARGIN + 70 : MARGIN + 90, MARGIN + 70 : MARGIN + 90]) == GREY


def test_what_does_not_fit_is_told() -> None:
    with pytest.raises(ImageError, match="reaches beyond"):
        draw_grid(photo(400, 300), (300, 0, 101, 10))
    with pytest.raises(UsageError, match="fits no photo"):
        draw_grid(photo(400, 300), None, load_mask(np.full((300, 300), 255, np.uint8)))


def test_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("part.png", photo(320, 240))
    result = command_line("roi", "part.png")
    assert result.stdout == (
        "roi.png: part.png (320×240 pixels) with its pixel numbers.\n"
        "The option to type: --roi X,Y,WIDTH,HEIGHT, such as --roi 80,60,160,120 for the middle.\n"
    )
    assert cv2.imread("roi.png").shape[1] > 900
    result = command_line("roi", tmp_path, "--roi", "10,20,100,100", "-o", "check.jpg")  # the first photo of the folder
    assert result.stdout.splitlines()[1] == "The option to type: --roi 10,20,100,100"
    for arguments, message in {
        ("part.png", "--roi", "300,0,100,10"): "reaches beyond part.png",
        ("part.png", "-o", "x.txt"): "--output writes a PNG or JPEG picture",
        ("part.png", "-o", "part.png"): "part.png is the photo itself",
        ("part.png", "--page", "page.png"): "--page writes an HTML file",
        ("part.png", "--page", "page.html", "-o", "x.png"): "--page goes with --roi only",
        ("none.png",): "Cannot read none.png: No such file or directory",
        ("part.png", "--mask", "none.png"): "The mask none.png cannot be used",
        ("part.png", "-o", "no/folder.png"): "Cannot write no/folder.png",
    }.items():
        result = command_line("roi", *arguments)
        assert result.exit_code == 2, arguments
        assert result.stdout == ""
        assert message in result.stderr
        assert len(result.stderr.splitlines()) == 1


def test_no_photo_and_no_mask_is_written_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    for name in ("photos/0.png", "photos/1.png", "mask.png"):
        cv2.imwrite(name, np.full((240, 320), 255, np.uint8))
    before = Path("mask.png").read_bytes()
    Path("link.png").symlink_to("mask.png")
    for arguments, message in {
        ("photos", "-o", "photos/0.png"): "photos/0.png is a photo in photos: give the picture another name.",
        ("photos", "-o", "photos/1.png"): "photos/1.png is a photo in photos: give the picture another name.",
        ("photos", "--mask", "mask.png", "-o", "mask.png"): "mask.png is the mask: give the picture another name.",
        (
            "photos/1.png",
            "--mask",
            "link.png",
            "-o",
            "mask.png",
        ): "mask.png is the mask: give the picture another name.",
    }.items():
        result = command_line("roi", *arguments)
        assert (result.exit_code, result.stderr) == (2, f"Error: {message}\n")
    assert all(Path(name).read_bytes() == before for name in ("photos/0.png", "photos/1.png", "mask.png"))
    for _ in range(2):  # its own picture it may write over
        assert command_line("roi", "photos", "--mask", "mask.png", "-o", "check.png").exit_code == 0


@pytest.mark.parametrize("name", ["roi.png", "0.jpg", "0.JPEG"])
def test_its_own_picture_in_the_folder_is_no_photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("1.png", photo(320, 240))
    for _ in range(2):
        result = command_line("roi", ".", "-o", name)
        assert result.exit_code == 0, result.stderr
        assert result.stdout.startswith(f"{name}: 1.png (320×240 pixels)")
    cv2.imwrite("other.png", cv2.imread(name))  # drawn, but not by this command: who knows
    result = command_line("roi", ".", "-o", "other.png")
    assert (result.exit_code, Path("other.png").exists()) == (2, True)
    Path("1.png").unlink()
    Path("other.png").unlink()
    result = command_line("roi", ".", "-o", name)
    assert (result.exit_code, result.stderr) == (
        2,
        "Error: There are no photos in the folder ., but pictures that `rstpm-edge roi` wrote.\n",
    )
    result = command_line("roi", name, "-o", name)
    assert f"{name} is the photo itself: give the picture another name." in result.stderr


def test_the_first_frame_of_a_video_or_stream(tmp_path: Path) -> None:
    video = write_video(tmp_path / "video.avi")
    assert command_line("roi", video, "-o", tmp_path / "a.png").exit_code == 0
    with MjpegServer() as server:
        result = command_line("roi", server.url, "-o", tmp_path / "b.png")
    assert result.stdout.startswith(f"{tmp_path / 'b.png'}: {server.url} (160×120 pixels)")
    (tmp_path / "text.mp4").write_text("no video" * 100)
    result = command_line("roi", tmp_path / "text.mp4", "-o", tmp_path / "c.png")
    assert result.exit_code == 2
    assert not (tmp_path / "c.png").exists()


def test_the_page_holds_all_it_needs(tmp_path: Path) -> None:
    page = page_of(photo(4000, 3000), "<b>@FACTS@ & @PHOTO@", (10, 20, 30, 40))
    assert not re.search(r"""(src|href)=["'](?!data:)|url\(|@import|https?:""", page)
    assert "default-src 'none'" in page
    facts = re.search(r'data-facts="([^"]*)"', page)
    assert facts is not None
    assert json.loads(unescape(facts[1])) == {"width": 4000, "height": 3000, "roi": [10, 20, 30, 40]}
    assert "<b>" not in page
    assert page.count("&lt;b&gt;@FACTS@ &amp; @PHOTO@") == 2
    jpeg = re.search(r"data:image/jpeg;base64,([A-Za-z0-9+/=]+)", page)
    assert jpeg is not None
    shown = cv2.imdecode(np.frombuffer(base64.b64decode(jpeg[1]), np.uint8), cv2.IMREAD_COLOR)
    assert shown is not None
    assert shown.shape == (1800, 2400, 3)
