"""Builds one wheel for one CPython and one processor, with zig's compiler and the glibc that the tag promises.

Everything that could make two builds differ is fixed here: the versions of all tools (wheels.txt), the time (of the
last commit), file modes, and paths (the sources are copied, and the compiler forgets where they were).
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from commands import Failed, environment, run
from interpreters import Interpreter

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = Path(__file__).with_name("wheels.txt")

ARCHITECTURES = ("x86_64", "aarch64")
GLIBC = "2.17"  # the oldest that zig offers for 64-bit Arm; of 2012, older than every board's
PLATFORM = f"manylinux_{GLIBC.replace('.', '_')}"

# pyconfig.h is that of the interpreter on this machine, so what it says of sizes is compared with the compiler's own.
SIZES = {
    "SHORT": "short", "INT": "int", "LONG": "long", "LONG_LONG": "long long", "VOID_P": "void *", "SIZE_T": "size_t",
    "FLOAT": "float", "DOUBLE": "double", "LONG_DOUBLE": "long double", "WCHAR_T": "wchar_t", "TIME_T": "time_t",
    "OFF_T": "off_t", "FPOS_T": "fpos_t", "PID_T": "pid_t", "UINTPTR_T": "uintptr_t", "_BOOL": "_Bool",
    "PTHREAD_T": "pthread_t", "PTHREAD_KEY_T": "pthread_key_t",
}  # fmt: skip


@dataclass(frozen=True)
class Toolchain:
    """A virtual environment with what wheels.txt lists."""

    python: Path
    packages: Path  # its site-packages
    folder: Path  # where it works, and may leave logs and zig's cache

    @property
    def zig(self) -> Path:
        return self.packages / "ziglang" / "zig"


def make_toolchain(folder: Path) -> Toolchain:
    """Install wheels.txt in FOLDER/tools, unless it is there. Raises Failed."""
    tools = folder / "tools"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    toolchain = Toolchain(tools / "bin" / "python", tools / "lib" / version / "site-packages", folder)
    done, wanted = tools / "installed.txt", REQUIREMENTS.read_text()
    if done.is_file() and done.read_text() == wanted and toolchain.zig.is_file():
        return toolchain
    log = folder / "logs" / "tools.txt"
    run([sys.executable, "-m", "venv", "--clear", tools], "Making a virtual environment", log, env=environment())
    pip = [toolchain.python, "-m", "pip", "install"]
    run([*pip, "--requirement", REQUIREMENTS], "Installing the tools that build wheels", log, env=environment())
    done.write_text(wanted)
    return toolchain


def source_files() -> list[Path]:
    """The files, relative to the repository, that git knows or would add."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = git(*command).split("\0")
    return [Path(name) for name in names if name and (ROOT / name).is_file()]


def commit_time() -> int:
    """Seconds since 1970 of the last commit; SOURCE_DATE_EPOCH where that is set."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    if given is not None and not given.isdigit():
        raise Failed(f"SOURCE_DATE_EPOCH must be a number of seconds, but is {given!r}.")
    return int(given or git("git", "log", "-1", "--format=%ct"))


def git(*command: str) -> str:
    """The output of a git command in the repository. Raises Failed."""
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise Failed(f"Wheels are built from a git checkout, but {shlex.join(command)} fails in {ROOT}.") from error


def copy_files(files: list[Path], target: Path) -> None:
    """Copy files of the repository to `target`, as anybody would check them out: modes 644 and 755."""
    shutil.rmtree(target, ignore_errors=True)
    for file in files:
        copy = target / file
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / file, copy)
        copy.chmod(0o755 if os.access(ROOT / file, os.X_OK) else 0o644)


def wheel_name(version: str, interpreter: Interpreter, architecture: str) -> str:
    """As the wheel's file must be called."""
    return f"rstpm_edge-{version}-{interpreter.tag}-{interpreter.tag}-{PLATFORM}_{architecture}.whl"


