"""An MQTT 3.1.1 broker of a hundred lines: one that can be told to refuse, to fall silent and to go away.

Section numbers are those of the OASIS standard (docs.oasis-open.org/mqtt/mqtt/v3.1.1).
"""

from __future__ import annotations

import contextlib
import socket
import socketserver
import ssl
import struct
import threading
from dataclasses import dataclass

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK, PINGREQ, PINGRESP, DISCONNECT = 1, 2, 3, 4, 8, 9, 12, 13, 14


@dataclass(frozen=True)
class Message:
    topic: str
    payload: str
    retain: bool
    qos: int


class Broker:
    """Serves on a free loopback port, or on `port`; over TLS where it is given a context.

    `received` holds what was published, last wills too. The caller may set `users` (name: password; None lets
    everybody in) and `acknowledges` (False: messages are received, and nothing is said).
    """

    def __init__(self, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self.users: dict[str, str] | None = None
        self.acknowledges = True
        self.received: list[Message] = []
        self.retained: dict[str, Message] = {}
        self._connections: dict[socket.socket, set[str]] = {}  # and the topics that they are subscribed to
        self._lock = threading.RLock()
        broker = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(OSError, EOFError):
                    if tls is None:
                        broker._serve(self.request)
                        return
                    with tls.wrap_socket(self.request, server_side=True) as connection:
                        broker._serve(connection)

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True

        self._server = Server(("127.0.0.1", port), Handler)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> Broker:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self.cut()
        self._server.server_close()
        self._thread.join()

    def cut(self) -> None:
        """End all connections without a word."""
        with self._lock:
            for connection in self._connections:
                connection.shutdown(socket.SHUT_RDWR)

    @property
    def subscriptions(self) -> set[str]:
        with self._lock:
            return set().union(*self._connections.values())

    def payloads(self, topic: str) -> list[str]:
        return [message.payload for message in self.received if message.topic == topic]

    def publish(self, message: Message) -> None:
        with self._lock:
            self.received.append(message)
            if message.retain:
                self.retained[message.topic] = message
            for connection, topics in self._connections.items():
                if message.topic in topics:
                    _send(connection, PUBLISH, 0, _text(message.topic) + message.payload.encode())

    def _serve(self, connection: socket.socket) -> None:
        kind, _, body = _receive(connection)
        assert kind == CONNECT
        will, credentials = _parse_connect(body)
        if self.users is not None and credentials not in self.users.items():
            _send(connection, CONNACK, 0, b"\0\5")  # 3.2.2.3: not authorized
            return
        with self._lock:
            self._connections[connection] = set()
        try:
            _send(connection, CONNACK, 0, b"\0\0")
            while True:
                kind, flags, body = _receive(connection)
                if kind == DISCONNECT:
                    will = None
                    return
                self._handle(connection, kind, flags, body)
        finally:
            with self._lock:
                del self._connections[connection]
            if will:
                self.publish(will)

    def _handle(self, connection: socket.socket, kind: int, flags: int, body: bytes) -> None:
        if kind == PINGREQ:
            _send(connection, PINGRESP, 0, b"")
        elif kind == SUBSCRIBE:
            topics, rest = [], body[2:]
            while rest:
                topic, rest = _take_text(rest)
                topics.append(topic)
                rest = rest[1:]  # the quality of service; ours is 0
            with self._lock:
                self._connections[connection].update(topics)
                _send(connection, SUBACK, 0, body[:2] + bytes(len(topics)))
                for topic in self.retained.keys() & topics:
                    _send(connection, PUBLISH, 1, _text(topic) + self.retained[topic].payload.encode())
        elif kind == PUBLISH:  # 3.3
            qos = flags >> 1 & 3
            topic, rest = _take_text(body)
            number, payload = (rest[:2], rest[2:]) if qos else (b"", rest)
            self.publish(Message(topic, payload.decode(), bool(flags & 1), qos))
            if qos and self.acknowledges:
                _send(connection, PUBACK, 0, number)


def _parse_connect(body: bytes) -> tuple[Message | None, tuple[str, str]]:
    """The last will, and user and password (3.1)."""
    flags = body[7]
    _client, rest = _take_text(body[10:])
    will = None
    if flags & 4:
        topic, rest = _take_text(rest)
        payload, rest = _take_text(rest)
        will = Message(topic, payload, bool(flags & 32), flags >> 3 & 3)
    user, rest = _take_text(rest) if flags & 128 else ("", rest)
    password = _take_text(rest)[0] if flags & 64 else ""
    return will, (user, password)


def _receive(connection: socket.socket) -> tuple[int, int, bytes]:
    """Kind, flags and body of the next packet (2.2). EOFError at the end."""
    first = _exactly(connection, 1)[0]
    length = shift = 0
    while True:
        byte = _exactly(connection, 1)[0]
        length |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return first >> 4, first & 15, _exactly(connection, length)


def _send(connection: socket.socket, kind: int, flags: int, body: bytes) -> None:
    length, rest = bytearray(), len(body)
    while True:
        rest, byte = rest >> 7, rest & 127
        length.append(byte | (128 if rest else 0))
        if not rest:
            connection.sendall(bytes([kind << 4 | flags]) + bytes(length) + body)
            return


def _exactly(connection: socket.socket, length: int) -> bytes:
    content = b""
    while len(content) < length:
        part = connection.recv(length - len(content))
        if not part:
            raise EOFError
        content += part
    return content


def _text(text: str) -> bytes:
    return struct.pack(">H", len(text.encode())) + text.encode()


def _take_text(body: bytes) -> tuple[str, bytes]:
    (length,) = struct.unpack_from(">H", body)
    return body[2 : 2 + length].decode(), body[2 + length :]
