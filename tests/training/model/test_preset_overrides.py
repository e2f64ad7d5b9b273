"""`--set NAME=VALUE`: what it takes, what it refuses, and that what it gives can be built."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from leaderboard_contestants import VARIANTS, Common, contestant
from small_training import short_stages
from workplace import command_line, document

from rstpm_edge.errors import UsageError
from rstpm_edge.training.learning.run_config import load_config
from rstpm_edge.training.model.preset_overrides import check_preset, override
from rstpm_edge.training.model.presets import EDGE, PAPER, PRESETS, Preset
from rstpm_edge.training.model.rstpm import RSTPM

RANDOM = dict.fromkeys(("tf_efficientnet_lite0", "tf_efficientnet_lite1"), "random")


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("attention", "false", False),
        ("attention", "Off", False),
        ("standardize", "1", True),
        ("smoothing_sigma", "2.5", 2.5),
        ("learning_rate", "1e-3", 1e-3),
        ("epochs", " 7 ", 7),
        ("distance", "cosine", "cosine"),
        ("shared_stem", "none", None),
        ("shared_stem", "2", 2),
        ("strides", "8,16, 32", (8, 16, 32)),
        ("student2_widths", "32,16,8", (32, 16, 8)),
        ("student1_blocks", "0,1,2", (0, 1, 2)),
        ("student2_blocks", "0,1,0", (0, 1, 0)),
        ("segmentation_head", "no", False),
        ("teacher1", "resnet18", "resnet18"),
        ("schedule", "constant", "constant"),
        ("name", "mine", "mine"),
    ],
)
def test_values_are_read_by_the_type_of_their_field(name: str, text: str, value: Any) -> None:
    before = EDGE if name != "shared_stem" else replace(EDGE, student1_widths=(24, 48, 64, 96, 160))
    preset = override(before, {name: text})
    assert getattr(preset, name) == value
    assert type(getattr(preset, name)) is type(value)
    others = [field.name for field in fields(Preset) if field.name not in (name, "name")]
    assert all(getattr(preset, other) == getattr(before, other) for other in others)


def test_the_preset_tells_that_it_is_another_one() -> None:
    assert override(EDGE, {"epochs": "9", "attention": "no"}).name == "edge (attention=no, epochs=9)"
    assert override(EDGE, {}) is EDGE


def test_no_value_where_there_may_be_none() -> None:
    widths = {"student1_widths": "32,48,64,96,160"}
    assert override(EDGE, {"shared_stem": "none", **widths}).shared_stem is None


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_the_presets_themselves_pass(preset: Preset) -> None:
    check_preset(preset)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"smooth": "1"}, "A preset has no field smooth; its fields are name, teacher1, teacher2, strides,"),
        ({"fusion": "sum"}, "`preset.fusion` takes one of normalized, paper, not 'sum'."),
        ({"attention": "maybe"}, "`preset.attention` takes true or false, not 'maybe'."),
        ({"epochs": "1.5"}, "`preset.epochs` takes a whole number, not '1.5'."),
        ({"epochs": "0"}, "`preset.epochs` must be at least 1, not 0."),
        ({"batch_size": "-1"}, "`preset.batch_size` must be at least 1, not -1."),
        ({"smoothing_sigma": "wide"}, "`preset.smoothing_sigma` takes a number, not 'wide'."),
        ({"smoothing_sigma": "nan"}, "`preset.smoothing_sigma` must be a finite number from 0 up, not nan."),
        ({"smoothing_sigma": "-1"}, "`preset.smoothing_sigma` must be a finite number from 0 up, not -1."),
        ({"fusion": "paper", "smoothing_sigma": "2"}, "`preset.fusion=paper` needs smoothing_sigma=0"),
        ({"learning_rate": "0"}, "`preset.learning_rate` must be a finite number above 0, not 0."),
        ({"learning_rate": "inf"}, "`preset.learning_rate` must be a finite number above 0, not inf."),
        (
            {"segmentation_head": "true", "distance": "cosine"},
            "`preset.segmentation_head=true` needs distance=normalized-residual and ",
        ),
        ({"distance": "angle"}, "`preset.distance` takes one of normalized-residual, cosine, not 'angle'."),
        ({"reconstruction_weight": "-1"}, "`preset.reconstruction_weight` must be a finite number from 0 up, not -1."),
        ({"strides": "8,16"}, "`preset.strides` takes 3 numbers with commas between, not '8,16'."),
        ({"strides": "a,b,c"}, "`preset.strides` takes whole numbers, as in 4,8,16, not 'a'."),
        ({"strides": "32,16,8"}, "`preset.strides` must be three of 2, 4, 8, 16 and 32, finest first, not 32,16,8."),
        ({"strides": "8,16,24"}, "`preset.strides` must be three of"),
        ({"teacher2_shrink": "3"}, "`preset.teacher2_shrink=3` leaves nothing of the strides 8,16,32"),
        ({"teacher2_shrink": "8"}, "`preset.teacher2_shrink=8` leaves nothing of the strides 8,16,32"),
        ({"teacher2_shrink": "0"}, "`preset.teacher2_shrink` must be at least 1, not 0."),
        ({"mining_share": "0"}, "`preset.mining_share` is a share above 0, up to 1, not 0."),
        ({"mining_share": "nan"}, "`preset.mining_share` is a share above 0, up to 1, not nan."),
        ({"augmentation": "turn"}, "`preset.augmentation` takes one of auto, none, shift, rotate, flip, not 'turn'."),
        ({"teacher1_shrink": "8"}, "`preset.teacher1_shrink=8` leaves nothing of the strides 8,16,32"),
        ({"teacher1_shrink": "4"}, "`preset.shared_stem=4`: teacher 1 has no such feature with teacher1_shrink=4"),
        ({"shared_stem": "8"}, "`preset.shared_stem=8`: student 1 starts from the image (none) or from a stride"),
        ({"shared_stem": "3"}, "`preset.shared_stem=3`: student 1 starts"),
        (
            {"shared_stem": "none"},
            "`preset.student1_widths` takes 5 numbers from 1 to 4096 (for the strides from 2 to",
        ),
        ({"strides": "4,8,16"}, "`preset.shared_stem=4`: student 1 starts"),
        ({"student1_widths": "8,8"}, "`preset.student1_widths` takes 4 numbers"),
        ({"student2_widths": "8,8,0"}, "`preset.student2_widths` takes 3 numbers from 1 to 4096"),
        ({"student2_widths": "8,8,1000000"}, "`preset.student2_widths` takes 3 numbers from 1 to 4096"),
        ({"student2_blocks": "1,1"}, "`preset.student2_blocks` takes 3 numbers from 0 to 64"),
        ({"teacher1": ""}, "`preset.teacher1` takes a name."),
        ({"students": "paper"}, "The paper's students need strides=4,8,16, shared_stem=none and teacher1_shrink=1."),
    ],
)
def test_values_that_make_no_preset(values: dict[str, str], says: str) -> None:
    with pytest.raises(UsageError) as error:
        override(EDGE, values)
    assert str(error.value).startswith(says)
    assert "\n" not in str(error.value)
    assert str(error.value).endswith(".")


def test_the_papers_students_take_the_papers_strides_only() -> None:
    with pytest.raises(UsageError, match="need strides=4,8,16"):
        override(PAPER, {"strides": "8,16,32"})
    assert override(PAPER, {"attention": "false"}).attention is False


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_of_the_leaderboard_differs_from_the_default(name: str) -> None:
    variant = contestant(name, VARIANTS[name], Common())
    assert variant.described() != contestant(name, {}, Common()).described()


@pytest.mark.parametrize("name", ["strides-4-8-16", "same-teachers", "student1-from-image", "no-attention"])
def test_variants_of_another_shape_can_be_built(name: str) -> None:
    preset = override(EDGE, VARIANTS[name])
    model = RSTPM(preset, RANDOM).eval()
    with torch.no_grad():
        *maps, _ = model(torch.zeros(1, 64, 96, 3, dtype=torch.uint8))
    coarsest, finest = preset.strides[2], preset.strides[0]
    strides = (*preset.strides * 4, coarsest, coarsest, finest)
    assert [tuple(m.shape) for m in maps] == [(1, 64 // s, 96 // s) for s in strides]
    assert any("gates" in key for key in model.state_dict()) == preset.attention


def test_a_run_records_what_was_set(parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options = ["--set", "teacher2=tf_efficientnet_lite0", "--set", "attention=off", "--size", 64, "--epochs", 1]
    with short_stages():
        result = command_line("train", parts, *options, "--device", "cpu")
    assert result.exit_code == 0, result.stderr
    (run,) = (tmp_path / "runs").iterdir()
    preset = load_config(run).preset
    assert preset.name == "edge (attention=off, teacher2=tf_efficientnet_lite0)"
    assert (preset.teacher1, preset.teacher2, preset.attention) == ("tf_efficientnet_lite0",) * 2 + (False,)
    config = document(run / "config.json")
    del config["preset"]["attention"]  # of an older run
    (run / "config.json").write_text(json.dumps(config))
    assert load_config(run).preset.attention


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("fusion", "--set takes NAME=VALUE, such as fusion=paper, not 'fusion'."),
        ("=paper", "--set takes NAME=VALUE, such as fusion=paper, not '=paper'."),
        ("fusion=", "--set takes NAME=VALUE, such as fusion=paper, not 'fusion='."),
        ("fuse=paper", "A preset has no field fuse; its fields are name, teacher1"),
        ("teacher2=resnet81", "There is no backbone named 'resnet81'"),
    ],
)
def test_what_the_command_line_refuses(
    parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = command_line("train", parts, "--set", option, "--size", 64, "--device", "cpu")
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].startswith(f"Error: {says}")  # after what was taken from the folder
    assert list(tmp_path.iterdir()) == []


def test_teacher2_itself_still_refuses_the_same_backbone(parts: Path) -> None:
    result = command_line("train", parts, "--teacher2", "tf_efficientnet_lite0")
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: Both teachers are tf_efficientnet_lite0: RSTPM rests on two different")
