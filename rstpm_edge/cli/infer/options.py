"""What was typed after `rstpm-edge infer`, and which options need another one."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rstpm_edge.cli.line.options import LineOptions, check_line
from rstpm_edge.errors import UsageError


@dataclass(frozen=True)
class InferOptions(LineOptions):
    """What was typed after `rstpm-edge infer`."""

    reload: bool
    limit: int | None
    as_json: bool
    save_overlay: Path | None  # a folder, as the next one
    save_map: Path | None
    map_format: Literal["png", "npy"]
    rejects_only: bool


def check_together(options: InferOptions) -> None:
    """Raises UsageError for options that do not go together, or do nothing without another."""
    if options.rejects_only and not (options.save_overlay or options.save_map):
        raise UsageError("--rejects-only goes with --save-overlay or --save-map, whose files it leaves out.")
    if options.reload and options.threshold is not None:
        raise UsageError(
            "--reload does not go with --threshold: a score set by hand is for the model that runs, and scores of "
            "another one have another unit. Give --alpha RATE, of which each model has its own threshold."
        )
    if options.product is not None and options.registry is None:
        raise UsageError("--product goes with --registry FOLDER, or the variable RSTPM_EDGE_REGISTRY.")
    if options.product is None and options.shadow:
        raise UsageError("--shadow goes with --product NAME of a --registry only.")
    check_line(options)
