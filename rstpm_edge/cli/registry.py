"""`rstpm-edge registry`: versions of models, in a folder that people and stations share."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rstpm_edge.cli.audit_log import entry_hash
from rstpm_edge.cli.options import REGISTRY, public_key_option
from rstpm_edge.cli.parameter_types import FILE
from rstpm_edge.cli.registry_tables import product_fields, products_table, table, told, version_fields, versions_table
from rstpm_edge.cli.terminal import counted, say, say_error, say_json, say_note, say_table

if TYPE_CHECKING:
    from rstpm_edge.model.keys import PublicKey
    from rstpm_edge.registry.product import Product, Version
    from rstpm_edge.registry.registry import Registry

SOMETHING_CHANGED = 1
_folder = click.option(
    "--registry",
    "folder",
    type=FILE,
    envvar=REGISTRY,
    default="registry",
    show_default=True,
    show_envvar=True,
    metavar="FOLDER",
    help="The registry's folder.",
)
_note = click.option("--note", metavar="TEXT", help="Why; it stays in the log.")
_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


@click.group()
def registry() -> None:
    """Keep the models of many products in one folder, and say which of them judges.

    Each product has versions, numbered from 1. A version is a candidate, judges without effect (shadow), or is live.
    `infer --registry FOLDER --product NAME` judges with the live one, and follows promotions. Nothing is overwritten:
    models lie under their SHA-256, and what was said stands in a log a product, whose lines hang together by hashes.

    \b
    Example:
      rstpm-edge registry add bracket model.onnx --note 'new light'
      rstpm-edge registry promote bracket 1
      rstpm-edge infer camera:0 --registry registry --product bracket
    """


@registry.command()
@click.argument("product")
@click.argument("model", type=FILE)
@_folder
@public_key_option
@click.option(
    "--evaluation", type=FILE, metavar="FILE", help="Keep these figures with it, of `rstpm-edge evaluate --json FILE`."
)
@_note
def add(
    product: str, model: Path, folder: Path, public_key: Path | None, evaluation: Path | None, note: str | None
) -> None:
    """Add MODEL as a new version of PRODUCT: a candidate, which judges nothing yet.

    The registry is made where there is none. The model is run once before, and its goldens are judged, where it has
    any. Its signature, MODEL.sig, is taken, too. A model that is a version already is not added again; an evaluation or
    a note are then kept with that version.

    \b
    Example:
      rstpm-edge registry add bracket model.onnx --evaluation bracket.json --public-key release.pub
    """
    from rstpm_edge.registry.evaluation import parse_evaluation
    from rstpm_edge.registry.registry import checked_name, make_registry

    checked_name(product)
    figures = None if evaluation is None else parse_evaluation(evaluation)
    key = _key(public_key)
    found, is_new = make_registry(folder).add(product, model, key=key, evaluation=figures, note=note)
    if is_new:
        say(f"{product}: version {found.number} is added, SHA-256 {found.model.sha256}{_signed(found)}.")
    else:
        say(f"{product}: {model} is version {found.number} already.")


@registry.command("list")
@click.argument("product", required=False)
@_folder
@_json
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


@registry.command()
@click.argument("product")
@click.argument("version", type=click.IntRange(min=1))
@_folder
@public_key_option
@click.option(
    "--to",
    type=click.Choice(["live", "shadow", "candidate"]),
    default="live",
    show_default=True,
    help="live: judge; shadow: judge without effect; candidate: neither.",
)
@click.option("--force", is_flag=True, help="Also where stations that run refuse it: it learned from other photos.")
@_note
def promote(
    product: str, version: int, folder: Path, public_key: Path | None, to: Any, force: bool, note: str | None
) -> None:
    """Let VERSION of PRODUCT judge, from now on.

    Stations with `infer --registry` take it within seconds, without a stop, or go on with the one before and say why.
    The model is loaded and run once before, as a station does. There is one live version, and one in shadow, at most.

    \b
    Examples:
      rstpm-edge registry promote bracket 3 --to shadow
      rstpm-edge registry promote bracket 3 --note 'shadow agreed on 20,000 parts'
    """
    from rstpm_edge.registry.registry import open_registry

    opened = open_registry(folder)
    before, after = opened.promote(product, version, to, key=_key(public_key), note=note, force=force)
    if before.entries == after.entries:
        say(f"{product}: version {version} is {after.stage(version)} already.")
    elif to == "candidate":
        say(f"{product}: version {version} is a candidate, and judges nothing.")
    elif to == "shadow":
        replaced = f", in the place of version {before.shadow}" if before.shadow is not None else ""
        say(f"{product}: version {version} judges in shadow{replaced}.")
    else:
        say(f"{product}: version {version} is live{_instead(before)}.")


@registry.command()
@click.argument("product")
@_folder
@click.option(
    "--from",
    "number",
    type=click.IntRange(min=1),
    metavar="VERSION",
    help="Only where this one is live: who repeats the command goes back once.",
)
@_note
def rollback(product: str, folder: Path, number: int | None, note: str | None) -> None:
    """Make the version of PRODUCT live again that was live before.

    \b
    Example:
      rstpm-edge registry rollback bracket --from 3 --note 'rejects good parts of lot 7'
    """
    from rstpm_edge.registry.registry import open_registry

    before, after = open_registry(folder).roll_back(product, number=number, note=note)
    assert after.live is not None
    say(f"{product}: version {after.live.number} is live again{_instead(before)}.")


@registry.command()
@click.argument("product")
@_folder
@_json
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


@registry.command()
@click.argument("product", required=False)
@_folder
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
    opened, key = open_registry(folder), _key(public_key)
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


def _key(file: Path | None) -> "PublicKey | None":
    from rstpm_edge.model.keys import load_public_key

    return None if file is None else load_public_key(file)


def _signed(version: "Version") -> str:
    if version.model.signed_by is not None:
        return f", signed with the key {version.model.signed_by[:16]}"
    return ", signed, with a key that was not checked" if version.model.signature is not None else ", not signed"


def _instead(before: "Product") -> str:
    return f", in the place of version {before.live.number}" if before.live is not None else ""
