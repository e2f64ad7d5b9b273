"""Who may do what at a station's OPC UA server, and what is refused."""

from __future__ import annotations

import asyncio
import hashlib
import socket
from pathlib import Path

import pytest
from asyncua import Client, ua
from opcua_plc import AUTOMATIC, RESULT, Served, own_certificate, serving
from workplace import command_line

from rstpm_edge.errors import UsageError
from rstpm_edge.station.access import Access, read_tokens
from rstpm_edge.station.opcua.nodes import NAMESPACE
from rstpm_edge.station.opcua.security import Endpoint, parse_endpoint
from rstpm_edge.station.opcua.server import OpcUa
from rstpm_edge.station.products import Products
from rstpm_edge.station.station import make_station

pytestmark = pytest.mark.extra

INSPECT, MANAGE, OTHER = "inspect-0123456789abcdef", "manage-0123456789abcdef", "other-0123456789abcdef"


def test_nobody_writes_values_or_adds_nodes(served: Served) -> None:
    async def plc() -> None:
        async with served.client() as plc:
            with pytest.raises(ua.uaerrors.BadUserAccessDenied):
                await plc.node(f"{RESULT}/IsGood").write_value(True)
            with pytest.raises(ua.uaerrors.BadUserAccessDenied):
                await plc.client.nodes.objects.add_object(plc.namespace, "ours")

    asyncio.run(plc())


def test_what_is_no_opc_ua_harms_nobody(served: Served) -> None:
    async def plc() -> None:
        async with served.client() as plc:
            await plc.becomes("VisionStateMachine/CurrentState", "Operational")
            await asyncio.sleep(0.3)
            await plc.becomes("Source", "a camera")

    host, port = served.url.removeprefix("opc.tcp://").split(":")
    pieces = (b"GET / HTTP/1.1\r\n\r\n", b"HEL", b"HELF\xff\xff\xff\xff" + bytes(100), b"MSGF\x08\0\0\0", bytes(5000))
    sockets = [socket.create_connection((host, int(port))) for _ in pieces]
    for one, piece in zip(sockets, pieces, strict=True):
        one.sendall(piece)
    asyncio.run(plc())  # while they are open, and have said half of something
    for one in sockets:
        one.close()
    asyncio.run(plc())


def test_tokens_are_passwords_and_have_scopes(products: Products) -> None:
    async def denied(served: Served, *login: str) -> None:
        with pytest.raises((ua.uaerrors.BadUserAccessDenied, ua.uaerrors.BadIdentityTokenRejected)):
            async with served.client(*login):
                pass

    async def plc(served: Served) -> None:
        await denied(served)
        await denied(served, "admin", "admin")
        await denied(served, "plc", INSPECT[:-1])
        async with served.client("plc", INSPECT) as plc:
            await plc.becomes("VisionStateMachine/CurrentState", "Operational")
            assert await plc.status(f"{RESULT}/IsGood") == "BadWaitingForInitialData"
            with pytest.raises(ua.uaerrors.BadUserAccessDenied):
                await plc.call(f"{AUTOMATIC}/Stop")
        async with served.client("plc", MANAGE) as plc:
            assert await plc.call(f"{AUTOMATIC}/Stop") == 0
            with pytest.raises(ua.uaerrors.BadUserAccessDenied):
                await plc.node("Problem").write_value("none")
            served.line.stop()
            await plc.becomes("VisionStateMachine/CurrentState", "Halted")

    with serving(products, f"inspect {INSPECT}\nmanage {MANAGE}\n") as served:
        asyncio.run(plc(served))


def test_the_audit_log_has_who_it_was(products: Products) -> None:
    """The name that the client gave, and which token it sent: never the token, in whichever field it was typed."""

    async def plc(served: Served) -> None:
        async with served.client("press 4", MANAGE) as press, served.client(OTHER, OTHER) as other:
            await press.becomes(f"{AUTOMATIC}/CurrentState", "ContinuousExecution")
            await press.call(f"{AUTOMATIC}/Stop")
            await other.call(f"{AUTOMATIC}/StartContinuous", "first")
            await press.call(f"{AUTOMATIC}/Stop")

    with serving(products, f"manage {MANAGE}\nmanage {OTHER}\n") as served:
        asyncio.run(plc(served))
        press, other = (
            {"protocol": "OPC UA", "user": user, "token": hashlib.sha256(token.encode()).hexdigest()[:8]}
            for user, token in (("press 4", MANAGE), (None, OTHER))
        )
        assert [(event, fields["by"]) for event, fields in served.recorded] == [
            ("line paused", press),
            ("product selected", other),
            ("line resumed", other),
            ("line paused", press),
        ]
        assert OTHER not in repr(served.recorded)
    with serving(products) as served:
        asyncio.run(without_tokens(served))
        assert served.recorded[0][1]["by"] == {"protocol": "OPC UA", "user": None, "token": None}


