"""Ejects rejected parts downstream of the camera, from verdicts over MQTT.

A part needs `--delay` seconds from the camera to the ejector. Each verdict says when its photo was taken, so the
ejector fires at that time plus the delay, however long the verdict took; a verdict that comes later than that is
too late, and stops the line, as does an inspection that is offline or has lost its camera: no part passes that was
not judged. Until the inspection says that it is online the line stands.

rstpm-edge infer camera:0 --mqtt mqtt://broker/station4
python examples/line_controller.py broker station4 --delay 1.8          # pip install paho-mqtt
"""

import argparse
import heapq
import json
import queue
import time
from collections import deque
from collections.abc import Callable
from datetime import datetime
from typing import Any

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion


class LineController:
    """Decides when to eject and when to stop. Times are seconds since 1970, of one clock: the machines use NTP.

    `ready` is called when the inspection is online: the line may be started.
    """

    def __init__(
        self, delay: float, eject: Callable[[], None], stop: Callable[[str], None], ready: Callable[[], None]
    ) -> None:
        self.delay, self.eject, self.stop, self.ready = delay, eject, stop, ready
        self._due: list[float] = []
        self._known: deque[float] = deque(maxlen=100)  # times of rejects, handled ones too
        self.stop("the inspection has not said that it is online")

    def status(self, payload: str) -> None:
        """What came on TOPIC/status."""
        if payload == "online":
            self.ready()
        else:
            self.stop(f"the inspection says: {payload}")

    def verdict(self, payload: str, now: float) -> None:
        """What came on TOPIC/verdict."""
        verdict = json.loads(payload)
        if "error" in verdict:
            self.stop(f"a part was not judged: {verdict['error']}")
        elif verdict["verdict"] == "invalid":
            self.stop(f"a photo says nothing of its part: {verdict['invalid_reason']}")
        elif verdict["verdict"] == "anomalous" and verdict["time"] is None:
            self.stop("a reject came without its time")
        elif verdict["verdict"] == "anomalous":
            due = datetime.fromisoformat(verdict["time"]).timestamp() + self.delay
            if due in self._known:  # at QoS 1 a message may come twice, also long after the first time
                return
            self._known.append(due)
            if due < now:
                self.stop(f"a reject came {now - due:.2f} s too late")
            else:
                heapq.heappush(self._due, due)

    def work(self, now: float) -> float:
        """Eject what is due, and say how many seconds there are until the next."""
        while self._due and self._due[0] <= now:
            heapq.heappop(self._due)
            self.eject()
        return self._due[0] - now if self._due else 1.0


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("host")
    parser.add_argument("topic")
    parser.add_argument("--port", type=int, default=1883)
    parser.add_argument("--delay", type=float, required=True, help="seconds from the camera to the ejector")
    options = parser.parse_args()

    # Put your outputs here: a GPIO line, a fieldbus coil, a relay.
    controller = LineController(
        options.delay,
        eject=lambda: print(f"{time.time():.3f} EJECT", flush=True),
        stop=lambda reason: print(f"{time.time():.3f} STOP: {reason}", flush=True),
        ready=lambda: print(f"{time.time():.3f} READY", flush=True),
    )
    inbox: queue.Queue[tuple[str, str]] = queue.Queue()  # so that outputs are set in one thread only

    def subscribe(client: Client, *_: Any) -> None:
        client.subscribe([(f"{options.topic}/verdict", 1), (f"{options.topic}/status", 1)])

    client = Client(CallbackAPIVersion.VERSION2)
    client.on_connect = subscribe  # again after each reconnection
    client.on_message = lambda _client, _data, message: inbox.put((message.topic, message.payload.decode()))
    client.on_disconnect = lambda *_: inbox.put((f"{options.topic}/status", "offline"))
    client.connect(options.host, options.port, keepalive=5)
    client.loop_start()
    wait = 1.0
    while True:
        try:
            topic, payload = inbox.get(timeout=wait)
            if topic.endswith("/status"):
                controller.status(payload)
            else:
                controller.verdict(payload, time.time())
        except queue.Empty:
            pass
        wait = controller.work(time.time())


if __name__ == "__main__":
    main()
