"""How far long work is, on standard error: as one bar on a terminal, as the lines of a log elsewhere."""

import contextlib
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from rstpm_edge.cli.terminal import say_note
from rstpm_edge.progress import Log, Progress, Whole, details, duration, percent

if TYPE_CHECKING:
    from click._termui_impl import ProgressBar

BAR = 30  # columns: the bar itself, and what is around it but for the label and the text
CLEARED = "\r\x1b[K"  # the line that the bar is on


@contextlib.contextmanager
def show_progress(plan: Mapping[str, float] | None = None) -> "Iterator[Display]":
    """Something that takes Progress and shows it on standard error.

    On a terminal as one bar for the whole, else as the lines of a log. `plan` is that of the whole, as Progress has it,
    where the work itself tells of none.
    """
    with contextlib.ExitStack() as stack:
        yield Display(_Bar(stack) if sys.stderr.isatty() else Log(say_note), plan or {})


class Display:
    """Takes Progress, and lines that may stand between."""

    def __init__(self, show: "_Bar | Log", plan: Mapping[str, float]) -> None:
        self._show, self._plan = show, plan

    def __call__(self, progress: Progress) -> None:
        """Show how far the work is."""
        self._show(progress if progress.plan or not self._plan else replace(progress, plan=self._plan))

    def say(self, line: str) -> None:
        """Print a line to standard error; the bar goes on below it."""
        if isinstance(self._show, _Bar):
            self._show.clear()
        say_note(line)

    def pause(self) -> None:
        """Leave the bar as it is: what is printed next begins on a line of its own, and so does the bar after it."""
        if isinstance(self._show, _Bar):
            self._show.leave()


class _Bar:
    """One bar for the whole; it appears with the first piece of work, and ends with `stack`."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self._whole = Whole()
        self._bar: ProgressBar[int] | None = None
        self._text = ""

    def __call__(self, progress: Progress) -> None:
        if progress.warning is not None:
            self.clear()
            say_note(f"{progress.stage.capitalize()}: {progress.warning}")
            return
        self._whole.take(progress)
        part = f"{progress.part} of {progress.parts} " if progress.parts > 1 else ""
        label = f"{part}{progress.stage.capitalize():12}"
        left = self._whole.seconds_left
        said = [*([] if left is None else [f"{duration(left)} left"]), *details(progress)]
        room = shutil.get_terminal_size().columns - len(label) - BAR
        while said and len(", ".join(said)) > room:
            said.pop()
        self._text = ", ".join(said)
        if self._bar is None:
            bar: ProgressBar[int] = click.progressbar(
                length=100,
                label=label,
                show_eta=False,
                width=BAR - 11,
                item_show_func=lambda _: self._text,
                file=sys.stderr,
            )
            self._bar = self._stack.enter_context(bar)
        self._bar.label = label
        self._bar.update(percent(progress, self._whole) - self._bar.pos)
        self._bar.render_progress()  # the text may be another where the percent is not

    def clear(self) -> None:
        """Make room for a line where the bar is."""
        if self._bar is not None:
            click.echo(CLEARED, err=True, nl=False)

    def leave(self) -> None:
        """End the bar's line."""
        if self._bar is not None:
            click.echo(err=True)
