"""What a start costs: importing, a verdict from the shell, memory, and disk.

    python tools/bench_start.py --model model.onnx
    python tools/bench_start.py --model model.onnx --image part.png --rounds 20 --json

Every figure is the median over fresh processes; each round measures all of them, one after the other. The files that
a process loads are in the page cache from the second round on, as on a machine that starts it every now and then.

python_ms           Python alone, from starting the process to its end
import_ms           `import rstpm_edge`, inside the process
import_detector_ms  `from rstpm_edge import Detector`, with NumPy, OpenCV and ONNX Runtime, inside the process
infer_ms            `rstpm-edge infer IMAGE`, from starting the process to its end
peak_memory_mb      the most that `infer` held, the greatest of all rounds (10^6 bytes)
install_mb          the package and everything it needs at run time, on disk
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any

import click

PACKAGE = "rstpm-edge"
IMPORT = "import time; start = time.perf_counter(); {}; print(1000 * (time.perf_counter() - start))"
DRAW = "import cv2, numpy, sys; cv2.imwrite(sys.argv[1], numpy.full((480, 640, 3), 127, numpy.uint8))"
VERDICTS = (0, 1)  # exit codes of `infer` for normal and anomalous


def milliseconds_inside(code: str) -> float:
    """How long `code` takes in a fresh interpreter, without starting that."""
    return float(subprocess.check_output([sys.executable, "-c", IMPORT.format(code)]))


def run(command: list[str], expected: Iterable[int] = (0,)) -> tuple[float, float]:
    """Milliseconds from start to end of a process, and its peak memory in MB."""
    start = time.perf_counter()
    try:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    except OSError as error:
        raise click.ClickException(f"Cannot start {command[0]}: {error.strerror}; is rstpm-edge installed?") from error
    assert process.stdout is not None
    output = process.stdout.read()
    # A child's maximum starts at what this process holds, which is less: nothing large is imported here.
    _, status, usage = os.wait4(process.pid, 0)
    milliseconds = 1000 * (time.perf_counter() - start)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stdout.close()
    if process.returncode not in expected:
        raise click.ClickException(f"{' '.join(command)} failed: {output.strip()}")
    return milliseconds, usage.ru_maxrss * 1024 / 1e6


def installed_mb() -> dict[str, float]:
    """Size on disk of the package and of each package that it needs at run time, compiled Python left out."""
    from packaging.requirements import Requirement  # one of those packages

    sizes: dict[str, float] = {}
    waiting = [PACKAGE]
    while waiting:
        distribution = importlib.metadata.distribution(waiting.pop())
        name = distribution.name.lower()
        if name in sizes:
            continue
        files = [Path(str(file.locate())) for file in distribution.files or ()]
        if name == PACKAGE:
            files += own_files()
        unique = {file.resolve() for file in files if file.suffix != ".pyc" and file.is_file()}
        sizes[name] = sum(file.stat().st_size for file in unique) / 1e6
        for text in distribution.requires or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(requirement.name)
    return dict(sorted(sizes.items(), key=lambda item: -item[1]))


def own_files() -> list[Path]:
    """The package's files, also where it is installed as editable."""
    found: list[Path] = []
    for module in ("rstpm_edge", "rstpm_edge.training"):
        spec = importlib.util.find_spec(module)
        for folder in (spec and spec.submodule_search_locations) or ():
            found += Path(folder).rglob("*")
    return found


def benchmark(model: Path, image: Path, rounds: int) -> dict[str, Any]:
    infer = [str(Path(sys.executable).with_name("rstpm-edge")), "infer", str(image), "--model", str(model)]
    run(infer, VERDICTS)  # brings the files into the page cache
    times: dict[str, list[float]] = {"python_ms": [], "import_ms": [], "import_detector_ms": [], "infer_ms": []}
    memory = []
    load = os.getloadavg()[0]
    for _ in range(rounds):
        times["python_ms"].append(run([sys.executable, "-c", "pass"])[0])
        times["import_ms"].append(milliseconds_inside("import rstpm_edge"))
        times["import_detector_ms"].append(milliseconds_inside("from rstpm_edge import Detector"))
        milliseconds, megabytes = run(infer, VERDICTS)
        times["infer_ms"].append(milliseconds)
        memory.append(megabytes)
    packages = installed_mb()
    return {
        **{name: median(values) for name, values in times.items()},
        "min_ms": {name.removesuffix("_ms"): min(values) for name, values in times.items()},
        "peak_memory_mb": max(memory),
        "install_mb": sum(packages.values()),
        "packages_mb": packages,
        "model_mb": model.stat().st_size / 1e6,
        "rounds": rounds,
        "load": load,
    }


def table(result: dict[str, Any]) -> str:
    lines = [f"{'ms':18}{'median':>9}{'min':>9}"]
    lines += [f"{name:18}{result[f'{name}_ms']:9.1f}{least:9.1f}" for name, least in result["min_ms"].items()]
    packages = ", ".join(f"{name} {size:.1f}" for name, size in result["packages_mb"].items())
    lines += [
        "",
        f"peak memory of infer: {result['peak_memory_mb']:.0f} MB, with a model of {result['model_mb']:.1f} MB",
        f"on disk: {result['install_mb']:.0f} MB ({packages})",
        f"{result['rounds']} rounds; load {result['load']:.1f} before",
    ]
    return "\n".join(lines)


@click.command(help=__doc__.replace("\n\n", "\n\n\b\n"))
@click.option("--model", type=click.Path(path_type=Path, exists=True), default="model.onnx", show_default=True)
@click.option("--image", type=click.Path(path_type=Path, exists=True), help="[default: a grey 640 x 480 PNG]")
@click.option("--rounds", type=click.IntRange(min=1), default=10, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object and nothing else.")
def main(model: Path, image: Path | None, rounds: int, as_json: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        if image is None:
            image = Path(folder) / "image.png"
            run([sys.executable, "-c", DRAW, str(image)])
        result = benchmark(model, image, rounds)
    print(json.dumps(result) if as_json else table(result))


if __name__ == "__main__":
    main()
