"""The threshold of a model, what it promises, and how the parts that a person has confirmed move it."""

import threading
from collections import Counter
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from rstpm_edge.atomic_files import write_bytes
from rstpm_edge.detector import Detector
from rstpm_edge.errors import RstpmEdgeError, UsageError
from rstpm_edge.model.session_rates import rate_with_confidence, session_rates
from rstpm_edge.recalibration.moved_threshold import MovedThreshold
from rstpm_edge.station.answers import Refusal, json_answer
from rstpm_edge.station.history.history import History
from rstpm_edge.station.history.notes import MOST_PERSON
from rstpm_edge.station.history.recalibrating import keep_model, recalibrated, stretch_of
from rstpm_edge.station.permission import Needs, TokenFirst, who_asks
from rstpm_edge.station.product import Product
from rstpm_edge.station.products import Products
from rstpm_edge.station.routes.inspect import ERRORS
from rstpm_edge.station.routes.inspections import part_document
from rstpm_edge.station.station import Station

MOST_TO_DECIDE = 100  # as many as the page shows
BAND = (0.05, 0.95)  # p-values between which nine of ten good parts lie

ProductQuery = Annotated[
    str | None, Query(max_length=100, description="Of which product; the only one, or the line's.")
]
LineQuery = Annotated[
    str | None, Query(max_length=100, description="Of what this line judges; needed where it has options of its own.")
]
VersionQuery = Annotated[str | None, Query(max_length=100)]
OnlyNewQuery = Annotated[bool, Query(description="Without the photos that it was calibrated on before.")]


class NewCalibration(BaseModel):
    """What to calibrate on, and who decided it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    line: str | None = Field(None, max_length=100)
    product: str | None = Field(None, max_length=100)
    version: str | None = Field(None, max_length=100)
    only_new: bool = False
    take: bool = Field(False, description="Judge with it from now on; otherwise it is only written.")
    person: str | None = Field(None, max_length=MOST_PERSON)


def recalibration_router(station: Station, history: History | None) -> APIRouter:
    """The routes of this subject."""
    router = APIRouter(route_class=TokenFirst, tags=["recalibration"], responses=ERRORS)
    reads = [Depends(Needs(station.access, "inspect"))]
    steers = [Depends(Needs(station.access, "manage"))]
    one_at_a_time = threading.Lock()

    def found(line: str | None, product: str | None, version: str | None) -> tuple[Products, Product]:
        """What is judged with, and the product: of a line, or of the station, which is that of the only line, too."""
        if line is None and (product is not None or len(station.lines) != 1):
            return station.products, station.products.get(station.products.resolve(product, version))
        of = station.line(line)
        name = of.state.product if product is None else of.products.resolve(product, version)
        return of.products, of.products.get(name)

    def own(line: str | None, products: Products) -> dict[str, str]:
        """The line that alone judges with these products, for the audit log."""
        return {} if products is station.products else {"line": station.line(line).name}

    def kept() -> History:
        if history is None:
            raise Refusal(409, "This station keeps no history: start it with `rstpm-edge serve --history FOLDER`.")
        return history

    @router.get("/v1/calibration", dependencies=reads, response_class=Response)
    def calibration(line: LineQuery = None, product: ProductQuery = None, version: VersionQuery = None) -> Response:
        """The threshold that is used, what it promises, and the scores between which good parts lie."""
        _, judging = found(line, product, version)
        return json_answer({**_named(judging), **calibration_document(judging.detector)})

    @router.get("/v1/recalibration", dependencies=reads, response_class=Response)
    def proposal(
        line: LineQuery = None,
        product: ProductQuery = None,
        version: VersionQuery = None,
        only_new: OnlyNewQuery = False,
    ) -> Response:
        """What the parts that this model judged would move; `problem` says why not. Nothing is written.

        `origins` are the lines, and requests, whose good parts count, and how many of each. `to_decide` are the newest
        rejects that nobody has decided, as GET /v1/inspections has them.
        """
        _, judging = found(line, product, version)
        held = kept()
        stretch = stretch_of(held, judging.detector.sha256)
        answer: dict[str, Any] = {
            **_named(judging),
            "parts": stretch.counts,
            "origins": dict(sorted(Counter(part.origin for part in stretch.good).items())),
            "to_decide": [part_document(part) for part in stretch.undecided[::-1][:MOST_TO_DECIDE]],
        }
        try:
            moved = recalibrated(held, judging.detector, only_new=only_new)
        except UsageError as error:
            return json_answer({**answer, "problem": _for_the_page(error), "moved": None})
        return json_answer({**answer, "problem": None, "moved": moved_document(moved)})

    @router.post("/v1/recalibration", dependencies=steers, response_class=Response)
    def recalibrate(request: Request, new: NewCalibration) -> Response:
        """Write the model with its new threshold into the history's folder; with `take`, judge with it."""
        products, judging = found(new.line, new.product, new.version)
        held = kept()
        if new.take and not products.may_exchange:
            raise UsageError(
                "The files of a registry stay as they are: write the model without taking it, then `rstpm-edge "
                f"registry add {judging.name.name} FILE`, and promote that version."
            )
        if not one_at_a_time.acquire(blocking=False):
            raise Refusal(409, "A recalibration is under way.")
        try:
            moved = recalibrated(held, judging.detector, only_new=new.only_new, person=new.person or None)
            written = keep_model(held, judging.path, moved)
            station.record(
                "recalibrated",
                {
                    "by": {**who_asks(station.access, request), "person": new.person or None},
                    **own(new.line, products),
                    "product": judging.name.name,
                    "product_version": judging.name.version,
                    "file": str(written),
                    "sha256_before": judging.detector.sha256,
                    "threshold_before": moved.before.value,
                    "threshold": moved.after.value,
                    "alpha": moved.after.alpha,
                    "images": len(moved.calibration.scores),
                    "take": new.take,
                },
            )
            if new.take:
                _take(station, judging, written.read_bytes())
        except UsageError as error:
            raise UsageError(_for_the_page(error)) from error
        finally:
            one_at_a_time.release()
        return json_answer({**_named(judging), "moved": moved_document(moved), "file": str(written), "taken": new.take})

    return router


