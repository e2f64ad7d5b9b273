"""Whether the station's server keeps its memory, files and threads under requests, with a history and a reader.

    python tools/soak_serve.py                                  # three minutes, on a tiny model that it makes
    python tools/soak_serve.py --model model.onnx --minutes 60  # a real one
    python tools/soak_serve.py --page                           # with the page open in a headless Chromium
    python tools/soak_serve.py -- --keep-photos 0               # with options of `serve`

`rstpm-edge serve --history` runs in a process of its own. Clients that keep their connections send images, damaged ones
among them, as fast as they are answered, and one more reads /v1/events; with --page a browser has the page open, too,
which must show what comes. It counts after --warm-up answers: the last 1,000 verdicts stay in memory on purpose, with
their photos, and must be there first. Memory is what of the process no file on disk holds (RssAnon), and what of it is
in use: what was asked for and not freed (soak_probe.py, with Python's own allocator turned off; with
PYTHONMALLOC=pymalloc in the environment it stays on, and memory is that of an installed server). Slopes are those of
least-squares lines after the first quarter, as in soak.py. What the allocator keeps free settles only after some ten
thousand images, so a leak is what grows in both: exits with 1 where both slopes, less twice their standard errors, are
above --limit, or where files or threads become more. A verdict that is kept has over a kilobyte, which makes 100 MB per
100,000. With --page, files and threads may be up to six more.
"""

from __future__ import annotations

import contextlib
import csv
import http.client
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import astuple, fields
from pathlib import Path

import click
from soak import ROOT, pictures, tiny_models
from soak_memory import Sample, Trend, trend
from soak_page import PageSample, open_page

SAMPLE = 1.0  # seconds between two samples
BROWSER = 6  # connections that a browser opens and closes as it needs them, and threads that answer it
REFUSED = (422,)  # what a damaged image is answered with
# A picture that is asked for a thousand verdicts later is gone; the page then shows none, but the console has it.
GONE = re.compile(r"/v1/inspections/\d+/\w+\.(jpg|png) - .* status of 404")


