"""What may be typed after `infer` and `serve` alike, and which options need another one."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

from rstpm_edge.cli.common import check_no_picture, real
from rstpm_edge.cli.options import JudgedMask, JudgedRoi
from rstpm_edge.errors import UsageError

if TYPE_CHECKING:
    from rstpm_edge.engine.providers import Provider
    from rstpm_edge.sources.frames import Every


@dataclass(frozen=True)
class LineOptions:
    """What to judge, how, and what follows a verdict; as it was typed."""

    sources: tuple[str, ...]
    model: Path
    registry: Path | None
    product: str | None
    shadow: bool
    shadow_share: float | None
    shadow_log: Path | None
    public_key: Path | None
    verify: bool
    explain: bool
    threshold: float | None
    alpha: float | None
    roi: JudgedRoi
    mask: JudgedMask
    allow_size_change: bool
    every: "Every | None"
    watch: bool
    settle: float | None  # seconds
    csv_file: Path | None
    on_anomaly: str | None
    on_anomaly_timeout: float  # seconds
    on_anomaly_unjudged: bool
    mqtt: str | None
    mqtt_password_file: Path | None
    mqtt_ca: Path | None
    journal: Path | None
    journal_days: float | None
    audit_log: Path | None
    audit_log_size: int | None  # MB
    drift: float | None
    drift_state: Path | None
    providers: "list[Provider] | None"
    engine_cache: Path | None
    threads: int | None
    polite: bool


def check_line(options: LineOptions) -> None:
    """Raises UsageError for options that do nothing without another, and for files that are photos, or the same."""
    if options.journal is None and options.journal_days is not None:
        raise UsageError("--journal-days goes with --journal FILE only.")
    if options.audit_log is None and options.audit_log_size is not None:
        raise UsageError("--audit-log-size goes with --audit-log FILE only.")
    if not options.shadow and (options.shadow_share is not None or options.shadow_log is not None):
        raise UsageError("--shadow-share and --shadow-log go with --shadow only.")
    if options.drift is None and options.drift_state is not None:
        raise UsageError("--drift-state goes with --drift RATE only.")
    if options.on_anomaly is None and options.on_anomaly_unjudged:
        raise UsageError("--on-anomaly-unjudged goes with --on-anomaly COMMAND only.")
    if options.mqtt is None and (options.mqtt_password_file or options.mqtt_ca):
        raise UsageError("--mqtt-password-file and --mqtt-ca go with --mqtt URL only.")
    check_written(
        {
            "--audit-log": options.audit_log,
            "--csv": options.csv_file,
            "--drift-state": options.drift_state,
            "--journal": options.journal,
            "--shadow-log": options.shadow_log,
        }
    )


def check_written(files: Mapping[str, Path | None]) -> None:
    """Raises UsageError where one of these options names a photo, or two of them one file."""
    named = [(option, path) for option, path in files.items() if path is not None]
    for option, path in named:
        check_no_picture(option, path)
    for (one, path), (other, another) in combinations(named, 2):
        if real(path) == real(another):
            raise UsageError(f"{one} and {other} must be different files.")
