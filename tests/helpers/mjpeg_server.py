"""A network camera on the loopback interface: MJPEG over HTTP, as such cameras speak it."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray


class MjpegServer:
    """Serves frames `rate` times a second to whoever asks for any path.

    The caller may set: `online` (False: connections are cut, and new ones answered with an error), `stalled`
    (True: connections stay open and silent), `defect` (what the frames show), `damage` (from a frame's number and JPEG
    to what is sent of it). `sent` counts frames, `refused` attempts while it is not online.
    """

    def __init__(self, rate: float = 100.0) -> None:
        self.rate, self.online, self.stalled, self.defect = rate, True, False, False
        self.sent = self.refused = 0
        self.damage: Callable[[int, bytes], bytes] = lambda number, jpeg: jpeg
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server._serve(self)

            def log_message(self, format: str, *arguments: Any) -> None:
                pass

        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}/video"

    def __enter__(self) -> MjpegServer:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.online = False
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def _serve(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        if not self.online:
            handler.send_error(503)
            self.refused += 1
            return
        handler.send_response(200)
        handler.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        handler.end_headers()
        try:
            while self.online:
                if not self.stalled:
                    jpeg = cv2.imencode(".jpg", picture(self.sent, self.defect))[1].tobytes()
                    jpeg = self.damage(self.sent, jpeg)
                    head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                    handler.wfile.write(head.encode() + jpeg + b"\r\n")
                    self.sent += 1
                time.sleep(1 / self.rate)
        except (BrokenPipeError, ConnectionResetError):
            pass


def picture(number: int, defect: bool = False) -> NDArray[np.uint8]:
    """160×120 pixels: the number as 16 fields of a little more or less than grey, at the top; a defect below."""
    image = np.full((120, 160, 3), 127, np.uint8)
    for bit in range(16):
        image[:16, 10 * bit : 10 * bit + 10] = 134 if number >> bit & 1 else 120
    if defect:
        image[60:90, 60:100] = 255
    return image


def number_of(image: NDArray[np.uint8]) -> int:
    """The number that `picture` drew."""
    return sum(1 << bit for bit in range(16) if image[4:12, 10 * bit + 3 : 10 * bit + 7].mean() > 127)
