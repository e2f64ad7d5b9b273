"""The document of a model file in each version of its schema, as it is kept in tests/data."""

from __future__ import annotations

import json
from typing import Any

from bundles import TEACHERS, make_bundle
from checkout import ROOT

from rstpm_edge.calibration import Calibration
from rstpm_edge.image.input_profile import InputProfile
from rstpm_edge.image.stored_mask import StoredMask
from rstpm_edge.model.metadata import Bundle, Fusion, HeadMap, ScoreFusion
from rstpm_edge.model.validity import Novelty, Validity

VALIDITY = Validity(
    (66.5, 152.25),
    contrast=8.5,
    detail=-7.25,
    white=0.5,
    black=0.625,
    novelty=Novelty(
        photos=2,
        channels=3,
        limit=1.5,
        vectors="eNpjsGDYw2DCwMBgx7ALAAvwAiE=",  # [[0.5, -1, 0.25], [0, 1.5, -0.75]]
    ),
    light=(99.75, 100.5, 101.0),
)
DATA = ROOT / "tests" / "data"
PROFILE = InputProfile(
    24,
    ((60, 80), (48, 64)),
    16,
    12,
    (101.5, 3.25),
    12.5,
    (1.0, 2.0, 3.0, 4.5),
    (0.5, 0.25, 0.125, 1.0),
    (2, 3, 70, 50),
)
# What metadata_v4.json says. metadata_v3.json says the same without light, and does not say what score maps hold;
# metadata_v2.json, and metadata_v1.json when it was written, nor without validity.
BUNDLE = Bundle(
    preset="edge",
    height=64,
    width=96,
    resize="stretch",
    strides=(8, 16, 32),
    fusion=Fusion(
        "normalized",
        (0.1, 0.2, 0.3, 0.4, 0.5, 0.6),
        (0.01, 0.02, 0.03, 0.04, 0.05, 0.06),
        (1.0, 1.0, 1.0, 1.5, 1.5, 1.5),
        4.0,
        HeadMap(-6.5, 0.75, 1.25),
    ),
    calibration=Calibration(0.1, tuple(i / 8 for i in range(1, 20))),
    teachers=TEACHERS,
    package_version="0.1.0",
    training={
        "images": 24,
        "holdout": 19,
        "epochs": 3,
        "minutes": 0.25,
        "seed": 0,
        "loss": {"stpm": 0.5, "recon": 0.75},
        "not_converged": "its loss still fell by 5.0% an epoch",
    },
    roi=(2, 3, 70, 50),
    precision="int8",
    precision_change={"auroc": -0.001, "false_rejects": 0.0, "score_shift": 0.05, "recall": -0.01},
    score_fusion=ScoreFusion(
        Fusion(
            "normalized",
            (0.0, 0.1, -0.1, 0.0, 0.2, 0.1),
            (1.0, 1.5, 2.0, 1.0, 1.25, 1.0),
            (1.0, 1.0, 1.0, 1.5, 1.5, 1.5),
            4.0,
        ),
        map_weight=0.125,
        bias=7.5,
        kind="angles",
    ),
    profile=PROFILE,
    mask=StoredMask(60, 80, "eNpjYKA9+D8KRhwAAHef8hw="),
    saturation_free=True,
    validity=VALIDITY,
)


def changed(document: str | None = None, **changes: Any) -> str:
    """The document with fields replaced; `fusion__std` means `std` inside `fusion`."""
    fields = json.loads(document or make_bundle().to_json())
    for name, value in changes.items():
        *outer, field = name.split("__")
        (fields[outer[0]] if outer else fields)[field] = value
    return json.dumps(fields)
