"""Verdicts over MQTT, with paho-mqtt (the extra `mqtt`)."""

import json
import math
import os
import ssl
import threading
import uuid
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import unquote, urlsplit

from rstpm_edge.errors import UsageError
from rstpm_edge.outputs.mqtt_outbox import Outbox

PASSWORD_VARIABLE = "RSTPM_EDGE_MQTT_PASSWORD"
QUEUE = 1000  # messages kept while the broker is away; further verdicts are lost, and no state is
WINDOW = 20  # of them may be on their way without an answer
RETAINED = ("status", "drift")  # topics whose last message a broker gives to whoever comes later
GOODBYE = 5.0  # seconds at the end in which the broker may still acknowledge
RECONNECT_MIN, RECONNECT_MAX = 1, 30  # seconds; doubled each time
KEEP_ALIVE = 15  # seconds; after one and a half of them the broker gives us up, and publishes the last will
_FORM = "mqtt://user@host:1883/topic or mqtts://…"
_ENCODED = "in a user, password or topic, write / as %2F, @ as %40, # as %23, ? as %3F."


@dataclass(frozen=True)
class Broker:
    """Where to publish: to TOPIC/verdict and TOPIC/status."""

    host: str
    port: int
    topic: str
    tls: bool
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    ca: Path | None = None  # certificates that are trusted instead of the system's

    @property
    def name(self) -> str:
        """For people: without user and password."""
        return f"{self.host}:{self.port}"


def parse_broker(url: str, *, password_file: Path | None = None, ca: Path | None = None) -> Broker:
    """What `--mqtt` takes: mqtt://user:password@host:port/topic, or mqtts://… for TLS.

    `ca` is a PEM file with the certificates to trust instead of the system's.

    The password is the first of: the content of `password_file`, the environment variable
    RSTPM_EDGE_MQTT_PASSWORD, the one in the address (which everybody on the machine can read).

    Raises UsageError.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
        host = (parts.hostname or "").encode("idna").decode()
    except (ValueError, UnicodeError) as error:
        # What Python says repeats a part of the address, which may be one of the password.
        why = f"; {_ENCODED}" if "@" in url else f": {error}."
        raise UsageError(f"The broker's address is {_FORM}, which yours is not{why}") from None
    # A raw / in the password ends the host before the @; the rest would be published as a topic.
    if parts.scheme not in ("mqtt", "mqtts") or not host or parts.query or "#" in url or "@" in parts.path:
        how = f" {_ENCODED[0].upper()}{_ENCODED[1:]}" if "@" in url else ""
        raise UsageError(f"The broker's address is {_FORM}; yours lacks one of these, or has something else.{how}")
    topic = unquote(parts.path).strip("/")
    if not topic or any(character in topic for character in "+#\0"):
        raise UsageError(f"The broker's address ends in a topic, without + and #, such as mqtt://{host}/line1.")
    password = parts.password and unquote(parts.password)
    password = os.environ.get(PASSWORD_VARIABLE) or password
    if password_file is not None:
        try:
            password = password_file.read_text().rstrip("\r\n")
        except (OSError, UnicodeError) as error:
            raise UsageError(f"Cannot read the MQTT password from {password_file}: {error}.") from error
    user = unquote(parts.username) if parts.username else None
    if not (_is_text(url) and _is_text(password or "")):  # neither of them is shown
        raise UsageError("The broker's address and its password are text in UTF-8, which one of yours is not.")
    if password and not user:
        raise UsageError("An MQTT password goes with a user: mqtt://user@host/topic.")
    tls = parts.scheme == "mqtts"
    if ca is not None and not tls:
        raise UsageError("Certificates of a CA are for mqtts:// only.")
    return Broker(host, port or (8883 if tls else 1883), topic, tls, user, password, ca)


def _is_text(value: str) -> bool:
    """Whether MQTT can carry it; bytes that are no UTF-8 come from the command line and the environment as they are."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


class _Unanswered:
    """How many messages the broker has not acknowledged yet, those that still wait for it included.

    Counted from the threads of the inspection, of a source that tells of itself, and of paho.
    """

    def __init__(self) -> None:
        self._number = 0
        self._changed = threading.Condition()

    def add(self, most: float = math.inf) -> bool:
        """Count one more; False, and nothing counted, where there are `most`."""
        with self._changed:
            if self._number >= most:
                return False
            self._number += 1
        return True

    def remove(self) -> None:
        """Count one less."""
        with self._changed:
            self._number -= 1
            self._changed.notify_all()

    def wait(self, seconds: float) -> int:
        """Wait until there is none, but no longer; how many there are then."""
        with self._changed:
            self._changed.wait_for(lambda: self._number <= 0, seconds)
            return self._number


