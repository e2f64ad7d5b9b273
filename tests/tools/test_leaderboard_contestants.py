"""Who takes part in the leaderboard, with which options, and what a result depends on."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import Result
from leaderboard_contestants import CONTESTANTS, Common, contestant, on_photos, result_key, timing_key
from leaderboard_hash import source_hash
from leaderboard_stub import TINY, run
from quick_benchmark import Trainings

from rstpm_edge.training.data.datasets import Category, load_categories


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method", "abacus"], "There is no method abacus; choose from edge, edge-small, paper, padim,"),
        (["--method", "efficientad"], "EfficientAD-S needs the weights of its own teacher"),
        (["--variant", "magic"], "There is no variant magic; choose from no-standardisation,"),
        (["--variant", "a:method=abacus"], "There is no method abacus; choose from rstpm, padim"),
        (["--variant", "a:magic=1"], "A preset has no field magic"),
        (["--variant", "a:"], "--variant takes NAME:KEY=VALUE"),
        (["--variant", "a b:size=64"], "A variant's name is of letters"),
        (["--variant", "edge:size=96"], "There are two contestants called edge"),
        (["--variant", "a:size=65"], "The input size 65x65 does not work"),
        (["--variant", "a:resize=crop"], "resize is stretch or letterbox, not 'crop'"),
        (["--variant", "a:max_images=some"], "max_images is a number, not 'some'"),
        (["--variant", "a:epochs=0"], "epochs must be above 0, not 0"),
        (["--variant", "a:method=padim,coreset=2"], "coreset is at most 1"),
        (["--variant", "a:method=padim,size=65"], "multiples of 32"),
        (["--variant", "a:method=padim,size=big"], "PaDiM cannot have size=big"),
        (["--variant", "a:method=padim,head=no"], "PaDiM has no option head; there are size,"),
        (["--sets", "nut"], "has no category nut; it has bottle, cable"),
        (["--seeds", "x"], "--seeds is a number of seeds"),
    ],
)
def test_what_cannot_take_part(sets: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    methods = [] if "--method" in arguments else ["--method", "edge"]
    found = run(sets, "--output", tmp_path / "board", *TINY, *methods, *arguments)
    assert found.exit_code == 1
    assert found.stdout == ""
    assert found.stderr.startswith("Error: ")
    assert message in found.stderr
    assert found.stderr.count("\n") == 1
    assert not (tmp_path / "board").exists()


def test_folders_that_are_no_sets(tmp_path: Path, sets: Path) -> None:
    (tmp_path / "empty").mkdir()
    cases = [(tmp_path / "none", "is missing"), (tmp_path / "empty", "does not have the layout of MVTec AD")]
    shutil.rmtree(sets / "cable" / "test" / "spot")
    cases.append((sets, "must hold both good and defective images"))
    for root, message in cases:
        found = run(root, "--output", tmp_path / "board", *TINY)
        assert found.exit_code == 1
        assert message in found.stderr
        assert found.stderr.count("\n") == 1


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "{}", '{"key": 1}'])
def test_damaged_files_are_named(
    board: Callable[..., Result], sets: Path, tmp_path: Path, content: str, trainings: Trainings
) -> None:
    shown = tmp_path / "shown.json"
    assert board("--method", "edge", "--sets", "bottle", "--results", shown).exit_code == 0
    (path,) = (tmp_path / "board" / "results").iterdir()
    whole = path.read_text()
    path.write_text(content)
    found = board("--method", "edge", "--sets", "bottle")
    assert found.exit_code == 1
    assert f"{path} is damaged" in found.stderr
    assert found.stderr.endswith("delete it, and it is computed again.\n")
    path.write_text(whole.replace(path.stem, "0" * 64))
    assert "it belongs to other photos or options" in board("--method", "edge", "--sets", "bottle").stderr
    shown.write_text('{"results": [{}]}')
    assert f"{shown} is damaged" in board("--method", "edge", "--results", shown).stderr
    assert len(trainings) == 1


def test_a_value_may_hold_commas() -> None:
    from leaderboard_contestants import parse_variant

    name, values = parse_variant("slim:student1_widths=24,32,48,80,size=192, epochs=9")
    assert (name, values) == ("slim", {"student1_widths": "24,32,48,80", "size": "192", "epochs": "9"})
    one = contestant(name, values, Common())
    assert one.options.preset.student1_widths == (24, 32, 48, 80)  # type: ignore[union-attr]
    assert (one.options.size, one.options.epochs) == ((192, 192), 9)  # type: ignore[union-attr]


def test_every_ready_variant_changes_something_that_can_be_trained() -> None:
    from leaderboard_contestants import VARIANTS

    base = contestant("base", {}, Common()).described()
    assert not [name for name, values in VARIANTS.items() if contestant(name, values, Common()).described() == base]


def test_a_key_tells_of_all_that_counts_and_of_nothing_else(sets: Path) -> None:
    (bottle, cable) = load_categories(sets, "folder")

    def key(values: dict[str, str], category: Category = bottle, seed: int = 0, **common: Any) -> str:
        return result_key(category, contestant("any", values, Common(**common)), seed)

    padim, patchcore = {"method": "padim"}, {"method": "patchcore"}
    different = [
        key({}),
        key({}, cable),
        key({}, seed=1),
        key({"size": "128"}),
        key({"resize": "letterbox"}),
        key({"holdout": "0.3"}),
        key({"preset": "edge-small"}),
        key({"attention": "false"}),
        key({}, precision="32-true"),
        key(padim),
        key({**padim, "size": "auto"}),
        key({**padim, "strides": "8,16,32"}),
        key({**padim, "features": "50"}),
        key(patchcore),
        key({**patchcore, "coreset": "0.01"}),
    ]
    assert len(set(different)) == len(different)
    assert key({}, size="128") == key({"size": "128"})
    assert key({**padim, "coreset": "0.01"}) == key(padim)  # PatchCore's alone
    assert key(patchcore, epochs=7) == key(patchcore)
    assert key({"method": "stfpm"}, epochs=7) != key({"method": "stfpm"})


def test_an_area_has_the_shape_of_each_sets_photos(tmp_path: Path) -> None:
    for name, shape in (("lying", (60, 150)), ("square", (90, 90))):
        for part in (*(f"train/good/{i}.png" for i in range(5)), "test/good/0.png", "test/bad/0.png"):
            (tmp_path / name / part).parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(tmp_path / name / part), np.zeros((*shape, 3), np.uint8))
    lying, square = load_categories(tmp_path, "folder")
    one = contestant("small", {"area": "192"}, Common())
    sizes = [on_photos(one, category).options.size for category in (lying, square)]
    assert sizes == [(128, 288), (192, 192)]
    same = contestant("as it is", {"size": "192"}, Common())
    assert result_key(square, on_photos(one, square), 0) == result_key(square, same, 0)
    assert on_photos(same, lying) == same
    assert timing_key(one) != timing_key(same)  # on other photos it is another size


def test_code_counts_without_its_comments(tmp_path: Path) -> None:
    def of(text: str, name: str = "a.py") -> str:
        shutil.rmtree(tmp_path / "room", ignore_errors=True)
        (tmp_path / "room").mkdir()
        (tmp_path / "room" / name).write_text(text)
        return source_hash(tmp_path, ["room"])

    plain = of("def f(x):\n    return x + 1\n")
    assert of('"""Says."""\n\n\ndef f(x):  # adds\n    """One."""\n    return (x + 1)\n') == plain
    assert of("def f(x):\n    return x + 2\n") != plain
    assert of("def f(x):\n    return x + 1\n", "b.py") != plain
    assert of("int x;", "a.cpp") != of("int y;", "a.cpp")


def test_all_that_is_called_a_part_of_the_code_is_there() -> None:
    from checkout import ROOT
    from leaderboard_contestants import OUR_CODE, PEER_CODE

    for part in (*OUR_CODE, *PEER_CODE):
        assert (ROOT / part).exists(), part


def test_peers_that_are_listed_can_be_asked_for() -> None:
    asked = {name: contestant(name, values, Common()) for name, values in CONTESTANTS.items() if name != "paper"}
    assert [name for name, one in asked.items() if one.is_ours] == ["edge", "edge-small"]
    assert asked["patchcore"].options.strides == (8, 16)  # type: ignore[union-attr]
