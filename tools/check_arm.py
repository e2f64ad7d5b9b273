"""Runs the runtime on an emulated 64-bit Arm processor, and compares its verdicts with this machine's.

    make test-arm                                    # with a tiny model of rendered parts
    make test-arm MODEL=model.onnx DATA=photos       # with your own: an image takes seconds
    python tools/check_arm.py --no-tests --model model.onnx --images photos --most 10

1. The aarch64 wheel is built (as by tools/build_wheels.py) and installed with its dependencies by an emulated pip.
2. The tests of the kernels, the images and the SDK run there, with the NEON kernel forced.
3. `rstpm-edge infer` judges the same images there and here. Verdicts must be equal, scores equal to 0.1 %.

What is fetched is kept below build/arm, which may be deleted. Needs Debian or Ubuntu on x86-64, PyPI, and a CPython of
the distribution's own version with headers. Emulation is for correctness; its times say nothing about a board.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import click
from commands import Failed, environment, run, tail
from emulator import Emulated, make_emulated, this_distribution
from interpreters import find_interpreter
from wheel_builder import ROOT, Toolchain, build_wheel, copy_files, make_toolchain, source_files

from rstpm_edge.errors import RstpmEdgeError
from rstpm_edge.image.listing import find_images

KERNEL = "neon"
TESTS = (
    "postprocess/test_fusion.py",
    "postprocess/test_scoring.py",
    "postprocess/test_score_vectors.py",
    "image/test_resize.py",
    "image/test_image.py",
    "test_detector.py",
)
PACKAGES = ("pip", "pytest>=8", "hypothesis>=6.100", "onnx>=1.17")
SCORE_TOLERANCE = 1e-3  # relative; what `export` allows between ONNX Runtime and PyTorch
TINY = ("--size", "64", "--epochs", "2", "--holdout", "0.25", "--device", "cpu")
VERDICTS = (0, 1)  # exit codes of `infer` for normal and anomalous


@dataclass(frozen=True)
class Verdict:
    """What `infer --json` says of an image."""

    score: float
    threshold: float
    is_anomalous: bool


@dataclass(frozen=True)
class Differences:
    """Between two lists of verdicts on the same images."""

    images: int
    anomalous: int  # in the first list
    verdicts: tuple[str, ...]  # images that are judged differently
    score: float  # the largest difference
    relative: float  # the largest one as a share of the score or of the threshold, whichever is larger

    @property
    def agree(self) -> bool:
        return not self.verdicts and self.relative <= SCORE_TOLERANCE


def parse_verdicts(lines: str) -> dict[str, Verdict]:
    """The verdicts by path. Raises Failed for an image that could not be judged."""
    verdicts = {}
    for line in lines.splitlines():
        said = json.loads(line)
        if "error" in said:
            raise Failed(said["error"])
        verdicts[said["path"]] = Verdict(said["score"], said["threshold"], said["is_anomalous"])
    return verdicts


def compare(here: dict[str, Verdict], there: dict[str, Verdict]) -> Differences:
    """Raises Failed unless both judged the same images."""
    if not here or set(here) != set(there):
        raise Failed(f"{len(here)} images were judged here and {len(there)} there; they should be the same.")
    pairs = [(here[path], there[path]) for path in here]
    return Differences(
        images=len(pairs),
        anomalous=sum(ours.is_anomalous for ours, _ in pairs),
        verdicts=tuple(path for path in here if here[path].is_anomalous != there[path].is_anomalous),
        score=max(abs(ours.score - theirs.score) for ours, theirs in pairs),
        relative=max(
            abs(ours.score - theirs.score) / max(abs(ours.score), abs(ours.threshold)) for ours, theirs in pairs
        ),
    )


def install(emulated: Emulated, toolchain: Toolchain, wheel: Path, folder: Path) -> None:
    """Let the emulated pip install the wheel and its dependencies, which this machine's pip downloads."""
    newest = emulated.glibc[1]
    platforms = ["manylinux2014_aarch64", *(f"manylinux_2_{minor}_aarch64" for minor in range(17, newest + 1))]
    download = [toolchain.python, "-m", "pip", "download", "--dest", folder / "wheelhouse", "--only-binary=:all:"]
    download += ["--python-version", emulated.version, "--implementation", "cp"]
    download += [f"--abi={abi}" for abi in (f"cp{emulated.version.replace('.', '')}", "abi3", "none")]
    download += [f"--platform={name}" for name in platforms]
    logs = folder / "logs"
    run([*download, wheel, *PACKAGES], "Downloading wheels for 64-bit Arm", logs / "download.txt")
    pip = next((folder / "wheelhouse").glob("pip-*.whl")) / "pip"  # a wheel of pip runs without being installed
    options = ["--isolated", "install", "--no-index", "--no-compile", "--find-links", folder / "wheelhouse"]
    installing = [emulated.python, pip, *options, wheel, *PACKAGES]
    run(installing, "Installing with the emulated pip", logs / "install.txt", env=environment())


def run_tests(emulated: Emulated, folder: Path) -> str:
    """pytest's last line. Raises Failed when a test fails."""
    source, log = folder / "source", folder / "logs" / "tests.txt"
    copy_files([file for file in source_files() if file.parts[0] in ("tests", "pyproject.toml")], source)
    options = ["--runtime", "-q", "-p", "no:cacheprovider", "--hypothesis-profile=ci"]  # examples may take their time
    tests = [Path("tests") / name for name in TESTS]
    forced = environment(RSTPM_EDGE_KERNEL=KERNEL, RSTPM_EDGE_NO_SKIPS="1")
    command = [emulated.python, "-m", "pytest", *options, *tests]
    run(command, "Testing on 64-bit Arm", log, env=forced, cwd=source)
    return tail(log).splitlines()[-1]


