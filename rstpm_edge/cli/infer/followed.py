"""The live version of a product, which `infer --product` judges with and follows."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rstpm_edge.loaded_model import LoadedModel
from rstpm_edge.model_watch import state_of
from rstpm_edge.registry.registry import check_loaded, open_registry

if TYPE_CHECKING:
    from rstpm_edge.cli.infer.options import InferOptions
    from rstpm_edge.detector import Detector


class Followed:
    """`product` of the registry in `folder`; `version` is the one that is live at the start.

    Raises UsageError and ModelError where there is none, or it cannot be read.
    """

    def __init__(self, folder: Path, product: str) -> None:
        self.registry, self.product = open_registry(folder), product
        self.before = state_of(self.files)  # what is promoted from here on is noticed
        self.version = self.registry.live(product)
        self._known = {self.version.model.sha256: self.version}  # those that judged, or were to
        self._asked = False

    @property
    def files(self) -> Sequence[Path]:
        """Those by whose change a promotion is noticed."""
        return [self.registry.log_file(self.product)]

    @property
    def model(self) -> Path:
        """The file of the version that was live at the start."""
        return self.registry.model_file(self.version.model)

    def check(self, sha256: str) -> None:
        """Raises ModelError where what was loaded at the start is not what the registry names."""
        check_loaded(self.version, sha256, self.model)

    def ask(self) -> None:
        """Let the next `load` load the live version also where it judges already."""
        self._asked = True

    def load(self, detector: "Detector") -> LoadedModel | None:
        """The live version as it is now, for `detector`; None where it judges already. Raises what `prepare` does."""
        asked, self._asked = self._asked, False
        version = self.registry.live(self.product)
        if version.model.sha256 == detector.sha256 and not asked:
            return None
        path = self.registry.model_file(version.model)
        new = detector.prepare(path)
        check_loaded(version, new.sha256, path)
        self._known[new.sha256] = version
        return new

    def name(self, sha256: str) -> str:
        """The version with this file, for people."""
        version = self._known.get(sha256)
        return self.product if version is None else f"{self.product}, version {version.number},"

    def facts(self, sha256: str) -> dict[str, Any]:
        """For the audit log, where this file judges."""
        version = self._known[sha256]
        return {
            "model": os.path.abspath(self.registry.model_file(version.model)),
            "product": self.product,
            "product_version": version.number,
        }


def follow(options: "InferOptions") -> "tuple[InferOptions, Followed | None]":
    """The options with the model of the live version, where a product is named. Raises UsageError and ModelError."""
    if options.product is None or options.registry is None:
        return options, None
    followed = Followed(options.registry, options.product)
    return replace(options, model=followed.model), followed
