"""The command line: what all commands share. Each command stands in a module of its own."""

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from typing import Any

import click

from rstpm_edge import __version__, unexpected
from rstpm_edge.cli.audit import audit
from rstpm_edge.cli.audit_log import audit_log
from rstpm_edge.cli.bench import bench
from rstpm_edge.cli.benchmark import benchmark
from rstpm_edge.cli.calibrate import calibrate
from rstpm_edge.cli.demo import demo
from rstpm_edge.cli.evaluate import evaluate
from rstpm_edge.cli.export import export
from rstpm_edge.cli.fleet import fleet
from rstpm_edge.cli.history import history
from rstpm_edge.cli.infer.command import infer
from rstpm_edge.cli.info.command import info
from rstpm_edge.cli.journal import journal
from rstpm_edge.cli.msa import msa
from rstpm_edge.cli.recalibrate import recalibrate
from rstpm_edge.cli.registry.command import registry
from rstpm_edge.cli.roi import roi
from rstpm_edge.cli.serve.command import serve
from rstpm_edge.cli.sign import keygen, sign
from rstpm_edge.cli.terminal import as_typed, discard_stdout, parameters, say_error
from rstpm_edge.cli.train import train
from rstpm_edge.cli.verify import verify
from rstpm_edge.errors import RstpmEdgeError
from rstpm_edge.printable import one_line, without_password

WRONG_USE, INTERRUPTED, BROKEN_PIPE = 2, 130, 141  # the last two as a shell reports the signals


class _Group(click.Group):
    """Turns what commands raise into one line and an exit code; 1 is free for `infer` to say "anomalous"."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().main(*args, **kwargs)
        except OSError:  # click cannot even say on standard error what is wrong
            sys.exit(WRONG_USE)
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)
        except Exception as error:
            unexpected.report(error)
            sys.exit(unexpected.UNEXPECTED)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        with _one_sentence(ctx):  # --help and --version print here
            return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        # Read when cv2 is imported: a damaged image gets one line from us, and none from OpenCV or FFmpeg.
        os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
        with _one_sentence(ctx):
            if "RSTPM_EDGE_KERNEL" in os.environ:
                from rstpm_edge.native import kernels

                kernels()  # raises for one that there is not, before the work
            with unexpected.errors_of_threads():
                try:
                    return super().invoke(ctx)
                finally:  # also where the command has an exit code: a verdict without its reactions is none
                    unexpected.raise_from_threads()


@contextlib.contextmanager
def _one_sentence(ctx: click.Context) -> Iterator[None]:
    """Ends the command with the exit code for whatever is raised."""
    try:
        yield
    except click.exceptions.UsageError as error:  # click repeats what was typed: passwords, control characters
        raise click.exceptions.UsageError(_plain(error), error.ctx) from error
    except click.ClickException as error:
        raise click.ClickException(_plain(error)) from error
    except (click.exceptions.Exit, click.exceptions.Abort):
        raise
    except RstpmEdgeError as error:
        message = as_typed(str(error))
        say_error(f"{message}{_about_options(message, ctx)}")
        ctx.exit(WRONG_USE)
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        discard_stdout()
        ctx.exit(BROKEN_PIPE)
    except OSError as error:
        if error.errno in unexpected.EXHAUSTED:
            unexpected.report(error)
            ctx.exit(unexpected.UNEXPECTED)
        what = "go on"
        if error.filename is None:  # standard output on a full disk; else a path that may not be looked at
            discard_stdout()
        else:
            what = f"use {os.fsdecode(error.filename)}"
        say_error(f"Cannot {what}: {error.strerror or error}.")
        ctx.exit(WRONG_USE)
    except KeyboardInterrupt:
        ctx.exit(INTERRUPTED)
    except Exception as error:
        unexpected.report(error)
        ctx.exit(unexpected.UNEXPECTED)


def _about_options(message: str, ctx: click.Context) -> str:
    """Whose options they are that a message advises where the command which prints it has none of that name."""
    options = {name: _options(command.params) for name, command in main.commands.items()}
    below = {name: _options(parameters(command)) for name, command in main.commands.items()}
    own = below.get(ctx.invoked_subcommand or "", set())
    others = {}
    for option in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", message):
        owners = [name for name, known in options.items() if option in known]
        owners = owners or [name for name, known in below.items() if option in known]
        if option not in own and owners and not any(f"rstpm-edge {name}" in message for name in owners):
            others[option] = " and ".join(owners)
    return "".join(f" ({option} is an option of {owners}.)" for option, owners in others.items())


def _options(parameters: list[click.Parameter]) -> set[str]:
    return {option for parameter in parameters for option in parameter.opts}


def _plain(error: click.ClickException) -> str:
    return one_line(" ".join(without_password(error.format_message()).split()))


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="rstpm-edge")
def main() -> None:
    """Find defects in images of manufactured parts after learning from good parts only.

    Exit codes of all commands: 0 done; 2 wrong use, or output that cannot be written (of `infer` and `serve` 5); 70 an
    error of rstpm-edge itself, of which RSTPM_EDGE_TRACEBACK=1 says more; 130 interrupted. `infer`, `audit` and
    others have more of them.

    \b
    Example:
      rstpm-edge infer part.png --model model.onnx
    """


for command in (
    audit,
    audit_log,
    train,
    calibrate,
    recalibrate,
    export,
    keygen,
    sign,
    registry,
    infer,
    serve,
    journal,
    history,
    evaluate,
    fleet,
    msa,
    verify,
    bench,
    benchmark,
    info,
    roi,
    demo,
):
    main.add_command(command)