class Clients:
    """Threads that send images, and one that reads events."""

    def __init__(self, port: int, images: list[bytes]) -> None:
        self.answered = self.read = 0
        self.fault: BaseException | None = None
        self._port, self._images = port, images
        self._lock = threading.Lock()
        self._ended = False
        self._threads = [threading.Thread(target=self._guarded, args=(self._listen,), daemon=True)]

    def start(self, number: int) -> None:
        self._threads += [threading.Thread(target=self._guarded, args=(self._send,)) for _ in range(number)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._ended = True
        for thread in self._threads[1:]:  # the reader ends with the server
            thread.join()

    def wait_for(self, answers: int) -> None:
        """Return once so many images were answered. Raises as `check` does."""
        while self.answered < answers and self.fault is None:
            time.sleep(0.05)
        self.check()

    def check(self) -> None:
        """Raises click.ClickException where a request failed."""
        if self.fault is not None:
            raise click.ClickException(f"A request failed: {self.fault!r}")

    def join(self) -> None:
        """Wait for the reader, once the server has ended."""
        self._threads[0].join()

    def _guarded(self, work: object) -> None:
        try:
            work()  # type: ignore[operator]
        except BaseException as error:
            if not self._ended:
                self.fault = error

    def _send(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        number = 0
        with contextlib.closing(connection):
            while not self._ended and self.fault is None:
                connection.request("POST", "/v1/inspect", self._images[number % len(self._images)])
                answer = connection.getresponse()
                answer.read()
                if answer.status not in (200, *REFUSED):
                    raise RuntimeError(f"the server answered {answer.status}")
                number += 1
                with self._lock:
                    self.answered += 1

    def _listen(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=600)
        with contextlib.closing(connection):
            connection.request("GET", "/v1/events")
            with connection.getresponse() as events:
                for line in events:
                    self.read += line.startswith(b"event: verdict")


@contextlib.contextmanager
def serving(model: Path, options: Sequence[str], in_use: Path) -> Iterator[tuple[int, int]]:
    """The process, with these options of `serve`, and its port; it writes to `in_use` as soak_probe.py says."""
    serve = ["serve", "--port", "0", "--model", str(model), *options]
    command = [sys.executable, str(Path(__file__).with_name("soak_probe.py")), str(in_use), *serve]
    environment = {"PYTHONMALLOC": "malloc", **os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        port = next(
            (int(found[1]) for line in process.stderr if (found := re.search(r"Serving on .*:(\d+)$", line))), None
        )
        if port is None:
            raise click.ClickException("The server did not start.")
        yield process.pid, port
    finally:
        process.terminate()
        process.wait(600)  # beside other work, and after what the disk has to do
        for line in process.stderr or ():
            print(line, end="", file=sys.stderr)
        if process.stderr is not None:
            process.stderr.close()


def anonymous(process: int) -> float:
    """MB of a process that no file on disk holds."""
    found = re.search(r"^RssAnon:\s+(\d+) kB$", Path(f"/proc/{process}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024 / 1e6


def measure(process: int, in_use: Path, clients: Clients, seconds: float) -> list[Sample]:
    """Samples for so many seconds; `in_use` is the file of the probe."""
    samples: list[Sample] = []
    start, before = time.monotonic(), clients.answered
    while (passed := time.monotonic() - start) < seconds and clients.fault is None:
        of_process = Path(f"/proc/{process}")
        files, alive = len(os.listdir(of_process / "fd")), len(os.listdir(of_process / "task"))
        held = anonymous(process), float(in_use.read_text())
        samples.append(Sample("serve", round(passed, 1), clients.answered - before, 0, *held, files, alive))
        time.sleep(min(SAMPLE, seconds / 40))
    clients.check()
    return samples


def check_page(errors: Sequence[str], looks: Sequence[PageSample]) -> None:
    """Raises click.ClickException for a page that has not shown what came, or whose console has such errors.

    Pictures that were `GONE` are no error.
    """
    first, last = looks
    if last.pictures == first.pictures or last.verdicts == first.verdicts:
        raise click.ClickException(f"The page stood still: {first}, {last}.")
    for error in errors:
        if not GONE.search(error):
            raise click.ClickException(f"The page's console: {error}")


def doubling(samples: Sequence[Sample]) -> list[Sample]:
    """The first one after a thousand images, two thousand, four, …, and the last one."""
    found: list[Sample] = []
    for sample in samples:
        if sample.images >= 1000 * 2 ** len(found):
            found.append(sample)
    return [*found, samples[-1]]


def grows(found: Trend, limit: float, room: int = 0) -> bool:
    """Whether it leaks: memory, and what of it is in use, beyond `limit` and chance; files or threads beyond `room`."""
    memory = min(slope.value - 2 * slope.error for slope in (found.rss, found.heap))
    more = max(after - before for before, after in (found.files, found.threads))
    return memory > limit or more > room


def tell(
    samples: Sequence[Sample], found: Trend, read: int, looks: Sequence[PageSample], errors: Sequence[str]
) -> None:
    """Print the tables: of the server with so many events `read`, and of the page that was open, where one was."""
    first, last = found.first, found.last
    print(
        "| images | events read | MB after warm-up, at the end | MB per 100,000 images | in use, MB after warm-up, "
        "at the end | MB per 100,000 images | open files | threads |"
    )
    print("|---|---|---|---|---|---|---|---|")
    print(
        f"| {last.images:,} | {read:,} | {first.rss:.1f}, {last.rss:.1f} | {found.rss.value:+.2f} ± "
        f"{found.rss.error:.2f} | {first.heap:.1f}, {last.heap:.1f} | {found.heap.value:+.2f} ± {found.heap.error:.2f} "
        f"| {found.files[0]} → {found.files[1]} | {found.threads[0]} → {found.threads[1]} |"
    )
    print()
    print("| images since the warm-up | MB | in use, MB |")
    print("|---|---|---|")
    for sample in doubling(samples):
        print(f"| {sample.images:,} | {sample.rss:.1f} | {sample.heap:.1f} |")
    if looks:
        before, after = looks
        print()
        gone = sum(bool(GONE.search(error)) for error in errors)
        print("| verdicts on the page | pictures shown | gone | MB of JavaScript after warm-up, at the end | nodes |")
        print("|---|---|---|---|---|")
        print(
            f"| {after.verdicts - before.verdicts:,} | {after.pictures - before.pictures:,} | {gone:,} | "
            f"{before.heap:.1f}, {after.heap:.1f} | {before.nodes:,} → {after.nodes:,} |"
        )
    sys.stdout.flush()


@click.command(help=__doc__.replace("\n\n", "\n\n\b\n"))
@click.option("--minutes", type=click.FloatRange(min=0.02), default=3.0, show_default=True)
@click.option("--clients", "number", type=click.IntRange(min=1), default=2, show_default=True)
@click.option("--model", type=click.Path(path_type=Path, exists=True), help="[default: a tiny one]")
@click.option("--warm-up", type=click.IntRange(min=1), default=2000, show_default=True, metavar="IMAGES")
@click.option("--history/--no-history", default=True, show_default=True)
@click.option("--page", is_flag=True, help="Have the station's page open (apt install chromium chromium-driver).")
@click.option(
    "--limit", type=float, default=1.0, show_default=True, metavar="MB", help="Growth per 100,000 images that passes."
)
@click.option("--samples", "csv_file", type=click.Path(path_type=Path), help="Write each sample to this CSV file.")
@click.argument("options", nargs=-1, type=click.UNPROCESSED, metavar="[-- OPTIONS OF SERVE]")
def main(
    minutes: float,
    number: int,
    model: Path | None,
    warm_up: int,
    history: bool,
    page: bool,
    limit: float,
    csv_file: Path | None,
    options: tuple[str, ...],
) -> None:
    looks: list[PageSample] = []
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        images = [image for image in pictures(folder) if isinstance(image, bytes)]
        model = model or tiny_models(folder)[0]
        kept = ("--history", str(folder / "history")) if history else ()
        in_use = folder / "in-use"
        with serving(model, [*kept, *options], in_use) as (process, port):
            opened = stack.enter_context(open_page(f"http://127.0.0.1:{port}")) if page else None
            clients = Clients(port, images)
            clients.start(number)
            try:
                clients.wait_for(warm_up)
                looks += [] if opened is None else [opened.look()]
                samples = measure(process, in_use, clients, 60 * minutes)
                looks += [] if opened is None else [opened.look()]
            finally:
                clients.stop()
            errors = [] if opened is None else opened.errors()
            stack.close()  # the browser, before the server goes away
        clients.join()
        if csv_file is not None:
            with open(csv_file, "w", newline="") as file:
                csv.writer(file).writerows([[field.name for field in fields(Sample)], *map(astuple, samples)])
        found = trend(samples)
        tell(samples, found, clients.read, looks, errors)  # before its folder goes, which takes minutes after an hour
    if looks:
        check_page(errors, looks)
    if grows(found, limit, BROWSER if page else 0):
        print("Grows.", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