async def without_tokens(served: Served) -> None:
    async with served.client() as plc:
        await plc.becomes(f"{AUTOMATIC}/CurrentState", "ContinuousExecution")
        await plc.call(f"{AUTOMATIC}/Stop")


def test_with_a_certificate_nothing_goes_unencrypted(products: Products, tmp_path: Path) -> None:
    certificate, key = own_certificate(tmp_path / "server", "urn:plant:station4")
    of_client, key_of_client = own_certificate(tmp_path / "client", "urn:plant:plc")

    async def plc(served: Served) -> None:
        client = Client(served.url, timeout=20)
        modes = {one.SecurityMode for one in await client.connect_and_get_server_endpoints()}
        assert modes == {ua.MessageSecurityMode.SignAndEncrypt}
        client = Client(served.url, timeout=20)
        client.application_uri = "urn:plant:plc"
        await client.set_security_string(f"Basic256Sha256,SignAndEncrypt,{of_client},{key_of_client}")
        client.set_user("plc")
        client.set_password(INSPECT)
        async with client:
            node = client.get_node(ua.NodeId("line/Source", await client.get_namespace_index(NAMESPACE)))
            assert await node.read_value() == "a camera"
            assert (await client.get_namespace_array())[1] == "urn:plant:station4"

    with serving(products, f"inspect {INSPECT}\n", certificate=certificate, key=key) as served:
        asyncio.run(plc(served))


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("opc.tcp://0.0.0.0:4840", r"^Whoever reaches 0\.0\.0\.0 could steer this station: OPC UA there needs "),
        ("opc.tcp://station4", r"^Whoever reaches station4 could steer"),
        ("http://127.0.0.1:4840", r"^`opcua` is an address such as opc\.tcp://127\.0\.0\.1:4840, without a user or"),
        ("opc.tcp://user@127.0.0.1", r"without a user or a path"),
        ("opc.tcp://127.0.0.1/path", r"without a user or a path"),
        ("opc.tcp://:4840", r"^`opcua` is an address"),
        ("opc.tcp://127.0.0.1:port", r"^`opcua` is an address such as .*: Port could not be cast"),
    ],
)
def test_addresses_that_cannot_be(url: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_endpoint(url, Access())


def test_others_reach_it_with_tokens_and_a_certificate_only(tmp_path: Path) -> None:
    tokens = Access(read_tokens(None, {"TOKENS": f"inspect {INSPECT}"}, "TOKENS"))
    file = tmp_path / "own.pem"
    with pytest.raises(UsageError, match=r"^Whoever reaches"):
        parse_endpoint("opc.tcp://0.0.0.0", tokens)
    with pytest.raises(UsageError, match=r"^Whoever reaches"):
        parse_endpoint("opc.tcp://0.0.0.0", Access(), file, file)
    with pytest.raises(UsageError, match=r"^`opcua_certificate` and `opcua_key` go together\.$"):
        parse_endpoint("opc.tcp://0.0.0.0", tokens, file)
    assert parse_endpoint("opc.tcp://0.0.0.0", tokens, file, file) == Endpoint("0.0.0.0", 4840, file, file)
    assert parse_endpoint("opc.tcp://[::1]:4841/", Access()).url == "opc.tcp://[::1]:4841"


def test_a_port_that_is_taken_and_files_that_are_none(products: Products, tmp_path: Path) -> None:
    certificate, key = own_certificate(tmp_path / "one", "urn:one")
    other, _ = own_certificate(tmp_path / "other", "urn:other")
    (tmp_path / "text").write_text("no certificate")
    with make_station(products) as station:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            with pytest.raises(UsageError, match=rf"^Cannot listen on opc\.tcp://127\.0\.0\.1:{port}: "):
                OpcUa(station, Endpoint("127.0.0.1", port)).start()
        for files, message in {
            (tmp_path / "text", key): r"^Cannot read the certificate .*text: ",
            (tmp_path / "none", key): r"^Cannot read the certificate .*none: ",
            (certificate, tmp_path / "text"): r"^Cannot read the private key .*text: ",
            (other, key): r"^The private key .*key\.pem is not that of the certificate .*own\.pem\.$",
        }.items():
            with pytest.raises(UsageError, match=message):
                OpcUa(station, Endpoint("127.0.0.1", 0, *files)).start()


def test_on_the_command_line(model: Path) -> None:
    result = command_line("serve", "--model", model, "--port", 0, "--opcua", "opc.tcp://0.0.0.0:4840")
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: Whoever reaches 0.0.0.0 could steer this station: OPC UA there needs ")
    result = command_line("serve", "--model", model, "--port", 0, "--opcua-key", "key.pem")
    assert (result.exit_code, result.stderr) == (2, "Error: --opcua-certificate and --opcua-key go with --opcua.\n")
