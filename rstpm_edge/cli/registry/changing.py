"""`rstpm-edge registry add`, `promote` and `rollback`: what is written into a registry."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rstpm_edge.cli.options import public_key_option
from rstpm_edge.cli.parameter_types import FILE
from rstpm_edge.cli.registry.options import folder_option, key_of, note_option
from rstpm_edge.cli.terminal import say

if TYPE_CHECKING:
    from rstpm_edge.registry.product import Product, Version


@click.command()
@click.argument("product")
@click.argument("model", type=FILE)
@folder_option
@public_key_option
@click.option(
    "--evaluation", type=FILE, metavar="FILE", help="Keep these figures with it, of `rstpm-edge evaluate --json FILE`."
)
@note_option
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
    key = key_of(public_key)
    found, is_new = make_registry(folder).add(product, model, key=key, evaluation=figures, note=note)
    if is_new:
        say(f"{product}: version {found.number} is added, SHA-256 {found.model.sha256}{_signed(found)}.")
    else:
        say(f"{product}: {model} is version {found.number} already.")


@click.command()
@click.argument("product")
@click.argument("version", type=click.IntRange(min=1))
@folder_option
@public_key_option
@click.option(
    "--to",
    type=click.Choice(["live", "shadow", "candidate"]),
    default="live",
    show_default=True,
    help="live: judge; shadow: judge without effect; candidate: neither.",
)
@click.option("--force", is_flag=True, help="Also where stations that run refuse it: it learned from other photos.")
@note_option
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
    before, after = opened.promote(product, version, to, key=key_of(public_key), note=note, force=force)
    if before.entries == after.entries:
        say(f"{product}: version {version} is {after.stage(version)} already.")
    elif to == "candidate":
        say(f"{product}: version {version} is a candidate, and judges nothing.")
    elif to == "shadow":
        replaced = f", in the place of version {before.shadow}" if before.shadow is not None else ""
        say(f"{product}: version {version} judges in shadow{replaced}.")
    else:
        say(f"{product}: version {version} is live{_instead(before)}.")


@click.command()
@click.argument("product")
@folder_option
@click.option(
    "--from",
    "number",
    type=click.IntRange(min=1),
    metavar="VERSION",
    help="Only where this one is live: who repeats the command goes back once.",
)
@note_option
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


def _signed(version: "Version") -> str:
    if version.model.signed_by is not None:
        return f", signed with the key {version.model.signed_by[:16]}"
    return ", signed, with a key that was not checked" if version.model.signature is not None else ", not signed"


def _instead(before: "Product") -> str:
    return f", in the place of version {before.live.number}" if before.live is not None else ""
