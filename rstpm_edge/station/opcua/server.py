"""The OPC UA server of a station, in a thread and event loop of its own: no PLC holds up the line, or a web page."""

import asyncio
import contextlib
import logging
import socket
import threading
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from asyncua import Server, ua
from cryptography import x509

from rstpm_edge import __version__
from rstpm_edge.errors import UsageError
from rstpm_edge.station.closing import Closing
from rstpm_edge.station.event import Inspection
from rstpm_edge.station.opcua.events import ResultReady
from rstpm_edge.station.opcua.methods import Steering, methods_of
from rstpm_edge.station.opcua.nodes import NAMESPACE, LineNodes, result_values
from rstpm_edge.station.opcua.security import Endpoint, Rules, Users
from rstpm_edge.station.part_feed import PartFeed
from rstpm_edge.station.station import Station

REFRESH = 0.1  # seconds between two looks at what the lines do; verdicts come at once
ROOM = 1000  # verdicts that may wait
CONNECTIONS, SUBSCRIPTIONS = 50, 200
URI = "urn:rstpm-edge"


class OpcUa(Closing):
    """Serves what `station` does from `start` to `close`; and the verdicts of parts that several cameras see."""

    def __init__(self, station: Station, endpoint: Endpoint, parts: PartFeed | None = None) -> None:
        self._station, self._endpoint, self._parts = station, endpoint, parts
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = asyncio.Event()
        self._stopped = False
        self._up = threading.Event()
        self._refused: UsageError | None = None
        self._nodes: dict[str, LineNodes] = {}
        self._steering: dict[str, Steering] = {}
        self._thread = threading.Thread(target=self._run, name="OPC UA", daemon=True)
        self._port = endpoint.port

    @property
    def url(self) -> str:
        """Where it listens."""
        return replace(self._endpoint, port=self._port).url

    def start(self) -> None:
        """Listen. Raises UsageError where the port is taken, or the certificate or its key cannot be used."""
        log = logging.getLogger("asyncua")  # which tells of each client's fault; what a client did wrong, it is told
        log.addHandler(logging.NullHandler())
        log.propagate = False
        self._thread.start()
        self._up.wait()
        if self._refused is not None:
            self._thread.join()
            raise self._refused

    def close(self) -> None:
        """Listen no more."""
        self._stopped = True
        self._waken()
        self._thread.join(10)

    def __enter__(self) -> "OpcUa":
        self.start()
        return self

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except UsageError as error:
            self._refused = error
        finally:
            self._up.set()

    def _waken(self) -> None:
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._wake.set)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        server = await self._made()
        ready = await self._fill(server)
        await self._started(server)
        try:
            with self._station.feed.subscribe("opcua", room=ROOM, wake=self._waken) as verdicts:
                self._up.set()
                while not self._stopped:
                    self._wake.clear()
                    for inspection in verdicts.pending():
                        if inspection.origin in self._nodes:
                            await self._tell(inspection, ready)
                    await self._show()
                    with contextlib.suppress(asyncio.TimeoutError):
                        await asyncio.wait_for(self._wake.wait(), REFRESH)
        finally:
            await server.stop()

    async def _made(self) -> Server:
        endpoint, users = self._endpoint, Users(self._station.access)
        self._try_port()
        server = Server(user_manager=users)
        uri = URI
        if endpoint.certificate is not None and endpoint.key is not None:
            uri = await _load(server, endpoint.certificate, endpoint.key) or URI
        server.application_type = ua.ApplicationType.Server
        server.product_uri, server.manufacturer_name = URI, "rstpm-edge"
        server.set_server_name("rstpm-edge")
        await server.init()
        server.iserver.max_connections, server.iserver.max_subscriptions = CONNECTIONS, SUBSCRIPTIONS
        server.set_endpoint(endpoint.url)
        await server.set_application_uri(uri)
        await server.set_build_info(URI, "rstpm-edge", "rstpm-edge", __version__, "", datetime.now(timezone.utc))
        server.set_security_policy(endpoint.policies, Rules())
        server.set_identity_tokens(users.identities)
        return server

    async def _fill(self, server: Server) -> ResultReady:
        namespace = await server.register_namespace(NAMESPACE)
        systems = await server.nodes.objects.add_object(
            ua.NodeId("VisionSystems", namespace), ua.QualifiedName("VisionSystems", namespace)
        )
        for line in self._station.lines:
            steering = self._steering[line.name] = Steering(line, self._show, self._station.record)
            nodes = self._nodes[line.name] = LineNodes(server, namespace, line.name)
            await nodes.make(systems, steering.methods)
        if self._parts is not None:
            name = self._parts.rule.name
            nodes = self._nodes[name] = LineNodes(server, namespace, name)
            await nodes.make(systems, methods_of(self._parts, self._station.record), judges=False)
        ready = await ResultReady.make(server, namespace)
        for nodes in self._nodes.values():
            await ready.add(nodes.name, nodes.root)
        await self._show()
        return ready

    async def _started(self, server: Server) -> None:
        try:
            await server.start()
        except OSError as error:
            raise self._no_port(error) from error
        assert server.bserver is not None
        listening: Any = server.bserver._server
        self._port = listening.sockets[0].getsockname()[1]

    async def _tell(self, inspection: Inspection, ready: ResultReady) -> None:
        name = inspection.origin
        values = result_values(inspection, self._steering[name].job if name in self._steering else "")
        await self._nodes[name].show_result(values)
        await ready.fire(name, values)

    def _try_port(self) -> None:
        """Raises UsageError where it cannot be had: before the seconds that OPC UA's own nodes take."""
        try:
            family = socket.getaddrinfo(self._endpoint.host, None, type=socket.SOCK_STREAM)[0][0]
            socket.create_server((self._endpoint.host, self._endpoint.port), family=family).close()
        except OSError as error:
            raise self._no_port(error) from error

    def _no_port(self, error: OSError) -> UsageError:
        why = error.strerror or str(error)
        return UsageError(f"Cannot listen on {self._endpoint.url}: {why}; give another address by `opcua`.")

    async def _show(self) -> None:
        counts = self._station.shift.counts()
        for line in self._station.lines:
            catalogue = line.products.catalogue
            recipes = [f"{name} {version}" for name, versions in catalogue.items() for version in versions]
            job = self._steering[line.name].job
            await self._nodes[line.name].show_state(line.state, job, recipes, counts.total(origin=line.name))
        if self._parts is not None:
            name = self._parts.rule.name
            await self._nodes[name].show_parts(self._parts.apart, counts.total(origin=name))


async def _load(server: Server, certificate: Path, key: Path) -> str | None:
    """Give the server its certificate; the URI of the program in that, if any. Raises UsageError."""
    try:
        await server.load_certificate(certificate)
    except (OSError, ValueError) as error:
        raise UsageError(f"Cannot read the certificate {certificate}: {error}.") from error
    try:
        await server.load_private_key(key)
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(f"Cannot read the private key {key}: {error}.") from error
    own: x509.Certificate = server.iserver.certificate
    if own.public_key() != server.iserver.private_key.public_key():
        raise UsageError(f"The private key {key} is not that of the certificate {certificate}.")
    try:
        names = own.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None
    return next(iter(names.get_values_for_type(x509.UniformResourceIdentifier)), None)
