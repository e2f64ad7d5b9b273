"""The script that compares accuracies with anomalib's methods; a stub that judges by brightness stands for anomalib."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import timm
from bundles import ModelFactory
from checkout import ROOT
from compare_accuracy import Row, accuracy_of_ours, format_table
from compare_accuracy_metrics import (
    Accuracy,
    Difference,
    RawMaps,
    TestSet,
    accuracy,
    format_differences,
    raw_maps_of_ours,
    read_test_set,
)
from compare_accuracy_peers import METHODS, Contender, fit, is_done, job_of, layer_names, lineup
from sklearn.metrics import average_precision_score, roc_auc_score
from workplace import Workplace

from rstpm_edge import Detector
from rstpm_edge.training.data.images import test_images as labelled_images
from rstpm_edge.training.evaluation.evaluate import evaluate

COMMON = {"pyramid": {"4": "blocks.1", "8": "blocks.2", "16": "blocks.4", "32": "blocks.6"}, "seed": 0}

STUB = """#!{python}
import json, sys
from pathlib import Path
import numpy as np

what, folder = sys.argv[2], Path(sys.argv[3])
if what == "fit":
    job = json.loads((folder / "job.json").read_text())
    inputs = folder.parent / "inputs"
    train, test = (np.load(inputs / name).mean(axis=3) for name in ("train.npy", "test.npy"))
    maps = np.abs(test - train.mean(axis=0)).astype(np.float32)
    np.save(folder / "maps.npy", maps)
    np.save(folder / "scores.npy", maps.mean(axis=(1, 2)))
    with (folder.parent / "calls").open("a") as calls:
        calls.write(folder.name + "\\n")
    (folder / "result.json").write_text(json.dumps({{"job": job, "minutes": 1.5, "core_minutes": 2.5}}))
else:
    from sklearn.metrics import roc_auc_score
    from rstpm_edge.training.evaluation.metrics import aupro

    name = sys.argv[4]
    maps, scores = np.load(folder / name / "maps.npy"), np.load(folder / name / "scores.npy")
    masks, labels = np.load(folder / "masks.npy"), np.load(folder / "labels.npy")
    off = 0.01 if Path(sys.argv[0]).with_name("wrong").exists() else 0
    print("words of a library")
    print(json.dumps({{
        "image_auroc": roc_auc_score(labels, scores),
        "pixel_auroc": roc_auc_score(masks.ravel(), maps.ravel()) + off,
        "aupro_30": aupro(list(masks.astype(bool)), list(maps)),
    }}))
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


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "tools" / "compare_accuracy.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_every_method_looks_at_both_pyramids() -> None:
    everything = lineup(list(METHODS))
    assert [(each.method, each.strides) for each in everything] == [
        ("padim", (4, 8, 16)),
        ("padim", (8, 16, 32)),
        ("patchcore", (8, 16)),  # the second and third level of a ResNet, as in its paper
        ("patchcore", (16, 32)),
        ("stfpm", (4, 8, 16)),
        ("stfpm", (8, 16, 32)),
    ]
    assert len({each.name for each in everything}) == len({each.title for each in everything}) == 6
    assert Contender("stfpm", (4, 8, 16)).name == "stfpm-4-8-16"
    assert Contender("patchcore", (8, 16)).title == "PatchCore, strides 8, 16"
    assert lineup(["padim"]) == everything[:2]


@pytest.mark.parametrize("backbone", ["tf_efficientnet_lite0", "tf_efficientnet_lite1"])
def test_layers_have_the_strides_asked_for(backbone: str) -> None:
    network = timm.create_model(backbone, pretrained=False, features_only=True)
    found = layer_names(network.feature_info.info, (8, 16, 32))
    reductions = {info["module"]: info["reduction"] for info in network.feature_info.info}
    assert [reductions[name] for name in found] == [8, 16, 32]
    assert found == ["blocks.2", "blocks.4", "blocks.6"]


def test_a_stride_that_the_teacher_lacks_is_named() -> None:
    info = [{"module": "stem", "reduction": 4}, {"module": "body", "reduction": 16}]
    assert layer_names(info, (16, 4)) == ["body", "stem"]
    with pytest.raises(click.ClickException, match="no features at stride 8, only at 4, 16"):
        layer_names(info, (4, 8, 16))


