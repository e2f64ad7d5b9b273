"""Builds the wheels for CPython 3.10 to 3.13 on x86-64 and 64-bit Arm, checks them, and runs the runtime's tests.

    make wheels                                          # all eight, into dist/
    make wheels-check                                    # twice, from nothing, and compared byte by byte
    python tools/build_wheels.py --python 3.12 --arch aarch64

The wheels need glibc 2.17 or newer and nothing else of the system. What is built for this machine's own processor is
also installed, without torch, into a fresh environment of each CPython, and `pytest --runtime` runs there. Beside each
wheel lies its software bill of materials (sbom.py).

Needs a git checkout, the CPythons with their headers (on PATH or in pyenv), and PyPI. Everything that is fetched or
left over is below build/wheels, which may be deleted.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from commands import Failed, environment, run, tail
from interpreters import VERSIONS, Interpreter, find_interpreters
from wheel_builder import (
    ARCHITECTURES,
    PLATFORM,
    ROOT,
    Toolchain,
    build_wheel,
    commit_time,
    copy_files,
    git,
    make_toolchain,
    source_files,
    wheel_name,
)

TEST_PACKAGES = ("pytest>=8", "hypothesis>=6.100", "onnx>=1.17")
# What the packages that we need may be built for, newest first; pip tries no older one by itself.
SYSTEMS = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_24", "manylinux_2_17", "manylinux2014")
THE_PACKAGE = ("csrc", "rstpm_edge", "training", "setup.py")  # which tests of a wheel must not find beside themselves


@dataclass(frozen=True)
class Target:
    """What one wheel is for."""

    interpreter: Interpreter
    architecture: str


def main() -> int:
    options = parse_options()
    try:
        build(options)
    except Failed as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"Error: {error.filename or 'a file'}: {error.strerror or error}.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", action="append", choices=VERSIONS, help="only this version; may be repeated")
    parser.add_argument("--arch", action="append", choices=ARCHITECTURES, help="only this processor; may be repeated")
    parser.add_argument("--output", type=Path, default=ROOT / "dist", help="where the wheels go [dist]")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "wheels", help="for all else [build/wheels]")
    parser.add_argument("--no-tests", action="store_true", help="do not run the runtime's tests")
    parser.add_argument("--twice", action="store_true", help="build a second time, from nothing, and compare the bytes")
    return parser.parse_args()


def build(options: argparse.Namespace) -> None:
    work: Path = options.work.resolve()
    interpreters = find_interpreters(tuple(dict.fromkeys(options.python or VERSIONS)))
    architectures = tuple(dict.fromkeys(options.arch or ARCHITECTURES))
    targets = [Target(interpreter, architecture) for architecture in architectures for interpreter in interpreters]
    for interpreter in interpreters:
        print(f"CPython {interpreter.release}: {interpreter.executable}")
    if git("git", "status", "--porcelain").strip():
        print("Note: the working tree differs from the last commit; the wheels are those of the working tree.")
    toolchain = make_toolchain(work)
    print("Building; the first wheel of a processor takes minutes, since zig compiles its C++ library …", flush=True)
    wheels = build_all(toolchain, targets, work / "first")
    if options.twice:
        shutil.rmtree(work / "again", ignore_errors=True)  # its cache above all: zig keeps what it has compiled
        again = Toolchain(toolchain.python, toolchain.packages, work / "again" / "in a folder of another name")
        print("Building again …", flush=True)
        compare(wheels, build_all(again, targets, work / "second"))
        print(f"All {len(wheels)} wheels came out the same.")
    if not options.no_tests:
        for target, wheel in wheels.items():
            if target.architecture == platform.machine():
                test(toolchain, target.interpreter, wheel)
    bills = [write_bill(toolchain, target, wheel) for target, wheel in wheels.items()]
    options.output.mkdir(parents=True, exist_ok=True)
    for file in (*wheels.values(), *bills):
        final = shutil.copyfile(file, options.output / f".{file.name}")
        print(f"{sha256(final)}  {os.path.relpath(final.replace(options.output / file.name))}")


def build_all(toolchain: Toolchain, targets: list[Target], output: Path) -> dict[Target, Path]:
    """Build and audit the wheels. Raises Failed."""
    shutil.rmtree(output, ignore_errors=True)
    version = package_version((ROOT / "pyproject.toml").read_text())
    wheels = {}
    for target in targets:
        wheel = build_wheel(toolchain, target.interpreter, target.architecture, output)
        expected = wheel_name(version, target.interpreter, target.architecture)
        if wheel.name != expected:
            raise Failed(f"The wheel should be called {expected}, but is {wheel.name}.")
        audit(toolchain, target, wheel)
        wheels[target] = wheel
        print(f"  {wheel.name}, {wheel.stat().st_size / 1e3:.0f} kB", flush=True)
    return wheels


def package_version(pyproject: str) -> str:
    """The version that pyproject.toml states; tomllib came with Python 3.11 only."""
    found = re.search(r'^version = "(.+)"$', pyproject, re.MULTILINE)
    if found is None:
        raise Failed("pyproject.toml states no version.")
    return found[1]


def audit(toolchain: Toolchain, target: Target, wheel: Path) -> None:
    """Let auditwheel say which systems the wheel runs on. Raises Failed when they are fewer than its name promises."""
    command = [str(toolchain.python), "-m", "auditwheel", "show", "--json", str(wheel)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        raise Failed(f"auditwheel cannot read {wheel.name}: {answer.stderr.strip() or answer.stdout.strip()}")
    problem = audit_problem(json.loads(answer.stdout), f"{PLATFORM}_{target.architecture}")
    extensions = [name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".so")]
    expected = f"rstpm_edge/_native.cpython-{target.interpreter.tag[2:]}-{target.architecture}-linux-gnu.so"
    if extensions != [expected]:
        problem = f"it should hold {expected} and no other library, but holds {', '.join(extensions) or 'none'}"
    if problem:
        raise Failed(f"{wheel.name} is not fit for release: {problem}.")


def audit_problem(report: dict[str, Any], promised: str) -> str:
    """What speaks against a wheel in auditwheel's report; nothing where it runs on all that `promised` means."""
    if report["external_libs"]:
        return f"it needs libraries that a system may lack: {', '.join(sorted(report['external_libs']))}"
    if report["overall_tag"] != promised:
        symbols = json.dumps(report["versioned_symbols"])
        return f"auditwheel finds it fit for {report['overall_tag']}, not {promised}; it asks for {symbols}"
    return ""


