"""SIGKILL of one of two processes that write to a registry."""

from __future__ import annotations

import os
import random
import runpy
import signal
import time
from pathlib import Path
from typing import Any

from fault_commands import HELPERS, Outcome, leftovers

from rstpm_edge.errors import RstpmEdgeError, UsageError
from rstpm_edge.outputs.chain_check import check_chain
from rstpm_edge.registry.registry import Registry, make_registry, open_registry

PRODUCT, MODELS = "bracket", 12
_stopped: list[int] = []  # in a writer: the signal that came


def kill_registry(times: int, random: random.Random, folder: Path) -> Outcome:
    outcome = Outcome(
        "kill -9 of one of two processes that add, promote and roll back in a registry",
        "the log hangs together, and holds all that was acknowledged; every version's files are whole; nobody waits "
        "for the dead",
    )
    folder = folder / "registry"
    folder.mkdir()
    models = _models(folder)
    acknowledged: set[str] = set()
    while outcome.times < times:
        if outcome.times % 20 == 0:  # from nothing, as often as not
            home = folder / f"registry-{outcome.times}"
            acknowledged.clear()
        pipes = [os.pipe(), os.pipe()]
        kept = signal.signal(signal.SIGTERM, _stop)  # before the fork: it may come at once
        writers = [_fork(home, models, random.random(), pipe) for pipe in pipes]
        signal.signal(signal.SIGTERM, kept)
        for read, _ in pipes:  # a signal that comes while Python forks is lost
            os.read(read, 1)
        time.sleep(random.uniform(0, 0.4))
        os.kill(writers[0], signal.SIGKILL)
        os.waitpid(writers[0], 0)
        os.kill(writers[1], signal.SIGTERM)  # ends after what it does
        ended = _ends(writers[1])
        outcome.times += 1
        outcome.expect(ended == 0, f"the other writer ended with {ended}")
        for read, write in pipes:
            os.close(write)
            acknowledged |= _told(read)
        check_registry(home, acknowledged, outcome)
    return outcome


def _models(folder: Path) -> list[Path]:
    """Different small models of one product."""
    bundles: Any = runpy.run_path(str(HELPERS / "bundles.py"))
    return [
        bundles["write_model"](
            folder / f"{i}.onnx", bundles["make_bundle"](fusion=bundles["Fusion"](weights=(1.0 + i,) * 6))
        )
        for i in range(MODELS)
    ]


def _stop(number: int, frame: object) -> None:
    _stopped.append(number)


def _fork(home: Path, models: list[Path], seed: float, pipe: tuple[int, int]) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        _write(home, models, random.Random(seed), pipe[1])
        code = 0
    except RstpmEdgeError as error:
        print(error, flush=True)
    finally:
        os._exit(code)


def _write(home: Path, models: list[Path], random: random.Random, pipe: int) -> None:
    """Add, promote and roll back until SIGTERM; each hash that the log has had goes into the pipe."""
    os.write(pipe, b"!")
    while not _stopped:
        registry = make_registry(home)
        try:
            if random.random() < 0.4 or not registry.products():
                registry.add(PRODUCT, random.choice(models))
            elif random.random() < 0.3:
                registry.roll_back(PRODUCT)
            else:
                number = random.randrange(len(registry.product(PRODUCT).versions)) + 1
                registry.promote(PRODUCT, number, random.choice(("live", "live", "shadow")))
        except UsageError as error:  # what the other one has made senseless: nothing was live before, and the like
            if "holds something else" in str(error):
                raise
        if registry.products():
            os.write(pipe, registry.product(PRODUCT).hash.encode())


def _ends(child: int) -> int | None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def _told(pipe: int) -> set[str]:
    with open(pipe, "rb") as file:
        content = file.read().decode()
    return {content[i : i + 64] for i in range(0, len(content) - len(content) % 64, 64)}


def check_registry(home: Path, acknowledged: set[str], outcome: Outcome) -> None:
    try:
        registry = open_registry(home)
    except UsageError:
        outcome.expect(not acknowledged, "the registry is gone")
        return
    except RstpmEdgeError as error:
        outcome.expect(False, str(error))
        return
    path = registry.log_file(PRODUCT)
    if not registry.products():
        outcome.expect(not acknowledged, "the log is gone")
        return
    entries: set[str] = set()
    checked = check_chain(path, each=lambda link: entries.add(link.hash))
    outcome.expect(not checked.faults, "; ".join(checked.faults[:3]))
    missing = acknowledged - entries
    outcome.expect(not missing, f"{len(missing)} entries that were acknowledged are missing")
    try:
        _check_versions(registry)
    except RstpmEdgeError as error:
        outcome.expect(False, str(error))
    outcome.expect(len(leftovers(home)) <= 2 * outcome.times, f"left over: {leftovers(home)[:5]}")


def _check_versions(registry: Registry) -> None:
    for version in registry.product(PRODUCT).versions:
        registry.check_files(version.model)
