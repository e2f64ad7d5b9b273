"""Whether `infer --drift` tells another light from the same one, on the brightness of real photos, without a model.

    python tools/light_runs.py DATA...               # folders in the MVTec AD layout; a minute each

A fifth of train/good is held out, as `train` does; the photos of test/good, none of which were seen, come in random
orders as a run: how many runs are alarmed under the same light (at most the promised 1 %, where they are exchangeable
with the held-out ones), and after how many photos under another. P-values of scores are drawn at random, as if no score
moved.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rstpm_edge.calibration import calibrate
from rstpm_edge.drift import DriftState, begin
from rstpm_edge.image.decode import read_stored
from rstpm_edge.image.exposure_and_focus import measure_exposure_and_focus
from rstpm_edge.image.preprocess import InputFormat
from rstpm_edge.model.validity import Validity
from rstpm_edge.training.data.holdout import split
from rstpm_edge.training.data.images import good_images, images_in

RATE = 0.01
GAINS = (0.5, 0.8, 0.9, 1.1, 1.25)
SIZE = (256, 256)

Levels = NDArray[np.float64]


def brightness(path: Path, gain: float = 1.0) -> float:
    """Of a photo at the model's input, under so many times the light."""
    image = InputFormat(SIZE, "stretch", 16).prepare(read_stored(path), None, path, channels="bgr")[0]
    return measure_exposure_and_focus(np.clip(np.rint(image * gain), 0, 255).astype(np.uint8)).brightness


def run(rng: np.random.Generator, validity: Validity, levels: Levels) -> DriftState:
    """What is known after up to 200 photos of these brightnesses, in random order."""
    held_out = len(validity.light)
    state = begin(calibrate(rng.standard_normal(held_out)), RATE, light=held_out)
    for level in rng.permutation(levels)[:200]:
        p_value = (1 + rng.integers(held_out + 1)) / (held_out + 1)
        state = state.update(float(p_value), validity.light_p_value(float(level)))
        if state.drift != "stable":
            break
    return state


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--runs", type=int, default=100)
    options = parser.parse_args()
    for data in options.data:
        files = good_images(data)
        learned = np.array([brightness(path) for path in files])
        rng = np.random.default_rng(0)
        test = images_in(data / "test" / "good")
        for gain in (1.0, *GAINS):
            levels = np.array([brightness(path, gain) for path in test])
            states = []
            for number in range(options.runs):
                held_out, _ = split(len(files), 0.2, number, ())
                light = tuple(sorted(learned[held_out].tolist()))
                validity = dataclasses.replace(Validity((0, 256), 0, -99, 1, 1), light=light)
                states.append(run(rng, validity, levels))
            told = [state.alarm_at for state in states if state.cause == "light" and state.alarm_at]
            delay = f"; median after {statistics.median(told):.0f} photos" if told else ""
            print(
                f"{data.name:14} {len(held_out)} held out, {len(levels)} unseen, light {gain:4.0%}: {len(told)} of "
                f"{options.runs} runs alarmed by light{delay}",
                flush=True,
            )


if __name__ == "__main__":
    main()
