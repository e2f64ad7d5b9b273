"""What was typed after `rstpm-edge serve`, and which options need another one."""

import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rstpm_edge.cli.infer_options import check_different, check_reactions
from rstpm_edge.cli.options import JudgedMask, JudgedRoi
from rstpm_edge.errors import UsageError

if TYPE_CHECKING:
    from rstpm_edge.engine.providers import Provider
    from rstpm_edge.sources.frames import Every
    from rstpm_edge.station.access import Access

TOKENS = "RSTPM_EDGE_TOKENS"


@dataclass(frozen=True)
class ServeOptions:
    """What was typed after `rstpm-edge serve`."""

    sources: tuple[str, ...]
    model: Path
    models: Path | None
    registry: Path | None
    product: str | None
    shadow: bool
    shadow_share: float | None
    shadow_log: Path | None
    host: str
    port: int
    allowed_host: tuple[str, ...]
    tokens: Path | None
    tls_certificate: Path | None
    tls_key: Path | None
    max_memory: int | None  # MB
    max_body: int  # MB
    max_pixels: int  # megapixels
    keep_photos: int  # MB
    workers: int | None
    waiting: int
    opcua: str | None
    opcua_certificate: Path | None
    opcua_key: Path | None
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
    drift: float | None
    drift_state: Path | None
    history: Path | None
    history_days: float | None
    history_size: int | None  # MB
    journal: Path | None
    journal_days: float | None
    audit_log: Path | None
    audit_log_size: int | None  # MB
    csv_file: Path | None
    on_anomaly: str | None
    on_anomaly_timeout: float  # seconds
    on_anomaly_unjudged: bool
    mqtt: str | None
    mqtt_password_file: Path | None
    mqtt_ca: Path | None
    providers: "list[Provider] | None"
    engine_cache: Path | None
    threads: int | None
    polite: bool


def check_together(options: ServeOptions) -> None:
    """Raises UsageError for options that do not go together."""
    if (options.tls_certificate is None) != (options.tls_key is None):
        raise UsageError("--tls-certificate and --tls-key go together.")
    if options.opcua is None and (options.opcua_certificate or options.opcua_key):
        raise UsageError("--opcua-certificate and --opcua-key go with --opcua.")
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
    if not options.shadow and (options.shadow_share is not None or options.shadow_log is not None):
        raise UsageError("--shadow-share and --shadow-log go with --shadow only.")
    if options.drift is None and options.drift_state is not None:
        raise UsageError("--drift-state goes with --drift RATE only.")
    if options.history is None and (options.history_days is not None or options.history_size is not None):
        raise UsageError("--history-days and --history-size go with --history FOLDER.")
    if not options.sources:
        for name, value in {
            "--watch": options.watch or None,
            "--every": options.every,
            "--drift": options.drift,
            "--drift-state": options.drift_state,
            "--settle": options.settle,
            "--product": options.product,
            "--journal": options.journal,
            "--csv": options.csv_file,
            "--on-anomaly": options.on_anomaly,
            "--mqtt": options.mqtt,
        }.items():
            if value is not None:
                raise UsageError(f"{name} is for a SOURCE whose images are judged.")
    check_reactions(options)


def access_of(options: ServeOptions) -> "Access":
    """Who may do what. Raises UsageError where others could reach a station without tokens."""
    from rstpm_edge.station.access import Access, read_tokens

    tokens = read_tokens(options.tokens, os.environ, TOKENS)
    if not tokens and not _is_loopback(options.host):
        raise UsageError(
            f"Whoever reaches {options.host} could steer this station: give tokens by --tokens FILE or the variable "
            f"{TOKENS}, or leave --host out, so that this machine alone reaches it."
        )
    return Access(tokens)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
