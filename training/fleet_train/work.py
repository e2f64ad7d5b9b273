"""The work on one product, which goes on where another worker, or an earlier command, left it.

OUT/NAME.onnx              the model, where `serve --models OUT` looks for it
OUT/NAME/audit.json, .jpg  what the audit found, and the photos to look at
OUT/NAME/run-HASH          the training, of just this content: its checkpoints are what a next worker goes on from
OUT/NAME/model.json        which content the model is of
OUT/NAME/report.html       the evaluation, where there are labelled photos
OUT/NAME/product.json      all results, written last

Whatever has its key, the hash of what it follows from, is not done again.
"""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import cv2
import torch

from rstpm_edge.atomic_files import drop_link, make_folder, write_bytes
from rstpm_edge.cpu import limited_cores
from rstpm_edge.errors import DatasetError, TrainingError
from rstpm_edge.folder_lock import one_writer
from rstpm_edge.model.session_rates import rate_with_confidence
from rstpm_edge.pipeline import InferenceOptions

from ..audit.audit import audit
from ..audit.contact_sheet import encode_sheet
from ..data.images import TestImage
from ..evaluation.evaluate import evaluate_predictions
from ..evaluation.predict import predict
from ..export.export import export
from ..learning.checkpoint import load_checkpoint
from ..learning.machine import Machine
from ..learning.memory import limited_to, peak_memory
from ..learning.run_config import load_config
from ..learning.run_summary import load_summary
from ..learning.train import resume, train
from ..learning.trained_model import is_finished
from ..model.presets import EDGE
from ..report.html import write_report
from ..report.tables import promise
from .content import Places, content_of, model_sha256
from .needs import needs_of, synthetic_share
from .product import Product
from .result import Audited, Measured, ProductResult, Trained, audited_from, failed, load, save
from .teller import Teller

TEACHERS = (EDGE.teacher1, EDGE.teacher2)  # an audit's
HELD = 60.0  # seconds in which a worker that was given up on may still hold the product
PAGE_BYTES = 2_000_000  # of a product's report: there are hundreds of them


@dataclass(frozen=True)
class Task:
    """What a worker is given: a product, where its results go, and what it may use. `memory` in bytes; None: all."""

    product: Product
    out: Path
    machine: Machine
    threads: int
    memory: int | None

    @property
    def places(self) -> Places:
        """Where its files lie."""
        return Places(self.out, self.product.name)


def work(task: Task, teller: Teller) -> ProductResult:
    """Bring one product to completion. What goes wrong with it is the result's `failure`, and nothing is raised."""
    try:
        torch.set_num_threads(task.threads)
        cv2.setNumThreads(task.threads)
        memory = task.memory if task.memory is not None else 1 << 62
        make_folder(task.places.folder)
        with limited_to(memory), limited_cores(task.threads), one_writer(task.places.folder, wait=HELD):
            return _Work(task, teller).result()
    except Exception as error:  # one product must not end the others
        return replace(
            failed(task.product.name, task.product.data, error), peak_bytes=peak_memory(), asked_bytes=task.memory
        )


