"""`rstpm-edge serve --opcua`."""

import contextlib

from rstpm_edge.cli.serve.options import ServeOptions
from rstpm_edge.cli.terminal import say_note
from rstpm_edge.errors import UsageError
from rstpm_edge.station.part_feed import PartFeed
from rstpm_edge.station.station import Station


def serve_opcua(options: ServeOptions, station: Station, parts: PartFeed | None, stack: contextlib.ExitStack) -> None:
    """Serve until the end of `stack`. Raises UsageError for an address that cannot be, and without the packages."""
    if options.opcua is None:
        return
    try:
        from rstpm_edge.station.opcua.security import parse_endpoint
        from rstpm_edge.station.opcua.server import OpcUa
    except ImportError as error:
        raise UsageError(
            f"--opcua needs the packages of its extra ({error.name or error} is missing): "
            "pip install '.[serve,opcua]' in the checkout, or pip install 'FILE.whl[serve,opcua]' with the wheel's "
            "name."
        ) from error
    endpoint = parse_endpoint(options.opcua, station.access, options.opcua_certificate, options.opcua_key)
    server = stack.enter_context(OpcUa(station, endpoint, parts))
    say_note(f"OPC UA on {server.url}")
