"""`rstpm-edge bench`: how fast a model is on this machine, and where the time goes."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rstpm_edge.cli.common import images_of
from rstpm_edge.cli.options import model_option, public_key_option, session_options
from rstpm_edge.cli.parameter_types import FILE, FRAME_SIZE
from rstpm_edge.cli.terminal import say_json, say_table
from rstpm_edge.errors import UsageError

if TYPE_CHECKING:
    from rstpm_edge.engine.providers import Provider
    from rstpm_edge.latency import LatencyReport, Timing


@click.command()
@click.argument("images", nargs=-1, metavar="[IMAGE]...", type=FILE)
@model_option
@public_key_option
@click.option("--batch", type=click.IntRange(1, 256), default=1, show_default=True, metavar="N", help="Images a call.")
@click.option("--runs", type=click.IntRange(min=1), default=100, show_default=True, metavar="N", help="Timed calls.")
@click.option(
    "--frame",
    "frame_size",
    type=FRAME_SIZE,
    metavar="WxH",
    help="Size of a frame in memory, without IMAGE.  [default: input's]",
)
@click.option("--kernel", metavar="NAME", help="Kernel: generic, avx2, …; `rstpm-edge info` lists them.")
@click.option(
    "--threshold",
    type=float,
    metavar="SCORE",
    help="Take this one, not the calibrated threshold: below all scores, regions are extracted every time.",
)
@session_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def bench(
    images: tuple[Path, ...],
    model: Path,
    public_key: Path | None,
    batch: int,
    runs: int,
    frame_size: tuple[int, int] | None,
    kernel: str | None,
    threshold: float | None,
    providers: "list[Provider] | None",
    engine_cache: Path | None,
    threads: int | None,
    polite: bool,
    as_json: bool,
) -> None:
    """Time a model on this machine: decoding, preprocessing, network, postprocessing.

    IMAGEs are files, or folders with everything below them, and are read anew for each call. Without any, the
    detector is given a frame in memory, as a camera does, and nothing is decoded. Calls before the timed ones
    warm up and do not count.

    \b
    Examples:
      rstpm-edge bench
      rstpm-edge bench photos/ --threads 4
      rstpm-edge bench --frame 5472x3648 --json
    """
    from rstpm_edge.latency import measure_latency

    if images and frame_size is not None:
        raise UsageError("Give either IMAGEs or --frame, which is that of a frame in memory.")
    result = measure_latency(
        model,
        images_of(images),
        frame_size=frame_size,
        runs=runs,
        batch=batch,
        providers=providers,
        threads=threads,
        polite=polite,
        engine_cache=engine_cache,
        kernel=kernel,
        threshold=threshold,
        public_key=public_key,
    )
    if as_json:
        say_json(asdict(result))
    else:
        say_table(_table(result))


def _table(result: "LatencyReport") -> str:
    from rstpm_edge.engine.providers import short

    environment = result.environment
    height, width = result.input_size
    if result.frame_size is None:
        source = f"{result.files} {'file' if result.files == 1 else 'files'}"
    else:
        source = f"a frame of {result.frame_size[1]} x {result.frame_size[0]} in memory"
    of_what = "image" if result.batch == 1 else f"batch of {result.batch}"

    def row(name: str, timing: "Timing | None") -> str:
        if timing is None:
            return f"{name:13}{'–':>10}"
        return f"{name:13}" + "".join(f"{ms:10.3f}" for ms in (timing.median, timing.p95, timing.p99, timing.min))

    overhead = result.overhead_ms.median
    threads = f"{environment.threads} {'polite ' if environment.polite else ''}threads"
    network = ", ".join(short(name) for name in environment.providers)
    if environment.precision is not None:
        network += f" in {environment.precision}"
    version = f"openvino {environment.openvino}" if environment.openvino else f"onnxruntime {environment.onnxruntime}"
    return "\n".join(
        [
            f"{result.model}: {result.preset}, {result.precision}, {width} x {height}; {source}; {result.runs} calls",
            "",
            f"{'ms per ' + of_what:15}{'median':>8}{'p95':>10}{'p99':>10}{'min':>10}",
            row("decode", result.decode_ms),
            row("preprocess", result.preprocess_ms),
            row("network", result.network_ms),
            row("postprocess", result.postprocess_ms),
            row("total", result.total_ms),
            "",
            f"{result.images_per_second:.1f} images per second; peak memory {result.peak_memory_mb:.0f} MB",
            f"around the network: {overhead:.3f} ms, {overhead / result.network_ms.median:.1%} of it; "
            f"regions in {result.anomalous:.0%} of the images",
            f"{environment.cpu}, {environment.cores} cores, load {environment.load:.1f}; {environment.os}",
            f"{network}, {threads}, kernel {environment.kernel}; {version}, "
            f"opencv {environment.opencv}, numpy {environment.numpy}, python {environment.python}",
            result.advice,
        ]
    )
