"""Runs a command as on an x86 processor without dot products of 8-bit integers (VNNI), at full speed.

    python tools/old_x86.py .venv/bin/python -m pytest -q -n 0 tests/training/quantization
    OLD_X86=sse4 python tools/old_x86.py rstpm-edge bench --model int8.onnx --provider openvino

The processor is one of 2013, with AVX2. With OLD_X86=avx512 it has AVX-512, too, as of 2017; with OLD_X86=sse4 it has
no AVX at all, as small ones of 2020.

INT8 is computed otherwise there than on newer processors (docs/edge.md), and what a runtime takes is decided by what
the instruction CPUID tells it. So in copies of the libraries of ONNX Runtime, OpenVINO and this package, each CPUID is
replaced by an instruction that faults, and a handler of that fault answers in its place, without what is newer. The
copies, and such a /proc/cpuinfo, are mounted over the real files, for the command and its children only. All else
runs on the real processor: times may be compared with each other.

Other packages (PyTorch, NumPy, OpenCV) see the real processor. Needs x86-64 Linux, root (or user namespaces),
binutils and a C compiler. What is made, once for each version of a library, is kept below build/old-x86.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from commands import Failed
from wheel_builder import ROOT

FOLDER = ROOT / "build" / "old-x86"
PACKAGES = ("onnxruntime", "openvino", "rstpm_edge")
CPUID, RSM = b"\x0f\xa2", b"\x0f\xaa"
LATER = (
    r"avx512_?(?:vnni|bf16|vbmi|vbmi2|bitalg|vpopcntdq|vp2intersect|fp16|4\w+)|avx_(?:vnni|ifma)\w*|avx10\w*|amx_\w+"
)
MISSING = {  # in what Linux says of the processor
    "avx2": rf"{LATER}|avx512\w+|gfni|vaes|vpclmulqdq",
    "avx512": rf"{LATER}|gfni|vaes|vpclmulqdq",
    "sse4": rf"{LATER}|avx\w*|fma|f16c|gfni|vaes|vpclmulqdq",
}


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        print(__doc__)
        return
    try:
        sys.exit(run_there(sys.argv[1:], os.environ.get("OLD_X86", "avx2")))
    except Failed as error:
        sys.exit(f"Error: {error}")


def run_there(words: list[str], level: str) -> int:
    """Run the command in this folder and with these variables, on that processor; gives its exit code."""
    if level not in MISSING:
        raise Failed(f"OLD_X86 is one of {', '.join(MISSING)}, but not {level!r}.")
    for program in ("unshare", "mount", "objdump", "cc"):
        if shutil.which(program) is None:
            raise Failed(f"{program} is missing: apt install util-linux mount binutils gcc.")
    FOLDER.mkdir(parents=True, exist_ok=True)
    handler, described = FOLDER / f"handler-{os.getpid()}.so", FOLDER / f"cpuinfo-{os.getpid()}"
    try:
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", handler, Path(__file__).with_suffix(".c")], check=True)
        described.write_text(re.sub(rf" (?:{MISSING[level]})\b", "", Path("/proc/cpuinfo").read_text()))
        mounts = [
            (described, Path("/proc/cpuinfo")),
            *((copy, real) for real in libraries() if (copy := changed(real))),
        ]
        lines = [shlex.join(["mount", "--bind", str(ours), str(real)]) for ours, real in mounts]
        preload = " ".join(filter(None, [str(handler), os.environ.get("LD_PRELOAD")]))
        script = "\n".join(
            ["set -e", *lines, shlex.join(["export", f"LD_PRELOAD={preload}"]), f"exec {shlex.join(words)}"]
        )
        private = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
        return subprocess.run([*private, "sh", "-c", script], check=False).returncode
    finally:
        handler.unlink(missing_ok=True)
        described.unlink(missing_ok=True)


def libraries() -> list[Path]:
    """The shared libraries that decide by the processor what they compute with."""
    found: list[Path] = []
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        for folder in (spec.submodule_search_locations or []) if spec else []:
            found += [path for path in Path(folder).rglob("*.so*") if not path.is_symlink()]
    return sorted(found)


def changed(library: Path) -> Path | None:
    """A copy of the library with RSM where CPUID was; None where it never asks."""
    content = bytearray(library.read_bytes())
    if CPUID not in content:
        return None
    copy = FOLDER / f"{hashlib.sha256(content).hexdigest()[:16]}-{library.name}"
    if copy.is_file():
        return copy
    for place in places(library):
        if content[place : place + 2] != CPUID:
            raise Failed(f"{library} holds code that this script cannot change.")
        content[place : place + 2] = RSM
    half = copy.with_suffix(f".{os.getpid()}")
    half.write_bytes(content)
    half.chmod(0o755)
    half.rename(copy)
    return copy


def places(library: Path) -> list[int]:
    """Where in the file CPUID stands as an instruction, not as a part of another."""
    found: list[int] = []
    shift = 0
    with subprocess.Popen(["objdump", "-d", "-F", library], stdout=subprocess.PIPE, text=True) as shown:
        for line in shown.stdout or ():
            if line.endswith("):\n"):  # a function begins: 0000000000001130 <name> (File Offset: 0x1130):
                if head := re.match(r"([0-9a-f]+) <.*\(File Offset: 0x([0-9a-f]+)\):", line):
                    shift = int(head[1], 16) - int(head[2], 16)
            elif line.endswith("cpuid\n") or "\tcpuid" in line:
                found.append(int(line.partition(":")[0], 16) - shift)
    if shown.returncode != 0:
        raise Failed(f"objdump cannot read {library}.")
    return found


if __name__ == "__main__":
    main()