def test(toolchain: Toolchain, interpreter: Interpreter, wheel: Path) -> None:
    """Install the wheel without torch, and run the runtime's tests away from the sources. Raises Failed."""
    folder = toolchain.folder / "tests" / interpreter.tag
    python = folder / "environment" / "bin" / "python"
    log = toolchain.folder / "logs" / f"install-{interpreter.tag}.txt"
    venv = [interpreter.executable, "-m", "venv"]
    making = f"Making an environment of {interpreter.executable}"
    run([*venv, "--clear", "--without-pip", folder / "environment"], making, log, env=environment())
    pip = [toolchain.python, "-m", "pip", "--python", python, "install"]
    run([*pip, wheel, *TEST_PACKAGES], f"Installing {wheel.name}", log, env=environment())
    copy_files([file for file in source_files() if file.parts[0] not in THE_PACKAGE], folder / "source")
    log = toolchain.folder / "logs" / f"tests-{interpreter.tag}.txt"
    pytest = [python, "-m", "pytest"]
    options = ["--runtime", "-q", "-p", "no:cacheprovider"]
    variables = environment(RSTPM_EDGE_NO_SKIPS="1")
    run([*pytest, *options], f"Testing {wheel.name}", log, env=variables, cwd=folder / "source")
    print(f"  {interpreter.version}: {tail(log).splitlines()[-1]}", flush=True)


def write_bill(toolchain: Toolchain, target: Target, wheel: Path) -> Path:
    """Write the wheel's software bill of materials beside it: what pip would install with it today. Raises Failed."""
    name = f"{target.interpreter.tag}-{target.architecture}"
    report, bill = toolchain.folder / "bills" / f"{name}.json", wheel.with_name(f"{wheel.name}.cdx.json")
    report.parent.mkdir(parents=True, exist_ok=True)
    systems = [f"--platform={system}_{target.architecture}" for system in SYSTEMS]
    pip = [toolchain.python, "-m", "pip", "--python", target.interpreter.executable, "install", "--dry-run"]
    options = ["--ignore-installed", "--only-binary=:all:", *systems, f"--report={report}"]
    log = toolchain.folder / "logs" / f"bill-{name}.txt"
    run([*pip, *options, wheel], f"Resolving what {wheel.name} needs", log, env=environment())
    script = [toolchain.python, Path(__file__).with_name("sbom.py"), wheel, report, bill]
    run([*script, "--time", commit_time()], f"Writing the bill of {wheel.name}", log, env=environment())
    return bill


def compare(first: dict[Target, Path], second: dict[Target, Path]) -> None:
    """Raises Failed when two builds of a wheel differ, and says in which files."""
    different = [
        f"  {wheel.name}: {', '.join(differences(wheel, second[target])) or 'only the archive around its files'}"
        for target, wheel in first.items()
        if sha256(wheel) != sha256(second[target])
    ]
    if different:
        raise Failed("\n".join(["Two builds of the same sources differ:", *different]))


def differences(first: Path, second: Path) -> list[str]:
    """Names of the files that are not the same, or not in both."""
    with zipfile.ZipFile(first) as one, zipfile.ZipFile(second) as two:
        contents = [{name: archive.read(name) for name in archive.namelist()} for archive in (one, two)]
    names = sorted(set(contents[0]) | set(contents[1]))
    return [name for name in names if contents[0].get(name) != contents[1].get(name)]


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
