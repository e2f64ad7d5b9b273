"""What the server costs: requests over loopback beside `Detector` in a loop, with as many threads.

    apt install wrk
    python tools/bench_serve.py --model model.onnx
    python tools/bench_serve.py --model model.onnx --image part.jpg --workers 2 --rounds 9 --json

Each round measures both, one after the other, for some seconds each, in processes that stay: threads that call one
`Detector` with the content of an image file, and `rstpm-edge serve` under wrk, which sends that file to /v1/inspect
over connections that it keeps. Ratios are those of a round; figures are medians over the rounds.

loop_rate      images a second in the loop
served_rate    answers a second; any that is not 200 ends the measurement
ratio          served_rate / loop_rate, the median and the lowest
p50_ms, p99_ms from sending a request to its answer, the median over rounds; with more connections than workers, the
               time in the queue is part of it
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import IO

import click

WARM_UP = 2.0  # seconds
UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}
SCRIPT = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/octet-stream"
local file = io.open("{image}", "rb")
wrk.body = file:read("*a")
file:close()
"""


def draw(path: Path) -> None:
    """A part of 640×480 pixels with some texture, as a JPEG."""
    import cv2
    import numpy as np

    rng = np.random.default_rng(0)
    image = cv2.GaussianBlur(rng.integers(90, 160, (480, 640, 3), np.uint8), (0, 0), 2)
    cv2.imwrite(str(path), image)


def call_in_a_loop(model: str, image: str, workers: int) -> None:
    """The process of the loop: for each number of seconds that it reads, prints how many images a second it judged."""
    from rstpm_edge import Detector

    detector, content = Detector(model, notify=lambda sentence: None), Path(image).read_bytes()
    print("ready", flush=True)
    for line in sys.stdin:
        seconds = float(line)
        counts = [0] * workers
        start = time.perf_counter()

        def work(index: int, counts: list[int] = counts, end: float = start + seconds) -> None:
            while time.perf_counter() < end:
                detector(content)
                counts[index] += 1

        threads = [threading.Thread(target=work, args=(index,)) for index in range(workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print(sum(counts) / (time.perf_counter() - start), flush=True)


@contextlib.contextmanager
def process(
    command: list[str], *, stdin: int | None = None, stdout: int | None = None, stderr: int | None = None
) -> Iterator[subprocess.Popen[str]]:
    """It ends with the block."""
    with subprocess.Popen(command, text=True, stdin=stdin, stdout=stdout, stderr=stderr) as running:
        try:
            yield running
        finally:
            running.terminate()
            running.wait()


@contextlib.contextmanager
def loop(model: Path, image: Path, workers: int) -> Iterator[subprocess.Popen[str]]:
    code = f"import bench_serve; bench_serve.call_in_a_loop({str(model)!r}, {str(image)!r}, {workers})"
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); {code}"]
    with process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        if _stream(running.stdout).readline() != "ready\n":
            raise click.ClickException("The loop did not start; what it said stands above.")
        yield running


@contextlib.contextmanager
def server(model: Path, workers: int) -> Iterator[str]:
    """The server's address."""
    command = [sys.executable, "-m", "rstpm_edge", "serve", "--port", "0", "--workers", str(workers)]
    with process([*command, "--model", str(model)], stderr=subprocess.PIPE) as running:
        errors = _stream(running.stderr)
        said = ""
        for line in errors:
            said = line
            if line.startswith("Serving on "):
                # Whatever else it says must not fill the pipe.
                threading.Thread(target=errors.read, daemon=True).start()
                yield line.split()[-1]
                return
        raise click.ClickException(f"The server did not start: {said.strip()}")


def _stream(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


def loop_rate(running: subprocess.Popen[str], seconds: float) -> float:
    print(seconds, file=_stream(running.stdin), flush=True)
    return float(_stream(running.stdout).readline())


def load(address: str, script: Path, connections: int, seconds: float) -> tuple[float, float, float]:
    """Answers a second, and the median and 99th percentile of milliseconds, as wrk sees them."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{max(round(seconds), 1)}s", "--latency", "--timeout", "30s"]
    try:
        output = subprocess.check_output([*command, "-s", str(script), f"{address}/v1/inspect"], text=True)
    except OSError as error:
        raise click.ClickException(f"Cannot start wrk: {error.strerror}; apt install wrk.") from error
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    times = {share: float(value) * UNITS[unit] for share, value, unit in re.findall(r"(\d+)%\s+([\d.]+)(\w+)", output)}
    if "Non-2xx" in output or "Socket errors" in output or rate is None:
        raise click.ClickException(f"Not all was answered:\n{output}")
    return float(rate[1]), times["50"], times["99"]


@click.command(help=__doc__.replace("\n\n", "\n\n\b\n") if __doc__ else None)
@click.option("--model", type=click.Path(path_type=Path, exists=True), default="model.onnx", show_default=True)
@click.option("--image", type=click.Path(path_type=Path, exists=True), help="[default: one that is drawn]")
@click.option("--workers", type=click.IntRange(1), multiple=True, help="May be repeated.  [default: 1 and 2]")
@click.option("--connections", type=click.IntRange(1), help="[default: two for each worker]")
@click.option("--seconds", type=float, default=5.0, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(
    model: Path,
    image: Path | None,
    workers: tuple[int, ...],
    connections: int | None,
    seconds: float,
    rounds: int,
    as_json: bool,
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        if image is None:
            image = Path(folder, "part.jpg")
            draw(image)
        script = Path(folder, "post.lua")
        script.write_text(SCRIPT.format(image=image.resolve()))
        rows = [
            measure(model, image, script, number, connections or 2 * number, seconds, rounds)
            for number in workers or (1, 2)
        ]
    if as_json:
        click.echo(json.dumps(rows))
        return
    for row in rows:
        click.echo("  ".join(f"{name} {value:.4g}" for name, value in row.items()))


def measure(
    model: Path, image: Path, script: Path, workers: int, connections: int, seconds: float, rounds: int
) -> dict[str, float]:
    """All rounds with so many workers, by the names that the top of this file explains."""
    measured: list[tuple[float, float, float, float]] = []
    with loop(model, image, workers) as running, server(model, workers) as address:
        loop_rate(running, WARM_UP)
        load(address, script, connections, WARM_UP)
        for _ in range(rounds):
            in_loop = loop_rate(running, seconds)
            measured.append((in_loop, *load(address, script, connections, seconds)))
    ratios = [served / in_loop for in_loop, served, _, _ in measured]
    return {
        "workers": workers,
        "connections": connections,
        "loop_rate": median(row[0] for row in measured),
        "served_rate": median(row[1] for row in measured),
        "ratio": median(ratios),
        "lowest_ratio": min(ratios),
        "p50_ms": median(row[2] for row in measured),
        "p99_ms": median(row[3] for row in measured),
    }


if __name__ == "__main__":
    main()
