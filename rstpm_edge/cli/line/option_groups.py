"""Options of `infer` and `serve` alike, in groups, as they stand in `--help`; their values are in `LineOptions`."""

from typing import Any

import click

from rstpm_edge.cli.options import (
    Decorator,
    judged_part_options,
    option_group,
    public_key_option,
    size_change_option,
)
from rstpm_edge.cli.parameter_types import EVERY, FILE, RATE, SETTLE, NumberRange


def shadow_options(share_help: str) -> Decorator[Any]:
    """--shadow and what belongs to it. `share_help` says what the share is of."""
    return option_group(
        click.option(
            "--shadow",
            is_flag=True,
            help="With --registry: judge with a product's version in shadow, too, and compare; it has no effect on "
            "verdicts.",
        ),
        click.option("--shadow-share", type=RATE, metavar="RATE", help=share_help),
        click.option(
            "--shadow-log", type=FILE, metavar="FILE", help="Append a JSON line of each image that was compared."
        ),
    )


# Which models are taken.
trust_options = option_group(
    public_key_option,
    click.option(
        "--verify",
        is_flag=True,
        help="First judge the goldens of each model, and refuse it where they differ here.",
    ),
)

# --explain, which threshold, and what of a photo is judged.
verdict_options = option_group(
    click.option(
        "--explain",
        is_flag=True,
        help="Say where each score comes from: what each pair and scale adds, and which pair alone would have "
        "rejected.",
    ),
    click.option("--threshold", type=float, metavar="SCORE", help="Take this one, not the calibrated threshold."),
    click.option(
        "--alpha",
        type=RATE,
        metavar="RATE",
        help="Or the threshold at which so many good parts may be rejected, as 5%.",
    ),
    judged_part_options,
    size_change_option,
)

# Which images of a source.
source_options = option_group(
    click.option(
        "--every", type=EVERY, metavar="N|SECONDS", help="Of a video or camera, each N-th frame, or one each 0.5s."
    ),
    click.option("--watch", is_flag=True, help="Judge what is written into the folder SOURCE from now on."),
    click.option(
        "--settle",
        type=SETTLE,
        metavar="SECONDS",
        help="With --watch: judge a file that nobody is known to write any more when it has not changed for so long.  "
        "[default: 0.2]",
    ),
)

# A command, MQTT, a table.
reaction_options = option_group(
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
        "--on-anomaly-timeout", type=NumberRange(0.1, 3600), default=10.0, show_default=True, metavar="SECONDS"
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


def record_options(audit_log_help: str) -> Decorator[Any]:
    """--journal, --audit-log and --drift, with what belongs to them. `audit_log_help` says what the log holds."""
    return option_group(
        click.option(
            "--journal",
            type=FILE,
            metavar="FILE",
            help="With --watch: keep each verdict there first, and after a restart judge each file that has none, "
            "those that came meanwhile, too; `rstpm-edge journal` prints them.",
        ),
        click.option(
            "--journal-days",
            type=NumberRange(min=0, min_open=True, max=36_500),
            metavar="DAYS",
            help="Forget verdicts that are older; their files stay known.  [default: keep all]",
        ),
        click.option("--audit-log", type=FILE, metavar="FILE", help=audit_log_help),
        click.option(
            "--audit-log-size",
            type=click.IntRange(1, 10_000),
            metavar="MB",
            help="Set the log aside when it is so large, as FILE.000001 and so on.  [default: 10]",
        ),
        click.option(
            "--drift",
            type=RATE,
            metavar="RATE",
            help="Tell once when the scene changes, or more photos are anomalous. A false alarm in a run has at most "
            "this probability, as 1%. For one photo of each part.",
        ),
        click.option(
            "--drift-state",
            type=FILE,
            metavar="FILE",
            help="With --drift: keep what is known there, and go on with it after a restart.",
        ),
    )