def build_wheel(toolchain: Toolchain, interpreter: Interpreter, architecture: str, output: Path) -> Path:
    """Build the wheel into the folder `output`. Raises Failed."""
    name = f"{interpreter.tag}-{architecture}"
    headers = copy_headers(interpreter, toolchain.folder / "headers" / interpreter.tag)
    check_sizes(toolchain, interpreter, architecture, headers)
    source = toolchain.folder / "source" / name
    copy_files(source_files(), source)
    fresh = toolchain.folder / "fresh" / name
    shutil.rmtree(fresh, ignore_errors=True)
    tag = f"--config-settings=--build-option=--plat-name={PLATFORM}_{architecture}"
    pip = [interpreter.executable, "-m", "pip", "wheel"]
    command = [*pip, source, "--wheel-dir", fresh, "--no-deps", "--no-build-isolation", tag]
    variables = build_variables(toolchain, interpreter, architecture, headers, source)
    before = os.umask(0o022)
    try:
        run(command, f"Building {name}", toolchain.folder / "logs" / f"{name}.txt", env=variables)
    finally:
        os.umask(before)
    (wheel,) = fresh.glob("*.whl")
    output.mkdir(parents=True, exist_ok=True)
    return Path(shutil.move(wheel, output / wheel.name))


def build_variables(
    toolchain: Toolchain, interpreter: Interpreter, architecture: str, headers: Path, source: Path
) -> dict[str, str]:
    """Environment variables that make setuptools use zig, for `architecture`, and nothing of this machine's Python."""
    # Of zig's C++ library, too: at a link without -O zig builds it for debugging.
    options = f"-target {architecture}-linux-gnu.{GLIBC} -O3"
    zig = shlex.quote(str(toolchain.zig))
    forget = shlex.quote(f"-ffile-prefix-map={source}=.")
    flags = f"-DNDEBUG -I{shlex.quote(str(headers))} {forget}"
    cache = toolchain.folder / "zig"
    inherited = {key: value for key, value in environment().items() if not key.startswith("PIP_")}
    return {
        **inherited,
        "CC": f"{zig} cc {options}",
        "CXX": f"{zig} c++ {options}",
        "CFLAGS": flags,
        "CXXFLAGS": flags,
        "CPPFLAGS": "",
        "LDFLAGS": "",
        "LDSHARED": f"{zig} cc {options} -shared -s",
        "LDCXXSHARED": f"{zig} c++ {options} -shared -s",
        "ZIG_GLOBAL_CACHE_DIR": str(cache),
        "ZIG_LOCAL_CACHE_DIR": str(cache),
        "PYTHONPATH": str(toolchain.packages),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "0",
        "SETUPTOOLS_EXT_SUFFIX": f".cpython-{interpreter.tag[2:]}-{architecture}-linux-gnu.so",
        "SOURCE_DATE_EPOCH": str(commit_time()),
    }


def copy_headers(interpreter: Interpreter, target: Path) -> Path:
    """The interpreter's headers, with a pyconfig.h that does not ask for the architecture's folder of Debian."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(interpreter.include, target)
    (target / "pyconfig.h").unlink(missing_ok=True)
    shutil.copyfile(interpreter.config, target / "pyconfig.h")
    return target


def check_sizes(toolchain: Toolchain, interpreter: Interpreter, architecture: str, headers: Path) -> None:
    """Let the compiler compare the sizes in pyconfig.h with those of `architecture`. Raises Failed."""
    checks = [
        f"#ifdef SIZEOF_{name}\n"
        f'_Static_assert(SIZEOF_{name} == sizeof({kind}), "SIZEOF_{name} of pyconfig.h is wrong here");\n'
        "#endif\n"
        for name, kind in SIZES.items()
    ]
    text = "#include <pyconfig.h>\n#include <pthread.h>\n#include <stdint.h>\n#include <stdio.h>\n#include <time.h>\n"
    source = headers / f"sizes-{architecture}.c"
    source.write_text(text + "#include <wchar.h>\n" + "".join(checks))
    compiler = [toolchain.zig, "cc", "-target", f"{architecture}-linux-gnu.{GLIBC}", f"-I{headers}"]
    run(
        [*compiler, "-c", source, "-o", source.with_suffix(".o")],
        f"Comparing the headers of {interpreter.executable} with {architecture}",
        toolchain.folder / "logs" / f"sizes-{interpreter.tag}-{architecture}.txt",
        env={**os.environ, "ZIG_GLOBAL_CACHE_DIR": str(toolchain.folder / "zig")},
    )
