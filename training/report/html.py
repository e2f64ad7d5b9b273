"""An evaluation as one HTML file for people: it opens from disk, asks the network for nothing, and prints."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib import resources
from pathlib import Path

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from rstpm_edge.atomic_files import write_bytes
from rstpm_edge.model.session_rates import session_rates
from rstpm_edge.outputs.model_words import NO_PROMISE

from ..evaluation.evaluation import Evaluation, JudgedImage, Metrics, Verdicts
from ..evaluation.predict import Predictions
from .charts import roc_chart, score_chart
from .page import fill_in
from .pictures import EmbeddedPicture, Painter, Views
from .selection import ends, fitting, gallery_order, worst_first
from .tables import Promise, configuration, environment, promise

MAX_BYTES = 8_000_000  # a mail takes it, and a tablet opens it at once
MAX_ROWS = 12  # histograms, one for each kind; with more kinds there is one for all defects
# Markup but for pictures and names, generously: all the rest, that of a kind, and that around a picture.
REST_BYTES, KIND_BYTES, PICTURE_BYTES = 150_000, 3_000, 500

COLUMNS = {
    "image_auroc": "Image AUROC",
    "image_ap": "Image AP",
    "image_f1": "Best F1",
    "pixel_auroc": "Pixel AUROC",
    "pixel_ap": "Pixel AP",
    "aupro_30": "AUPRO 0.3",
    "aupro_05": "AUPRO 0.05",
}


@dataclass(frozen=True)
class Shown:
    """An image in detail, "worst" or "best" of its kind."""

    image: JudgedImage
    place: str
    views: Views


@dataclass(frozen=True)
class Thumbnail:
    """An image of the gallery."""

    image: JudgedImage
    picture: EmbeddedPicture


@dataclass(frozen=True)
class Kind:
    """What the report says about one kind. `metrics` is None for "good"."""

    name: str
    verdicts: Verdicts
    metrics: Metrics | None
    shown: tuple[Shown, ...]


@dataclass(frozen=True)
class Count:
    """How many images of one outcome the gallery shows."""

    outcome: str
    shown: int
    images: int


def write_report(
    path: str | Path,
    predictions: Predictions,
    evaluation: Evaluation,
    *,
    max_bytes: int = MAX_BYTES,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Write the report to `path`; see `render_report`. Raises ImageError and OutputError."""
    document = render_report(predictions, evaluation, max_bytes=max_bytes, progress=progress)
    # File names may hold bytes that are no text; a question mark stands for them.
    write_bytes(path, document.encode("utf-8", "replace"))


def render_report(
    predictions: Predictions,
    evaluation: Evaluation,
    *,
    max_bytes: int = MAX_BYTES,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> str:
    """The report, an HTML document of `max_bytes` at most; images that have no room in it are left out.

    Up to half of the room goes to the worst and best images of each kind, the rest to the gallery. `progress`
    gets (done, total) as pictures are drawn.

    Raises ImageError where a photo can no longer be read.
    """
    images = evaluation.images
    ordered = worst_first(images, evaluation.threshold)
    picks, order = ends(images, ordered), gallery_order(images, ordered)
    painter, total = Painter(predictions), len(picks) + len(order)

    room = max_bytes - REST_BYTES - sum(KIND_BYTES + 10 * _bytes(kind) for kind in evaluation.verdicts)
    by_rank = sorted(picks, key=lambda pick: pick.rank)  # one of each kind before a second one
    drawn = (Shown(images[pick.index], pick.place, painter.views(pick.index)) for pick in by_rank)
    detailed: dict[str, Shown] = {}
    for shown in fitting(drawn, _shown_bytes, room / 2):
        detailed[shown.image.name] = shown
        progress(len(detailed), total)
    room -= sum(map(_shown_bytes, detailed.values()))

    thumbnails = (Thumbnail(images[i], painter.thumbnail(i)) for i in order)
    gallery: dict[str, Thumbnail] = {}
    for thumbnail in fitting(thumbnails, _thumbnail_bytes, room):
        gallery[thumbnail.image.name] = thumbnail
        progress(len(detailed) + len(gallery), total)
    progress(total, total)

    in_detail = [detailed[images[pick.index].name] for pick in picks if images[pick.index].name in detailed]
    kinds = [
        Kind(name, verdicts, evaluation.by_kind.get(name), tuple(s for s in in_detail if s.image.kind == name))
        for name, verdicts in evaluation.verdicts.items()
    ]
    in_gallery = [gallery[images[i].name] for i in ordered if images[i].name in gallery]
    return _fill_in(predictions, evaluation, kinds, in_gallery)


def _shown_bytes(shown: Shown) -> int:
    return shown.views.size + 10 * (PICTURE_BYTES + _bytes(shown.image.name))


def _thumbnail_bytes(thumbnail: Thumbnail) -> int:
    return len(thumbnail.picture.uri) + PICTURE_BYTES + 4 * _bytes(thumbnail.image.name)


def _bytes(name: str) -> int:
    return len(escape(name).encode("utf-8", "replace"))


def _fill_in(predictions: Predictions, evaluation: Evaluation, kinds: list[Kind], gallery: list[Thumbnail]) -> str:
    own = next(point for point in evaluation.operating_points if point.alpha == evaluation.alpha)
    defects = kinds[1:]
    scores = _scores(evaluation.images, [kind.name for kind in kinds])
    return fill_in(
        resources.files(__package__).joinpath("report.html").read_text("utf-8"),
        ("sortable.js", "gallery.js"),
        version=predictions.environment.rstpm_edge,
        data=predictions.data,
        product=predictions.data.resolve().name or str(predictions.data),
        model=predictions.model,
        created=datetime.now().astimezone(),
        evaluation=evaluation,
        promise=Promise(False, NO_PROMISE)
        if evaluation.alpha is None
        else promise(
            evaluation.false_rejects, predictions.bundle.calibration, session_rates(predictions.bundle.training)
        ),
        columns=COLUMNS,
        rows={
            "Both pairs": evaluation.both,
            "STPM pair alone": evaluation.stpm,
            "Reconstruction pair alone": evaluation.recon,
            **evaluation.maps,
        },
        good=kinds[0],
        defects=defects,
        kinds=kinds,
        kind_numbers={kind.name: number for number, kind in enumerate(kinds)},
        has_pixels=any(kind.metrics and kind.metrics.pixel_auroc is not None for kind in defects),
        has_all_pixels=evaluation.both.pixel_auroc is not None,
        map_names=predictions.bundle.map_names,
        roc=Markup(roc_chart(evaluation.images, own, evaluation.operating_points)),
        histogram=Markup(score_chart(scores, evaluation.threshold)),
        narrow_histogram=Markup(score_chart(scores, evaluation.threshold, narrow=True)),
        gallery=gallery,
        counts=_counts([thumbnail.image for thumbnail in gallery], evaluation.images),
        configuration=configuration(predictions),
        environment=environment(predictions),
    )


def _scores(images: Sequence[JudgedImage], kinds: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """The scores of each row of the histogram."""
    rows: dict[str, list[float]] = {}
    for image in images:
        together = len(kinds) > MAX_ROWS and image.kind != "good"
        rows.setdefault("all defects" if together else image.kind, []).append(image.score)
    return {name: np.array(scores) for name, scores in rows.items()}


def _counts(shown: Sequence[JudgedImage], images: Sequence[JudgedImage]) -> list[Count]:
    return [
        Count(outcome, *(sum(image.outcome == outcome for image in some) for some in (shown, images)))
        for outcome in ("false reject", "missed", "right")
    ]
