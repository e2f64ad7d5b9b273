"""A detector in more than one process: forked, pickled, copied."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from bundles import ModelFactory
from forked import LONG, in_child
from numpy.typing import NDArray

from rstpm_edge import Detector
from rstpm_edge.errors import ModelError, UsageError

Image = NDArray[np.uint8]


def expect(condition: object) -> None:
    """`assert`, also where pytest's is not wanted."""
    if not condition:
        raise RuntimeError("not as in the parent")


@pytest.mark.parametrize("threads", [1, 4])
def test_a_forked_child_opens_the_model_itself(threads: int, model: Path, tmp_path: Path, bad: Image) -> None:
    photo = tmp_path / "photo.png"
    cv2.imwrite(str(photo), cv2.resize(bad, (1200, 1200)))
    detector = Detector(model, threads=threads)
    expected = detector(photo)

    def judge() -> None:
        for _ in range(2):
            found = detector(photo)
            expect(found.score == expected.score)
            expect(np.array_equal(found.model_map, expected.model_map))
        expect(in_child(lambda: expect(detector(photo).score == expected.score)) == 0)  # and its child once more

    for _ in range(3):
        assert in_child(judge) == 0
    assert detector(photo).score == expected.score


def test_a_child_of_a_process_whose_threads_are_judging(model: Path, bad: Image) -> None:
    detector = Detector(model, threads=4)
    expected = detector(bad).score
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            detector(bad)

    judging = threading.Thread(target=work)
    judging.start()
    try:
        for _ in range(5):
            assert in_child(lambda: expect(detector(bad).score == expected)) == 0
    finally:
        stop.set()
        judging.join()


def test_a_child_that_drops_the_detector_ends(model: Path, bad: Image) -> None:
    """Freed in the child, the runtime would wait for threads that are not there."""
    program = (
        "import os, sys, numpy, signal\n"
        "from rstpm_edge import Detector\n"
        "detectors = [Detector(sys.argv[1], threads=4) for _ in range(2)]\n"
        "image = numpy.zeros((64, 64, 3), numpy.uint8)\n"
        "score = detectors[0](image).score\n"
        "child = os.fork()\n"
        f"signal.alarm({LONG})\n"
        "if child == 0:\n"
        "    del detectors[1]\n"
        "    assert detectors[0](image).score == score\n"
        "    detectors[0].close()\n"
        "    detectors.clear()\n"
        "else:\n"
        "    assert os.waitpid(child, 0)[1] == 0\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, model], capture_output=True, text=True, timeout=2 * LONG
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_child_refuses_a_model_that_has_changed(
    model: Path, model_factory: ModelFactory, bad: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(model.parent)
    detector = Detector(model.name)
    model_factory("other.onnx", scale=1 / 64).replace(model)

    def judge() -> None:
        os.chdir("/")
        with pytest.raises(
            ModelError, match="has changed since the detector was made, before the fork; make a new one"
        ):
            detector(bad)

    assert in_child(judge) == 0
    assert detector(bad).is_anomalous  # in the parent, what was loaded is what runs


@pytest.mark.extra
def test_a_child_is_told_where_a_runtime_does_not_outlive_a_fork(model: Path, bad: Image) -> None:
    detector = Detector(model, providers="openvino")
    detector(bad)

    def judge() -> None:
        with pytest.raises(UsageError, match=r"with openvino .* make the Detector in the child"):
            detector(bad)
        detector.close()

    assert in_child(judge) == 0


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_detector_is_handed_to_other_processes(method: str, model: Path, bad: Image) -> None:
    detector = Detector(model, threads=2, threshold=0.25, roi=(0, 0, 32, 48))
    with multiprocessing.get_context(method).Pool(2) as pool:
        results = pool.map_async(detector, [bad] * 4).get(timeout=2 * LONG)
    expected = detector(bad)
    assert [result.score for result in results] == [expected.score] * 4
    assert {result.threshold for result in results} == {0.25}
    assert {result.roi for result in results} == {(0, 0, 32, 48)}


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_a_copy_judges_the_same(way: Callable[[Any], Any], model: Path, tmp_path: Path, bad: Image) -> None:
    mask = np.zeros(bad.shape[:2], np.uint8)
    mask[:80] = 255
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    for options in ({"mask": mask}, {"mask": tmp_path / "mask.png"}, {"alpha": 0.2, "channels": "rgb", "polite": True}):
        detector = Detector(model, **options)
        again = way(detector)
        assert again(bad).score == detector(bad).score
        assert (again.threshold, again.info) == (detector.threshold, detector.info)
    detector.threshold = 7.5
    assert way(detector).threshold == 7.5
    detector.close()
    with pytest.raises(UsageError, match="closed"):
        way(detector)


def test_a_pickled_detector_knows_its_file(model: Path, model_factory: ModelFactory, tmp_path: Path) -> None:
    stored = pickle.dumps(Detector(model))
    pickle.loads(stored)
    model_factory("other.onnx", scale=1 / 64).replace(model)
    with pytest.raises(ModelError, match="has changed since the detector was pickled; make a new Detector"):
        pickle.loads(stored)
    model.unlink()
    with pytest.raises(ModelError, match="There is no model file"):
        pickle.loads(stored)
