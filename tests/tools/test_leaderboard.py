"""The leaderboard: from folders of photos to tables. Trainings take no time, and a stub that judges by brightness
stands for anomalib."""

from __future__ import annotations

import json
import shutil
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import leaderboard
import leaderboard_jobs
import numpy as np
import pytest
from bundles import make_bundle, write_model
from click.testing import CliRunner, Result
from layouts import mvtec, put_good
from leaderboard_contestants import CONTESTANTS, Common, contestant, result_key
from leaderboard_hash import source_hash
from leaderboard_peers import fit, layer_names, own_aspect
from leaderboard_table import BEGIN, END
from onnx import TensorProto
from quick_benchmark import Trainings, export_in_no_time, train_in_no_time
from workplace import document

from rstpm_edge.errors import UsageError
from rstpm_edge.training.benchmark import run as benchmark
from rstpm_edge.training.data.datasets import Category, load_categories

TINY = ("--size", 64, "--epochs", 1, "--device", "cpu", "--precision", "32-true", "--processes", 1, "--rounds", 0)

STUB = """#!{python}
import json, os, sys
from pathlib import Path
import numpy as np

folder, inputs = map(Path, sys.argv[2:])
job = json.loads((folder / "job.json").read_text())
train, test = (np.load(inputs / name).mean(axis=3) for name in ("train.npy", "test.npy"))
maps = np.abs(test - train.mean(axis=0)).astype(np.float32)
np.save(folder / "maps.npy", maps)
np.save(folder / "scores.npy", maps.mean(axis=(1, 2)))
with (folder.parent / "calls").open("a") as calls:
    calls.write(json.dumps([job["method"], job["size"], job["layers"], os.environ.get("OMP_NUM_THREADS"),
                            sorted(os.sched_getaffinity(0))]) + "\\n")
if job["seed"] == 9:
    sys.exit("no luck")
result = {{"job": job, "minutes": 1.5, "core_minutes": 2.5, "versions": {{"anomalib": "0"}}}}
(folder / "result.json").write_text(json.dumps(result))
"""


