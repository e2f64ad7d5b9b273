"""Judging one item after the other: what is counted, printed, written and told."""

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rstpm_edge.atomic_files import fitting_name, make_folder, replacing
from rstpm_edge.cli.line.reactions import Reaction
from rstpm_edge.cli.terminal import as_typed, counted, say, say_error, say_json, say_note
from rstpm_edge.errors import ImageError, InvalidImageError, ModelError, OutputError, UsageError
from rstpm_edge.image.preprocess import to_rgb
from rstpm_edge.outputs.map_file import encode_npy, encode_png
from rstpm_edge.outputs.overlay import encode_overlay
from rstpm_edge.outputs.verdict_json import explanation_lines, failure_fields, verdict_fields, verdict_line
from rstpm_edge.sources.file_state import WatchedFile
from rstpm_edge.sources.frames import Failure, Frame

if TYPE_CHECKING:
    from rstpm_edge.detector import Detector
    from rstpm_edge.outputs.journal import Journal
    from rstpm_edge.registry.shadow import Shadow
    from rstpm_edge.result import Result


@dataclass(frozen=True)
class Output:
    """What is printed and written: folders for overlays and maps, where there shall be any.

    `keep_going`: a picture or map that cannot be written ends nothing, since verdicts matter more; it is counted.
    """

    as_json: bool = False
    overlays: Path | None = None
    maps: Path | None = None
    map_format: Literal["png", "npy"] = "png"
    rejects_only: bool = False
    keep_going: bool = False


