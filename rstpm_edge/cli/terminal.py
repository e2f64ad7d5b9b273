"""What is printed, and how: lines that a terminal can show, and one sentence for an error."""

import contextlib
import json
import os
import re
import sys

import click

from rstpm_edge.calibration import CONFIDENCE
from rstpm_edge.errors import OutputError
from rstpm_edge.printable import one_line, own_lines, without_passwords

_ARGUMENT = re.compile(r"`(preset\.)?([a-z][a-z0-9_]*)(?:=([^`]*))?`")


def say(line: str) -> None:
    """Print a line to standard output, and never more than one. Raises OutputError when that is on a full disk."""
    _print(one_line(line))


def say_table(text: str) -> None:
    """The same with a text of several lines. Names in it went through `one_line` when it was made."""
    _print(own_lines(text))


def say_json(value: object) -> None:
    """The same with a value as JSON, on one line. Whatever names hold is escaped as JSON does, and comes back whole."""
    _print(json.dumps(value, allow_nan=False).replace("\x7f", "\\u007f"))  # the one control character that JSON leaves


def _print(text: str) -> None:
    try:
        click.echo(printable(text))
    except BrokenPipeError:
        raise
    except OSError as error:
        discard_stdout()
        raise OutputError(f"Cannot write to standard output: {error.strerror or error}.") from error


def say_error(message: object) -> None:
    """Print `Error: …` as one line to standard error."""
    say_note(f"Error: {message}")


def say_note(sentence: str) -> None:
    """Print a line to standard error that is no error, or none that ends anything; nothing where nobody takes it."""
    # A list of several lines becomes one; a line break in a file's name is shown as such.
    sentence = one_line(re.sub(r"\s*\n\s+", " ", without_passwords(as_typed(sentence).strip())))
    with contextlib.suppress(OSError):  # a full disk, a log's reader that has died: no reason to let parts pass
        click.echo(sentence, err=True)


def as_typed(sentence: str) -> str:
    """What the library says, with options of the command that runs in the place of its arguments.

    The library names an argument in backticks: `max_minutes`, `device=cpu`, and `preset.strides` for a preset's field.
    """
    context = click.get_current_context(silent=True)
    if context is None:
        return sentence
    root = context.find_root().command
    commands = root.commands if isinstance(root, click.Group) else {"": root}
    own = context.invoked_subcommand or context.info_name
    options = {
        parameter.name: max(parameter.opts, key=len)
        for _, command in sorted(commands.items(), key=lambda named: named[0] == own)  # of a name, the last one counts
        for parameter in parameters(command)
        if isinstance(parameter, click.Option)
    }

    def typed(found: re.Match[str]) -> str:
        field, name, value = found.groups()
        option = f"--set {name}" if field else options.get(name)
        if option is None:
            return found[0]
        return option if value is None else f"{option}{'=' if field else ' '}{value}"

    return _ARGUMENT.sub(typed, sentence)


def parameters(command: click.Command) -> list[click.Parameter]:
    """Those of a command, and of the commands below it."""
    below = command.commands.values() if isinstance(command, click.Group) else ()
    return [*command.params, *(parameter for one in below for parameter in parameters(one))]


def discard_stdout() -> None:
    """Drop what is still buffered for standard output: Python's own flush at exit would fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def printable(text: str) -> str:
    """`text` with whatever the terminal cannot show (file names may hold any bytes) replaced."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"  # there is no stdout where it was closed
    return text.encode(encoding, "replace").decode(encoding)


def percent(share: float) -> str:
    """A share in 0…1 to three digits: `5%`, `13.9%`, `0.499%`."""
    return f"{100 * share:.3g}%"


def confident(rate: float | None) -> str:
    """What holds of a false-reject rate for this one calibration; `rate` is None where sessions differ."""
    if rate is None:
        return f"with {CONFIDENCE:.0%} confidence no rate is known, since sessions differ"
    return f"with {CONFIDENCE:.0%} confidence at most {percent(rate)}"


def counted(number: int, what: str) -> str:
    """`1 image`, `2 images`."""
    return f"{number} {what}{'' if number == 1 else 's'}"
