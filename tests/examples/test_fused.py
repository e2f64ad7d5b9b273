"""A fused model in C++ programs that know nothing of this project: they must say what the detector says.

OpenVINO's wheel brings all that its program needs. ONNX Runtime's has no headers: with the environment variable
ONNXRUNTIME_ROOT naming a folder with include/ and lib/, its program is tested, too (`make test-fused`).
"""

from __future__ import annotations

import importlib.util
import os
import re
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from checkout import ROOT
from numpy.typing import NDArray
from once import once
from programs import build, run
from workplace import Workplace

from rstpm_edge import Detector
from rstpm_edge.image.decode import read_image
from rstpm_edge.image.preprocess import to_input
from rstpm_edge.training.export import export as exporting

ONNXRUNTIME = os.environ.get("ONNXRUNTIME_ROOT")
SIZE = (64, 96)

each_runtime = pytest.mark.parametrize("runtime", ["openvino", *(["onnxruntime"] if ONNXRUNTIME else [])])


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the programs."""

    wheel = importlib.util.find_spec("openvino")
    if wheel is None or wheel.origin is None:
        pytest.skip("OpenVINO is missing: make build")

    def fill(folder: Path) -> None:
        options = [f"-DOpenVINO_DIR={Path(str(wheel.origin)).parent / 'cmake'}"]
        if ONNXRUNTIME:
            options.append(f"-DONNXRUNTIME_ROOT={ONNXRUNTIME}")
        build(ROOT / "examples" / "fused", folder, *options)

    return once(tmp_path_factory, "fused_programs", fill)


@pytest.fixture(scope="session")
def fused(workplace: Workplace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `export --fused` writes for a trained run; its tracing, which takes long, is taken from the first export."""

    def fill(folder: Path) -> None:
        graph = onnx.load(workplace.model)
        del graph.metadata_props[:]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(exporting, "to_onnx", lambda model, size, *, any_batch: graph)
            exporting.export(workplace.run, folder / "fused.onnx", fused=True)

    return once(tmp_path_factory, "fused_model", fill) / "fused.onnx"


@pytest.fixture(scope="session")
def images(parts: Path) -> list[NDArray[np.uint8]]:
    """Photos of parts, good ones and one of each defect, as the model takes them: RGB."""
    return [to_input(read_image(path), SIZE, "stretch")[0] for path in sorted((parts / "test").rglob("*.png"))]


def write_ppm(path: Path, image: NDArray[np.uint8]) -> Path:
    assert cv2.imwrite(str(path), image[..., ::-1])
    return path


@each_runtime
def test_the_program_says_what_the_detector_says(
    runtime: str, programs: Path, fused: Path, images: list[NDArray[np.uint8]], tmp_path: Path
) -> None:
    files = [write_ppm(tmp_path / f"{i}.ppm", image) for i, image in enumerate(images)]
    printed = run(programs / f"fused_{runtime}", fused, *files).splitlines()
    detector = Detector(fused, threads=1, channels="rgb", allow_size_change=True, notify=lambda sentence: None)
    results = [detector(image) for image in images]
    # A score is a distance from what is usual and may lie near zero, where nothing is left to be relative to.
    typical = np.mean([abs(result.score) for result in results])
    assert len(printed) == len(images) > 8
    assert np.std([result.score for result in results]) > 0.02 * typical  # the images differ
    for line, result in zip(printed, results, strict=True):
        found = re.fullmatch(r"score (\S+) row (\d+) column (\d+)", line)
        assert found is not None, line
        assert abs(float(found[1]) - result.score) <= 1e-4 * max(abs(result.score), typical)
        assert (int(found[3]), int(found[2])) == result.position


@each_runtime
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("image.ppm", b"P6\n90 60\n255\n" + b"\0" * 90 * 60 * 3, "."),
        ("image.ppm", b"P6\n96 64\n255\n" + b"\0" * 96 * 64 * 2, "image.ppm is truncated"),
        ("image.ppm", b"P3\n1 1\n255\n1 2 3\n", "image.ppm is not a binary PPM image of 8 bits"),
        ("image.ppm", b"", "image.ppm is not a binary PPM image of 8 bits"),
        ("fused.onnx", b"no model", "."),
    ],
)
def test_the_program_on_wrong_files(
    runtime: str, programs: Path, fused: Path, tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / "fused.onnx").symlink_to(fused)
    write_ppm(tmp_path / "image.ppm", np.zeros((*SIZE, 3), np.uint8))
    (tmp_path / name).unlink()
    (tmp_path / name).write_bytes(content)
    said = run(programs / f"fused_{runtime}", "fused.onnx", "image.ppm", code=1, cwd=tmp_path)
    assert re.search(rf"^fused_{runtime}: .*{message}", said, re.MULTILINE)
    assert "usage: " in run(programs / f"fused_{runtime}", "fused.onnx", code=2, cwd=tmp_path)
