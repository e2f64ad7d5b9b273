"""Options of what follows each verdict of a line: a command, MQTT, a table. `infer` and `serve` have them."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from rstpm_edge.cli.parameter_types import FILE

Command = TypeVar("Command", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--csv", "csv_file", type=FILE, metavar="FILE", help="Append a row of each verdict to this table, as it comes."
    ),
    click.option(
        "--on-anomaly",
        metavar="COMMAND",
        help="Run it for each anomalous image, with {path}, {score}, {p_value}, {threshold} and {json} replaced and "
        "the JSON on standard input; without a shell.",
    ),
    click.option(
        "--on-anomaly-timeout", type=click.FloatRange(min=0.1), default=10.0, show_default=True, metavar="SECONDS"
    ),
    click.option(
        "--on-anomaly-unjudged", is_flag=True, help="Run it for an INVALID or failed image, too; {json} says why."
    ),
    click.option("--mqtt", metavar="URL", help="Publish verdicts: mqtt://user@host:1883/topic, or mqtts://… for TLS."),
    click.option(
        "--mqtt-password-file", type=FILE, metavar="FILE", help="Or set the variable RSTPM_EDGE_MQTT_PASSWORD."
    ),
    click.option("--mqtt-ca", type=FILE, metavar="FILE", help="Trust these certificates, not the system's."),
)


def reaction_options(command: Command) -> Command:
    """--csv, --on-anomaly and --mqtt, with what belongs to them."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
