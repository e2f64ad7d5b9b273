"""Runs, checkpoints and command lines from before fields and tensors were renamed are read as they were meant."""

from __future__ import annotations

import json
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from checkout import ROOT
from safetensors.torch import save
from stored_metadata import PROFILE

from rstpm_edge import __version__
from rstpm_edge.calibration import Calibration
from rstpm_edge.errors import TrainingError, UsageError
from rstpm_edge.model.metadata import Fusion, HeadMap, ScoreFusion
from rstpm_edge.training.data.run_files import RecordedFile
from rstpm_edge.training.learning.checkpoint import (
    Checkpoint,
    load_checkpoint,
    load_trained_state,
    save_checkpoint,
    trained_state,
)
from rstpm_edge.training.learning.recalibration import save_again
from rstpm_edge.training.learning.run_config import RunConfig, load_config, save_config
from rstpm_edge.training.learning.run_summary import Summary, load_summary, save_summary
from rstpm_edge.training.model.old_names import current_preset, current_tensor
from rstpm_edge.training.model.preset_overrides import override
from rstpm_edge.training.model.presets import EDGE, PAPER, Preset
from rstpm_edge.training.model.rstpm import RSTPM

RANDOM = dict.fromkeys((EDGE.teacher1, EDGE.teacher2), "random")
BEFORE = {
    "mining_share": "hardest",
    "segmentation_head": "head",
}
FILE = RecordedFile("a.png", 9, 1)
RUN = ROOT / "tests" / "data" / "run_v1"
# What its files said when they were written.
CONFIG = RunConfig(
    data="photos",
    preset=replace(EDGE, augmentation="rotate", smoothing_sigma=4.0),
    height=64,
    width=96,
    resize="stretch",
    seed=0,
    alpha=0.1,
    max_minutes=None,
    weights=RANDOM,
    train=(FILE,),
    holdout=(RecordedFile("b.png", 8, 2),),
    version="0.1",
    roi=(2, 3, 70, 50),
    aside=(RecordedFile("c.png", 7),),
    rotation_aspect=1.5,
    profile=PROFILE,
)
WEIGHTS = (1.0, 1.0, 1.0, 1.5, 1.5, 1.5)
SUMMARY = Summary(
    epochs=3,
    minutes=0.25,
    losses=((1.0, 2.0), (0.75, 1.5), (0.5, 0.75)),
    fusion=Fusion(
        "normalized",
        (0.1, 0.2, 0.3, 0.4, 0.5, 0.6),
        (0.01, 0.02, 0.03, 0.04, 0.05, 0.06),
        WEIGHTS,
        4.0,
        HeadMap(-6.5, 0.75, 1.25),
    ),
    calibration=Calibration(0.1, tuple(i / 8 for i in range(1, 20))),
    teacher_sha256=("0" * 64, "1" * 64),
    highest=(("b.png", 2.375),),
    score_fusion=ScoreFusion(
        Fusion("normalized", (0.0, 0.1, -0.1, 0.0, 0.2, 0.1), (1.0, 1.5, 2.0, 1.0, 1.25, 1.0), WEIGHTS, 4.0),
        map_weight=0.125,
        bias=7.5,
        kind="angles",
    ),
)


def config(preset: Preset, aspect: float | None = None) -> RunConfig:
    return RunConfig(
        "photos", preset, 64, 96, "stretch", 0, None, None, RANDOM, (FILE,), (FILE,), "0.1", rotation_aspect=aspect
    )


def as_before(preset: Preset) -> dict[str, Any]:
    """The preset as a run wrote it before."""
    written = {BEFORE.get(name, name): value for name, value in asdict(preset).items()}
    shift, rotation = two_fields(written.pop("augmentation"))
    head = "discriminative" if preset.segmentation_head else None
    distance = "cosine" if preset.distance == "cosine" else "surprise"
    return {**written, "head": head, "distance": distance, "moved": shift, "turned": rotation}


def two_fields(augmentation: str) -> tuple[int, bool]:
    """What `augmentation` was before: pixels, and whether angles were looked at. Of runs, all of `edge` had both."""
    return (0, False) if augmentation == "none" else (6, True)


