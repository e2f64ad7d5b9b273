"""A model file as it is taken into a registry: tried, and read with its signature."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from rstpm_edge.errors import ModelError
from rstpm_edge.loaded_model import LoadedModel, load_model
from rstpm_edge.model.keys import PublicKey
from rstpm_edge.model.signature import signature_file
from rstpm_edge.model.small_file import read_small
from rstpm_edge.pipeline import InferenceOptions
from rstpm_edge.registry.product import Calibrated, ModelFacts

_LARGEST = (1 << 31) - 1  # bytes of a model
_LARGEST_SIGNATURE = 1_000_000


@dataclass(frozen=True)
class ModelCopy:
    """The bytes of a model file that works, those of its signature, where it has one, and what is kept of both."""

    content: bytes
    signature: bytes | None
    facts: ModelFacts


def try_model(model: Path, key: PublicKey | None) -> LoadedModel:
    """Load a model, judge its goldens, where it has any, and run it once, on one thread.

    Raises ModelError, and SignatureError where it was not signed with `key`.
    """
    loaded = load_model(model, InferenceOptions(threads=1, public_key=key), goldens_if_any=True)
    loaded.warm_up()
    return loaded


def copy_model(model: Path, key: PublicKey | None) -> ModelCopy:
    """Try a model, and read it. Raises what `try_model` does, and ModelError where it changes meanwhile."""
    loaded = try_model(model, key)
    content, signature = _content(model, loaded.sha256), _signature(model)
    return ModelCopy(content, signature, _facts(loaded, len(content), signature, key))


def _content(model: Path, digest: str) -> bytes:
    try:
        content = read_small(model, _LARGEST)
    except OSError as error:
        raise ModelError(f"Cannot read the model {model}: {error.strerror or error}.") from error
    if sha256(content).hexdigest() != digest:
        raise ModelError(f"The model {model} was written to while it was being loaded; add it again.")
    return content


def _signature(model: Path) -> bytes | None:
    file = signature_file(model)
    try:
        return read_small(file, _LARGEST_SIGNATURE)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ModelError(f"Cannot read the signature {file}: {error.strerror or error}.") from error


def _facts(loaded: LoadedModel, size: int, signature: bytes | None, key: PublicKey | None) -> ModelFacts:
    bundle = loaded.bundle
    calibration = bundle.calibration
    return ModelFacts(
        loaded.sha256,
        None if signature is None else sha256(signature).hexdigest(),
        None if key is None else key.hint,
        size,
        bundle.preset,
        bundle.precision,
        bundle.height,
        bundle.width,
        bundle.package_version,
        Calibrated(calibration.alpha, calibration.threshold, calibration.median, len(calibration.scores)),
    )