def test_a_job_depends_on_its_own_settings_alone() -> None:
    def jobs(epochs: int, coreset: float) -> dict[str, dict[str, Any]]:
        return {each.name: job_of(each, COMMON, epochs, coreset) for each in lineup(list(METHODS))}

    before = jobs(100, 0.1)
    assert {name for name, job in jobs(40, 0.1).items() if job != before[name]} == {"stfpm-4-8-16", "stfpm-8-16-32"}
    assert {name for name, job in jobs(100, 0.01).items() if job != before[name]} == {
        "patchcore-8-16",
        "patchcore-16-32",
    }
    assert before["patchcore-8-16"]["layers"] == ["blocks.2", "blocks.4"]
    assert before["stfpm-8-16-32"]["epochs"] == 100
    assert before["padim-4-8-16"]["epochs"] == 1


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "{}", '{"job": {"seed": 1}}'])
def test_only_the_very_job_counts_as_done(tmp_path: Path, content: str) -> None:
    result = tmp_path / "result.json"
    assert not is_done(result, {"seed": 0})
    result.write_text(content)
    assert not is_done(result, {"seed": 0})
    result.write_text('{"job": {"seed": 0}}')
    assert is_done(result, {"seed": 0})


def test_a_worker_that_fails_leaves_its_last_words_and_its_log(tmp_path: Path) -> None:
    python = executable(tmp_path / "python", "#!/bin/sh\necho first; echo Error: no memory >&2; exit 3\n")
    with pytest.raises(click.ClickException) as caught:
        fit(Contender("padim", (4, 8, 16)), python, tmp_path, {}, 1)
    log = tmp_path / "padim-4-8-16" / "log.txt"
    assert caught.value.message == (
        f"PaDiM, strides 4, 8, 16 could not be trained: Error: no memory (all of it in {log})"
    )
    assert log.read_text() == "first\nError: no memory\n"
    executable(python, "#!/bin/sh\necho 'half of' the work; kill -9 $$\n")
    with pytest.raises(click.ClickException, match="could not be trained: it was stopped by SIGKILL"):
        fit(Contender("padim", (4, 8, 16)), python, tmp_path, {}, 1)
    with pytest.raises(click.ClickException, match=r"could not be trained: .*No such file"):
        fit(Contender("padim", (4, 8, 16)), tmp_path / "none", tmp_path, {}, 1)


def test_a_table_says_what_was_not_measured() -> None:
    rows = [
        Row("RSTPM", Accuracy(0.98, 0.9874, 0.98, 0.748, 0.5696), 3.05, None, 19.44, 13.7),
        Row("PaDiM", Accuracy(0.5, 0.25, 0.75), 1.0, 1.96),
    ]
    header, rule, first, second = format_table(rows).splitlines()
    assert header.count("|") == rule.count("|") == first.count("|") == second.count("|")
    assert first == "| RSTPM | 0.980 | 0.987 | 0.980 | 0.748 | 0.570 | 3.0 | 19.4 (13.7) |"
    assert second == "| PaDiM | 0.500 | 0.250 | 0.750 | – | – | 1.0 (2.0) | – |"


def test_differences_end_with_the_largest_of_each_metric() -> None:
    found = [
        Difference("a", "image_auroc", 0.5, 0.75),
        Difference("b", "image_auroc", 0.5, 0.375),
        Difference("b", "aupro_30", 0.25, 0.25),
    ]
    lines = format_differences(found).splitlines()
    assert len(lines) == 5
    assert lines[1].split() == ["a", "image_auroc", "0.500000", "0.750000", "2.5e-01"]
    assert lines[-1] == "largest: image_auroc 2.5e-01, aupro_30 0.0e+00"


def test_our_maps_measured_as_those_of_others_give_what_evaluate_gives(workplace: Workplace, parts: Path) -> None:
    tests = read_test_set(parts, (64, 96))
    found = accuracy(tests, raw_maps_of_ours(parts, workplace.model))
    both, pair = accuracy_of_ours(parts, workplace.model, tests)
    assert (found.image_auroc, found.image_ap) == (both.image_auroc, both.image_ap)
    detector = Detector(workplace.model)
    peaks = [detector(image.path).model_map.max() for image in labelled_images(parts)]
    assert found.peak_auroc == both.peak_auroc == roc_auc_score(tests.defective, peaks)
    assert pair.peak_auroc is None
    assert (found.pixel_auroc, found.aupro_30) == pytest.approx((both.pixel_auroc, both.aupro_30), abs=1e-5)