def make_older(folder: Path) -> None:
    """Write config.json as it was written before."""
    path = folder / "config.json"
    content = json.loads(path.read_text())
    del content["schema_version"], content["needs"]
    preset = Preset(**{name: tuple(v) if isinstance(v, list) else v for name, v in content["preset"].items()})
    content["preset"], content["turned"] = as_before(preset), content.pop("rotation_aspect")
    path.write_text(json.dumps(content))


def test_a_run_of_schema_1(tmp_path: Path) -> None:
    assert (load_config(RUN), load_summary(RUN)) == (CONFIG, SUMMARY)
    save_config(tmp_path, CONFIG)
    save_summary(tmp_path, SUMMARY)
    assert (load_config(tmp_path), load_summary(tmp_path)) == (CONFIG, SUMMARY)
    for name in ("config.json", "summary.json"):
        written = json.loads((tmp_path / name).read_text())
        assert written["schema_version"] == 2
        assert not {"evidence", "turned"} & set(written)


def test_a_summary_from_before_score_maps(tmp_path: Path) -> None:
    fields = json.loads((RUN / "summary.json").read_text())
    del fields["evidence"], fields["highest"], fields["fusion"]["head"]
    (tmp_path / "summary.json").write_text(json.dumps(fields))
    plain = replace(SUMMARY, score_fusion=None, highest=(), fusion=replace(SUMMARY.fusion, head=None))
    assert load_summary(tmp_path) == plain


def test_scores_of_synthetic_defects_by_their_name_of_before(tmp_path: Path) -> None:
    """In a summary, and in another calibration of it."""
    summary = replace(SUMMARY, synthetic_scores=(1.5, 2.5))
    save_summary(tmp_path, summary)
    again = replace(summary, synthetic_scores=(3.5,), defective=("b.png",))
    save_again(tmp_path, again)
    for name in ("summary.json", "calibration.json"):
        text = (tmp_path / name).read_text()
        assert text.count('"synthetic_scores"') == 1
        (tmp_path / name).write_text(text.replace('"synthetic_scores"', '"painted"'))
    assert load_summary(tmp_path, as_trained=True) == summary
    assert load_summary(tmp_path) == again


