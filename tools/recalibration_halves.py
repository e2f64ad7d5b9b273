"""What recalibration does to false rejects: half of the good test photos move the threshold, the other half is judged.

    python tools/recalibration_halves.py model.onnx DATA/test/good --defective DATA/test --sessions '^([0-9]+)_'

Halves are drawn at random, of photos and, with --sessions, of whole sessions, so that the photos judged are of others.
Prints means over the draws: rejected good photos of the other half, and defective photos found.
"""

import argparse
import re
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from rstpm_edge.calibration import Calibration
from rstpm_edge.errors import UsageError
from rstpm_edge.image.listing import list_folder
from rstpm_edge.model.metadata import Bundle
from rstpm_edge.pipeline import InferenceOptions, Pipeline, open_pipeline
from rstpm_edge.recalibration.confirmed_photos import ConfirmedPhotos
from rstpm_edge.recalibration.moved_threshold import move_threshold


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("good", type=Path)
    parser.add_argument("--defective", type=Path, help="a folder with a folder of each kind, `good` left out")
    parser.add_argument("--sessions", metavar="REGEX")
    parser.add_argument("--alpha", type=float)
    parser.add_argument("--draws", type=int, default=200)
    chosen = parser.parse_args()
    pipeline = open_pipeline(chosen.model, InferenceOptions(mask=None, notify=lambda sentence: None))
    bundle = pipeline.session.bundle
    if chosen.alpha is not None:
        bundle = replace(bundle, calibration=Calibration(chosen.alpha, bundle.calibration.scores))
    paths = list_folder(chosen.good).images
    good = _scores(pipeline, paths)
    kinds = (
        [] if chosen.defective is None else [p for p in chosen.defective.iterdir() if p.is_dir() and p.name != "good"]
    )
    defective = _scores(pipeline, [path for kind in kinds for path in list_folder(kind).images])
    units = {"photos": np.arange(len(good))}
    if chosen.sessions:
        names = [session[1] if (session := re.search(chosen.sessions, path.name)) else path.name for path in paths]
        units["sessions"] = np.unique(names, return_inverse=True)[1]
    print(f"{len(bundle.calibration.scores)} held out, {len(good)} good, promised {bundle.calibration.alpha:.3g}")
    print(f"{'halves of':10} {'':8} {'rejected':>9} {'worst':>7} {'found':>7} {'refused':>8}")
    for unit, of_photo in units.items():
        for way in ("before", "added", "replaced"):
            rates: list[float] = []
            found: list[float] = []
            refused = 0
            random = np.random.default_rng(0)
            for _ in range(chosen.draws):
                drawn = random.permutation(of_photo.max() + 1)
                first = np.isin(of_photo, drawn[: len(drawn) // 2])
                try:
                    threshold = _threshold(bundle, good[first], way)
                except UsageError:
                    refused += 1
                    continue
                rates.append(float((good[~first] > threshold).mean()))
                found.append(float((defective > threshold).mean()) if len(defective) else float("nan"))
            shares = f"{fmean(rates):9.3f} {max(rates):7.3f} {fmean(found):7.3f}" if rates else " " * 25
            print(f"{unit:10} {way:8} {shares} {refused / chosen.draws:8.2f}")


def _threshold(bundle: Bundle, new: NDArray[np.float64], way: str) -> float:
    if way == "before":
        return float(bundle.calibration.threshold)
    confirmed = ConfirmedPhotos(len(new), tuple(map(float, new)), 0, 0)
    return move_threshold(bundle, "0" * 64, confirmed, only_new=way == "replaced").after.value


def _scores(pipeline: Pipeline, paths: "tuple[Path, ...] | list[Path]") -> NDArray[np.float64]:
    found = []
    for path in paths:
        batch = pipeline.preprocessor.batch([pipeline.preprocessor.load(path)])
        found.append(float(pipeline.postprocessor.score(pipeline.session.run(batch.pixels)).score[0]))
    return np.array(found)


if __name__ == "__main__":
    main()
