"""What people, terminals and logs get to see of texts that others wrote: no control characters, no passwords."""

import re
import shlex

# Control characters (C0, DEL, C1), marks that turn the direction of writing, line and paragraph separators,
# and halves of surrogates, which stand for bytes of a name that are no text.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_UNSAFE_BUT_NEWLINE = re.compile(_UNSAFE.pattern.replace("\x00-\x1f", "\x00-\x09\x0b-\x1f"))

HIDDEN = "***"
_SECRET = r"(?:pass|pwd|pw|token|auth|key|secret|sig|cred|jwt|user-id|proxy-id)"
_NAME = rf"[\w.%-]*{_SECRET}[\w.%-]*"
_EQUALS = r"(?:=|%3d)"
# In an address: up to the next parameter, whatever stands in between, since nobody encodes a password by hand.
_PARAMETER = re.compile(rf"(?is)({_NAME}{_EQUALS})(?:(?!&[\w.%-]+=).)*")
_SCHEME = r"[a-z][a-z0-9+.-]*(?::/+|//)"  # also where the colon was forgotten
_ADDRESS = re.compile(rf"(?is)\s*({_SCHEME})(.*)")
_ENCODED_ADDRESS = re.compile(r"(?is)((?:%3a)(?:%2f)+[^&]*?)(?:%3a|:)[^&]*(%40|@)")
# In a sentence: to the last @, since a password may hold spaces; without the quote and the mark that may follow it.
_ADDRESS_IN_TEXT = re.compile(rf"""(?i)\b{_SCHEME}(?:[^\n]*@)?\S*?(?=['")\]]?[.,:;!?]?(?:\s|\Z))""")
# In a GStreamer pipeline: NAME=VALUE, where VALUE may have a type in front, quotes and backslashes.
_VALUE = r"""(?:\(\w+\)\s*)?(?:"(?:[^"\\]|\\.)*(?:"|\Z)|'(?:[^'\\]|\\.)*(?:'|\Z)|\\.|[^\s"'])+"""
_PROPERTY = re.compile(rf"(?s)([\w.-]+)(\s*=\s*)({_VALUE})")
_ANY = re.compile(rf"{_PROPERTY.pattern}|(?i:\b{_SCHEME}(?:[^\n]*@)?\S*)|[^\s:@/('\"]*:\S*@")
_LOGIN = re.compile(r"(?s)([\w.%+-]*):.*@(.*)")
_COLON = re.compile("(?i):|%3a")
_HOST_AND_PORT = re.compile(r"(?:\d+\.\d+\.\d+\.\d+|\[[^\]]*\]):\d{1,5}/")  # which are no user and password
_SECRET_NAME = re.compile(rf"(?i){_SECRET}")
_SECRET_INSIDE = re.compile(rf"(?i){_NAME}\s*[=:]")


def one_line(text: object) -> str:
    """`text` as it may stand in a line of output: what would move the cursor, or start a new line, is escaped.

    Letters of all scripts stay as they are, so that names can still be read and copied.
    """
    return _UNSAFE.sub(_escaped, str(text))


def printed(text: str) -> str:
    """`text` for a document that holds nothing but what Python prints, as a model's does: all else is escaped.

    Beside what `one_line` escapes, that is spaces other than the usual one, as in names of screenshots, and marks that
    nobody sees.
    """
    return re.sub(".", lambda found: found[0] if found[0].isprintable() else _escaped(found), text, flags=re.DOTALL)


def quoted(name: object) -> str:
    """A file's name as it may be typed in a shell, for a command that a message advises."""
    return shlex.quote(str(name))


def own_lines(text: str) -> str:
    """The same for a text of several lines, such as a table; names in it were escaped when it was written."""
    return _UNSAFE_BUT_NEWLINE.sub(_escaped, text)


def without_password(source: str) -> str:
    """An address, or a GStreamer pipeline, as people and logs may see it.

    Hides passwords before the host, and the values of parameters whose names speak of secrets. Rather too much than too
    little: a password may hold any character, also those that should be written as %40 or %2F.
    """
    address = _ADDRESS.fullmatch(source)
    if address is not None:
        return _of_address(address[1], address[2])
    login = _LOGIN.fullmatch(source)
    if login is not None:
        return f"{login[1]}:{HIDDEN}@{_parameters(login[2])}"
    return _ANY.sub(_of_part, source)


def without_passwords(text: str) -> str:
    """A sentence as people and logs may see it: addresses in it lose their passwords."""
    return _ADDRESS_IN_TEXT.sub(lambda found: without_password(found[0]), text)


def _of_address(scheme: str, rest: str) -> str:
    login, at, host = rest.rpartition("@")
    if _HOST_AND_PORT.match(rest):
        login, at, host = "", "", rest
    colon = _COLON.search(login)
    if at and colon:
        parameter = _PARAMETER.search(login)
        if parameter:  # it is part of the password, or holds the @ itself: nothing behind it is safe to show
            return scheme + login[: min(parameter.end(1), colon.end())] + HIDDEN
        return f"{scheme}{login[: colon.start()]}:{HIDDEN}@{_parameters(host)}"
    return scheme + _parameters(_ENCODED_ADDRESS.sub(rf"\1:{HIDDEN}\2", rest))


def _parameters(text: str) -> str:
    return _PARAMETER.sub(rf"\1{HIDDEN}", text)


def _of_part(found: re.Match[str]) -> str:
    name, equals, value = found.groups()
    if name is None:  # an address, or a user and password without one
        address = _ADDRESS.fullmatch(found[0])
        return f"{found[0].partition(':')[0]}:{HIDDEN}@" if address is None else _of_address(address[1], address[2])
    if _SECRET_NAME.search(name):
        return f"{name}{equals}{HIDDEN}"
    quote = value[0] if value[0] in "\"'" else ""
    inner = value.strip(quote) if quote else value
    if _ADDRESS.fullmatch(inner):
        return f"{name}{equals}{quote}{without_password(inner)}{quote}"
    return f"{name}{equals}{HIDDEN if _SECRET_INSIDE.search(value) else value}"


def _escaped(found: re.Match[str]) -> str:
    character = found[0]
    if "\udc80" <= character <= "\udcff":  # a byte that is no text, as Python keeps it
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")
