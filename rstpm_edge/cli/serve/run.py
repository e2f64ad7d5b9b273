"""What `rstpm-edge serve` does: opens what was asked for, serves, and says how it went.

Importing it raises ImportError without the packages of the extra [serve].
"""

import contextlib
import time

from rstpm_edge.cli.line.reactions import SOMETHING_UNWRITTEN
from rstpm_edge.cli.serve.audit_log import open_audit
from rstpm_edge.cli.serve.history import open_history
from rstpm_edge.cli.serve.opcua import serve_opcua
from rstpm_edge.cli.serve.options import ServeOptions, access_of
from rstpm_edge.cli.serve.station import open_station
from rstpm_edge.cli.serve.station_file import plan_station
from rstpm_edge.cli.serve.watched import open_watched
from rstpm_edge.cli.signals import Interrupts
from rstpm_edge.cli.systemd import Service
from rstpm_edge.cli.terminal import counted, say_error, say_note
from rstpm_edge.errors import OutputError
from rstpm_edge.station.allocator import share_freed_memory
from rstpm_edge.station.app import make_app
from rstpm_edge.station.routes.page import page_routers
from rstpm_edge.station.routes.parts import parts_router
from rstpm_edge.station.serve import Tls, listen, run_server
from rstpm_edge.unexpected import raise_from_threads

STUCK = 60.0  # seconds without a sign of life of a line, after which systemd hears no more of us


def run_serve(options: ServeOptions) -> int:
    """The exit code. Raises what the command line turns into one sentence."""
    share_freed_memory()
    try:
        return _serve(options)
    except OutputError as error:  # no wrong use: a service manager shall try again
        say_error(error)
        return SOMETHING_UNWRITTEN


def _serve(options: ServeOptions) -> int:
    access = access_of(options)
    plan = plan_station(options)
    with contextlib.ExitStack() as stack:
        listener = listen(options.host, options.port)  # before models are loaded: a port in use is told at once
        stack.callback(listener.close)
        interrupts = stack.enter_context(Interrupts())
        history = open_history(plan.options, lambda: station, stack)
        watched = open_watched(plan, stack)
        audit = open_audit(plan, access, stack)  # before models: one that is refused stands in it, too
        opened = open_station(plan, access, watched, audit, stack)
        station = opened.station
        serve_opcua(options, station, opened.parts, stack)
        if history is not None:
            station.feed.go_on_from(history.newest())
            station.feed.tap(history.add)
        if audit is not None:
            station.feed.tap(audit.add)
        routers = page_routers(station, history)
        if opened.parts is not None:
            routers.append(parts_router(station, opened.parts))
        app = make_app(station, hosts=options.allowed_host, routers=routers)
        tls = None
        if options.tls_certificate is not None and options.tls_key is not None:
            tls = Tls(options.tls_certificate, options.tls_key)
        service = Service()

        def ready() -> None:
            address, port, *_ = listener.getsockname()
            shown = f"[{address}]" if ":" in address else address
            say_note(f"Serving on {'http' if tls is None else 'https'}://{shown}:{port}")
            service.ready()

        def tick() -> bool:
            raise_from_threads()
            now = time.monotonic()
            if all(now - line.state.beat < STUCK or line.state.condition == "ended" for line in station.lines):
                service.alive()
            if interrupts.received is None:
                return False
            if watched is not None:
                watched.reactions.stop()
            return True

        station.start()
        try:
            run_server(station, app, listener, tls=tls, ready=ready, tick=tick)
        finally:
            service.stopping()
        if audit is not None and interrupts.received:
            audit.log.ending = f"signal {interrupts.received}"
    for note in () if watched is None else watched.notes():
        say_note(f"{note}.")
    if audit is not None and audit.log.lost:
        say_note(f"{counted(audit.log.lost, 'audit log entry')} not written.")
    unwritten = (
        (watched is not None and watched.unwritten)
        or (history is not None and history.lost)
        or (audit is not None and audit.log.lost)
    )
    return SOMETHING_UNWRITTEN if unwritten else 0
