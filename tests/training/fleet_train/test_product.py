"""Which products there are in a folder, and which cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from rstpm_edge.errors import UsageError
from rstpm_edge.training.fleet_train.product import Product, check_products, products_below
from rstpm_edge.training.learning.options import TrainingOptions

OPTIONS = TrainingOptions(size=(64, 64))


def test_each_folder_is_a_product_but_for_that_of_the_models(tmp_path: Path) -> None:
    for name in ("nut", "bolt", "models", ".cache"):
        (tmp_path / name).mkdir()
    (tmp_path / "notes.txt").touch()
    found = products_below(tmp_path, OPTIONS, tmp_path / "models")
    assert [(one.name, one.data) for one in found] == [("bolt", tmp_path / "bolt"), ("nut", tmp_path / "nut")]
    assert all(one.options is OPTIONS for one in found)


def test_folders_that_hold_no_products(tmp_path: Path) -> None:
    empty, flat, mvtec = (tmp_path / name for name in ("empty", "flat", "mvtec"))
    empty.mkdir()
    flat.mkdir()
    (flat / "1.png").touch()
    (mvtec / "train" / "good").mkdir(parents=True)
    for folder, says in (
        (tmp_path / "gone", r"gone is missing: give a folder of products\.$"),
        (flat / "1.png", r"1\.png is no folder: give a folder of products\.$"),
        (empty, r"^There is no product in .*empty: it holds a folder of photos for each\.$"),
        (flat, r"flat is one product, not a folder of them: use `rstpm-edge train`, or the folder above\.$"),
        (mvtec, r"mvtec is one product, not a folder of them"),
    ):
        with pytest.raises(UsageError, match=says):
            products_below(folder, OPTIONS, tmp_path / "models")


def test_a_worker_in_another_folder_finds_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    weights = {"one": "one.pth", "two": "random"}
    found = Product("nut", Path("nut"), TrainingOptions(weights=weights)).anywhere()
    assert found.data == tmp_path / "nut"
    assert found.options.weights == {"one": str(tmp_path / "one.pth"), "two": "random"}


def test_products_that_cannot_be(tmp_path: Path) -> None:
    def named(*names: str) -> list[Product]:
        return [Product(name, tmp_path, OPTIONS) for name in names]

    check_products(named("a", "b.2", "c-d_e"))
    with pytest.raises(UsageError, match=r"^The product 'left nut' needs another name: letters, digits, dots, "):
        check_products(named("left nut"))
    with pytest.raises(UsageError, match=r"^The product fleet\.html needs another name: files of models and"):
        check_products(named("nut", "fleet.html"))
    with pytest.raises(UsageError, match=r"^Two products have one name, nut and Nut: some disks know no capitals\.$"):
        check_products(named("nut", "Nut"))
    with pytest.raises(UsageError, match=r"^nut: `epochs` must be at least 1, not 0\.$"):
        check_products([Product("nut", tmp_path, TrainingOptions(epochs=0))])
