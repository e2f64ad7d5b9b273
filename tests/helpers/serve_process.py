"""`rstpm-edge serve` in a process of its own."""

from __future__ import annotations

import contextlib
import json
import re
import ssl
import urllib.request
from collections.abc import Iterator
from typing import Any

from workplace import running


@contextlib.contextmanager
def served(*arguments: object, **keywords: Any) -> Iterator[tuple[Any, str]]:
    """The process and its address, once it answers."""
    with running("serve", "--port", 0, *arguments, **keywords) as process:
        for line in process.stderr:
            if found := re.match(r"Serving on (https?://\S+)", line):
                break
            assert not line.startswith("Error")
        assert found
        yield process, found[1]


def ask(url: str, body: bytes | None = None, token: str = "", context: ssl.SSLContext | None = None) -> Any:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=30, context=context) as answer:
        return json.loads(answer.read())
