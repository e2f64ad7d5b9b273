"""products.toml: where the photos of each product are, and how it is trained."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rstpm_edge.cli.toml_file import TomlFile
from rstpm_edge.cli.training_options import ProductTrainingOptions, product_training_options
from rstpm_edge.errors import UsageError

if TYPE_CHECKING:
    from rstpm_edge.training.fleet_train.product import Product

OF_THE_MACHINE = ("device", "precision")  # which all products share


def read_products_file(path: Path, typed: ProductTrainingOptions) -> "tuple[Product, ...]":
    """The products of a file; what is `typed` holds where a section says nothing else.

    Raises UsageError, with the line and the key, where something in it cannot be.
    """
    return _File(path).products(typed)


class _File(TomlFile):
    """The products that a file holds."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._command = product_training_options(click.Command("product"))
        self._options = {
            max(option.opts, key=len).removeprefix("--").replace("-", "_"): option
            for option in self._command.params
            if option.name not in OF_THE_MACHINE
        }

    def products(self, typed: ProductTrainingOptions) -> "tuple[Product, ...]":
        from rstpm_edge.training.fleet_train.product import Product

        self.check_keys("", self.content, {"product"})
        sections = self.content.get("product")
        if not isinstance(sections, dict) or not sections:
            raise self.bad("product", "is missing: a section for each product, such as [product.bracket]")
        found = []
        for name, values in sections.items():
            table = f"product.{name}"
            if not isinstance(values, dict):
                raise self.bad(table, f"is a section: [{table}]")
            self.check_keys(table, values, {"data", *self._options})
            if "data" not in values:
                raise self.bad(table, "has no data, the folder of its photos")
            data = self.path.parent / self.text(table, values, "data")
            own = self._own(table, values, typed)
            try:
                found.append(Product(name, data, own.product_options()))
            except UsageError as error:
                raise UsageError(f"{self.place(table)}: {error}") from error
        return tuple(found)

    def _own(self, table: str, values: Mapping[str, Any], typed: ProductTrainingOptions) -> ProductTrainingOptions:
        changes: dict[str, Any] = {}
        for key, value in values.items():
            if key != "data":
                option = self._options[key]
                assert option.name is not None
                changes[option.name] = self._parsed(f"{table}.{key}", option, value)
        if "weights" in changes:
            changes["weights"] = (*typed.weights, *map(self._below, changes["weights"]))
        if "overrides" in changes:
            changes["overrides"] = (*typed.overrides, *changes["overrides"])
        return replace(typed, **changes)

    def _parsed(self, key: str, option: click.Parameter, value: Any) -> Any:
        """What the option would be with this value typed behind it."""
        assert isinstance(option, click.Option)
        assert option.name is not None
        name = max(option.opts, key=len)
        if option.is_flag:
            if not isinstance(value, bool):
                raise self.bad(key, f"is true or false, not {value!r}")
            return value
        if option.multiple:
            if not isinstance(value, dict):
                raise self.bad(key, f"is a section: [{key}]")
            arguments = [part for one, inner in value.items() for part in (name, f"{one}={_text(inner)}")]
        elif isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise self.bad(key, f"is a text in quotes or a number, not {value!r}")
        else:
            arguments = [f"{name}={value}"]
        context = self.converted(key, lambda: self._command.make_context("product", arguments))
        return context.params[option.name]

    def _below(self, weights: tuple[str, str]) -> tuple[str, str]:
        """A file's path is below the folder of this one."""
        name, source = weights
        return name, source if source == "random" else str(self.path.parent / source)


def _text(value: Any) -> str:
    """A value of TOML as it is typed after --set."""
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(_text, value)) if isinstance(value, list) else str(value)