def executable(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    """An environment that is complete, and whose Python is the stub."""
    executable(tmp_path / "venv" / "bin" / "python", STUB.format(python=sys.executable))
    (tmp_path / "venv" / "complete").touch()
    return tmp_path / "venv"


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> Trainings:
    export_in_no_time(monkeypatch)
    return train_in_no_time(monkeypatch)


@pytest.fixture
def sets(tmp_path: Path) -> Path:
    return mvtec(tmp_path / "sets")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(leaderboard.main, [str(argument) for argument in arguments])


@pytest.fixture
def board(sets: Path, tmp_path: Path, venv: Path, trainings: Trainings) -> Callable[..., Result]:
    def call(*arguments: object, output: str = "board") -> Result:
        return run(sets, "--output", tmp_path / output, "--venv", venv, *TINY, *arguments)

    return call


def rows_of(table: str, title: str) -> dict[str, list[str]]:
    """The rows of the first table below `title`."""
    lines = table.split(title, 1)[1].split("\n\n")[1].splitlines()
    return {cells[0]: cells[1:] for cells in ([c.strip() for c in line[1:-1].split("|")] for line in lines[2:])}


def calls(output: Path) -> list[Any]:
    path = output / "fits" / "calls"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


# What is computed, and what is not computed again


def test_one_command_from_photos_to_tables(board: Callable[..., Result], tmp_path: Path, trainings: Trainings) -> None:
    found = board("--method", "edge,padim")
    assert found.exit_code == 0, found.stderr
    mean = rows_of(found.stdout, "**Mean over 2 sets** (bottle, cable)")
    assert list(mean) == ["**edge**", "padim"] or list(mean) == ["edge", "padim"]
    assert mean["edge"][0] == "1.000 (1.00–1.00)"
    assert mean["padim"][:3] == ["1.000 (1.00–1.00)"] * 3
    assert mean["padim"][-3:] == ["–", "2.5", "1"]
    assert rows_of(found.stdout, "**Worst set**")["edge"][0] == "1.000 (bottle)"
    assert "**cable**: 6 photos to learn from; 2 good and 2 defective ones to test on" in found.stdout
    assert list(rows_of(found.stdout, "**What each pair does alone**")) == ["edge"]
    assert [call[:2] for call in calls(tmp_path / "board")] == [["padim", [64, 64]]] * 2
    assert len(trainings) == 2
    assert not list((tmp_path / "board" / "runs").iterdir())
    again = board("--method", "edge,padim")
    assert again.stdout == found.stdout
    assert again.stderr == ""
    assert len(trainings) == len(calls(tmp_path / "board")) == 2


def test_only_what_changed_runs_again(
    board: Callable[..., Result], sets: Path, tmp_path: Path, trainings: Trainings
) -> None:
    def trained(*arguments: object) -> list[tuple[str, int]]:
        before = len(trainings)
        found = board("--method", "edge,padim", *arguments)
        assert found.exit_code == 0, found.stderr
        return [(files[0].parents[2].name, seed) for _, seed, files in trainings[before:]]

    assert trained() == [("bottle", 0), ("cable", 0)]
    photo = sets / "cable" / "train" / "good" / "003.png"
    shutil.copy(photo, tmp_path / "before.png")
    put_good(tmp_path / "other.png").replace(photo)
    assert trained() == [("cable", 0)]
    assert len(calls(tmp_path / "board")) == 3
    shutil.copy(tmp_path / "before.png", photo)
    assert trained() == []  # as it was
    mask = sets / "bottle" / "ground_truth" / "spot" / "001_mask.png"
    drawn = cv2.imread(str(mask), cv2.IMREAD_GRAYSCALE)
    assert drawn is not None
    drawn[0, 0] = 255
    assert cv2.imwrite(str(mask), drawn)
    assert trained() == [("bottle", 0)]
    assert trained("--seeds", "0,1") == [("bottle", 1), ("cable", 1)]
    assert trained("--epochs", 2) == [("bottle", 0), ("cable", 0)]
    assert trained("--variant", "deep:mining_share=0.5") == [("bottle", 0), ("cable", 0)]
    assert trained("--variant", "renamed:mining_share=0.5") == []
    assert trained("--variant", "nothing:mining_share=0.1") == []  # the default's value
    assert trained("--variant", "few:max_images=5") == [("bottle", 0), ("cable", 0)]
    assert [len(files) for _, _, files in trainings[-2:]] == [5, 5]
    assert len(calls(tmp_path / "board")) == 3  # a mask is no matter of what anomalib learns


def test_after_an_interruption_it_goes_on(
    board: Callable[..., Result], trainings: Trainings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    export = benchmark.export

    def interrupted(run: Path, output: Path) -> None:
        if len(trainings) == 2:
            raise KeyboardInterrupt
        export(run, output)  # type: ignore[call-arg]

    monkeypatch.setattr(benchmark, "export", interrupted)
    assert board("--method", "edge").exit_code != 0
    assert len(list((tmp_path / "board" / "results").iterdir())) == 1
    monkeypatch.setattr(benchmark, "export", export)
    found = board("--method", "edge")
    assert found.exit_code == 0, found.stderr
    assert [files[0].parents[2].name for _, _, files in trainings] == ["bottle", "cable", "cable"]


def test_results_of_one_file_serve_a_fresh_machine(
    board: Callable[..., Result], tmp_path: Path, trainings: Trainings
) -> None:
    shown = tmp_path / "shown.json"
    first = board("--method", "edge,padim", "--results", shown)
    assert first.exit_code == 0, first.stderr
    content = document(shown)
    assert [(one["contestant"], one["set"]) for one in content["results"]] == [
        ("edge", "bottle"),
        ("edge", "cable"),
        ("padim", "bottle"),
        ("padim", "cable"),
    ]
    assert not any("scores" in one for one in content["results"])
    assert str(tmp_path) not in shown.read_text()
    fresh = board("--method", "edge,padim", "--results", shown, output="fresh")
    assert fresh.stdout == first.stdout
    assert len(trainings) == 2
    assert not calls(tmp_path / "fresh")
    # A new result takes the place of the one of its set, contestant and seed, and others stay.
    assert board("--method", "edge", "--epochs", 2, "--sets", "cable", "--results", shown).exit_code == 0
    after = document(shown)["results"]
    assert [one["options"].get("epochs") for one in after] == [1, 2, None, None]


def test_what_is_known_without_running_anything(
    board: Callable[..., Result], trainings: Trainings, tmp_path: Path
) -> None:
    nothing = board("--method", "edge", "--cached")
    assert nothing.stderr == "Error: There are no results yet: leave out --cached.\n"
    board("--method", "edge", "--sets", "bottle")
    found = board("--method", "edge,padim", "--cached")
    assert found.exit_code == 0, found.stderr
    assert rows_of(found.stdout, "**Mean over 2 sets**")["edge"][0] == "–"  # not of all sets
    assert rows_of(found.stdout, "**bottle**")["edge"][0] == "1.000 (1.00–1.00)"
    assert "**cable**" not in found.stdout
    assert len(trainings) == 1


def test_a_set_without_masks(board: Callable[..., Result], sets: Path) -> None:
    shutil.rmtree(sets / "cable" / "ground_truth")
    found = board("--method", "edge,padim")
    assert found.exit_code == 0, found.stderr
    assert rows_of(found.stdout, "**cable**")["padim"][3:] == ["–", "–"]
    only = rows_of(found.stdout, "**bottle**")["edge"][3].split()[0]
    assert rows_of(found.stdout, "**Mean over 2 sets**")["edge"][3].split()[0] == only


def test_quick_takes_few_photos_evenly_spread(tmp_path: Path, trainings: Trainings) -> None:
    root = mvtec(tmp_path / "sets", "bottle") / "bottle"
    for i in range(6, 150):
        shutil.copy(root / "train" / "good" / "000.png", root / "train" / "good" / f"{i:03}.png")
    for kind in ("good", "spot"):
        for i in range(2, 70):
            shutil.copy(root / "test" / kind / "000.png", root / "test" / kind / f"{i:03}.png")
    shutil.rmtree(root / "ground_truth")
    options = [tmp_path / "sets", "--output", tmp_path / "board", "--method", "edge", "--quick", *TINY]
    found = run(*options)
    assert found.exit_code == 0, found.stderr
    ((_, _, files),) = trainings
    numbers = [int(path.stem) for path in files]
    assert len(numbers) == 100
    assert (numbers[0], numbers[-1]) == (0, 149)
    assert set(np.diff(numbers)) == {1, 2}
    (result,) = (tmp_path / "board" / "results").iterdir()
    content = document(result)
    assert (content["good"], content["defective"], content["quick"]) == (60, 60, True)
    assert content["options"]["epochs"] == 1  # as --epochs says; else 15
    assert contestant("edge", {}, Common(epochs=15)).options.epochs == 15  # type: ignore[union-attr]


def test_the_table_goes_between_its_marks(board: Callable[..., Result], tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# Before\n\n{BEGIN}\nold\n{END}\n\nAfter\n")
    found = board("--method", "edge", "--write", page)
    assert found.exit_code == 0, found.stderr
    assert page.read_text() == f"# Before\n\n{BEGIN}\n\n{found.stdout.rstrip()}\n\n{END}\n\nAfter\n"
    page.write_text("# Before\n")
    assert "needs a line <!-- leaderboard -->" in board("--method", "edge", "--write", page).stderr
    assert "--write shows full results" in board("--method", "edge", "--write", page, "--quick").stderr


def test_how_alike_quick_and_full_results_rank(board: Callable[..., Result]) -> None:
    options = ["--method", "edge", "--variant", "a:mining_share=0.5", "--variant", "b:mining_share=0.6"]
    for mode in ([], ["--quick"]):
        assert board(*options, *mode).exit_code == 0
    found = board(*options, "--agree")
    assert found.exit_code == 0, found.stderr
    assert [line.split(" | ")[0] for line in found.stdout.splitlines()[2:]] == ["| edge", "| a", "| b", "| Kendall's τ"]
    few = board("--method", "edge", "--agree")
    assert few.stderr.startswith("Error: A rank agreement takes three contestants")


# Several at once, and their latencies


@pytest.mark.skipif(not hasattr(leaderboard_jobs.os, "sched_getaffinity"), reason="this system pins no process")
def test_processes_keep_to_their_own_cores(sets: Path, tmp_path: Path, venv: Path) -> None:
    arguments = [*TINY, "--processes", 2, "--method", "padim", "--sets", "bottle", "--peer-seeds", "0,9"]
    found = run(sets, "--output", tmp_path / "board", "--venv", venv, *arguments)
    mine = sorted(leaderboard_jobs.os.sched_getaffinity(0))
    shares = [mine[0::2], mine[1::2] or mine]
    ran = calls(tmp_path / "board")
    assert len(ran) == 2
    assert all(cores in shares and threads == str(len(cores)) for *_, threads, cores in ran)
    assert found.exit_code == 1  # what failed is told, and the other one is there
    assert found.stderr.splitlines()[-1].startswith(
        "Error: 1 of the results could not be had; bottle, padim, seed 9: bottle, padim, seed 9 could not be trained: "
        "no luck"
    )
    assert rows_of(found.stdout, "**bottle**")["padim"][0] == "1.000 (1.00–1.00)"


def test_latencies_are_taken_side_by_side(tmp_path: Path) -> None:
    models = {name: (tmp_path / f"{name}.onnx", name != "other") for name in ("edge", "wide", "other")}
    for file, is_ours in models.values():
        write_model(file, make_bundle(), input_type=TensorProto.UINT8 if is_ours else TensorProto.FLOAT)
    found = leaderboard_jobs.time_models(models, threads=1, rounds=2, calls=2)
    assert list(found) == ["edge", "wide", "other"]
    assert found["edge"].ratio == 1.0
    assert all(each.ms > 0 and each.ratio > 0 for each in found.values())


def test_latencies_are_kept_with_the_results(
    board: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def time_models(models: Any, *arguments: Any) -> Any:
        asked.append(list(models))
        return {name: leaderboard_jobs.Latency(10.0 * (i + 1), i + 1.0) for i, name in enumerate(models)}

    monkeypatch.setattr(leaderboard_jobs, "time_models", time_models)
    shown = tmp_path / "shown.json"
    options = ["--variant", "deep:mining_share=0.5", "--method", "edge", "--results", shown]
    found = board(*options, "--rounds", 1)
    assert asked == [["edge", "deep"]]
    mean = rows_of(found.stdout, "**Mean over 2 sets**")
    assert (mean["**edge**"][5], mean["deep"][5]) == ("1.00 (10.0)", "2.00 (20.0)")  # edge alone is on the front
    assert "2.00 (20.0)" in board(*options, output="fresh").stdout
    assert len(asked) == 1


# Contestants


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


# anomalib's side


def test_layers_have_the_strides_asked_for() -> None:
    info = [{"module": "stem", "reduction": 4}, {"module": "body", "reduction": 16}]
    assert layer_names(info, (16, 4)) == ["body", "stem"]
    with pytest.raises(UsageError, match="no features at stride 8, only at 4, 16"):
        layer_names(info, (4, 8, 16))


def test_photos_own_aspect(sets: Path) -> None:
    (bottle, _) = load_categories(sets, "folder")  # 64×80
    height, width = own_aspect(bottle)
    assert (height, width) == (224, 288)
    assert own_aspect(bottle, area=64) == (32, 32)


def test_anomalib_learns_once_even_where_its_result_is_measured_anew(
    board: Callable[..., Result], tmp_path: Path
) -> None:
    options = ["--method", "padim,patchcore", "--sets", "bottle"]
    first = board(*options)
    shutil.rmtree(tmp_path / "board" / "results")
    assert board(*options).stdout == first.stdout
    assert [(method, layers) for method, _, layers, *_ in calls(tmp_path / "board")] == [
        ("padim", ["blocks.1", "blocks.2", "blocks.4"]),
        ("patchcore", ["blocks.2", "blocks.4"]),
    ]


def test_a_worker_that_fails_leaves_its_last_words_and_its_log(
    board: Callable[..., Result], venv: Path, tmp_path: Path
) -> None:
    executable(venv / "bin" / "python", "#!/bin/sh\necho first; echo Error: no memory >&2; exit 3\n")
    found = board("--method", "edge,padim", "--sets", "bottle")
    assert found.exit_code == 1
    (folder,) = (tmp_path / "board" / "fits").glob("padim-*")
    assert (folder / "log.txt").read_text() == "first\nError: no memory\n"
    assert found.stderr.splitlines()[-1] == (
        "Error: 1 of the results could not be had; bottle, padim, seed 0: bottle, padim, seed 0 could not be trained: "
        f"Error: no memory (all of it in {folder / 'log.txt'})"
    )
    assert "| edge | 1.000" in found.stdout  # the others are shown
    executable(venv / "bin" / "python", "#!/bin/sh\nkill -9 $$\n")
    assert "it was stopped by SIGKILL" in board("--method", "padim", "--sets", "bottle").stderr
    executable(venv / "bin" / "python", "#!/bin/sh\n")
    assert "left no result in" in board("--method", "padim", "--sets", "bottle").stderr


def test_only_the_very_job_counts_as_done(tmp_path: Path, venv: Path) -> None:
    (tmp_path / "inputs").mkdir()
    for name in ("train", "test"):
        np.save(tmp_path / "inputs" / f"{name}.npy", np.zeros((2, 4, 4, 3), np.uint8))
    job = {"method": "padim", "size": [4, 4], "layers": [], "seed": 0}

    def ran(job: dict[str, Any]) -> int:
        _, folder = fit("it", venv / "bin" / "python", tmp_path, tmp_path / "inputs", job)
        assert document(folder / "result.json")["job"] == job
        return len((tmp_path / "calls").read_text().splitlines())

    assert ran(job) == 1
    assert ran(job) == 1
    assert ran({**job, "seed": 1}) == 2
    (folder, _) = tmp_path.glob("padim-*")
    for content in ("", "{", "[]", '{"job": {"seed": 9}}'):
        (folder / "result.json").write_text(content)
        seen = json.loads((folder / "job.json").read_text())
        assert ran(seen) == 3
        (tmp_path / "calls").write_text("1\n2\n")
