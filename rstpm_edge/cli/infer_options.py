"""What was typed after `rstpm-edge infer`, and which options need another one."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rstpm_edge.cli.common import real
from rstpm_edge.cli.options import JudgedMask, JudgedRoi
from rstpm_edge.errors import UsageError

if TYPE_CHECKING:
    from rstpm_edge.cli.serve_options import ServeOptions
    from rstpm_edge.engine.providers import Provider
    from rstpm_edge.sources.frames import Every


@dataclass(frozen=True)
class InferOptions:
    """What was typed after `rstpm-edge infer`."""

    sources: tuple[str, ...]
    model: Path
    registry: Path | None
    product: str | None
    shadow: bool
    shadow_share: float | None
    shadow_log: Path | None
    public_key: Path | None
    verify: bool
    reload: bool
    explain: bool
    threshold: float | None
    alpha: float | None
    roi: JudgedRoi
    mask: JudgedMask
    allow_size_change: bool
    every: "Every | None"
    limit: int | None
    watch: bool
    settle: float | None  # seconds
    as_json: bool
    csv_file: Path | None
    save_overlay: Path | None  # a folder, as the next one
    save_map: Path | None
    map_format: Literal["png", "npy"]
    rejects_only: bool
    on_anomaly: str | None
    on_anomaly_timeout: float  # seconds
    on_anomaly_unjudged: bool
    journal: Path | None
    journal_days: float | None
    audit_log: Path | None
    audit_log_size: int | None  # MB
    drift: float | None
    drift_state: Path | None
    mqtt: str | None
    mqtt_password_file: Path | None
    mqtt_ca: Path | None
    providers: "list[Provider] | None"
    engine_cache: Path | None
    threads: int | None
    polite: bool


def check_together(options: InferOptions) -> None:
    """Raises UsageError for an option that does nothing without another."""
    if options.rejects_only and not (options.save_overlay or options.save_map):
        raise UsageError("--rejects-only goes with --save-overlay or --save-map, whose files it leaves out.")
    if options.reload and options.threshold is not None:
        raise UsageError(
            "--reload does not go with --threshold: a score set by hand is for the model that runs, and scores of "
            "another one have another unit. Give --alpha RATE, of which each model has its own threshold."
        )
    if options.audit_log is None and options.audit_log_size is not None:
        raise UsageError("--audit-log-size goes with --audit-log FILE only.")
    check_different(
        {
            "--audit-log": options.audit_log,
            "--csv": options.csv_file,
            "--drift-state": options.drift_state,
            "--journal": options.journal,
            "--shadow-log": options.shadow_log,
        }
    )
    if options.product is not None and options.registry is None:
        raise UsageError("--product goes with --registry FOLDER, or the variable RSTPM_EDGE_REGISTRY.")
    if options.product is None and options.shadow:
        raise UsageError("--shadow goes with --product NAME of a --registry only.")
    if not options.shadow and (options.shadow_share is not None or options.shadow_log is not None):
        raise UsageError("--shadow-share and --shadow-log go with --shadow only.")
    if options.drift is None and options.drift_state is not None:
        raise UsageError("--drift-state goes with --drift RATE only.")
    check_reactions(options)


def check_different(written: Mapping[str, Path | None]) -> None:
    """Raises UsageError where two of these options name one file."""
    for (one, path), (other, another) in combinations(written.items(), 2):
        if path is not None and another is not None and real(path) == real(another):
            raise UsageError(f"{one} and {other} must be different files.")


def check_reactions(options: "InferOptions | ServeOptions") -> None:
    """Raises UsageError for options of what follows verdicts that do not go together."""
    if options.on_anomaly is None and options.on_anomaly_unjudged:
        raise UsageError("--on-anomaly-unjudged goes with --on-anomaly COMMAND only.")
    if options.mqtt is None and (options.mqtt_password_file or options.mqtt_ca):
        raise UsageError("--mqtt-password-file and --mqtt-ca go with --mqtt URL only.")
