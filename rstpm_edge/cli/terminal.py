"""What is printed, and how: lines that a terminal can show, and one sentence for an error."""

import contextlib
import json
import os
import re
import sys

import click

from rstpm_edge.errors import OutputError
from rstpm_edge.printable import one_line, own_lines, without_passwords


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
    sentence = one_line(re.sub(r"\s*\n\s+", " ", without_passwords(sentence.strip())))
    with contextlib.suppress(OSError):  # a full disk, a log's reader that has died: no reason to let parts pass
        click.echo(sentence, err=True)


def discard_stdout() -> None:
    """Drop what is still buffered for standard output: Python's own flush at exit would fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def printable(text: str) -> str:
    """`text` with whatever the terminal cannot show (file names may hold any bytes) replaced."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"  # there is no stdout where it was closed
    return text.encode(encoding, "replace").decode(encoding)


def counted(number: int, what: str) -> str:
    """`1 image`, `2 images`."""
    return f"{number} {what}{'' if number == 1 else 's'}"
