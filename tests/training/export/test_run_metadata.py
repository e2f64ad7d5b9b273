"""What of a run goes into a model file, where a person has dropped held-out photos."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import onnx
import pytest
from bundles import TEACHERS

from rstpm_edge.calibration import Calibration, calibrate
from rstpm_edge.model.metadata import Fusion
from rstpm_edge.model.read_metadata import parse_bundle
from rstpm_edge.model.session_rates import session_rates
from rstpm_edge.training.data.run_files import RecordedFile
from rstpm_edge.training.export.run_metadata import bundle_of, reduced_bundle, without_defective
from rstpm_edge.training.learning.run_config import RunConfig
from rstpm_edge.training.learning.run_summary import Summary
from rstpm_edge.training.learning.session_calibration import rates_of_run
from rstpm_edge.training.model.presets import EDGE
from rstpm_edge.training.quantization.acceptance import Behaviour, PrecisionComparison
from rstpm_edge.training.quantization.reduced_precision import ReducedModel

FILES = tuple(RecordedFile(f"{i}.png", i) for i in range(4))
CONFIG = RunConfig("photos", EDGE, 64, 64, "stretch", 0, 0.2, None, {}, FILES[:1], FILES, "0.1")
SUMMARY = Summary(1, 0.5, ((1.0, 1.0),), Fusion(), Calibration(0.25, (0.1, 0.2, 0.3)), ("", ""), defective=("2.png",))


@pytest.mark.parametrize(("asked", "rate"), [(0.2, 0.25), (None, None)])
def test_an_export_in_fewer_bits_does_not_calibrate_on_dropped_photos(asked: float | None, rate: float | None) -> None:
    config = without_defective(replace(CONFIG, alpha=asked), SUMMARY)
    assert [photo.name for photo in config.holdout] == ["0.png", "1.png", "3.png"]
    assert config.alpha == rate  # one that so few photos allow
    assert config.train == CONFIG.train


def test_what_fewer_bits_promise_a_new_session_is_found_from_their_own_scores() -> None:
    files = tuple(RecordedFile(f"{session}{i}.png", i) for session in "abc" for i in range(2))
    config = replace(CONFIG, train=files[4:], holdout=files[:4])
    scores = {bits: np.array(values) for bits, values in ((32, [0.1, 0.2, 0.3, 0.4]), (8, [0.1, 0.4, 0.3, 0.2]))}
    of = {
        bits: rates_of_run(
            config, "^([abc])", [file.name for file in files[:4]], found.tolist(), calibrate(found, alpha=0.5)
        )
        for bits, found in scores.items()
    }
    assert of[32] is not None
    assert of[8] is not None
    assert of[32] != of[8]
    bundle = bundle_of(config, replace(SUMMARY, defective=(), sessions=of[32], session_rule="^([abc])"), TEACHERS)
    assert session_rates(bundle.training) == of[32]
    behaviour = Behaviour(Fusion(), None, calibrate(scores[8], alpha=0.5), scores[8], np.array([0.9]))
    reduced = ReducedModel(onnx.ModelProto(), behaviour, PrecisionComparison(4, 1, (), {}), (1.0, 1.0))
    assert session_rates(reduced_bundle(bundle, reduced, "int8", config, "^([abc])").training) == of[8]
    assert "sessions" not in reduced_bundle(replace(bundle, training={}), reduced, "int8", config, None).training


def test_any_name_of_a_dropped_photo_can_be_stored() -> None:
    names = ("part 9.41.00\u202fAM.png", "Kopie\u00a01.png", os.fsdecode(b"geh\xe4use.png"), "Gehäuse.png")
    bundle = bundle_of(CONFIG, replace(SUMMARY, defective=names), TEACHERS)
    assert parse_bundle(bundle.to_json()) == bundle
    assert bundle.training["dropped_as_defective"] == [
        "part 9.41.00\\u202fAM.png",
        "Kopie\\xa01.png",
        "geh\\xe4use.png",
        "Gehäuse.png",
    ]


def test_a_run_of_which_nothing_was_dropped_stays_as_it_is() -> None:
    assert without_defective(CONFIG, replace(SUMMARY, defective=())) == CONFIG
