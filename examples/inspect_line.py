"""The loop of an inspection station: a frame, a verdict, an output. Runs until the camera or video ends.

python examples/inspect_line.py model.onnx /dev/video0
python examples/inspect_line.py model.onnx recorded.avi
"""

import sys
import time

import cv2

from rstpm_edge import Detector, RstpmEdgeError

BUDGET_MS = 50  # from a part's photo to the ejector; what comes later is too late for it


def set_ejector(reject: bool, late: bool) -> None:
    """Put your output here: a GPIO line, a fieldbus coil, a relay."""
    print("REJECT" if reject else "pass", "(too late!)" if late else "", flush=True)


def main(model: str, source: str) -> None:
    detector = Detector(model, polite=True)
    detector.warmup(3)  # the first part shall not pay for allocations
    camera = cv2.VideoCapture(source)
    while camera.grab():
        started = time.perf_counter()
        try:
            _, frame = camera.retrieve()
            reject = detector(frame).verdict != "normal"  # anomalous, or invalid
        except (RstpmEdgeError, cv2.error) as error:
            print(error, file=sys.stderr)
            reject = True  # what was not judged does not pass
        set_ejector(reject, late=(time.perf_counter() - started) * 1000 > BUDGET_MS)


if __name__ == "__main__":
    main(*sys.argv[1:])
