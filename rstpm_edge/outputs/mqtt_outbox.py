"""Messages that wait for an MQTT broker, in order."""

import threading
from collections import OrderedDict
from collections.abc import Hashable


class Outbox:
    """Messages that wait, the oldest first; of a state only the latest. Any thread may put one in, one takes them."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[Hashable, tuple[str, str]] = OrderedDict()  # the topic's last part, and the message
        self._changed = threading.Condition()
        self._closed = False

    def put(self, topic: str, message: str) -> None:
        """Add a message."""
        self._put(object(), topic, message)

    def put_state(self, state: Hashable, topic: str, message: str) -> bool:
        """Add what holds of `state` now, and drop what waits of it: whether anything did."""
        return self._put((state,), topic, message)

    def wait(self) -> None:
        """Wait until a message waits, or all is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)

    def take(self) -> tuple[str, str]:
        """The oldest one, after `wait`."""
        with self._changed:
            return self._waiting.popitem(last=False)[1]

    def close(self) -> None:
        """Nobody is to wait any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _put(self, key: Hashable, topic: str, message: str) -> bool:
        with self._changed:
            older = self._waiting.pop(key, None)
            self._waiting[key] = topic, message
            self._changed.notify_all()
        return older is not None