class Inspection:
    """Judges frames with `detector` (channels="bgr"), and calls each of `reactions` with the fields of each verdict.

    `of_parts` are reactions that are not called for a source that failed, since no part did.

    `counts` has "normal", "anomalous", "invalid" and "failed"; `unwritten` is the number of images whose picture or
    map could not be written. `reading_seconds`, `judging_seconds` and `writing_seconds` are what each took: getting and
    decoding an image, the model with all around it, and pictures and maps of `written` images.

    `drift` takes both p-values of an image, None of an invalid one, and gives what is known of drift after it.
    `journal` has the verdict of a file in a watched folder before anybody is told of it. `shadow` is offered each image
    that was judged.
    """

    def __init__(
        self,
        detector: "Detector",
        output: Output,
        reactions: Sequence[Reaction] = (),
        of_parts: Sequence[Reaction] = (),
        drift: Callable[[float | None, float | None], str] | None = None,
        journal: "Journal | None" = None,
        shadow: "Shadow | None" = None,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.judged = ""  # the source of the frame that is judged now, or was last
        self.unwritten = 0
        self.written = 0
        self.reading_seconds = self.judging_seconds = self.writing_seconds = 0.0
        self._in_trouble = False  # the last file could not be written
        self._detector = detector
        self._output = output
        self._reactions = reactions
        self._of_parts = of_parts
        self._drift = drift
        self._journal = journal
        self._shadow = shadow
        self._scored = 0  # images that the model judged

    def take(self, item: Frame | Failure) -> None:
        """Judge a frame, or take note of a failure.

        Raises OutputError when a verdict cannot be printed, and, unless the output is to `keep_going`, for a file that
        cannot be written.
        """
        if isinstance(item, Failure):
            self._fail(item, self._of_parts)
        else:
            self._judge(item)

    def note_lost_source(self, failure: Failure) -> None:
        """Take note that there is no source to judge from."""
        self._fail(failure)

    def summary(self, *notes: str) -> str:
        """One line for people at the end, with `notes` that are not empty."""
        of_each = ", ".join(f"{self.counts[name]} {name}" for name in ("normal", "anomalous", "invalid", "failed"))
        line = f"{counted(self.counts.total(), 'image')}: {of_each}; threshold {self._detector.threshold:.4g}"
        unwritten = [f"{counted(self.unwritten, 'image')} without pictures or maps"] if self.unwritten else []
        return "; ".join([line, *filter(None, (*self._times(), *notes, *unwritten))])

    def _times(self) -> list[str]:
        """What an image took; writing stands apart, since a line without pictures does without."""
        if not self._scored:
            return []
        reading, judging = (1000 * seconds / self._scored for seconds in (self.reading_seconds, self.judging_seconds))
        times = [f"{reading + judging:.0f} ms per image ({reading:.0f} reading, {judging:.0f} judging)"]
        if self.written:
            times.append(f"writing pictures or maps {1000 * self.writing_seconds / self.written:.0f} ms each")
        return times

    def _judge(self, frame: Frame) -> None:
        self.judged = frame.source
        start = time.perf_counter()
        try:
            result = self._detector(frame.image)
        except InvalidImageError as error:
            reason = as_typed(str(error))
            message = f"Cannot judge {frame.source}: {reason}"
            self._fail(Failure(frame.source, message, frame.number, frame.file, reason), self._of_parts)
            return
        except (ImageError, ModelError, UsageError) as error:  # a mask that does not fit; none knows which image it was
            message = f"Cannot judge {frame.source}: {as_typed(str(error))}"
            # A fault of the model, the device or an option is no verdict on the file: it has one after a restart.
            file = frame.file if isinstance(error, ImageError) else None
            self._fail(Failure(frame.source, message, frame.number, file), self._of_parts)
            return
        seconds = time.perf_counter() - start
        self.reading_seconds += frame.read_ms / 1000
        self.judging_seconds += seconds
        self._scored += 1
        milliseconds = frame.read_ms + seconds * 1000
        self.counts[result.verdict] += 1
        # An invalid image says nothing of the parts.
        p_value = None if result.verdict == "invalid" else result.p_value
        drift = None if self._drift is None else self._drift(p_value, result.light_p_value)
        fields = verdict_fields(frame, result, milliseconds, drift)
        with self._journalled(frame.file, fields):
            for react in (*self._of_parts, *self._reactions):  # before anything is written: the part moves on
                react(fields)
            if result.verdict != "normal" or not self._output.rejects_only:
                self._write(frame, result)
            if self._output.as_json:
                say_json(fields)
            else:
                for line in (verdict_line(fields), *explanation_lines(fields)):
                    say(line)
        if self._shadow is not None:  # when all that has an effect is done
            typical = self._detector.info.calibration.median
            self._shadow.offer(frame.source, frame.image, result, typical_score=typical, ms=seconds * 1000)

    def _fail(self, failure: Failure, reactions: Sequence[Reaction] = ()) -> None:
        fields = failure_fields(failure)
        self.counts[fields["verdict"]] += 1
        with self._journalled(failure.file, fields):
            if fields["verdict"] == "failed":
                say_error(failure.message)
            for react in (*reactions, *self._reactions):
                react(fields)
            if self._output.as_json:
                say_json(fields)
            elif fields["verdict"] == "invalid":
                say(verdict_line(fields))

    def _journalled(
        self, file: WatchedFile | None, fields: Mapping[str, Any]
    ) -> contextlib.AbstractContextManager[None]:
        if self._journal is None or file is None:
            return contextlib.nullcontext()
        return self._journal.entry(file, fields, fields.get("model_sha256", self._detector.sha256))

    def _write(self, frame: Frame, result: "Result") -> None:
        try:
            self._write_files(frame, result)
        except OutputError as error:
            if not self._output.keep_going:
                raise
            self.unwritten += 1
            if not self._in_trouble:
                say_error(f"{error} Judging goes on without.")
            self._in_trouble = True
        else:
            if self._in_trouble:
                say_note("Pictures and maps can be written again.")
            self._in_trouble = False

    def _write_files(self, frame: Frame, result: "Result") -> None:
        output, name, start = self._output, frame.output, time.perf_counter()
        if output.overlays:
            image = to_rgb(frame.image, "bgr", bits=self._detector.info.bits)
            _write_file(output.overlays, fitting_name(name, ".overlay.png"), encode_overlay(image, result, name=name))
        if output.maps:
            encode = encode_png if output.map_format == "png" else encode_npy
            _write_file(output.maps, fitting_name(name, f".map.{output.map_format}"), encode(result))
        if output.overlays or output.maps:
            self.written += 1
            self.writing_seconds += time.perf_counter() - start


def _write_file(folder: Path, name: str, content: bytes) -> None:
    make_folder(folder)
    with replacing(folder / name, below=folder) as file:
        file.write(content)  # whole, but not synced to the disk: on SD cards that is slow
