"""A station that is an OPC UA server, and a PLC that asks it."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asyncua import Client, ua
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from handed_images import Images
from waiting import until

from rstpm_edge.station.access import Access, read_tokens
from rstpm_edge.station.line import Line
from rstpm_edge.station.opcua.nodes import NAMESPACE
from rstpm_edge.station.opcua.security import parse_endpoint
from rstpm_edge.station.opcua.server import OpcUa
from rstpm_edge.station.product import ProductName
from rstpm_edge.station.products import Products
from rstpm_edge.station.station import Station, make_station

AUTOMATIC = "VisionStateMachine/AutomaticModeStateMachine"
RESULT = "ResultManagement/Results/LastResult"


@dataclass
class Served:
    """`recorded` is what the audit log would hold."""

    station: Station
    images: Images
    url: str
    recorded: list[tuple[str, Mapping[str, Any]]]

    @property
    def line(self) -> Line:
        return self.station.line()

    @contextlib.asynccontextmanager
    async def client(self, user: str | None = None, password: str | None = None) -> AsyncIterator[Plc]:
        client = Client(self.url, timeout=20)
        if user is not None:
            client.set_user(user)
            client.set_password(password)
        async with client:
            yield Plc(client, await client.get_namespace_index(NAMESPACE))


@dataclass
class Plc:
    """What a PLC does: it reads nodes of the line by their names, and calls methods."""

    client: Client
    namespace: int
    of: str = "line"

    def node(self, path: str) -> Any:
        return self.client.get_node(ua.NodeId(f"{self.of}/{path}", self.namespace))

    async def read(self, path: str) -> Any:
        """The value; None where there is none, which `status` tells more of."""
        found = await self.node(path).read_data_value(raise_on_bad_status=False)
        value = None if found.Value is None else found.Value.Value
        return value.Text if isinstance(value, ua.LocalizedText) else value

    async def status(self, path: str) -> str:
        return str((await self.node(path).read_data_value(raise_on_bad_status=False)).StatusCode.name)

    async def call(self, path: str, *arguments: Any) -> Any:
        return await self.node(path.rpartition("/")[0]).call_method(self.node(path).nodeid, *arguments)

    async def becomes(self, path: str, value: Any) -> None:
        end = time.monotonic() + 20
        while await self.read(path) != value:
            assert time.monotonic() < end, await self.read(path)
            await asyncio.sleep(0.005)


@contextlib.contextmanager
def serving(
    products: Products, tokens: str = "", *, judging: Products | None = None, **files: Path
) -> Iterator[Served]:
    """`judging` are those of the line, where it has some of its own."""
    images, first = Images(), ProductName("first", "1")
    recorded: list[tuple[str, Mapping[str, Any]]] = []
    access = Access(read_tokens(None, {"TOKENS": tokens}, "TOKENS"))
    with (
        make_station(
            products,
            access=access,
            record=lambda event, fields: recorded.append((event, fields)),
            lines=lambda feed: [Line("line", "a camera", images.open, judging or products, first, feed)],
        ) as station,
        OpcUa(station, parse_endpoint("opc.tcp://127.0.0.1:0", access, **files)) as server,
    ):
        station.start()
        until(lambda: station.line().state.condition == "running")
        yield Served(station, images, server.url, recorded)


def own_certificate(folder: Path, uri: str) -> tuple[Path, Path]:
    """A self-signed certificate and its key, as programs of OPC UA have them."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    folder.mkdir(exist_ok=True)
    (folder / "own.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder / "own.pem", folder / "key.pem"
