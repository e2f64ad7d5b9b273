"""The newest frame of a camera or stream: a thread grabs without pause, and opens again what is lost."""

import contextlib
import re
import threading
import time
from collections.abc import Iterator
from typing import Any

import cv2
from numpy.typing import NDArray

from rstpm_edge.errors import ImageError, SourceError
from rstpm_edge.image.preprocess import three_channels, to_rgb
from rstpm_edge.printable import without_password
from rstpm_edge.sources.camera import LiveKind, open_capture
from rstpm_edge.sources.capture import Capture, Damage
from rstpm_edge.sources.frames import Every, Frame, SourceReport, utc_time

CLOSING = 12.0  # seconds; OpenCV waits 10 for a frame of a camera
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0  # seconds before a lost source is tried again; doubled each time
TICK = 0.2  # seconds without a frame after which the caller is asked to look after other things
NO_KEY = 30.0  # seconds without a whole frame after damage, after which a source is opened anew: that starts with one
MOST_DAMAGED = 100  # attempts in a row that give damage and no frame, after which a source counts as lost
HANGS = 60.0  # seconds in one call of a driver, after which it is given up


class Live:
    """The frames of a camera ("camera:0", "/dev/video0", "aravis:NAME"), a stream's address, or a GStreamer pipeline.

    Iterating gives the newest frame that is due, or None after a moment without any. Frames that the caller was too
    slow for are `dropped` and counted, and so are those that are `damaged`, as far as FFmpeg or Aravis notices. A
    source that is lost is opened again and again, each time later, until it is back; `report` is called from another
    thread when it is lost and when it is back, with a sentence and whether the source is there. Frames of 16 bits are
    scaled to 8, unless they are to be `deep`, for a detector that knows their range.

    Raises SourceError when the source cannot be opened at first, and, from the iterator, when its driver hangs.
    UsageError for a source that cannot be.
    """

    def __init__(
        self,
        kind: LiveKind,
        source: str,
        *,
        every: Every | None = None,
        report: SourceReport = lambda sentence, there: None,
        deep: bool = False,
    ) -> None:
        self.name = without_password(source)
        self.dropped = 0
        self.damaged = 0  # of those that were dropped
        self.reconnections = 0
        self._kind, self._source, self._deep = kind, source, deep
        self._every = every or Every()
        self._report = report
        self._ready = threading.Condition()
        self._newest: Frame | None = None
        self._error: BaseException | None = None
        self._stopped = threading.Event()
        self._alive = time.monotonic()
        capture = open_capture(kind, source)
        self._thread = threading.Thread(target=self._run, args=(capture,), name=self.name, daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[Frame | None]:
        while True:
            with self._ready:
                self._ready.wait_for(lambda: self._newest or self._error, timeout=TICK)
                frame, self._newest = self._newest, None
            if self._error:
                raise SourceError(f"Reading {self.name} failed: {self._error}.") from self._error
            if frame is None and time.monotonic() - self._alive > HANGS:
                raise SourceError(f"{self.name} hangs: its driver has not answered for {HANGS:.0f} seconds.")
            yield frame

    def summary(self) -> str:
        """For the end: "3 frames dropped, 1 of them damaged; 2 reconnections"; empty where there were none."""
        told = []
        if self.dropped:
            damaged = f", {self.damaged} of them damaged" if self.damaged else ""
            told.append(f"{self.dropped} frame{'' if self.dropped == 1 else 's'} dropped{damaged}")
        if self.reconnections:
            told.append(f"{self.reconnections} reconnection{'' if self.reconnections == 1 else 's'}")
        return "; ".join(told)

    def close(self) -> None:
        """Stop grabbing and release the source; waits for the call under way, but not for one that hangs."""
        self._stopped.set()
        self._thread.join(CLOSING)

    def _run(self, capture: Capture) -> None:
        try:
            self._grab(capture)
        except BaseException as error:
            with self._ready:
                self._error = error
                self._ready.notify()

    def _grab(self, capture: Capture) -> None:
        number, slot, wait, lost = 0, -1, FIRST_WAIT, False
        damage, whole, attempts = Damage(capture), time.monotonic(), 0
        while not self._stopped.is_set():
            self._alive = time.monotonic()
            grabbed = _grabbed(capture)
            if grabbed is None:  # it waits for a trigger, but it is there
                lost, wait = self._note_back(lost), FIRST_WAIT
                continue
            if damage.update() and not grabbed and attempts < MOST_DAMAGED:
                attempts += 1
                self._count_damaged()
                number += 1
                continue
            if not damage.damaged:
                whole = self._alive
            if not grabbed or self._alive - whole > NO_KEY:
                capture.release()
                if not lost:
                    self._report(f"{self.name} is lost; trying to get it back.", False)
                lost = True
                self._stopped.wait(wait)
                wait = min(2 * wait, LONGEST_WAIT)
                self._alive = time.monotonic()
                if not self._stopped.is_set():
                    with contextlib.suppress(SourceError):
                        capture = open_capture(self._kind, self._source)
                    damage, whole, attempts = Damage(capture), time.monotonic(), 0  # opening complains, too
                continue
            taken = time.time()
            lost, wait, attempts = self._note_back(lost), FIRST_WAIT, 0
            due = self._every.slot(number, time.monotonic())
            # A frame that is damaged leaves its slot to the next one.
            if due != slot and self._hand_over(None if damage.damaged else capture, number, taken):
                slot = due
            number += 1
        capture.release()

    def _note_back(self, lost: bool) -> bool:
        """The source is there; False, since it is not lost any more."""
        if lost:
            self.reconnections += 1
            self._report(f"{self.name} is back.", True)
        return False

    def _count_damaged(self) -> None:
        self.dropped += 1
        self.damaged += 1

    def _hand_over(self, capture: Capture | None, number: int, taken: float) -> bool:
        """Give the frame that was grabbed to the caller; False where it is damaged (None, or found only now)."""
        start = time.perf_counter()
        image = _retrieved(capture, self._deep) if capture else None
        if image is None:  # damaged on the way; the next one will do
            self._count_damaged()
            return False
        milliseconds = (time.perf_counter() - start) * 1000
        with self._ready:
            if self._newest:
                self.dropped += 1
            self._newest = Frame(
                self.name,
                image,
                output_name(self.name, taken),
                milliseconds,
                number,
                taken=taken,
                dropped=self.dropped,
                damaged=self.damaged,
            )
            self._ready.notify()
        return True


def _grabbed(capture: Capture) -> bool | None:
    try:
        return capture.grab()
    except cv2.error:
        return False


def _retrieved(capture: Capture, deep: bool) -> NDArray[Any] | None:
    """The frame that was grabbed, (H, W, 3) BGR, of 8 bits unless it is `deep`; None when it cannot be decoded."""
    try:
        decoded, image = capture.retrieve()
        if not decoded or image is None:
            return None
        # Of three channels, which "rgb" leaves in OpenCV's order.
        return (three_channels if deep else to_rgb)(image, "rgb")
    except (cv2.error, ImageError):
        return None


def output_name(name: str, taken: float) -> str:
    """A file name for a frame: the source's name and the time, such as camera_0-20260131T120000.250Z."""
    moment = utc_time(taken) or "undated"
    return re.sub(r"\W+", "_", name)[:80].strip("_") + "-" + re.sub(r"[-:]|\+00:00", "", moment) + "Z"
