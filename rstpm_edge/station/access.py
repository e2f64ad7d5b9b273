"""Who may do what: tokens and their scopes."""

import hashlib
import hmac
import re
import secrets
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from rstpm_edge.errors import UsageError

Scope: TypeAlias = Literal["inspect", "manage"]  # who may manage may inspect, too

SHORTEST = 16  # characters of a token
SESSIONS = 1000  # browsers that are logged in; the oldest one is logged out
_TOKEN = re.compile(r"[!-~]+")


@dataclass(frozen=True)
class Token:
    """`digest` is the SHA-256 of what a client sends: nothing that is shown or copied holds the token itself."""

    digest: bytes
    scope: Scope

    @property
    def hint(self) -> str:
        """Which token that is, for those who have it: the first digits of its SHA-256, of which nobody gets it."""
        return self.digest.hex()[:8]


class Access:
    """Without tokens, everybody may do everything: only for a station that nobody else can reach."""

    def __init__(self, tokens: Iterable[Token] = ()) -> None:
        self._tokens = tuple(tokens)
        self._lock = threading.Lock()
        self._sessions: OrderedDict[bytes, Token] = OrderedDict()

    @property
    def is_open(self) -> bool:
        """Whether nobody needs a token."""
        return not self._tokens

    def token_of(self, token: str) -> Token | None:
        """Which one this is; None for one that is not known."""
        digest, found = _digest(token), None
        for known in self._tokens:  # all of them, each in constant time: how long it takes tells nothing
            if hmac.compare_digest(digest, known.digest):
                found = known
        return found

    def log_in(self, token: str) -> str | None:
        """A secret for a browser's cookie in the place of the token; None for a token that is not known."""
        known = self.token_of(token)
        if known is None:
            return None
        secret = secrets.token_urlsafe(32)
        with self._lock:
            self._sessions[_digest(secret)] = known
            while len(self._sessions) > SESSIONS:
                self._sessions.popitem(last=False)
        return secret

    def log_out(self, secret: str) -> None:
        """The cookie is worth nothing from now on."""
        with self._lock:
            self._sessions.pop(_digest(secret), None)

    def scope_of_session(self, secret: str) -> Scope | None:
        """What the browser with this cookie may do."""
        found = self.token_of_session(secret)
        return None if found is None else found.scope

    def token_of_session(self, secret: str) -> Token | None:
        """The token that the browser with this cookie gave."""
        with self._lock:
            return self._sessions.get(_digest(secret))  # by its digest, which nobody can choose


def allows(has: Scope | None, needs: Scope) -> bool:
    """Whether a scope is enough."""
    return has is not None and (has == needs or has == "manage")


def read_tokens(file: Path | None, environment: Mapping[str, str], variable: str) -> list[Token]:
    """The tokens of a file, or those of a variable: a line each, `inspect TOKEN` or `manage TOKEN`; # for notes.

    Raises UsageError for a file that cannot be read, and for a line that is none; no message has a token.
    """
    if file is not None:
        try:
            text, where = file.read_text(encoding="utf-8"), str(file)
        except (OSError, UnicodeDecodeError, ValueError) as error:
            why = getattr(error, "strerror", None) or "it is no text"
            raise UsageError(f"Cannot read the tokens in {file}: {why}.") from None
    else:
        text, where = environment.get(variable, ""), f"the variable {variable}"
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        scope, *rest = words
        if scope not in get_args(Scope) or len(rest) != 1 or not _TOKEN.fullmatch(rest[0]):
            raise UsageError(f"Line {number} of {where} must be `inspect TOKEN` or `manage TOKEN`.")
        if len(rest[0]) < SHORTEST:
            raise UsageError(
                f"The token in line {number} of {where} is short enough to be guessed: take at least {SHORTEST} "
                "characters, such as those of `openssl rand -hex 24`."
            )
        found.append(Token(_digest(rest[0]), "inspect" if scope == "inspect" else "manage"))
    if file is not None and not found:
        raise UsageError(f"There are no tokens in {file}: write a line `inspect TOKEN` or `manage TOKEN`.")
    return found


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
