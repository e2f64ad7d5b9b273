"""The state of a training after its last whole epoch: a run's checkpoint.safetensors."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from rstpm_edge.atomic_files import write_bytes
from rstpm_edge.errors import TrainingError

from ..model.old_names import current_tensor
from ..model.rstpm import RSTPM
from .run_documents import SCHEMA, schema_version

OPTIMIZER = "optimizer/"  # begins the names of a checkpoint's tensors that only a training under way needs


@dataclass(frozen=True)
class Checkpoint:
    """The state after `epoch` whole epochs. `losses` holds (pair 1, pair 2) of each.

    `of_before` is that of a run in schema 1, which keeps what the optimiser needs, finished or not.
    """

    epoch: int
    schedule: float  # how far along its learning-rate schedule the training is, 0 to 1
    minutes: float
    losses: tuple[tuple[float, float], ...]
    tensors: Mapping[str, Tensor] = field(repr=False)
    of_before: bool = False

    @property
    def has_learned_all(self) -> bool:
        """Whether the model is as it will stay: what the optimiser needs to go on is then left out."""
        return not any(name.startswith(OPTIMIZER) for name in self.tensors)


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Replace the run's checkpoint, whole or not at all. Raises OutputError."""
    progress = {key: getattr(checkpoint, key) for key in ("epoch", "schedule", "minutes", "losses")}
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()}
    content = save(contiguous, {"progress": json.dumps({**SCHEMA, **progress})})
    write_bytes(folder / "checkpoint.safetensors", content, below=folder)


def complete_checkpoint(folder: Path, model: RSTPM) -> None:
    """Put the `model` that has learned all into the run's checkpoint. Raises OutputError and TrainingError."""
    checkpoint = load_checkpoint(folder)
    assert checkpoint is not None
    tensors = {f"model/{name}": value for name, value in trained_state(model).items()}
    save_checkpoint(folder, replace(checkpoint, tensors=tensors))


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """The run's checkpoint, or None when it did not finish an epoch. Raises TrainingError when it is damaged."""
    path = folder / "checkpoint.safetensors"
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            progress = json.loads(file.metadata()["progress"])
            older = schema_version(progress, folder) == 1
            names = {current_tensor(name) if older else name: name for name in file.keys()}  # noqa: SIM118 (not a dict)
            tensors = {current: file.get_tensor(name) for current, name in names.items()}
        losses = tuple((float(a), float(b)) for a, b in progress.pop("losses"))
        return Checkpoint(losses=losses, tensors=tensors, of_before=older, **progress)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise TrainingError(f"{path} is damaged ({error}); train again.") from error


def trained_state(model: RSTPM) -> dict[str, Tensor]:
    """Students, channel statistics, residual normalization, segmentation head: the model without its teachers."""
    return {name: value for name, value in model.state_dict().items() if not name.startswith("teacher")}


def load_trained_state(model: RSTPM, checkpoint: Checkpoint) -> None:
    """Put a checkpoint's students and statistics into `model`. Raises TrainingError when they do not fit or are NaN."""
    state = {name[6:]: value for name, value in checkpoint.tensors.items() if name.startswith("model/")}
    expected = trained_state(model)
    if state.keys() != expected.keys() or any(state[name].shape != expected[name].shape for name in state):
        raise TrainingError("The run's checkpoint does not fit its preset; train again.")
    if not all(bool(torch.isfinite(value).all()) for value in state.values()):
        raise TrainingError("The run's checkpoint holds NaN or infinite values; train again.")
    model.load_state_dict(state, strict=False)
