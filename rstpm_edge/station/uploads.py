"""What a request brings, within limits, and in memory: nothing is written to disk."""

from dataclasses import dataclass, field
from typing import Any

from fastapi import Request
from python_multipart.multipart import MultipartParser, parse_options_header

from rstpm_edge.station.answers import Refusal
from rstpm_edge.station.arrival import CLOSE, allow_body
from rstpm_edge.station.settings import Limits
from rstpm_edge.station.station import Station

LONGEST_NAME = 200  # characters of what a client calls an image


@dataclass(frozen=True)
class Upload:
    """An image file, and what the client calls it; None where it does not."""

    content: bytes
    name: str | None


async def read_body(request: Request, limits: Limits) -> bytes:
    """All of it, up to `Limits.body`. Raises Refusal for one that is compressed, and what `Arrival` does."""
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Refusal(415, "Send the body as it is, without Content-Encoding.", CLOSE)
    allow_body(request, limits.body)
    return await request.body()


async def read_images(request: Request, station: Station) -> list[Upload]:
    """The image files of a request: the parts of multipart/form-data that have a file's name, or all of the body.

    Raises Refusal where there is none, and for a form of more than twice as many parts as a batch has images.
    """
    body = await read_body(request, station.limits)
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind == b"multipart/form-data":
        # In a thread that judges: the parser is written in Python, and there are forms that take it a minute.
        boundary, most = options.get(b"boundary", b""), 2 * station.limits.batch
        found = await station.gate.run(_files_in, body, boundary, most)
    else:
        found = [Upload(body, None)] if body else []
    if not found:
        raise Refusal(400, "There is no image: send the file as the body, or as the part of a form.")
    return found


@dataclass
class _Part:
    disposition: str = ""  # the only header that says anything here
    content: bytearray = field(default_factory=bytearray)

    @property
    def filename(self) -> str | None:
        _, options = parse_options_header(self.disposition)
        name = options.get(b"filename")
        return None if name is None else name.decode("utf-8", "replace")[:LONGEST_NAME]


def _files_in(form: bytes, boundary: bytes, most: int) -> list[Upload]:
    """The parts that are files. Raises Refusal for a body that is no form, ends too early, or has too many parts."""
    parts: list[_Part] = []
    name, value = bytearray(), bytearray()
    ended = False

    def begin() -> None:
        if len(parts) == most:
            raise Refusal(400, f"The form has more than {most} parts.")
        parts.append(_Part())

    def end_header() -> None:
        if name.lower() == b"content-disposition":
            parts[-1].disposition = value.decode("latin-1")
        name.clear()
        value.clear()

    def end() -> None:
        nonlocal ended
        ended = True

    callbacks: Any = {
        "on_part_begin": begin,
        "on_part_data": lambda data, start, stop: parts[-1].content.extend(data[start:stop]),
        "on_header_field": lambda data, start, stop: name.extend(data[start:stop]),
        "on_header_value": lambda data, start, stop: value.extend(data[start:stop]),
        "on_header_end": end_header,
        "on_end": end,
    }
    try:
        parser = MultipartParser(boundary, callbacks)
        parser.write(form)
        parser.finalize()
    except Refusal:
        raise
    except Exception as error:  # the parser has several kinds of them
        raise Refusal(400, f"The form cannot be read: {str(error).rstrip('.')}.") from None
    if not ended:
        raise Refusal(400, "The form ends too early.")
    return [Upload(bytes(part.content), part.filename) for part in parts if part.filename is not None]
