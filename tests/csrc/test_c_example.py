"""examples/c: a program that uses the C library as firmware would, and says what the detector says."""

from __future__ import annotations

import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from bundles import make_bundle, write_model
from checkout import ROOT
from documented import code_block
from once import once
from programs import build, run

from rstpm_edge import Detector
from rstpm_edge.calibration import Calibration
from rstpm_edge.image.grid import Grid
from rstpm_edge.image.mask import load_mask
from rstpm_edge.image.placement import Placement
from rstpm_edge.model.c_header import c_header
from rstpm_edge.model.metadata import Bundle, CoarseCells, Fusion, HeadMap, ScoreFusion

pytestmark = pytest.mark.checkout

EXAMPLE = ROOT / "examples" / "c"
STRICT = ["-std=c99", "-pedantic-errors", "-Wall", "-Wextra", "-Wconversion", "-Werror"]


@pytest.fixture(scope="session")
def score_maps(prefix: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example's program for the model that is made up, built with the installed CMake package."""

    def fill(folder: Path) -> None:
        build(EXAMPLE, folder, f"-DCMAKE_PREFIX_PATH={prefix}")

    return once(tmp_path_factory, "c_example", fill) / "score_maps"


def made_up() -> Bundle:
    """The model of examples/c/model.h."""
    fusion = Fusion(mean=(0.1,) * 6, std=(0.02,) * 6, smoothing_sigma=4.0)
    calibration = Calibration(0.5, (25.0,))
    return make_bundle(height=256, width=256, strides=(8, 16, 32), fusion=fusion, calibration=calibration)


def test_the_examples_header_is_what_info_writes() -> None:
    assert (EXAMPLE / "model.h").read_text() == c_header(made_up())


def test_the_example_on_maps_of_its_own(score_maps: Path) -> None:
    output = run(score_maps, code=1)
    assert re.fullmatch(r"score 59\.97\d* row 71 column 180 anomalous\n", output)


STATISTICS = {name: tuple(np.linspace(0.1, 0.9, 6) + i) for i, name in enumerate(("mean", "std", "weights"))}
FUSION = Fusion(smoothing_sigma=2.5, **STATISTICS)
HEADED = replace(FUSION, head=HeadMap(mean=0.2, std=0.5, weight=0.7))
SCORE_FUSION = ScoreFusion(
    Fusion(smoothing_sigma=4.0, weights=(3.0,) * 6),
    bias=-2.0,
    coarse=CoarseCells((0.1, 0.2, 0.3, 0.4), (1.0, 0.9, 0.8, 0.7), (0.5, 0.6, 0.7, 0.8)),
    map_weight=0.25,
)
LEFT = np.repeat([[255] * 60 + [0] * 100], 120, axis=0).astype(np.uint8)  # of a photo: white is judged
MODELS: dict[str, dict[str, Any]] = {
    "six maps": {"fusion": FUSION},
    "the paper's product": {"fusion": Fusion("paper")},
    "a head": {"fusion": HEADED},
    "score maps": {"fusion": FUSION, "score_fusion": SCORE_FUSION},
    "score maps of before": {"fusion": FUSION, "score_fusion": replace(SCORE_FUSION, coarse=None)},
    "head and score maps": {"fusion": HEADED, "score_fusion": SCORE_FUSION},
    "all with a mask": {"fusion": HEADED, "score_fusion": SCORE_FUSION, "mask": load_mask(LEFT).stored()},
    "all with mask and ROI": {
        "fusion": HEADED,
        "score_fusion": SCORE_FUSION,
        "mask": load_mask(LEFT).stored(),
        "roi": (20, 10, 130, 100),
        "resize": "letterbox",
    },
}


def write_files(folder: Path, **fields: Any) -> list[str]:
    """A model, an image with two spots, and what the snippet in the documentation writes for them.

    Gives the program's arguments.
    """
    bundle = make_bundle(strides=(8, 16, 32), **fields)
    write_model(folder / "model.onnx", bundle)
    image = np.full((120, 160, 3), 127, np.uint8)
    image[30:60, 80:120] = 255
    image[60:80, 20:40] = 220
    cv2.imwrite(str(folder / "image.png"), image)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        exec(compile(code_block("python", "onnxruntime"), "docs/embedding.md", "exec"), {})
    mask = ["--mask", "mask.u8"] if bundle.mask is not None else []
    return [*mask, *(f"{name}.f32" for name in bundle.output_names)]


def compiled(folder: Path, prefix: Path) -> Path:
    """The example's program for the model in `folder`."""
    (folder / "model.h").write_text(c_header(Detector(folder / "model.onnx").info))  # as `info --c-header` does
    flags = [f'-DMODEL_HEADER="{folder / "model.h"}"', f"-I{prefix / 'include'}"]
    library = ["-L", prefix / "lib", "-lrstpm_edge", f"-Wl,-rpath,{prefix / 'lib'}"]
    run("cc", *STRICT, *flags, EXAMPLE / "score_maps.c", *library, "-o", folder / "score_maps")
    return folder / "score_maps"


@pytest.mark.parametrize("kind", MODELS)
def test_the_example_says_what_the_detector_says(kind: str, prefix: Path, tmp_path: Path) -> None:
    files = write_files(tmp_path, **MODELS[kind])
    detector = Detector(tmp_path / "model.onnx", threads=1)
    result = detector(tmp_path / "image.png")
    if "mask" in MODELS[kind]:
        assert result.score < Detector(tmp_path / "model.onnx", threads=1, mask=None)(tmp_path / "image.png").score
    for threshold, code, verdict in ((result.score - 0.01, 1, "anomalous"), (result.score + 0.01, 0, "normal")):
        bundle = replace(detector.info, calibration=Calibration(0.5, (threshold,)))
        write_model(tmp_path / "model.onnx", bundle)
        output = run(compiled(tmp_path, prefix), *files, code=code, cwd=tmp_path)
        found = re.fullmatch(r"score (\S+) row (\d+) column (\d+) (\w+)\n", output)
        assert found is not None, output
        assert float(found[1]) == pytest.approx(result.score, rel=1e-6)
        assert found[4] == verdict
        if bundle.resize == "stretch":
            photo = Grid(Placement(0, 0, 64, 64), 120, 160)
            assert photo.pixel(int(found[2]), int(found[3])) == result.position


NETWORK = """import sys, numpy, onnxruntime
names, size = sys.argv[2:], (int(sys.argv[1]),) * 2
image = numpy.fromfile("input.u8", numpy.uint8).reshape(1, *size, 3)
for name, values in zip(names, onnxruntime.InferenceSession("model.onnx").run(names, {"image": image})):
    values.tofile(name + ".f32")
"""


@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
@pytest.mark.parametrize("roi", ["100,50,640,480", "3,400,1111,203", None], ids=["a part", "a strip", "the model's"])
def test_the_example_judges_a_part_of_a_photo(resize: Any, roi: str | None, prefix: Path, tmp_path: Path) -> None:
    kept = {**MODELS["head and score maps"], "roi": (700, 300, 501, 600), "resize": resize}
    bundle = make_bundle(strides=(8, 16, 32), **kept)
    write_model(tmp_path / "model.onnx", bundle)
    noise = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    photo = cv2.resize(noise, (1280, 960), interpolation=cv2.INTER_CUBIC)
    cv2.imwrite(str(tmp_path / "photo.ppm"), photo)
    (tmp_path / "network.py").write_text(NETWORK)
    network = f"{sys.executable} network.py {bundle.height} {' '.join(bundle.output_names)}"
    given = [] if roi is None else ["--roi", roi]
    maps = [f"{name}.f32" for name in bundle.output_names]
    program = compiled(tmp_path, prefix)
    place: Any = "model" if roi is None else tuple(map(int, roi.split(",")))
    result = Detector(tmp_path / "model.onnx", threads=1, roi=place)(photo)
    options = ["--photo", "photo.ppm", *given, "--network", network]
    output = run(program, *options, *maps, code=int(result.is_anomalous), cwd=tmp_path)
    found = re.fullmatch(r"score (\S+) row \d+ column \d+ x (\d+) y (\d+) \w+\n", output)
    assert found is not None, output
    assert float(found[1]) == pytest.approx(result.score, abs=1e-5)
    assert (int(found[2]), int(found[3])) == result.position
    whole = Detector(tmp_path / "model.onnx", threads=1, roi=None)(photo)
    assert abs(whole.score - result.score) > 1e-3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--photo", "photo.ppm", "--roi", "0,0,9,8", "--network", "true"], "the ROI: it is empty or reaches beyond"),
        (["--photo", "photo.ppm", "--roi", "0,0,0,1", "--network", "true"], "the ROI: it is empty or reaches beyond"),
        (
            ["--photo", "photo.ppm", "--roi", "1,2,3", "--network", "true"],
            "--roi: it is X,Y,W,H in pixels of the photo",
        ),
        (["--photo", "stpm_8.f32", "--network", "true"], "stpm_8.f32: is no binary PPM image of 8 bits"),
        (["--photo", "photo.ppm", "--network", "false"], "false: it failed"),
        (["--photo", "photo.ppm"], "usage: "),
        (["--roi", "0,0,1,1"], "usage: "),
        (["--rio", "0,0,1,1"], "--rio: no such option"),
    ],
)
def test_the_example_on_wrong_options(
    written: tuple[Path, list[str]], tmp_path: Path, options: list[str], message: str
) -> None:
    shutil.copytree(written[0], tmp_path, dirs_exist_ok=True)
    (tmp_path / "photo.ppm").write_bytes(b"P6\n8 8\n255\n" + b"\0" * 192)
    maps = [name for name in written[1] if name.endswith(".f32")]
    assert f"score_maps: {message}" in run(tmp_path / "score_maps", *options, *maps, code=2, cwd=tmp_path)


