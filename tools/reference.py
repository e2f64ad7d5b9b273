"""Write the reference of commands and of the Python interface from the code: docs/reference/commands.md, python.md.

python tools/reference.py           # writes both
python tools/reference.py --check   # says which is out of date, and exits with 1
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

import rstpm_edge
from rstpm_edge import errors
from rstpm_edge.cli.main import main as commands

FOLDER = Path(__file__).parent.parent / "docs" / "reference"


def commands_page() -> str:
    """Every command with its arguments, options and defaults, as `--help` says them."""
    lines = [
        "# Commands",
        "",
        "This page is written by `python tools/reference.py` from the code. [Exit codes and JSON](output.md) have a "
        "page of their own. Each command also explains itself: `rstpm-edge COMMAND --help`.",
    ]
    context = click.Context(commands, info_name="rstpm-edge", **commands.context_settings)
    for name in commands.list_commands(context):
        command = commands.get_command(context, name)
        assert command is not None
        inner = click.Context(command, parent=context, info_name=name)
        lines += ["", f"## {name}", "", *_command(inner)]
        if isinstance(command, click.Group):
            for below, one in command.commands.items():
                own = click.Context(one, parent=inner, info_name=below)
                lines += ["", f"### {name} {below}", "", *_command(own)]
    return "\n".join(lines) + "\n"


def _command(context: click.Context) -> Iterator[str]:
    command = context.command
    usage = " ".join(command.collect_usage_pieces(context))
    yield f"`{context.command_path} {usage}`"
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        yield ""
        if paragraph.lstrip().startswith("\b"):
            lines = paragraph.replace("\b", "").strip("\n").split("\n")
            yield lines[0]
            yield ""
            yield "```"
            yield from (line.removeprefix("  ") for line in lines[1:])
            yield "```"
        else:
            yield " ".join(paragraph.split())
    if isinstance(command, click.Group):
        return
    records = [record for parameter in command.get_params(context) if (record := parameter.get_help_record(context))]
    yield ""
    yield "| option | meaning |"
    yield "|---|---|"
    for names, meaning in records:
        meaning = re.sub(r"\[([^]]*<=?x[^]]*)\]", r"\\[\1\\]", " ".join(meaning.split()))  # no link
        cells = (f"`{names}`", meaning)
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def python_page() -> str:
    """The public names, with their signatures and docstrings."""
    lines = [
        "# Python",
        "",
        "This page is written by `python tools/reference.py` from the code. Every name here comes from `rstpm_edge`; "
        "other modules are internal and may change.",
    ]
    for name in rstpm_edge.__all__:
        value = getattr(rstpm_edge, name)
        if inspect.isclass(value) and not issubclass(value, Exception):
            lines += _class(name, value)
        elif inspect.isfunction(value):
            lines += ["", f"## `{name}{_signature(value)}`", "", *_text(value)]
    lines += ["", "## Exceptions", "", "```", *_tree(), "```"]
    return "\n".join(lines) + "\n"


def _class(name: str, value: type) -> Iterator[str]:
    yield ""
    yield f"## `{name}`"
    yield ""
    if not dataclasses.is_dataclass(value):
        yield "```python"
        yield from _wrapped(name, vars(value)["__init__"])
        yield "```"
        yield ""
    yield from _text(value)
    if dataclasses.is_dataclass(value):
        yield ""
        yield "| field | type |"
        yield "|---|---|"
        yield from (f"| `{field}` | `{kind.replace('|', chr(92) + '|')}` |" for field, kind in _fields(value))
    for member, attribute in vars(value).items():
        if member.startswith("_") and member != "__call__":
            continue
        if isinstance(attribute, property) or type(attribute).__name__ == "cached_property":
            function = attribute.fget if isinstance(attribute, property) else attribute.func
            yield from ("", f"### `{name}.{member}`", "", *_text(function))
        elif inspect.isfunction(attribute):
            shown = name.lower() if member == "__call__" else f"{name}.{member}"
            yield from ("", f"### `{shown}{_signature(attribute)}`", "", *_text(attribute))


def _wrapped(name: str, function: Any) -> Iterator[str]:
    """The call, an argument a line."""
    arguments = _arguments(function)
    yield f"{name}("
    for text in _split(ast.unparse(arguments)):
        yield f"    {text},"
    yield ")"


def _split(arguments: str) -> list[str]:
    """At commas outside of brackets."""
    parts, depth = [""], 0
    for sign in arguments:
        depth += (sign in "([{") - (sign in ")]}")
        if sign == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += sign
    return [part.strip() for part in parts]


def _signature(function: Any) -> str:
    returns = _definition(function).returns
    result = "" if returns is None else f" -> {ast.unparse(returns)}"
    return f"({ast.unparse(_arguments(function))}){result}"


def _arguments(function: Any) -> ast.arguments:
    """As the source has them, whatever this Python makes of types; without `self`."""
    arguments = _definition(function).args
    arguments.args = [argument for argument in arguments.args if argument.arg != "self"]
    return arguments


def _definition(function: Any) -> ast.FunctionDef:
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    assert isinstance(definition, ast.FunctionDef)
    return definition


def _fields(value: type) -> Iterator[tuple[str, str]]:
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(value))).body
    assert isinstance(definition, ast.ClassDef)
    for node in definition.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id, ast.unparse(node.annotation)


def _text(value: Any) -> list[str]:
    """A docstring as Markdown: examples become code, and arguments ("name: what it is") a list."""
    lines: list[str] = []
    for paragraph in inspect.cleandoc(value.__doc__ or "").split("\n\n"):
        if paragraph.startswith("    "):
            lines += ["```python", *textwrap.dedent(paragraph).split("\n"), "```", ""]
            continue
        for line in paragraph.split("\n"):
            argument = re.match(r"(?:    )?([a-z_]+(?:, [a-z_]+)*): (?=\S)", line)
            lines.append(f"- `{argument[1]}`: {line[argument.end() :]}" if argument else line)
        lines.append("")
    return lines[:-1]


def _tree() -> list[str]:
    document = errors.__doc__ or ""
    return [line for line in document.strip().split("\n") if "Error" in line and not line.startswith("Everything")]


PAGES = {"commands.md": commands_page, "python.md": python_page}


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args().check
    stale = []
    for name, page in PAGES.items():
        path, text = FOLDER / name, page()
        if check and (not path.exists() or path.read_text() != text):
            stale.append(str(path))
        elif not check:
            FOLDER.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    if stale:
        sys.exit(f"Out of date: {', '.join(stale)}. Run: python tools/reference.py")


if __name__ == "__main__":
    main()
