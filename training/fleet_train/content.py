"""What is left to be done of a product, which its content says. Importing this is quick: no torch."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from rstpm_edge.errors import DatasetError
from rstpm_edge.image.input_profile import Size
from rstpm_edge.image.roi import Roi

from ..data.content import files_sha256
from ..data.images import TestImage, good_images, test_images, training_folder
from ..data.input_size import sampled_sizes
from .result import ProductResult, failed, load, result_from

CALIBRATION = "calibration.json"  # of a run: what people have decided since it was trained
_SHOWN = 12  # digits of a hash in a folder's name


@dataclass(frozen=True)
class PhotosOf:
    """Where the photos of a product are: `below` for those in folders below, too.

    `options_sha256` is that of its training.
    """

    name: str
    data: Path
    below: bool
    roi: Roi | None
    options_sha256: str

    def learned(self) -> list[Path]:
        """The good photos that `train` takes. Raises DatasetError."""
        return good_images(self.data, below=self.below)

    def labelled(self) -> tuple[list[TestImage], str | None]:
        """Photos to test on, and why there are none where there is a test folder."""
        if not (self.data / "test").is_dir():
            return [], None
        try:
            return test_images(self.data, skip_unmasked=True), None
        except DatasetError as error:
            return [], str(error)


@dataclass(frozen=True)
class Content:
    """What the work on a product depends on, as SHA-256 in hexadecimal.

    learned: photos to learn from, options, version; labelled: photos to test on, with their masks, None without any.
    """

    learned: str
    labelled: str | None
    photos: int


@dataclass(frozen=True)
class Places:
    """Where the files of a product lie, below the folder `out` of all models."""

    out: Path
    name: str

    @property
    def folder(self) -> Path:
        """All but the model."""
        return self.out / self.name

    @property
    def model(self) -> Path:
        """Where a station looks for it."""
        return self.out / f"{self.name}.onnx"

    @property
    def sheet(self) -> Path:
        """The photos that the audit names."""
        return self.folder / "audit.jpg"

    @property
    def report(self) -> Path:
        """The evaluation."""
        return self.folder / "report.html"

    def run(self, content: Content) -> Path:
        """The training on just this content: another one has another folder."""
        return self.folder / f"run-{content.learned[:_SHOWN]}"

    def model_key(self, content: Content) -> str:
        """What the model follows from: the training, and what people have decided on its calibration since."""
        try:
            again = (self.run(content) / CALIBRATION).read_text()
        except OSError:
            again = ""
        return _sha256(content.learned, again)

    def result_key(self, content: Content) -> str:
        """What all that is known of a product follows from."""
        return _sha256(self.model_key(content), content.labelled or "")


@dataclass(frozen=True)
class Seen:
    """A product whose photos were hashed: what was `done` before, or else `sizes` of photos to learn from."""

    content: Content
    done: ProductResult | None
    sizes: list[Size]


def content_of(photos: PhotosOf) -> Content:
    """Reads all of them. Raises DatasetError."""
    files = photos.learned()
    learned = _sha256(files_sha256(files, training_folder(photos.data)), photos.options_sha256)
    images, problem = photos.labelled()
    labelled = problem
    if images:
        with_masks = [image.path for image in images] + [image.mask for image in images if image.mask is not None]
        labelled = files_sha256(with_masks, photos.data)
    return Content(learned, None if labelled is None else _sha256(labelled), len(files))


def look(photos: PhotosOf, out: Path) -> Seen | ProductResult:
    """What there is to do of a product; a failed result where its photos cannot be read."""
    try:
        content = content_of(photos)
        done = done_before(Places(out, photos.name), content)
        return Seen(content, done, [] if done else sampled_sizes(photos.learned(), photos.roi))
    except Exception as error:  # one product must not end the others
        return failed(photos.name, photos.data, error)


def done_before(places: Places, content: Content) -> ProductResult | None:
    """What was found of just this content by an earlier command, with its model still there; None otherwise."""
    kept = load(places.folder / "product.json", places.result_key(content))
    result = None if kept is None else result_from(kept)
    return None if result is None or result.model_sha256 != model_sha256(places) else result


def model_sha256(places: Places) -> str | None:
    """Of the model file; None where there is none."""
    try:
        return hashlib.sha256(places.model.read_bytes()).hexdigest()
    except OSError:
        return None


def _sha256(*texts: str) -> str:
    return hashlib.sha256(json.dumps(texts).encode("utf-8", "surrogatepass")).hexdigest()
