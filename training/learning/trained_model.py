"""The model of a finished run, as its last checkpoint left it."""

from pathlib import Path

from rstpm_edge.errors import TrainingError

from ..model.rstpm import RSTPM
from .checkpoint import load_checkpoint, load_trained_state
from .run_config import load_config


def load_model(run: Path) -> RSTPM:
    """In evaluation mode. Raises TrainingError and WeightsError."""
    config, checkpoint = load_config(run), load_checkpoint(run)
    if checkpoint is None:
        raise TrainingError(f"The run {run} has no checkpoint; train again.")
    model = RSTPM(config.preset, config.weights)
    load_trained_state(model, checkpoint)
    return model.eval()


def teachers_changed(model: RSTPM, sha256: tuple[str, str]) -> bool:
    """Whether the weights of the model's teachers are others than those with these hashes, as a summary has them."""
    return (model.teacher1.record.sha256, model.teacher2.record.sha256) != sha256