def test_a_models_header_is_cxx_too(prefix: Path, tmp_path: Path) -> None:
    for i, fields in enumerate(MODELS.values()):
        (tmp_path / f"model_{i}.h").write_text(c_header(make_bundle(strides=(8, 16, 32), **fields)))
        program = f'#include "model_{i}.h"\nint main() {{ return kModel.struct_size == 0; }}\n'
        (tmp_path / "main.cpp").write_text(program)
        strict = ["-std=c++11", "-pedantic-errors", "-Wall", "-Wextra", "-Werror"]
        run("c++", *strict, f"-I{prefix / 'include'}", "-fsyntax-only", tmp_path / "main.cpp")


@pytest.fixture(scope="module")
def written(prefix: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A model with all there is, its program, the image's files, and the program's arguments."""
    folder = tmp_path_factory.mktemp("written")
    files = write_files(folder, **MODELS["all with a mask"])
    compiled(folder, prefix)
    return folder, files


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("stpm_8.f32", b"\0" * 252, "its size is not the one that the model's header says"),
        ("stpm_8.f32", b"\0" * 260, "its size is not the one that the model's header says"),
        ("recon_32.f32", np.full(4, np.nan, np.float32).tobytes(), "a map holds NaN or infinity"),
        ("head_8.f32", np.full(64, np.inf, np.float32).tobytes(), "a map holds NaN or infinity"),
        ("mask.u8", b"\0" * 4095, "its size is not the one that the model's header says"),
        ("recon_8.f32", None, "cannot be opened"),
    ],
)
def test_the_example_on_wrong_files(
    written: tuple[Path, list[str]], tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    shutil.copytree(written[0], tmp_path, dirs_exist_ok=True)
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert run(tmp_path / "score_maps", *written[1], code=2, cwd=tmp_path).endswith(f": {message}\n")


def test_the_example_passes_on_what_the_library_says(written: tuple[Path, list[str]], tmp_path: Path) -> None:
    shutil.copytree(written[0], tmp_path, dirs_exist_ok=True)
    (tmp_path / "mask.u8").write_bytes(b"\0" * 64 * 64)
    output = run(tmp_path / "score_maps", *written[1], code=2, cwd=tmp_path)
    assert "scoring: an argument is wrong" in output
    assert "a mask of zeros only" in output
    output = run(tmp_path / "score_maps", *written[1][:-1], code=2, cwd=tmp_path)
    assert output.endswith("with one map for each output that the header lists\n")