def test_the_score_and_the_maximum_of_the_map_are_told_apart() -> None:
    rng = np.random.default_rng(0)
    maps, scores = rng.random((40, 8, 8), dtype=np.float32), rng.random(40, dtype=np.float32)
    defective = np.arange(40) % 3 == 0
    tests = TestSet(np.zeros((40, 8, 8, 3), np.uint8), defective, [])
    found = accuracy(tests, RawMaps(maps, scores))
    assert found.image_auroc == pytest.approx(roc_auc_score(defective, scores))
    assert found.image_ap == pytest.approx(average_precision_score(defective, scores))
    assert found.peak_auroc == pytest.approx(roc_auc_score(defective, maps.max(axis=(1, 2))))
    assert found.image_auroc != found.peak_auroc
    assert found.pixel_auroc is None
    assert found.aupro_30 is None


def test_one_command_from_data_to_table(workplace: Workplace, parts: Path, venv: Path, tmp_path: Path) -> None:
    output = tmp_path / "compare"
    options = [parts, "--model", workplace.model, "--venv", venv, "--output", output, "--method", "padim"]
    options += ["--rounds", 0, "--check-metrics"]
    done = run(*options, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [row["title"] for row in found["rows"]] == [
        "RSTPM",
        "RSTPM, its STPM pair alone",
        "PaDiM, strides 4, 8, 16",
        "PaDiM, strides 8, 16, 32",
    ]
    evaluation = evaluate(parts, workplace.model)
    assert found["rows"][0]["accuracy"]["image_auroc"] == evaluation.both.image_auroc
    assert found["rows"][1]["accuracy"]["aupro_30"] == evaluation.stpm.aupro_30
    theirs = found["rows"][2]
    assert (theirs["minutes"], theirs["core_minutes"], theirs["median_ms"]) == (1.5, 2.5, None)
    labels = read_test_set(parts, (64, 96)).defective
    scores = np.load(output / "padim-4-8-16" / "scores.npy")
    assert theirs["accuracy"]["image_auroc"] == pytest.approx(roc_auc_score(labels, scores))
    assert {(each["name"], each["metric"]) for each in found["metrics"]} == {
        (name, metric)
        for name in ("rstpm", "padim-4-8-16", "padim-8-16-32")
        for metric in ("image_auroc", "pixel_auroc", "aupro_30")
    }
    assert all(each["ours"] == pytest.approx(each["anomalib"], abs=1e-6) for each in found["metrics"])

    # What is there is not computed again, and a metric that differs is an error.
    (venv / "bin" / "wrong").touch()
    done = run(*options)
    assert (output / "calls").read_text().split() == ["padim-4-8-16", "padim-8-16-32"]
    assert done.returncode == 1
    assert done.stdout.count("| PaDiM, strides ") == 2
    assert "largest: image_auroc" in done.stdout
    assert done.stderr == "Error: A metric differs from anomalib's by 0.0001 or more.\n"


def test_what_cannot_be_compared(
    model: Path, model_factory: ModelFactory, parts: Path, tmp_path: Path, venv: Path
) -> None:
    (tmp_path / "test" / "good").mkdir(parents=True)
    (tmp_path / "file").touch()
    (tmp_path / "noise.onnx").write_text("no model")
    letterbox, part = (
        model_factory("letterbox.onnx", resize="letterbox"),
        model_factory("part.onnx", roi=(0, 0, 64, 64)),
    )
    cases: list[tuple[list[object], str]] = [
        ([tmp_path / "none"], "does not exist"),
        ([tmp_path, "--venv", venv], "must hold both good and defective images"),
        ([parts, "--model", tmp_path / "noise.onnx", "--venv", venv], "noise.onnx"),
        ([parts, "--model", letterbox, "--venv", venv], "give a model that does, too"),
        ([parts, "--model", part, "--venv", venv], "give a model that does, too"),
        ([parts, "--model", model, "--venv", tmp_path / "file"], "anomalib cannot be installed"),
        ([parts, "--model", model, "--venv", venv, "--teacher", "resnet18"], "The teacher is one of tf_efficientnet"),
        ([parts, "--model", model, "--venv", venv, "--output", tmp_path / "file" / "x"], "Cannot create the folder"),
        ([parts, "--method", "abacus"], "abacus"),
        ([parts, "--coreset", "0"], "--coreset"),
        ([parts, "--epochs", "0"], "--epochs"),
    ]
    for arguments, message in cases:
        done = run("--output", tmp_path / "compare", *arguments)
        assert done.returncode in (1, 2), message
        assert done.stdout == ""
        assert message in done.stderr
        assert done.stderr.splitlines()[-1].startswith("Error: ")
        assert "Traceback" not in done.stderr
