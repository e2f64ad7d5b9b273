"""Feed hostile input to what reads it, for some minutes: `make fuzz MINUTES=10`.

    python tools/fuzz.py --minutes 10 [--only images,onnx] [--folder build/fuzz]

The targets of tests/fuzz share the minutes. Coverage leads where Atheris is installed (pip install '.[fuzz]'), and,
for the C interface, where Clang is; elsewhere cases are made near right ones at random. FOLDER/TARGET keeps a corpus,
from which the next run goes on. Ends with 1 where anything broke, and names the file that breaks it again.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from commands import Failed, environment, run

ROOT = Path(__file__).parent.parent
CHILD = ROOT / "tests" / "fuzz" / "fuzz_child.py"
# How the minutes are shared. Of the C interface a second gives thousands of cases, of the command line a few.
SHARES = {"images": 4, "metadata": 2, "onnx": 3, "documents": 3, "arrays": 3, "arguments": 2, "c-interface": 3}
C_INTERFACE = "c-interface"
GRACE = 300  # seconds to start and to end, on a busy machine


@dataclass(frozen=True)
class Outcome:
    """What came of a target: how many cases ran, the parts of the program that they reached, where coverage leads, how
    many of them reached something new, and the files that break it."""

    name: str
    cases: int
    coverage: int | None
    new: int | None
    failures: tuple[Path, ...]
    note: str = ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, metavar="N", help="for all targets together")
    parser.add_argument("--only", metavar="NAMES", help=f"some of {', '.join(SHARES)}, with commas")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "fuzz")
    arguments = parser.parse_args()
    names = arguments.only.split(",") if arguments.only else list(SHARES)
    if unknown := sorted(set(names) - set(SHARES)):
        parser.error(f"there is no target {', '.join(unknown)}; there are {', '.join(SHARES)}")
    if not 0 < arguments.minutes < 1e5:
        parser.error("--minutes must be above 0")
    atheris = importlib.util.find_spec("atheris") is not None
    if not atheris:
        print("Atheris is not installed, so no coverage leads: pip install '.[fuzz]', where this Python has a wheel.")
    whole = sum(SHARES[name] for name in names)
    outcomes = []
    for name in names:
        seconds = 60 * arguments.minutes * SHARES[name] / whole
        print(f"{name}: {seconds:.0f} s", flush=True)
        outcomes.append(fuzz(name, arguments.folder / name, seconds))
        for failure in outcomes[-1].failures:
            print(f"  broke: {shown_command(name, failure, arguments.folder)}", flush=True)
    print(table(outcomes))
    return 1 if any(outcome.failures for outcome in outcomes) else 0


def fuzz(name: str, folder: Path, seconds: float) -> Outcome:
    """Run one target in a process of its own. Raises Failed where it does not even start."""
    corpus, failures, log = folder / "corpus", folder / "failures", folder / "log.txt"
    for each in (corpus, failures):
        each.mkdir(parents=True, exist_ok=True)
    known = set(failures.iterdir())
    counted = failures / "cases"
    counted.unlink(missing_ok=True)
    if name == C_INTERFACE:
        program = built(folder.parent)
        if program is None:
            return Outcome(name, 0, None, None, (), "not run: there is no clang here (apt install clang)")
        command: Sequence[object] = [
            *(
                program,
                f"-max_total_time={max(1, round(seconds))}",
                "-timeout=200",
                "-report_slow_units=60",
                "-max_len=600",
                "-rss_limit_mb=4000",
            ),
            *("-print_final_stats=1", f"-artifact_prefix={failures}/", corpus),
        ]
    else:
        command = [sys.executable, CHILD, name, corpus, failures, seconds]
    begun = time.monotonic()
    with open(log, "wb") as file:
        try:
            code = subprocess.run(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=child_environment(),
                timeout=10 * seconds + GRACE,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            code = -1
    told = log.read_text(errors="replace")
    cases = (
        int.from_bytes(counted.read_bytes(), "little") if counted.exists() else number(told, r"executed_units: (\d+)")
    )
    broken = tuple(sorted(set(failures.iterdir()) - known - {counted}))
    if code != 0 and not broken:
        raise Failed(f"{name} ended with exit code {code} after {time.monotonic() - begun:.0f} s; see {log}.")
    covered = re.findall(r"\bcov: (\d+)", told)
    return Outcome(
        name,
        cases or 0,
        int(covered[-1]) if covered else None,
        number(told, r"new_units_added: +(\d+)"),
        broken,
        "" if code == 0 else f"exit code {code}; see {log}",
    )


def built(folder: Path) -> Path | None:
    """The C interface's program, built with sanitizers; None without Clang. Raises Failed."""
    if shutil.which("clang") is None or shutil.which("clang++") is None:
        return None
    build = folder / "c"
    compilers = ["-DCMAKE_C_COMPILER=clang", "-DCMAKE_CXX_COMPILER=clang++", "-DCMAKE_BUILD_TYPE=RelWithDebInfo"]
    options = ["-DRSTPM_EDGE_FUZZ=ON", "-DRSTPM_EDGE_SHARED=OFF", "-DRSTPM_EDGE_SANITIZE=address,undefined"]
    cmake = shutil.which("cmake", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if cmake is None:
        raise Failed("There is no cmake: pip install '.[dev]' in the checkout.")
    run([cmake, "-S", ROOT / "csrc", "-B", build, *compilers, *options], "Preparing the build", folder / "cmake.txt")
    run([cmake, "--build", build, "--target", "fuzz_interface"], "Building the C interface", folder / "build.txt")
    return build / "tests" / "fuzz_interface"


def child_environment() -> dict[str, str]:
    """The path to the targets and what they import; nothing printed by decoders."""
    path = os.pathsep.join(str(ROOT / part) for part in (".", "tests/helpers", "tests/fuzz"))
    return environment(PYTHONPATH=path, OMP_NUM_THREADS="1", OPENCV_LOG_LEVEL="OFF", ORT_DISABLE_TELEMETRY="1")


def number(text: str, pattern: str) -> int | None:
    """The last number that the pattern finds."""
    found = re.findall(pattern, text)
    return int(found[-1]) if found else None


def shown_command(name: str, failure: Path, folder: Path) -> str:
    """What runs one case again."""
    if name == C_INTERFACE:
        return f"{folder / 'c' / 'tests' / 'fuzz_interface'} {failure}"
    return f"PYTHONPATH=.:tests/helpers:tests/fuzz python tests/fuzz/fuzz_child.py {name} --input {failure}"


def table(outcomes: Sequence[Outcome]) -> str:
    """A line for each target, and their sum."""
    lines = [f"{'target':12} {'cases':>9} {'coverage':>9} {'new':>6} {'failures':>9}"]
    for one in outcomes:
        coverage, new = ("-" if value is None else f"{value:,}" for value in (one.coverage, one.new))
        lines.append(
            f"{one.name:12} {one.cases:>9,} {coverage:>9} {new:>6} {len(one.failures):>9}  {one.note}".rstrip()
        )
    failures = sum(len(one.failures) for one in outcomes)
    return "\n".join([*lines, f"{'all':12} {sum(one.cases for one in outcomes):>9,} {'':>9} {'':>6} {failures:>9}"])


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failed as error:
        sys.exit(f"Error: {error}")