def make_tiny_model(folder: Path) -> tuple[Path, Path]:
    """A model of 64 x 64 pixels, and images that it has not seen, of rendered parts. Needs the [train] extra."""
    from rstpm_edge.training.demo.part import write_dataset

    shutil.rmtree(folder, ignore_errors=True)
    write_dataset(folder / "parts", train=12, test_good=4, test_per_kind=1, size=(128, 128))
    program = Path(sys.executable).with_name("rstpm-edge")
    run([program, "train", "parts", *TINY], "Training a tiny model", folder / "train.txt", cwd=folder)
    run([program, "export"], "Exporting the tiny model", folder / "export.txt", cwd=folder)
    return folder / "model.onnx", folder / "parts" / "test"


def pick_images(folder: Path, most: int) -> list[Path]:
    """At most so many of the images below a folder, evenly spread. Raises Failed when there are none."""
    images = sorted(find_images(folder))
    if not images:
        raise Failed(f"There are no images in {folder}.")
    return [images[i * len(images) // most] for i in range(most)] if len(images) > most else images


def judge(programs: Path, model: Path, images: list[Path], log: Path, **variables: str) -> dict[str, Verdict]:
    """What `rstpm-edge infer` says of the images."""
    command = [programs / "rstpm-edge", "infer", *images, "--model", model, "--json"]
    run(command, f"Judging {len(images)} images", log, env=environment(**variables), expected=VERDICTS)
    return parse_verdicts("\n".join(line for line in log.read_text().splitlines() if line.startswith("{")))


def kernel_that_ran(emulated: Emulated, model: Path) -> str:
    """The kernel that fused the maps of a call there, as `rstpm-edge bench` reports it."""
    command = [str(emulated.programs / "rstpm-edge"), "bench", "--model", str(model), "--runs", "1", "--json"]
    forced = environment(RSTPM_EDGE_KERNEL=KERNEL)
    answer = subprocess.run(command, capture_output=True, text=True, env=forced, check=False)
    if answer.returncode != 0:
        raise Failed(f"`rstpm-edge bench` fails on 64-bit Arm: {answer.stderr.strip()}")
    return str(json.loads(answer.stdout)["environment"]["kernel"])


def check(model: Path | None, images: Path | None, most: int, folder: Path, tests: bool) -> None:
    click.echo("Making a Python for 64-bit Arm …")
    emulated = make_emulated(folder, this_distribution(Path("/etc/os-release").read_text()))
    interpreter = find_interpreter(emulated.version)
    toolchain = make_toolchain(ROOT / "build" / "wheels")
    click.echo("Building the wheel; the first time takes minutes …")
    wheel = build_wheel(toolchain, interpreter, "aarch64", folder / "wheel")
    install(emulated, toolchain, wheel, folder)
    click.echo(f"Python {emulated.version} with glibc {'.'.join(map(str, emulated.glibc))}, {wheel.name}")
    if tests:
        click.echo(f"Tests: {run_tests(emulated, folder)}")
    if model is None or images is None:
        click.echo("Training a tiny model on rendered parts …")
        model, images = make_tiny_model(folder / "tiny")
    ran = kernel_that_ran(emulated, model)
    if ran != KERNEL:
        raise Failed(f"The {KERNEL} kernel was forced, but {ran} ran.")
    picked = pick_images(images, most)
    logs = folder / "logs"
    click.echo(f"Judging {len(picked)} images here and there …")
    here = judge(Path(sys.executable).parent, model, picked, logs / "infer-here.txt")
    there = judge(emulated.programs, model, picked, logs / "infer-arm.txt", RSTPM_EDGE_KERNEL=KERNEL)
    found = compare(here, there)
    click.echo(
        f"{found.images} images, {found.anomalous} of them anomalous here; kernel {ran} there; verdicts that differ: "
        f"{len(found.verdicts)}; largest difference of a score: {found.score:.2g}, relative: {found.relative:.2g}"
    )
    if not found.agree:
        raise Failed(
            f"This machine and 64-bit Arm disagree. Different verdicts: {', '.join(found.verdicts) or 'none'}."
        )


@click.command(help=__doc__.replace("\n\n", "\n\n\b\n"))
@click.option("--model", type=click.Path(path_type=Path, exists=True, dir_okay=False, resolve_path=True))
@click.option("--images", type=click.Path(path_type=Path, exists=True, file_okay=False, resolve_path=True))
@click.option(
    "--most", type=click.IntRange(min=1), default=50, show_default=True, help="Images to judge, evenly spread."
)
@click.option("--work", type=click.Path(path_type=Path), default=ROOT / "build" / "arm", help="[default: build/arm]")
@click.option("--no-tests", is_flag=True, help="Compare verdicts only.")
def main(model: Path | None, images: Path | None, most: int, work: Path, no_tests: bool) -> None:
    if (model is None) != (images is None):
        raise click.UsageError("Give both --model and --images, or neither.")
    try:
        check(model, images, most, work.resolve(), not no_tests)
    except (Failed, RstpmEdgeError) as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"{error.filename or 'a file'}: {error.strerror or error}") from error


if __name__ == "__main__":
    main()
