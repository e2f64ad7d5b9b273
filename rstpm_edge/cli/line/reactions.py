"""What follows each verdict, beside what is printed: a command, MQTT, a table, the audit log."""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from rstpm_edge.cli.terminal import counted, say_note

if TYPE_CHECKING:
    from rstpm_edge.cli.line.options import LineOptions
    from rstpm_edge.cli.line.source import InspectionPlan
    from rstpm_edge.outputs.audit_log import AuditLog
    from rstpm_edge.outputs.command import OnAnomaly
    from rstpm_edge.outputs.csv_file import CsvFile
    from rstpm_edge.outputs.mqtt import Mqtt


Reaction: TypeAlias = Callable[[Mapping[str, Any]], None]
# The exit code where that, or a picture, could not be written. Unlike wrong use, which a service manager need not try
# again: a full disk may have room in a minute.
SOMETHING_UNWRITTEN = 5


@dataclass(frozen=True)
class Reactions:
    """Those that were asked for."""

    command: "OnAnomaly | None" = None
    mqtt: "Mqtt | None" = None
    table: "CsvFile | None" = None
    audit_log: "AuditLog | None" = None

    @property
    def to_all(self) -> list[Reaction]:
        """Those to parts, and to a source that failed."""
        return [one.tell for one in (self.mqtt, self.table, self.audit_log) if one]

    @property
    def unwritten(self) -> int:
        """Rows of the table and entries of the log that could not be written."""
        return sum(one.lost for one in (self.table, self.audit_log) if one)

    @property
    def to_parts(self) -> list[Reaction]:
        """Those to parts alone."""
        return [self.command.tell] if self.command else []

    def stop(self) -> None:
        """A stop was asked for: no command runs any more that would have to wait for others."""
        if self.command:
            self.command.stop()

    def tell_source(self, there: bool) -> None:
        """A source without an end is lost, or is back."""
        if self.mqtt:
            self.mqtt.tell_source(there)

    def tell_drift(self, fields: Mapping[str, Any]) -> None:
        """What is known of drift from now on."""
        if self.mqtt:
            self.mqtt.tell_drift(fields)
        if self.audit_log and fields["drift"] != "stable":
            self.audit_log.tell_drift(fields)

    def notes(self) -> list[str]:
        """What went wrong, for the summary."""
        counts = []
        if self.command:
            counts += [(self.command.failed, "failed command", ""), (self.command.dropped, "command", " not run")]
        if self.mqtt:
            counts.append((self.mqtt.lost, "message", " lost"))
        if self.table:
            counts.append((self.table.lost, "row", " not written"))
        if self.audit_log:
            counts.append((self.audit_log.lost, "audit log entry", " not written"))
        return [f"{counted(number, what)}{more}" for number, what, more in counts if number]


def open_reactions(
    options: "LineOptions",
    plan: "InspectionPlan",
    stack: contextlib.ExitStack,
    audit_log: "AuditLog | None" = None,
) -> Reactions:
    """They last until the end of `stack`. Raises UsageError and OutputError."""
    command = mqtt = table = None
    if options.on_anomaly is not None:
        from rstpm_edge.outputs.command import OnAnomaly

        command = OnAnomaly(
            options.on_anomaly,
            timeout=options.on_anomaly_timeout,
            unjudged=options.on_anomaly_unjudged,
            wait=plan.has_end,  # files wait for us, a line does not
            report=say_note,
        )
        stack.enter_context(command)
    if options.mqtt is not None:
        from rstpm_edge.outputs.mqtt import Mqtt, parse_broker

        broker = parse_broker(options.mqtt, password_file=options.mqtt_password_file, ca=options.mqtt_ca)
        mqtt = stack.enter_context(Mqtt(broker, report=say_note))
    if options.csv_file is not None:
        from rstpm_edge.outputs.csv_file import CsvFile

        table = stack.enter_context(CsvFile(options.csv_file, report=None if plan.has_end else say_note))
    return Reactions(command, mqtt, table, audit_log)
