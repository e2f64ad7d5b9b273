"""A model file's document: any text, and documents that are nearly right. What is accepted must run."""

from __future__ import annotations

import json
from functools import cache

from bundles import make_bundle
from fuzz_choices import Choices
from fuzz_sentences import check_sentence
from stored_metadata import BUNDLE, DATA

from rstpm_edge.errors import ModelError
from rstpm_edge.image.mask import stored_mask
from rstpm_edge.model.c_header import c_header
from rstpm_edge.model.metadata import Bundle
from rstpm_edge.model.read_metadata import parse_bundle
from rstpm_edge.model.session_rates import about_sessions, session_rates
from rstpm_edge.model.training_summary import synthetic_defects
from rstpm_edge.postprocess.scoring import Scorer

RUNNABLE = 100 * 100  # pixels of an input up to which a scorer is made
AS_TEXT = 0  # the first byte of a case that is the text itself; any other: one of the documents, changed


@cache
def _documents() -> tuple[dict[str, object], ...]:
    told = {"sessions": 3, "held_out": 2, "whole": True, "left_out": 0.1, "worst": 0.2, "promised": 0.05}
    training = {"sessions": {**told, "p_value": 0.01, "unseen": None}}
    training |= {"synthetic_defects": {"count": 9, "rates": [{"alpha": 0.01, "found": 0.5}]}}
    stored = [(DATA / name).read_text() for name in [f"metadata_v{version}.json" for version in (1, 2, 3, 4)]]
    texts = [BUNDLE.to_json(), make_bundle().to_json(), make_bundle(training=training).to_json(), *stored]
    return tuple(json.loads(text) for text in texts)


def seeds() -> list[bytes]:
    """Each document as text, and changed in one way or another."""
    as_text = [bytes([AS_TEXT]) + json.dumps(document).encode() for document in _documents()]
    return as_text + [bytes([kind, *range(step, step + 40)]) for kind in range(1, 6) for step in (0, 50, 120, 200)]


def check(data: bytes) -> bool:
    """A bundle that can be written, read back, turned into C and scored by; or a ModelError."""
    choices = Choices(data)
    kind = choices.whole(0, 255)
    if kind == AS_TEXT:
        document = choices.rest().decode("utf-8", "replace")
    else:
        document = choices.odd_json(_documents()[kind % len(_documents())])
    try:
        bundle = parse_bundle(document)
    except ModelError as error:
        check_sentence(error)
        return True
    _check_usable(bundle)
    return True


def _check_usable(bundle: Bundle) -> None:
    again = parse_bundle(bundle.to_json())
    assert again.to_json() == bundle.to_json()
    assert all(line.isprintable() for line in c_header(bundle).splitlines())
    synthetic_defects(bundle.training)
    rates = session_rates(bundle.training)
    if rates is not None:
        about_sessions(rates, bundle.calibration.alpha)
    if bundle.mask is not None:
        assert stored_mask(bundle.mask).white.any()
    if bundle.height * bundle.width <= RUNNABLE:
        Scorer(bundle.fusion, bundle.score_fusion, bundle.level_sizes, bundle.size)
