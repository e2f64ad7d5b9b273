"""Runtimes side by side: the network of a model, or of several, on one image, by each provider in turn.

    python tools/bench_runtimes.py --model model.onnx --image tile.png cpu openvino openvino:precision=bf16
    python tools/bench_runtimes.py --model model.onnx --model int8.onnx --image tile.png cpu openvino
    python tools/bench_runtimes.py --model model.onnx cpu tensorrt:precision=f16 --engine-cache engines --json

Each round times `--calls` calls of every provider, one provider after the other, so that whatever the machine does
meanwhile hits all of them; pauses and calls that are not timed stand between, since threads of one runtime spin on
for a while. Preprocessing and fusion are not in it: `rstpm-edge bench` has those.

load_ms        opening the file and compiling, once
median_ms      one call, over all rounds
min_ms         the machine when it is left alone
cpu_ms         processor time of a call, all threads together, the median: less sensitive to what else is running
to_first       the largest difference of any map to the first provider's
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from rstpm_edge.cli.parameter_types import PROVIDER
from rstpm_edge.engine.session import Session, open_session
from rstpm_edge.environment import read_environment
from rstpm_edge.errors import RstpmEdgeError
from rstpm_edge.image.decode import read_image
from rstpm_edge.image.preprocess import to_input
from rstpm_edge.native import kernels

PAUSE = 0.1  # seconds; ONNX Runtime's threads spin on for about 40 ms
WARM_UP_CALLS = 2


def measure(sessions: list[Session], images: list[NDArray[np.uint8]], rounds: int, calls: int) -> NDArray[np.float64]:
    """Milliseconds by the clock and of the processor, (sessions, rounds * calls, 2): each session on its own image."""
    times: list[list[tuple[float, float]]] = [[] for _ in sessions]
    for _ in range(rounds):
        for session, image, seen in zip(sessions, images, times, strict=True):
            time.sleep(PAUSE)
            for call in range(WARM_UP_CALLS + calls):
                clock, processor = time.perf_counter(), time.process_time()
                session.run(image)
                if call >= WARM_UP_CALLS:
                    seen.append((time.perf_counter() - clock, time.process_time() - processor))
    return 1000 * np.array(times)


@click.command()
@click.argument("providers", nargs=-1, required=True, metavar="PROVIDER...")
@click.option(
    "--model",
    "models",
    type=click.Path(path_type=Path),
    multiple=True,
    default=("model.onnx",),
    show_default=True,
    help="May be repeated: one model in several precisions, say.",
)
@click.option("--image", type=click.Path(path_type=Path), help="A photo; noise without it.")
@click.option("--threads", type=click.IntRange(min=1), default=2, show_default=True)
@click.option("--rounds", type=click.IntRange(min=1), default=20, show_default=True)
@click.option("--calls", type=click.IntRange(min=1), default=10, show_default=True, help="Timed calls a round.")
@click.option("--polite", is_flag=True, help="ONNX Runtime's threads sleep, not spin.")
@click.option("--engine-cache", type=click.Path(path_type=Path), help="For TensorRT and OpenVINO.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def main(
    providers: tuple[str, ...],
    models: tuple[Path, ...],
    image: Path | None,
    threads: int,
    rounds: int,
    calls: int,
    polite: bool,
    engine_cache: Path | None,
    as_json: bool,
) -> None:
    """Time the network of each model by each PROVIDER, as `rstpm-edge bench --provider` takes it."""
    if len(set(providers)) < len(providers) or len(set(models)) < len(models):
        raise click.UsageError("Name each provider and each model once: they take turns anyway.")
    pairs = {
        provider if len(models) == 1 else f"{model} {provider}": (model, provider)
        for model in models
        for provider in providers
    }
    sessions, load_ms = [], []
    try:
        for model, provider in pairs.values():
            cache = None if provider.startswith(("cpu", "cuda")) else engine_cache
            start = time.perf_counter()
            chosen = PROVIDER.convert(provider, None, None)
            session = open_session(model, providers=[chosen], threads=threads, polite=polite, engine_cache=cache)
            load_ms.append(1000 * (time.perf_counter() - start))
            sessions.append(session)
        bundle = sessions[0].bundle
        size = (bundle.height, bundle.width)
        if any((session.bundle.height, session.bundle.width) != size for session in sessions):
            raise click.UsageError("The models take images of different sizes.")
        noise = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
        pixels = to_input(read_image(image) if image else noise, size, bundle.resize)[0][None]
        maps = [dict(zip(one.bundle.output_names, one.run(pixels).flat(), strict=True)) for one in sessions]
        times = measure(sessions, [pixels] * len(sessions), rounds, calls)
    except RstpmEdgeError as error:
        raise click.ClickException(str(error)) from error
    figures = {}
    for i, name in enumerate(pairs):
        clock, processor = times[i].T
        # Some models give score maps, and a head's: those that both have are compared.
        figures[name] = {
            "precision": sessions[i].precision,
            "load_ms": load_ms[i],
            "median_ms": float(np.median(clock)),
            "min_ms": float(clock.min()),
            "cpu_ms": float(np.median(processor)),
            "to_first": max(
                float(np.abs(maps[i][output] - maps[0][output]).max()) for output in maps[0] if output in maps[i]
            ),
        }
    first = sessions[0]
    machine = read_environment(
        first.providers, threads, precision=first.precision, kernel=kernels().active, polite=polite
    )
    if as_json:
        click.echo(json.dumps({"cpu": machine.cpu, "load": machine.load, "threads": threads, "runtimes": figures}))
        return
    click.echo(f"{machine.cpu}, {threads} threads, load {machine.load:.1f}; {rounds} rounds of {calls} calls")
    width = max(28, *(len(name) for name in figures))
    click.echo(f"{'':{width}}{'load_ms':>10}{'median_ms':>10}{'min_ms':>10}{'cpu_ms':>10}{'to_first':>10}")
    for name, row in figures.items():
        numbers = "".join(f"{row[key]:10.2f}" for key in ("load_ms", "median_ms", "min_ms", "cpu_ms"))
        click.echo(f"{name:{width}}{numbers}{row['to_first']:10.1e}")


if __name__ == "__main__":
    main()