class _Work:
    """The stages of one product, in their order."""

    def __init__(self, task: Task, teller: Teller) -> None:
        self._task, self._teller = task, teller
        self._places, self._product = task.places, task.product
        self._photos = task.product.photos()
        self._content = content_of(self._photos)
        self._run = self._places.run(self._content)
        self._seconds: dict[str, float] = {}

    def result(self) -> ProductResult:
        """All stages that are not done. Raises what they do."""
        audited = self._audited()
        self._train()
        digest = self._exported()
        images, problem = self._photos.labelled()
        measured = self._measured(images) if images else None
        summary, trained = load_summary(self._run), self._trained()
        result = ProductResult(
            self._product.name,
            str(self._product.data),
            audited=audited,
            trained=trained,
            measured=measured,
            needs=needs_of(audited, self._content.photos, summary, measured, problem),
            model_sha256=digest,
            seconds=self._seconds,
            processor_seconds=round(time.process_time(), 1),
            peak_bytes=peak_memory(),
            asked_bytes=self._task.memory,
        )
        key = self._places.result_key(self._content)
        save(self._places.folder / "product.json", key, result.to_json(), self._task.out)
        self._remove_older_runs()
        return result

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        self._seconds[stage] = round(time.monotonic() - started, 2)

    def _audited(self) -> Audited:
        path, key = self._places.folder / "audit.json", self._content.learned
        known = audited_from(load(path, key))
        if known is not None:
            return known
        options = self._product.options
        with self._timed("audit"):
            self._places.sheet.unlink(missing_ok=True)
            try:
                found = audit(
                    self._product.data,
                    below=self._photos.below,
                    size=options.size or (256, 256),
                    resize=options.resize,
                    roi=options.roi,
                    weights={name: one for name, one in options.weights.items() if name in TEACHERS},
                    report=self._teller.audit,
                )
            except DatasetError as error:  # too few to compare, or none can be read: training says what that means
                audited = Audited(0, 0, " ".join(str(error).split()))
            else:
                audited = Audited(found.suspicious, found.unreadable)
                if found.named:
                    write_bytes(self._places.sheet, encode_sheet(found, ".jpg"), below=self._task.out)
        save(path, key, asdict(audited), self._task.out)
        return audited

    def _train(self) -> None:
        """A finished run in its folder, of this content."""
        task, run = self._task, self._run
        state = _state_of(run, self._product.data)
        if state == "finished":
            return
        with self._timed("training"):
            if state == "begun":
                resume(run, task.machine, report=self._teller.training)
            else:
                shutil.rmtree(run, ignore_errors=True)
                train(self._product.data, self._product.options, task.machine, folder=run, report=self._teller.training)

    def _exported(self) -> str:
        """The SHA-256 of the model file, which is of this training and calibration."""
        path, key = self._places.folder / "model.json", self._places.model_key(self._content)
        known = load(path, key)
        if known is None or known.get("sha256") != model_sha256(self._places):
            self._teller.stage("export")
            with self._timed("export"):
                drop_link(self._places.model)
                export(self._run, self._places.model)
            known = {"sha256": model_sha256(self._places)}
            save(path, key, known, self._task.out)
        return str(known["sha256"])

    def _measured(self, images: list[TestImage]) -> Measured:
        with self._timed("testing"):
            predictions = predict(
                self._product.data,
                self._places.model,
                InferenceOptions(threads=self._task.threads, allow_size_change=True, notify=lambda sentence: None),
                images=images,
                skip_unmasked=True,
                report=lambda done, total: self._teller.stage("testing", done, total),
            )
            found = evaluate_predictions(predictions)
            drop_link(self._places.report)
            write_report(self._places.report, predictions, found, max_bytes=PAGE_BYTES)
        summary = load_summary(self._run)
        kept = promise(found.false_rejects, summary.calibration, summary.sessions)
        return Measured(
            images=len(images),
            image_auroc=found.both.image_auroc,
            pixel_auroc=found.both.pixel_auroc,
            aupro=found.both.aupro_30,
            found=found.recall.rate,
            false_rejects=found.false_rejects.rate,
            keeps_promise=kept.is_kept,
        )

    def _trained(self) -> Trained:
        config, summary = load_config(self._run), load_summary(self._run)
        return Trained(
            photos=self._content.photos,
            held_out=len(config.holdout),
            epochs=summary.epochs,
            minutes=summary.minutes,
            size=config.size,
            alpha=summary.calibration.alpha,
            threshold=summary.calibration.threshold,
            rate_with_confidence=rate_with_confidence(summary.calibration, summary.sessions),
            synthetic_found=synthetic_share(summary),
            run=str(self._run.relative_to(self._task.out)),
        )

    def _remove_older_runs(self) -> None:
        """Those of other content: the model is no longer theirs."""
        for folder in self._places.folder.glob("run-*"):
            if folder != self._run and folder.is_dir() and not folder.is_symlink():
                shutil.rmtree(folder, ignore_errors=True)


def _state_of(run: Path, data: Path) -> str:
    """Whether a training is "finished", "begun" and can go on, or "none"."""
    try:
        config = load_config(run)
        checkpoint = load_checkpoint(run)
        if (run / "summary.json").exists():
            return "finished" if is_finished(checkpoint, load_summary(run)) else "none"
    except TrainingError:  # there is none, or it is damaged
        return "none"
    return "begun" if _is_folder(Path(config.data), data) else "none"


def _is_folder(one: Path, other: Path) -> bool:
    """Whether both are the same folder, however they are written: a run keeps the path of its photos without ".."."""
    try:
        return other.is_dir() and one.samefile(other)
    except OSError:
        return False
