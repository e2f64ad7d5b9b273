"""`rstpm-edge registry list`, `history` and `check`: what stands in a registry."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from rstpm_edge.cli.audit_log import entry_hash
from rstpm_edge.cli.options import public_key_option
from rstpm_edge.cli.registry.options import folder_option, json_option, key_of
from rstpm_edge.cli.registry.tables import product_fields, products_table, table, told, version_fields, versions_table
from rstpm_edge.cli.terminal import counted, say, say_error, say_json, say_note, say_table

if TYPE_CHECKING:
    from rstpm_edge.model.keys import PublicKey
    from rstpm_edge.registry.product import Product, Version
    from rstpm_edge.registry.registry import Registry

SOMETHING_CHANGED = 1


@click.command("list")
@click.argument("product", required=False)
@folder_option
@json_option
def list_command(product: str | None, folder: Path, as_json: bool) -> None:
    """Show the versions of PRODUCT, or of all products what is live and in shadow."""
    from rstpm_edge.errors import ModelError
    from rstpm_edge.registry.registry import open_registry

    opened = open_registry(folder)
    if product is not None:
        found = opened.product(product)
        if as_json:
            say_json(
                {"product": found.name, "versions": [version_fields(opened, found, one) for one in found.versions]}
            )
        else:
            say_table(versions_table(found))
        return
    products, damaged = [], []
    for name in opened.products():
        try:
            products.append(opened.product(name))
        except ModelError as error:
            damaged.append(error)
    if as_json:
        say_json({"products": [product_fields(opened, one) for one in products]})
    elif products:
        say_table(products_table(products))
    else:
        say(f"The registry {folder} is empty.")
    for problem in damaged:
        say_error(problem)
    if damaged:
        click.get_current_context().exit(SOMETHING_CHANGED)


@click.command()
@click.argument("product")
@folder_option
@json_option
def history(product: str, folder: Path, as_json: bool) -> None:
    """Show who said what of PRODUCT, and when: the entries of its log, oldest first."""
    from rstpm_edge.registry.registry import open_registry

    found = open_registry(folder).logged(product)
    if as_json:
        say_json({"product": product, "entries": [dict(entry) for entry in found.entries]})
        return
    rows = [
        [str(entry["entry"]), str(entry["time"])[:19], f"{entry.get('user')}@{entry.get('host')}", *told(entry)]
        for entry in found.entries
    ]
    say_table(table([["entry", "UTC", "who", "what", "note"], *rows]))
    for sentence in found.checked.notes:
        say_note(sentence)
    say(f"The last entry has the hash {found.product.hash}.")


@click.command()
@click.argument("product", required=False)
@folder_option
@public_key_option
@click.option(
    "--holds", metavar="HASH", help="The log of PRODUCT must have an entry of this hash: nothing was cut off."
)
@click.pass_context
def check(ctx: click.Context, product: str | None, folder: Path, public_key: Path | None, holds: str | None) -> None:
    """Check all logs and files, or those of PRODUCT: whether they are what was written.

    With a key, also that each live version, and each in shadow, is signed with it.

    Exit code: 0 all is well; 1 something was changed, is missing or is not signed.

    \b
    Example:
      rstpm-edge registry check --public-key release.pub
    """
    from rstpm_edge.errors import ModelError, UsageError
    from rstpm_edge.registry.registry import open_registry

    if holds is not None and product is None:
        raise UsageError("--holds goes with one PRODUCT: each has a log of its own.")
    opened, key = open_registry(folder), key_of(public_key)
    looked_for = None if holds is None else entry_hash(holds)
    names = [product] if product is not None else opened.products()
    versions, faults = 0, 0
    for name in names:
        try:
            found = opened.logged(name, looked_for)
        except ModelError as error:
            say_error(error)
            faults += 1
            continue
        for sentence in found.checked.notes:
            say_note(sentence)
        for version in found.product.versions:
            versions += 1
            for problem in _problems(opened, found.product, version, key):
                say_error(f"{name}, version {version.number}: {problem}")
                faults += 1
    if faults:
        ctx.exit(SOMETHING_CHANGED)
    count = f"{counted(len(names), 'product')}, {counted(versions, 'version')}"
    say(f"{folder}: {count}; logs and files are what was written.")


def _problems(opened: "Registry", product: "Product", version: "Version", key: "PublicKey | None") -> list[object]:
    from rstpm_edge.errors import ModelError
    from rstpm_edge.model.signature import check_signature

    try:
        opened.check_files(version.model)
        if key is not None and product.stage(version.number) != "candidate":
            check_signature(opened.model_file(version.model), version.model.sha256, key)
    except ModelError as error:
        return [error]
    return []
