"""products.toml: each product's data and options, and what cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from rstpm_edge.cli.main import main
from rstpm_edge.training.fleet_train import fleet as fleet_module
from rstpm_edge.training.fleet_train.fleet import FleetPlan
from rstpm_edge.training.learning.options import TrainingOptions

pytestmark = pytest.mark.extra


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[FleetPlan]:
    """The plans that are made; nothing is trained."""
    found: list[FleetPlan] = []

    def train_fleet(plan: FleetPlan, processors: int, **keywords: Any) -> list[Any]:
        found.append(plan)
        return []

    monkeypatch.setattr(fleet_module, "train_fleet", train_fleet)
    monkeypatch.chdir(tmp_path)
    return found


def run(text: str, *arguments: str, name: str = "products.toml") -> tuple[int, str]:
    Path(name).write_text(text)
    result = CliRunner().invoke(main, ["fleet", "train", name, *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stderr


def test_a_section_says_more_than_the_command_line(plans: list[FleetPlan]) -> None:
    code, errors = run(
        """
        [product.bracket]
        data = "photos/bracket"
        size = "64x96"
        alpha = "5%"
        max_minutes = 2.5
        skip_unreadable = true
        roi = "0,0,100,100"
        sessions = "folder"
        [product.bracket.set]
        attention = false
        smoothing_sigma = 4
        [product."lid-2"]
        data = "/photos/lid"
        seed = 7
        [product."lid-2".weights]
        tf_efficientnet_lite0 = "lite0.pth"
        tf_efficientnet_lite1 = "random"
        """,
        "--epochs",
        "9",
        "--seed",
        "3",
        "--set",
        "batch_size=4",
        "--out",
        "kept",
        "--device",
        "cpu",
    )
    assert (code, errors) == (0, "")
    (plan,) = plans
    bracket, lid = plan.products
    assert (bracket.name, bracket.data, lid.name, lid.data) == (
        "bracket",
        Path("photos/bracket"),
        "lid-2",
        Path("/photos/lid"),
    )
    first, second = bracket.options, lid.options
    assert (first.size, first.alpha, first.max_minutes, first.skip_unreadable) == ((64, 96), 0.05, 2.5, True)
    assert (first.roi, first.sessions, first.seed, first.epochs) == ((0, 0, 100, 100), "folder", 3, 9)
    assert (first.preset.attention, first.preset.smoothing_sigma, first.preset.batch_size) == (False, 4.0, 4)
    assert (second.seed, second.epochs, second.size, second.preset.attention) == (7, 9, None, True)
    assert second.weights == {"tf_efficientnet_lite0": "lite0.pth", "tf_efficientnet_lite1": "random"}
    assert (plan.out, plan.machine.device, plan.threads) == (Path("kept"), "cpu", 1)


def test_paths_are_below_the_files_folder(plans: list[FleetPlan]) -> None:
    Path("there").mkdir()
    text = '[product.a]\ndata = "a"\n[product.a.weights]\ntf_efficientnet_lite0 = "w.pth"\n'
    assert run(text, name="there/products.toml")[0] == 0
    ((product,),) = (plan.products for plan in plans)
    assert product.data == Path("there/a")
    assert product.options.weights == {"tf_efficientnet_lite0": "there/w.pth"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "products.toml: product is missing: a section for each product, such as [product.bracket]."),
        ("[product]", "products.toml, line 1: product is missing: a section for each product, such as"),
        ("[product", "products.toml is no TOML: "),
        (
            "[product.a]\ndata='a'\n[product.a]\ndata='b'",
            "products.toml is no TOML: Cannot declare ('product', 'a') twice",
        ),
        (
            "[product.a]\ndata='a'\n[product.A]\ndata='b'",
            "Two products have one name, a and A: some disks know no capitals.",
        ),
        ("[products.a]", "products.toml, line 1: products is not known; there are product."),
        ("[product.a]\nsize='64'", "products.toml, line 1: product.a has no data, the folder of its photos."),
        ("[product.a]\ndata='a'\ncolour=3", "products.toml, line 3: product.a.colour is not known; there are allow_"),
        ("[product.a]\ndata='a'\ndevice='cpu'", "products.toml, line 3: product.a.device is not known"),
        ("[product.a]\ndata=3", "products.toml, line 2: product.a.data is a text in quotes."),
        ("[product]\na=3", "products.toml, line 2: product.a is a section: [product.a]."),
        ("[product.a]\ndata='a'\nsize='big'", "products.toml, line 3: product.a.size is "),
        (
            "[product.a]\ndata='a'\nepochs='many'",
            "products.toml, line 3: product.a.epochs 'many' is not a valid integer.",
        ),
        (
            "[product.a]\ndata='a'\nepochs=[1]",
            "products.toml, line 3: product.a.epochs is a text in quotes or a number",
        ),
        (
            "[product.a]\ndata='a'\nepochs=true",
            "products.toml, line 3: product.a.epochs is a text in quotes or a number",
        ),
        (
            "[product.a]\ndata='a'\nskip_unreadable=1",
            "products.toml, line 3: product.a.skip_unreadable is true or false",
        ),
        ("[product.a]\ndata='a'\nset='x=1'", "products.toml, line 3: product.a.set is a section: [product.a.set]."),
        ("[product.a]\ndata='a'\npreset='huge'", "products.toml, line 1: product.a: "),
        ("[product.a]\ndata='a'\n[product.a.set]\nfields=1", "products.toml, line 1: product.a: "),
        ("[product.a]\ndata='a'\nepochs=0", "a: --epochs must be at least 1, not 0."),
        ("[product.'left nut']\ndata='a'", "The product 'left nut' needs another name: letters, digits, dots,"),
        ("\udcff", "Cannot read products.toml: it is no UTF-8."),
    ],
)
def test_what_cannot_be(text: str, says: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    Path("products.toml").write_bytes(text.encode(errors="surrogateescape"))
    result = CliRunner().invoke(main, ["fleet", "train", "products.toml"])
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith(f"Error: {says}")
    assert {path.name for path in tmp_path.iterdir()} == {"products.toml"}


def test_a_file_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["fleet", "train", "gone.toml"])
    assert (result.exit_code, result.stderr) == (2, "Error: Cannot read gone.toml: No such file or directory.\n")


def test_options_default_as_those_of_train(plans: list[FleetPlan]) -> None:
    assert run("[product.a]\ndata='a'")[0] == 0
    assert plans[0].products[0].options == TrainingOptions(preset=plans[0].products[0].options.preset, weights={})
