"""The model of a finished run, as its last checkpoint left it."""

from pathlib import Path

from rstpm_edge.errors import TrainingError
from rstpm_edge.printable import quoted

from ..model.rstpm import RSTPM
from .checkpoint import Checkpoint, load_checkpoint, load_trained_state
from .run_config import load_config
from .run_summary import Summary, load_summary


def load_model(run: Path) -> RSTPM:
    """In evaluation mode. Raises TrainingError, also for a run that has not finished, and WeightsError."""
    config, summary, checkpoint = load_config(run), load_summary(run, as_trained=True), load_checkpoint(run)
    if checkpoint is None:
        raise TrainingError(f"The run {run} has no checkpoint; train again.")
    if not is_finished(checkpoint, summary):  # its maps would go with the threshold of others
        raise TrainingError(
            f"The checkpoint of the run {run} is not the one that its summary is of; go on with "
            f"`rstpm-edge train --resume {quoted(run)}`."
        )
    model = RSTPM(config.preset, config.weights)
    load_trained_state(model, checkpoint)
    return model.eval()


def is_finished(checkpoint: Checkpoint | None, summary: Summary) -> bool:
    """Whether the checkpoint of a run has learned all, and is the one that the run's summary is of."""
    if checkpoint is None or checkpoint.losses != summary.losses:
        return False
    return checkpoint.has_learned_all or checkpoint.of_before


def teachers_changed(model: RSTPM, sha256: tuple[str, str]) -> bool:
    """Whether the weights of the model's teachers are others than those with these hashes, as a summary has them."""
    return (model.teacher1.record.sha256, model.teacher2.record.sha256) != sha256
