"""What was typed after `rstpm-edge serve`, and which options need another one."""

import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rstpm_edge.cli.line.options import LineOptions, check_line
from rstpm_edge.errors import UsageError

if TYPE_CHECKING:
    from rstpm_edge.station.access import Access

TOKENS = "RSTPM_EDGE_TOKENS"


@dataclass(frozen=True)
class ServeOptions(LineOptions):
    """What was typed after `rstpm-edge serve`."""

    models: Path | None
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
    history: Path | None
    history_days: float | None
    history_size: int | None  # MB


def check_together(options: ServeOptions) -> None:
    """Raises UsageError for options that do not go together."""
    if (options.tls_certificate is None) != (options.tls_key is None):
        raise UsageError("--tls-certificate and --tls-key go together.")
    if options.opcua is None and (options.opcua_certificate or options.opcua_key):
        raise UsageError("--opcua-certificate and --opcua-key go with --opcua.")
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
    check_line(options)


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
