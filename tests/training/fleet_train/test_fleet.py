"""Many products by Ray on this machine: a worker's death, a product that fails alone, and a command that goes on."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import fleet_workers
import pytest
from small_training import CPU

from rstpm_edge.errors import UsageError
from rstpm_edge.ray_cluster import cluster
from rstpm_edge.training.demo.part import write_dataset
from rstpm_edge.training.fleet_train import fleet
from rstpm_edge.training.fleet_train.fleet import FleetPlan, train_fleet
from rstpm_edge.training.fleet_train.product import Product
from rstpm_edge.training.fleet_train.result import ProductResult
from rstpm_edge.training.fleet_train.status import ProductStatus
from rstpm_edge.training.learning.options import TrainingOptions
from rstpm_edge.training.learning.run_summary import load_summary
from rstpm_edge.training.model.preset_overrides import override
from rstpm_edge.training.model.presets import EDGE

pytestmark = pytest.mark.extra

EPOCHS, DIES_IN = 8, 5
HEADLESS = override(EDGE, {"segmentation_head": "false"})  # whose training would be most of the time
OPTIONS = TrainingOptions(HEADLESS, epochs=EPOCHS, size=(64, 64))
LONG = replace(OPTIONS, epochs=100)  # so that a fast machine is still at it when the driver looks


@pytest.fixture(scope="module", autouse=True)
def ray() -> Iterator[Any]:
    """A cluster of two processors, which all tests here use: it takes seconds to start.

    Its workers are as urgent as other tests. Of itself, Ray lets them wait for all else.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_worker_niceness", "0")
        with cluster(None, 2) as ray:
            yield ray


@pytest.fixture(scope="module")
def products(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Product, ...]:
    """Two that work, of which one has labelled photos, and one that has too few photos."""
    folder = tmp_path_factory.mktemp("products")
    write_dataset(folder / "plain", seed=1, train=12, test_good=0, test_per_kind=0, size=(128, 128))
    (folder / "few").mkdir()
    return (
        Product("labelled", parts, OPTIONS),
        Product("few", folder / "few", OPTIONS),
        Product("plain", folder / "plain" / "train" / "good", OPTIONS),
    )


def test_a_worker_dies_and_a_product_fails_alone(
    products: tuple[Product, ...], tmp_path: Path, ray: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, told = tmp_path / "models", tmp_path / "told"
    told.mkdir()
    ray.cloudpickle.register_pickle_by_value(fleet_workers)
    monkeypatch.setattr(fleet, "_work", fleet_workers.dies_once("labelled", DIES_IN, told))
    seen: list[ProductStatus] = []
    labelled, few, plain = train_fleet(
        FleetPlan(products, out, CPU), 2, report=lambda results, statuses: seen.extend(statuses)
    )
    assert (labelled.failure, plain.failure) == (None, None)
    assert (labelled.tries, plain.tries) == (2, 1)
    assert few.failure is not None
    assert "training needs at least 5 good ones" in few.failure
    first, again = fleet_workers.told_epochs(told)
    assert max(first) == DIES_IN
    assert min(again) >= DIES_IN  # at most the epoch under way was trained twice
    assert {one.name for one in seen} >= {"labelled", "plain"}
    assert all(one.process is not None for one in seen)
    assert labelled.trained is not None
    assert labelled.trained.epochs == EPOCHS
    assert len(load_summary(out / labelled.trained.run).losses) == EPOCHS
    assert labelled.measured is not None
    assert plain.measured is None
    for one in (labelled, plain):
        assert one.asked_bytes is not None
        assert one.peak_bytes is not None
        assert one.peak_bytes < one.asked_bytes
    names = {path.name for path in out.iterdir()}
    assert names == {"labelled", "labelled.onnx", "plain", "plain.onnx", "fleet.html", "fleet.json"}

    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.suffix in (".onnx", ".safetensors")}
    found = train_fleet(FleetPlan(products, out, CPU), 2, wording=str.upper)
    assert [one.done_before for one in found] == [True, False, True]
    assert found[1].failure == few.failure.upper()
    assert found[1].failure in (out / "fleet.json").read_text("utf-8")
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.slow
def test_a_stopped_command_goes_on(products: tuple[Product, ...], tmp_path: Path) -> None:
    asked: list[bool] = []
    statuses: list[ProductStatus] = []

    def report(results: Sequence[ProductResult], now: Sequence[ProductStatus]) -> None:
        statuses[:] = now

    def stop() -> bool:
        asked.append(any((one.epoch or 0) > 1 for one in statuses))
        return asked[-1]

    plan = FleetPlan((replace(products[0], options=LONG),), tmp_path / "models", CPU)
    assert train_fleet(plan, 2, report=report, stop=stop) == []
    assert asked[-1]
    (checkpoint,) = (tmp_path / "models").rglob("checkpoint.safetensors")
    assert not (checkpoint.parent / "summary.json").exists()
    (found,) = train_fleet(plan, 2)
    assert found.failure is None


def test_what_a_cluster_cannot_give(products: tuple[Product, ...], tmp_path: Path) -> None:
    gpu = FleetPlan(products, tmp_path, CPU.__class__("cuda"))
    with pytest.raises(UsageError, match=r"^There is no GPU for `device=cuda`: leave it out, or name a cluster"):
        train_fleet(gpu, 2)
    shutil.rmtree(tmp_path)
