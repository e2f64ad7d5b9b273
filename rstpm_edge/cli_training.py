"""What the commands that need torch share: progress on the terminal, and options that are more than one word."""

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import click

from rstpm_edge.cli_common import say_note
from rstpm_edge.errors import UsageError


@contextlib.contextmanager
def progress_bars() -> Iterator[Callable[[Any], None]]:
    """Something that takes training's Progress and draws one bar a stage on standard error."""
    with contextlib.ExitStack() as stack:
        stages: dict[str, Callable[[int, int], None]] = {}
        bars: list[Any] = []

        def report(progress: Any) -> None:
            if progress.warning is not None:
                say_note(f"{progress.stage.capitalize()}: {progress.warning}")
                return
            if progress.stage not in stages:
                stack.close()  # the stage before is done
                bar: Any = click.progressbar(
                    length=progress.total,
                    label=f"{progress.stage.capitalize():11}",
                    item_show_func=lambda loss: f"loss {loss[0]:.3f} {loss[1]:.3f}" if loss else "",
                    file=sys.stderr,
                )
                bars[:] = [stack.enter_context(bar)]
                stages[progress.stage] = _mover(bars[0])
            bars[0].current_item = progress.loss
            stages[progress.stage](progress.done, progress.total)

        yield report


@contextlib.contextmanager
def progress_bar(label: str) -> Iterator[Callable[[int, int], None]]:
    """Something that takes (done, total) and draws one bar on standard error."""
    with click.progressbar(length=1, label=f"{label:11}", file=sys.stderr) as bar:
        yield _mover(bar)


def _mover(bar: Any) -> Callable[[int, int], None]:
    def move(done: int, total: int) -> None:
        bar.length = total
        bar.update(done - bar.pos, bar.current_item)

    return move


def parse_size(text: str) -> tuple[int, int]:
    """--size as (height, width). Raises UsageError."""
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.strip().isdecimal() for part in parts):
        raise UsageError(f"--size is a number of pixels or HEIGHTxWIDTH, such as 256 or 256x512, not {text!r}.")
    return int(parts[0]), int(parts[-1])


def parse_weights(pairs: Iterable[str]) -> dict[str, str]:
    """--weights as {NAME: FILE}. Raises UsageError."""
    return _pairs(pairs, "--weights takes NAME=FILE, such as resnet18=resnet18.pth")


def parse_overrides(pairs: Iterable[str]) -> dict[str, str]:
    """--set as {NAME: VALUE}. Raises UsageError."""
    return _pairs(pairs, "--set takes NAME=VALUE, such as fusion=paper")


def parse_margins(pairs: Iterable[str]) -> dict[str, str]:
    """--margin as {NAME: VALUE}. Raises UsageError."""
    return _pairs(pairs, "--margin takes NAME=VALUE, such as auroc=0.01")


def _pairs(pairs: Iterable[str], expected: str) -> dict[str, str]:
    values = {}
    for pair in pairs:
        name, equals, value = (part.strip() for part in pair.partition("="))
        if not (name and equals and value):
            raise UsageError(f"{expected}, not {pair!r}.")
        values[name] = value
    return values
