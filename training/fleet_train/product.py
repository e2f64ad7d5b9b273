"""The products that are asked for: where their photos are, and how each is trained."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rstpm_edge.errors import UsageError

from ..data.images import images_in, training_folder
from ..learning.content import options_sha256
from ..learning.options import TrainingOptions, check_options
from ..model.teacher_weights import RANDOM
from .content import PhotosOf

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")  # as a model file needs, for a station to serve it
ENDINGS = (".onnx", ".html", ".json")  # of what lies beside the products' folders
OF_NAMES = "letters, digits, dots, hyphens and underscores, at most 100"


@dataclass(frozen=True)
class Product:
    """`data` is what `train` takes: a folder of good photos, or one in the MVTec AD layout."""

    name: str
    data: Path
    options: TrainingOptions

    def anywhere(self) -> "Product":
        """The same with paths that mean the same to a worker, whatever folder it runs in."""
        weights = {name: one if one == RANDOM else os.path.abspath(one) for name, one in self.options.weights.items()}
        return Product(self.name, self.data.absolute(), replace(self.options, weights=weights))

    def photos(self) -> PhotosOf:
        """Where they are. Raises WeightsError for options whose weights cannot be read."""
        options = self.options
        return PhotosOf(self.name, self.data, options.sessions == "folder", options.roi, options_sha256(options))


def products_below(folder: Path, options: TrainingOptions, leave_out: Path) -> tuple[Product, ...]:
    """A product for each folder in `folder`, by its name, but for the folder `leave_out`.

    Raises UsageError where there is none, and where `folder` is itself a product.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is {'no folder' if folder.exists() else 'missing'}: give a folder of products.")
    if images_in(folder) or training_folder(folder) != folder:
        raise UsageError(f"{folder} is one product, not a folder of them: use `rstpm-edge train`, or the folder above.")
    below = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    found = [path for path in below if path.resolve() != leave_out.resolve()]
    if not found:
        raise UsageError(f"There is no product in {folder}: it holds a folder of photos for each.")
    return tuple(Product(path.name, path, options) for path in found)


def check_products(products: Sequence[Product]) -> None:
    """Raises UsageError for the first product that cannot work, whatever its photos are."""
    names: dict[str, str] = {}
    for product in products:
        if NAME.fullmatch(product.name) is None:
            raise UsageError(f"The product {product.name!r} needs another name: {OF_NAMES}; its model has it, too.")
        if product.name.lower().endswith(ENDINGS):
            raise UsageError(f"The product {product.name} needs another name: files of models and the report end so.")
        other = names.setdefault(product.name.lower(), product.name)
        if other is not product.name:
            raise UsageError(f"Two products have one name, {other} and {product.name}: some disks know no capitals.")
        try:
            check_options(product.options)
        except UsageError as error:
            raise UsageError(f"{product.name}: {error}") from error