class Mqtt:
    """Publishes verdicts at QoS 1, beside the inspection, which never waits for the broker.

    TOPIC/verdict gets each verdict's JSON. TOPIC/status is retained: "online"; "no source" while the camera or folder
    is lost; and "offline" when the inspection ends or, as last will, when the broker has not heard of it for some
    seconds. TOPIC/drift, retained, is what `tell_drift` was told. While the broker is away, up to 1000 messages wait;
    further verdicts are lost and counted in `lost`, while the latest status and drift always wait, and no older ones.
    `report` is called, also from another thread, with a sentence when the broker cannot be reached, refuses, is lost,
    or is back.

    Leaving the context waits for up to five seconds until all is delivered. Raises UsageError without paho-mqtt,
    and for a certificate that cannot be read.
    """

    def __init__(self, broker: Broker, *, report: Callable[[str], None]) -> None:
        try:
            from paho.mqtt.client import Client
            from paho.mqtt.enums import CallbackAPIVersion
        except ImportError as error:
            raise UsageError("MQTT needs paho-mqtt: pip install paho-mqtt") from error
        self.lost = 0
        self._broker = broker
        self._report = report
        self._in_trouble = self._full = self._closed = False
        self._status = "online"
        self._unanswered = _Unanswered()
        self._outbox = Outbox()
        self._ready = threading.Event()  # connected, and what was on its way when the connection broke is sent again
        self._window = threading.Semaphore(WINDOW)
        self._greetings: list[int] = []  # numbers of the messages that said the status and have no answer yet
        client = Client(CallbackAPIVersion.VERSION2, client_id=f"rstpm-edge-{uuid.uuid4().hex[:12]}")
        client.reconnect_delay_set(RECONNECT_MIN, RECONNECT_MAX)
        client.will_set(f"{broker.topic}/status", "offline", qos=1, retain=True)
        if broker.user:
            client.username_pw_set(broker.user, broker.password)
        if broker.tls:
            client.tls_set_context(_context(broker.ca))
        client.on_connect = self._on_connect
        client.on_connect_fail = self._on_connect_fail
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.connect_async(broker.host, broker.port, KEEP_ALIVE)
        client.loop_start()
        self._client = client
        self._thread = threading.Thread(target=self._send_all, name="mqtt", daemon=True)
        self._thread.start()

    def tell(self, fields: Mapping[str, Any]) -> None:
        """Publish the verdict that `verdict_fields` gave, or a failure."""
        message = json.dumps(fields, allow_nan=False)
        full = not self._unanswered.add(QUEUE)
        if not full:
            self._outbox.put("verdict", message)
        else:
            self.lost += 1
        if full and not self._full:
            self._report(f"{QUEUE} messages wait for the MQTT broker {self._broker.name}; further ones are lost.")
        self._full = full

    def tell_drift(self, fields: Mapping[str, Any]) -> None:
        """Publish what is known of drift now, after the verdicts before it; `line` says of which camera, if of one."""
        self._publish_state(("drift", fields.get("line")), "drift", json.dumps(fields, allow_nan=False))

    def tell_source(self, there: bool) -> None:
        """Publish whether there is a source: after the verdicts before it, or with the next connection."""
        self._status = "online" if there else "no source"
        self._publish_state("status", "status", self._status)

    def _publish_state(self, state: Hashable, topic: str, message: str) -> None:
        self._unanswered.add()
        if self._outbox.put_state(state, topic, message):
            self._unanswered.remove()  # the one that waited

    def __enter__(self) -> "Mqtt":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        hurry = kind is not None and not issubclass(kind, Exception)
        self.lost += self._unanswered.wait(0 if hurry else GOODBYE)
        if self._ready.is_set():
            self._unanswered.add()
            self._client.publish(f"{self._broker.topic}/status", "offline", qos=1, retain=True)
            self._unanswered.wait(0 if hurry else 1)
        self._closed = True
        for release in (self._ready.set, self._window.release, self._outbox.close):
            release()  # whatever the thread waits for
        self._thread.join()
        self._client.on_disconnect = None
        self._client.disconnect()
        self._client.loop_stop()

    def _send_all(self) -> None:
        # Handed to paho only now: what it gets while it connects may overtake what it got before.
        while True:
            self._outbox.wait()
            self._ready.wait()
            self._window.acquire()
            if self._closed:
                return
            topic, message = self._outbox.take()
            self._client.publish(f"{self._broker.topic}/{topic}", message, qos=1, retain=topic in RETAINED)

    # Called by paho, in its thread.

    def _on_connect(self, client: Any, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            self._trouble(f"refuses the connection: {reason}")
            return
        if self._in_trouble:
            self._report(f"The MQTT broker {self._broker.name} is back.")
        self._in_trouble = False
        self._greetings.append(client.publish(f"{self._broker.topic}/status", self._status, qos=1, retain=True).mid)

    def _on_connect_fail(self, client: Any, userdata: Any) -> None:
        untrusted = ", or its certificate cannot be trusted" if self._broker.tls else ""
        self._trouble(f"cannot be reached{untrusted}; up to {QUEUE} messages wait for it")

    def _on_disconnect(self, client: Any, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        if self._ready.is_set():
            self._ready.clear()
            self._trouble(f"is lost; up to {QUEUE} messages wait for it")

    def _on_publish(self, client: Any, userdata: Any, mid: int, reason: Any, properties: Any) -> None:
        if mid in self._greetings:
            # Only that of this connection comes after all that is sent again.
            if mid == self._greetings[-1]:
                self._ready.set()
            self._greetings.remove(mid)
        else:
            self._unanswered.remove()
            self._window.release()

    def _trouble(self, what: str) -> None:
        if not self._in_trouble:
            self._in_trouble = True
            self._report(f"The MQTT broker {self._broker.name} {what}.")


def _context(ca: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=None if ca is None else str(ca))
    except OSError as error:  # ssl.SSLError is one
        raise UsageError(f"Cannot use {ca} as certificates of a CA: {error.strerror or error}.") from error
