"""Where the OPC UA server listens, and who may do what there."""

import ipaddress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from asyncua import ua
from asyncua.crypto.permission_rules import UserRole

from rstpm_edge.errors import UsageError
from rstpm_edge.station.access import Access, Scope, allows

PORT = 4840  # that of OPC UA
_FORM = "opc.tcp://127.0.0.1:4840"

_ENCRYPTED = [
    ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt,
    ua.SecurityPolicyType.Aes128Sha256RsaOaep_SignAndEncrypt,
    ua.SecurityPolicyType.Aes256Sha256RsaPss_SignAndEncrypt,
]
_CALLS = ua.NodeId(ua.ObjectIds.CallRequest_Encoding_DefaultBinary)
# What whoever is let in may ask for: to look, and to be told. Nobody may write values, or add nodes.
_LOOKS = frozenset(
    ua.NodeId(getattr(ua.ObjectIds, f"{name}Request_Encoding_DefaultBinary"))
    for name in (
        "CreateSession", "CloseSession", "ActivateSession", "Read", "Browse", "GetEndpoints", "FindServers",
        "TranslateBrowsePathsToNodeIds", "RegisterNodes", "UnregisterNodes", "CreateSubscription", "ModifySubscription",
        "DeleteSubscriptions", "TransferSubscriptions", "CreateMonitoredItems", "ModifyMonitoredItems",
        "DeleteMonitoredItems", "SetMonitoringMode", "SetPublishingMode", "Publish", "Republish", "CloseSecureChannel",
    )
)  # fmt: skip


@dataclass(frozen=True)
class Endpoint:
    """Where to listen. `certificate` and `key` are the server's own files, PEM or DER; both or none."""

    host: str
    port: int = PORT
    certificate: Path | None = None
    key: Path | None = None

    @property
    def url(self) -> str:
        """As clients type it."""
        return f"opc.tcp://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    @property
    def policies(self) -> list[ua.SecurityPolicyType]:
        """How clients may connect: only encrypted, where there is a certificate."""
        return _ENCRYPTED if self.certificate else [ua.SecurityPolicyType.NoSecurity]


def parse_endpoint(url: str, access: Access, certificate: Path | None = None, key: Path | None = None) -> Endpoint:
    """Read opc.tcp://HOST:PORT. Raises UsageError, also where others could reach the station without both tokens and a
    certificate."""
    try:
        parts = urlsplit(url)
        port = PORT if parts.port is None else parts.port
    except ValueError as error:
        raise UsageError(f"`opcua` is an address such as {_FORM}: {error}.") from error
    if parts.scheme != "opc.tcp" or not parts.hostname or parts.path not in ("", "/") or parts.query or parts.username:
        raise UsageError(f"`opcua` is an address such as {_FORM}, without a user or a path.")
    if (certificate is None) != (key is None):
        raise UsageError("`opcua_certificate` and `opcua_key` go together.")
    if not _is_loopback(parts.hostname) and (access.is_open or certificate is None):
        raise UsageError(
            f"Whoever reaches {parts.hostname} could steer this station: OPC UA there needs `tokens` and "
            f"`opcua_certificate` with `opcua_key`. With {_FORM} this machine alone reaches it."
        )
    return Endpoint(parts.hostname, port, certificate, key)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True)
class StationUser:
    """Somebody who was let in. Of asyncua's roles they have the lowest: its administrator may change nodes.

    `name` is the one that the client gave, which proves nothing; `token` says which token it sent (`Token.hint`), None
    where none is needed.
    """

    name: str | None
    scope: Scope
    token: str | None = None
    role: UserRole = UserRole.User


_CALLER: ContextVar[StationUser | None] = ContextVar("caller", default=None)


def who_calls() -> dict[str, str | None]:
    """Whose call of a method runs now, for the audit log. To be asked by the method before it starts other tasks."""
    caller = _CALLER.get()
    return {
        "protocol": "OPC UA",
        "user": None if caller is None else caller.name,
        "token": None if caller is None else caller.token,
    }


class Users:
    """Lets in whoever gives one of the station's tokens as the password, by any name. Without tokens, everybody."""

    def __init__(self, access: Access) -> None:
        self._access = access

    @property
    def identities(self) -> list[type]:
        """The kinds of users that a client may connect as."""
        return [ua.AnonymousIdentityToken] if self._access.is_open else [ua.UserNameIdentityToken]

    def get_user(
        self, iserver: Any, username: str | None = None, password: str | None = None, certificate: Any = None
    ) -> StationUser | None:
        """The user, or None for one who is not let in."""
        if username is not None and self._access.token_of(username) is not None:
            username = None  # a token that was typed in the wrong field stands in no log
        if self._access.is_open:
            return StationUser(username, "manage")
        token = self._access.token_of(password or "")
        return None if token is None else StationUser(username, token.scope, token.hint)


class Rules:
    """Who may inspect may look, and who may manage may call methods, too."""

    def check_validity(self, user: Any, action_type: ua.NodeId, body: object) -> bool:
        """Whether the user may ask for that."""
        if action_type == _CALLS:
            _CALLER.set(user)  # asyncua runs the method in the task that asks here, and tells it of no user
            return allows(getattr(user, "scope", None), "manage")
        return action_type in _LOOKS
