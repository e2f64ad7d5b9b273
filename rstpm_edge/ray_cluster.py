"""Ray, imported so that it reports to nobody, and a cluster of it: one that there is, or one of this machine.

The whole package takes Ray from here. Scheduling, retries and placement are its work.
"""

import contextlib
import importlib
import logging
import os
import shutil
import signal
import socket
import tempfile
import warnings
from collections.abc import Iterator
from typing import Any

from rstpm_edge.errors import FleetError, UsageError

# Ray looks when it is imported, and so do the processes that it starts.
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # its report to its makers
    "RAY_USAGE_STATS_PROMPT_ENABLED": "0",
    "RAY_prestart_worker_first_driver": "0",  # processes that nothing here would use
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # what it writes to standard error beside Python's log
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # else a warning, and CUDA's variable is emptied
}
# Ray's name for what makes a node that it starts keep to the loopback address, on Linux too.
_LOOPBACK_ALONE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
ANSWERS_WITHIN = 10.0  # seconds
ATTEMPTS = 3
_STORE = 256 << 20  # bytes of shared memory: what is passed around is rows and one model file, never photos


def import_ray(address: str | None = None) -> Any:
    """The module `ray`; without an address, so that a cluster which it starts keeps to this machine.

    Raises UsageError, in one sentence, where the extra is missing.
    """
    os.environ.update(_QUIET if address is not None else _QUIET | _LOOPBACK_ALONE)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Ray's own code does with Python and its packages
            ray = importlib.import_module("ray")
            importlib.import_module("ray.data")
    except ImportError as error:
        raise UsageError(
            f"This command needs Ray ({error.name or error} is missing): pip install '.[fleet]' in the checkout, or "
            "pip install 'FILE.whl[fleet]' with the wheel's name."
        ) from error
    _silence(logging.getLogger("ray.data"))
    return ray


@contextlib.contextmanager
def cluster(address: str | None, processors: int) -> Iterator[Any]:
    """The module `ray`, connected: to the cluster at `address`, or to one of so many processors on this machine.

    The latter listens on the loopback address alone, has no dashboard, keeps its files in a temporary folder, and ends
    with the block. One that this process is connected to already is taken, and left as it is.

    Raises UsageError where Ray is missing or nothing answers at `address`, FleetError where none can be started.
    """
    ray = import_ray(address)
    if address is not None:
        _check_address(address)
    if ray.is_initialized():
        yield ray
        return
    quiet = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    with contextlib.ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        try:
            if address is not None:
                with _no_stderr(), _same_signals():
                    ray.init(address=address, **quiet)
            else:
                folder = tempfile.mkdtemp(prefix="rstpm-")  # a short name: sockets lie in it
                stack.callback(shutil.rmtree, folder, ignore_errors=True)
                with _same_signals():
                    _start(
                        ray,
                        num_cpus=processors,
                        object_store_memory=_STORE,
                        include_dashboard=False,
                        _temp_dir=folder,
                        **quiet,
                    )
        except Exception as error:  # of many kinds: refused, timed out, another version, a bad address
            reason = " ".join(str(error).split()) or type(error).__name__
            if address is not None:
                raise UsageError(f"There is no Ray cluster to use at {address}: {reason}") from error
            raise FleetError(f"Ray cannot start on this machine: {reason}") from error
        stack.callback(ray.shutdown)
        yield ray


@contextlib.contextmanager
def _no_stderr() -> Iterator[None]:
    """Ray's core tells past Python's log that it was asked to be quiet."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


@contextlib.contextmanager
def _same_signals() -> Iterator[None]:
    """Ray handles SIGTERM in its own way, and dies of it with a stack trace; whoever starts it keeps what they had."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # not the main thread
            for number, handler in before.items():
                signal.signal(number, handler)


def _silence(logger: logging.Logger) -> None:
    """Ray Data tells of each of its steps on standard error; what matters of them is raised."""
    logger.handlers.clear()
    logger.addHandler(logging.NullHandler())
    logger.propagate = False


def _check_address(address: str) -> None:
    """Raises UsageError at once where nothing answers: Ray itself asks for minutes."""
    if address == "auto":
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        raise UsageError(f"`address` is host:port of a Ray cluster, or auto, not {address!r}.")
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWERS_WITHIN).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"There is no Ray cluster to use at {address}: {reason}.") from error


def _start(ray: Any, **options: Any) -> None:
    """Start a cluster. Ray waits for its own processes for 30 s, which a busy machine may need more than once of."""
    for attempt in range(ATTEMPTS):
        try:
            with _no_stderr():
                ray.init(**options)
            return
        except Exception:
            ray.shutdown()  # ends what has started
            if attempt == ATTEMPTS - 1:
                raise


def fetch(reference: Any) -> bytes:
    """What a reference to an object of Ray's stands for; in a worker, too."""
    content: bytes = importlib.import_module("ray").get(reference)
    return content