def calibration_document(detector: Detector) -> dict[str, Any]:
    """What GET /v1/calibration says of a model.

    `band` are the scores of BAND's p-values; `alpha` is None where nothing is promised: of a threshold that was set by
    hand, or with another ROI than the model's.
    """
    bundle, threshold, alpha = detector.info, detector.threshold, detector.alpha
    calibration = bundle.calibration
    scores = calibration.scores
    sessions = session_rates(bundle.training)
    return {
        "threshold": threshold,
        "alpha": alpha,
        "rate_with_confidence": None if alpha is None else rate_with_confidence(calibration, sessions, alpha),
        "typical_score": calibration.median,
        "images": len(scores),
        "band": [scores[min(int(share * len(scores)), len(scores) - 1)] for share in BAND],
        "model_sha256": detector.sha256,
    }


def moved_document(moved: MovedThreshold) -> dict[str, Any]:
    """What came of a recalibration, or would: by the rate that is judged by, `alpha`."""
    step = moved.step
    return {
        "threshold": moved.after.value,
        "threshold_before": moved.before.value,
        "alpha": moved.after.alpha,
        "alpha_of_model": moved.calibration.alpha,
        "rate_with_confidence": moved.after.rate_with_confidence,
        "rate_with_confidence_before": moved.before.rate_with_confidence,
        "images": len(moved.calibration.scores),
        "images_before": len(step.scores),
        "added": len(step.added),
        "copies": step.copies,
        "known": step.known,
        "rejected_before": moved.rejected,
        "rejected": moved.still_rejected,
    }


def _take(station: Station, product: Product, content: bytes) -> None:
    """Put the new file in the model's place; where it is refused, the one before comes back."""
    before = product.path.read_bytes()
    write_bytes(product.path, content)
    refused: RstpmEdgeError | None = product.take(station.report)
    if refused is not None:
        write_bytes(product.path, before)
        product.take(station.report)
        raise UsageError(f"The new model was written, but not taken: {refused}")


def _named(product: Product) -> dict[str, str]:
    return {"product": product.name.name, "version": product.name.version}


def _for_the_page(error: UsageError) -> str:
    """What the library says, in the words of this interface."""
    return str(error).replace("`only_new`", "the new parts alone").replace("an `alpha`", "a rate")