def newer(path: Path, **changes: Any) -> None:
    """Make a run's document say that it is of another schema."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(("needs", "told"), [("0.4", "rstpm-edge ≥ 0.4"), (None, "a newer rstpm-edge")])
def test_a_newer_run_is_refused_as_newer(tmp_path: Path, needs: str | None, told: str) -> None:
    save_config(tmp_path, CONFIG)
    save_summary(tmp_path, SUMMARY)
    for name in ("config.json", "summary.json"):
        newer(tmp_path / name, schema_version=3, needs=needs, preset="none", calibration=[])
    sentence = (
        f"The run {tmp_path} has schema version 3, but this rstpm-edge, {__version__}, reads up to 2: it needs {told}; "
        "upgrade, or train again with this version."
    )
    for load in (load_config, load_summary):
        with pytest.raises(TrainingError) as caught:
            load(tmp_path)
        assert str(caught.value) == sentence
    content = save({}, {"progress": json.dumps({"schema_version": 3, "needs": needs})})
    (tmp_path / "checkpoint.safetensors").write_bytes(content)
    with pytest.raises(TrainingError) as caught:
        load_checkpoint(tmp_path)
    assert str(caught.value) == sentence


@pytest.mark.parametrize("version", [0, "2", True, None])
def test_schemas_that_never_were(tmp_path: Path, version: Any) -> None:
    save_config(tmp_path, CONFIG)
    save_summary(tmp_path, SUMMARY)
    for name, load in (("config.json", load_config), ("summary.json", load_summary)):
        newer(tmp_path / name, schema_version=version)
        with pytest.raises(TrainingError, match=r"damaged .*\(the schema version is no whole number from 1 to"):
            load(tmp_path)


def test_schema_2_has_todays_names_only(tmp_path: Path) -> None:
    save_config(tmp_path, CONFIG)
    path = tmp_path / "config.json"
    fields = json.loads(path.read_text())
    fields["turned"] = fields.pop("rotation_aspect")
    path.write_text(json.dumps(fields))
    with pytest.raises(TrainingError, match=r"config\.json is damaged or of another version"):
        load_config(tmp_path)


@pytest.mark.parametrize(
    ("preset", "aspect"),
    [
        (replace(EDGE, augmentation="shift"), None),
        (PAPER, None),
        (replace(EDGE, augmentation="rotate"), 1.5),
        (replace(EDGE, augmentation="shift", segmentation_head=False, mining_share=0.5), None),
    ],
)
def test_a_config_of_before(tmp_path: Path, preset: Preset, aspect: float | None) -> None:
    save_config(tmp_path, config(preset, aspect))
    written = load_config(tmp_path)
    make_older(tmp_path)
    assert "hardest" in (tmp_path / "config.json").read_text()
    assert load_config(tmp_path) == written == config(preset, aspect)


@pytest.mark.parametrize(
    ("pixels", "rotation", "aspect", "now"),
    [
        (6, True, None, "shift"),  # angles were looked at, and there was an upright
        (6, True, 1.5, "rotate"),
        (6, False, None, "shift"),
        (0, True, 1.0, "rotate"),
        (0, True, None, "none"),
        (0, False, None, "none"),
    ],
)
def test_a_config_from_before_augmentation_had_one_name(
    tmp_path: Path, pixels: int, rotation: bool, aspect: float | None, now: Any
) -> None:
    save_config(tmp_path, config(EDGE, aspect))
    fields = json.loads((tmp_path / "config.json").read_text())
    assert fields["schema_version"] == 2
    del fields["preset"]["augmentation"]
    fields["preset"] |= {"shift_augmentation": pixels, "rotation_augmentation": rotation}
    (tmp_path / "config.json").write_text(json.dumps(fields))
    assert load_config(tmp_path) == config(replace(EDGE, augmentation=now), aspect)
    fields["preset"]["augmentation"] = "none"
    (tmp_path / "config.json").write_text(json.dumps(fields))
    with pytest.raises(TrainingError, match=r"config\.json is damaged or .* \(augmentation is given twice"):
        load_config(tmp_path)


@pytest.mark.parametrize(
    ("augmentation", "aspect", "why"),
    [
        ("rotate", None, "rotation_aspect goes with augmentation=rotate"),
        ("shift", 1.0, "rotation_aspect goes with augmentation=rotate"),
        ("turn", None, "augmentation is one of none, shift, rotate, flip"),
    ],
)
def test_copies_that_cannot_be_made_again(tmp_path: Path, augmentation: Any, aspect: float | None, why: str) -> None:
    save_config(tmp_path, config(replace(EDGE, augmentation=augmentation), aspect))
    with pytest.raises(TrainingError, match=rf"config\.json is damaged or of another version \({why}\)\.$"):
        load_config(tmp_path)


def test_a_config_with_a_field_under_both_names_is_damaged(tmp_path: Path) -> None:
    content = json.loads((RUN / "config.json").read_text())
    content["preset"]["mining_share"] = 0.2
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(
        TrainingError, match=r"config\.json is damaged or of another version \(mining_share is given tw"
    ):
        load_config(tmp_path)


def older_tensor(name: str) -> str:
    """The name of before, written down by hand."""
    if name.startswith("model/maps.distances."):
        *start, last = name.split(".")
        if start[-1] == "prediction":
            return ".".join([*start[:-1], "usual", last])
        return ".".join([*start, {"contrast_weight": "by_contrast", "offset": "middle", "scale": "reach"}[last]])
    return name.replace(".projections.", ".heads.")


def test_a_checkpoint_of_before(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = RSTPM(EDGE, RANDOM)
    state = {
        f"model/{name}": value + torch.randn(value.shape).to(value.dtype)
        for name, value in trained_state(model).items()
    }
    older = {older_tensor(name): value for name, value in state.items()}
    assert {"model/maps.distances.stpm_8.usual.weight", "model/maps.distances.recon_32.reach"} <= set(older)
    assert "model/students.student1.heads.8.weight" in older
    # Offsets and scales of the channel statistics are called so in both.
    assert {"model/standardize1.offset_0", "model/standardize2.scale_1"} <= set(older) & set(state)
    assert len(set(older) - set(state)) == 6 * 5 + 2 * 3 * 2
    progress = {"epoch": 1, "schedule": 0.5, "minutes": 1.0, "losses": [[1.0, 1.0]]}
    content = save({**older, "optimizer/0/step": torch.ones(1)}, {"progress": json.dumps(progress)})
    (tmp_path / "checkpoint.safetensors").write_bytes(content)
    checkpoint = load_checkpoint(tmp_path)
    assert checkpoint is not None
    assert (checkpoint.epoch, checkpoint.losses) == (1, ((1.0, 1.0),))
    assert set(checkpoint.tensors) == {*state, "optimizer/0/step"}
    load_trained_state(model, checkpoint)
    torch.testing.assert_close(trained_state(model), {name[6:]: value for name, value in state.items()}, rtol=0, atol=0)


def test_a_checkpoint_of_today_stays_as_it_is(tmp_path: Path) -> None:
    tensors = {"model/maps.distances.stpm_8.scale": torch.ones(2), "model/students.heads.8.middle": torch.zeros(1)}
    written = Checkpoint(1, 0.5, 1.0, ((1.0, 1.0),), tensors)
    save_checkpoint(tmp_path, written)
    read = load_checkpoint(tmp_path)
    assert read is not None
    torch.testing.assert_close(dict(read.tensors), tensors, rtol=0, atol=0)
    assert replace(read, tensors={}) == replace(written, tensors={})
    for name in trained_state(RSTPM(EDGE, RANDOM)):
        assert current_tensor(f"model/{name}") == f"model/{name}"


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ({"hardest": "0.5"}, {"mining_share": "0.5"}),
        ({"moved": "6"}, {"augmentation": "shift"}),
        ({"moved": "0"}, {"augmentation": "none"}),
        ({"shift_augmentation": "0"}, {"augmentation": "none"}),
        ({"shift_augmentation": "0", "rotation_augmentation": "false"}, {"augmentation": "none"}),
        ({"turned": "no"}, {}),
        ({"rotation_augmentation": "false"}, {}),
        ({"rotation_augmentation": "true"}, {"augmentation": "rotate"}),
        ({"head": "none"}, {"segmentation_head": "false"}),
        ({"head": "discriminative"}, {"segmentation_head": "true"}),
        ({"distance": "surprise"}, {"distance": "normalized-residual"}),
        ({"distance": " cosine "}, {"distance": "cosine"}),
    ],
)
def test_set_takes_the_names_of_before(before: dict[str, str], now: dict[str, str]) -> None:
    assert override(EDGE, before) == override(EDGE, now)


def test_a_field_that_is_set_under_both_names_is_refused() -> None:
    with pytest.raises(
        UsageError, match="mining_share is given twice, once by its earlier name: leave one of them out"
    ):
        override(EDGE, {"hardest": "0.5", "mining_share": "0.2"})
    with pytest.raises(UsageError, match=r"^augmentation is given twice, once by an earlier name: leave one of them o"):
        override(EDGE, {"moved": "0", "augmentation": "flip"})


@pytest.mark.parametrize("name", ["moved", "shift_augmentation", "turned", "rotation_augmentation"])
def test_a_value_that_never_was_is_refused_as_one_of_today(name: str) -> None:
    with pytest.raises(
        UsageError, match=r"^`preset\.augmentation` takes one of auto, none, shift, rotate, flip, not 'some'\.$"
    ):
        override(EDGE, {name: "some"})


def test_names_of_today_are_left_alone() -> None:
    assert current_preset(asdict(EDGE)) == asdict(EDGE)
    assert not set(BEFORE.values()) & {field.name for field in fields(Preset)}
