"""`rstpm-edge audit-log`: whether a log of `infer --audit-log` is as it was written."""

import re
from pathlib import Path

import click

from rstpm_edge.cli.parameter_types import FILE
from rstpm_edge.cli.terminal import counted, say, say_error, say_note
from rstpm_edge.errors import UsageError

SOMETHING_CHANGED = 1


@click.command("audit-log")
@click.argument("file", type=FILE)
@click.option(
    "--holds",
    metavar="HASH",
    help="There must be an entry of this hash, which was kept elsewhere: nothing was cut off.",
)
@click.pass_context
def audit_log(ctx: click.Context, file: Path, holds: str | None) -> None:
    """Check the log that --audit-log of `infer` or `serve` writes, with what was set aside of it (FILE.000001, …).

    Each line holds the hash of the one before. So lines that were changed, removed or inserted are found, and named.
    What a crash cuts off is told apart. Lines that are missing at the end, or a log that was written anew from its
    first line, are found by --holds alone: note the hash that this command prints, somewhere else.

    Exit code: 0 nothing was changed; 1 something was; 2 there is no log, or it cannot be read.

    \b
    Example:
      rstpm-edge audit-log /var/log/station4.jsonl --holds 3f0c…
    """
    from rstpm_edge.outputs.chain_check import check_chain

    found = check_chain(file, None if holds is None else entry_hash(holds))
    for note in found.notes:
        say_note(note)
    for fault in found.faults:
        say_error(fault)
    if found.faults:
        ctx.exit(SOMETHING_CHANGED)
    say(
        f"{file}: {counted(found.entries, 'entry') if found.entries == 1 else f'{found.entries} entries'} "
        f"({found.first} to {found.last}) in {counted(found.files, 'file')} hang together; the last has the hash "
        f"{found.last_hash}."
    )


def entry_hash(holds: str) -> str:
    """What was typed after --holds. Raises UsageError."""
    holds = holds.strip().lower()
    if not re.fullmatch("[0-9a-f]{64}", holds):
        raise UsageError("--holds takes the hash of an entry, 64 hexadecimal digits, as it was printed.")
    return holds
