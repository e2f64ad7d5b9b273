"""A 64-bit Arm Python beside this machine's own: unpacked from Debian's or Ubuntu's packages, run by QEMU's user mode.

Nothing is installed and root is not needed: apt keeps a state of its own in the folder, packages are unpacked there,
and `bin/python` of the environment is a script that starts QEMU. Programs that the emulated Python starts by
`sys.executable`, and scripts that pip installs, therefore run emulated too, without binfmt.

The processor is a Cortex-A72, that of a Raspberry Pi 4: NEON and no extension beyond it.
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from commands import Failed, run

PROCESSOR = "cortex-a72"

# Where ONNX Runtime looks for the processor; older QEMUs would show it this machine's.
CPUINFO = """\
processor\t: {number}
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd08
CPU revision\t: 3

"""

APT_CONFIGURATION = """\
#clear APT::Architectures;
APT::Architecture "{architecture}";
APT::Architectures {{ "{architecture}"; }};
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Acquire::Languages "none";
Debug::NoLocking "true";
Dir::State "{folder}";
Dir::State::lists "{folder}/lists";
Dir::State::status "{folder}/status";
Dir::Cache "{folder}";
Dir::Cache::archives "{folder}/archives";
Dir::Etc::sourcelist "{folder}/sources.list";
Dir::Etc::sourceparts "/dev/null";
"""

START = """\
#!/bin/sh
export QEMU_LD_PREFIX={system} QEMU_CPU={processor}
exec {qemu} -0 "$0" {python} "$@"
"""


@dataclass(frozen=True)
class Distribution:
    """Where packages come from."""

    mirrors: dict[str, str]  # by architecture, as Debian calls it
    suite: str
    components: str
    keyring: Path


@dataclass(frozen=True)
class Emulated:
    """An environment whose Python is one for 64-bit Arm."""

    version: str  # "3.11"
    glibc: tuple[int, int]
    python: Path

    @property
    def programs(self) -> Path:
        return self.python.parent


def this_distribution(os_release: str, suite: str | None = None) -> Distribution:
    """The distribution that /etc/os-release describes, or another `suite` of it. Raises Failed for all but two."""
    facts = dict(line.split("=", 1) for line in os_release.splitlines() if "=" in line)
    kind, codename = (facts.get(name, "").strip("\"'") for name in ("ID", "VERSION_CODENAME"))
    keyrings = Path("/usr/share/keyrings")
    if kind == "debian" and (suite or codename):
        mirrors = dict.fromkeys(("amd64", "arm64"), "http://deb.debian.org/debian")
        return Distribution(mirrors, suite or codename, "main", keyrings / "debian-archive-keyring.gpg")
    if kind == "ubuntu" and (suite or codename):
        mirrors = {"amd64": "http://archive.ubuntu.com/ubuntu", "arm64": "http://ports.ubuntu.com/ubuntu-ports"}
        return Distribution(mirrors, suite or codename, "main universe", keyrings / "ubuntu-archive-keyring.gpg")
    raise Failed("The emulated Python is made from the packages of Debian or Ubuntu, and this is neither.")


def make_emulated(folder: Path, distribution: Distribution) -> Emulated:
    """An environment in `folder` without packages; QEMU and the system below it are fetched once. Raises Failed."""
    if platform.machine() == "aarch64":
        raise Failed("This machine has a 64-bit Arm processor, so nothing needs to be emulated: run `make test`.")
    if platform.machine() != "x86_64":
        raise Failed(f"64-bit Arm is emulated on x86-64 only, and this machine is {platform.machine()}.")
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise Failed("apt-get and dpkg-deb are missing; this command needs Debian or Ubuntu.")
    system = folder / f"system-{distribution.suite}"
    if not (system / "proc" / "cpuinfo").is_file():  # what is written last
        shutil.rmtree(system, ignore_errors=True)
        fetch(folder, distribution, "arm64", ["python3", "libstdc++6"], system)
        complete(system)
    python = find_python(system)
    version = python.name.removeprefix("python")
    environment = folder / "environment"
    shutil.rmtree(environment, ignore_errors=True)
    start = environment / "bin" / "python"
    start.parent.mkdir(parents=True)
    qemu = find_qemu(folder, distribution)
    quoted = {name: shlex.quote(str(path)) for name, path in (("system", system), ("qemu", qemu), ("python", python))}
    start.write_text(START.format(processor=PROCESSOR, **quoted))
    start.chmod(0o755)
    (environment / "pyvenv.cfg").write_text(f"home = {python.parent}\ninclude-system-site-packages = false\n")
    return Emulated(version, emulated_glibc(start), start)


def find_qemu(folder: Path, distribution: Distribution) -> Path:
    """QEMU's user mode for 64-bit Arm: that on PATH, or one fetched into `folder`."""
    names = ("qemu-aarch64-static", "qemu-aarch64")
    installed = next((path for name in names if (path := shutil.which(name))), None)
    if installed is not None:
        return Path(installed)
    unpacked = folder / "qemu"
    programs = [unpacked / "usr" / "bin" / name for name in names]
    if not any(program.is_file() for program in programs):
        fetch(folder, distribution, "amd64", ["qemu-user-static"], unpacked)
        for other in set((unpacked / "usr" / "bin").iterdir()) - set(programs):
            other.unlink()  # the other processors are nine tenths of it
    for program in programs:
        if program.is_file():
            return program
    raise Failed(f"The package qemu-user-static of {distribution.suite} has no {names[0]}: apt install qemu-user.")


def fetch(folder: Path, distribution: Distribution, architecture: str, packages: list[str], target: Path) -> None:
    """Download packages with all that they depend on, and unpack them below `target`. Raises Failed."""
    if not distribution.keyring.is_file():
        raise Failed(f"{distribution.keyring} is missing: apt install {distribution.keyring.stem}.")
    state = folder / f"apt-{distribution.suite}-{architecture}"
    for part in ("lists/partial", "archives/partial"):
        (state / part).mkdir(parents=True, exist_ok=True)
    (state / "status").touch()
    mirror, suite, components = distribution.mirrors[architecture], distribution.suite, distribution.components
    (state / "sources.list").write_text(f"deb [signed-by={distribution.keyring}] {mirror} {suite} {components}\n")
    configuration = state / "apt.conf"
    configuration.write_text(APT_CONFIGURATION.format(architecture=architecture, folder=state))
    apt = ["apt-get", "-c", configuration]
    logs = folder / "logs"
    run([*apt, "update"], f"Reading the list of packages of {mirror}", logs / f"apt-update-{architecture}.txt")
    install = [*apt, "install", "--yes", "--download-only"]
    run([*install, *packages], f"Downloading {', '.join(packages)}", logs / f"apt-install-{architecture}.txt")
    for package in sorted((state / "archives").glob("*.deb")):
        run(["dpkg-deb", "-x", package, target], f"Unpacking {package.name}", logs / "dpkg.txt")
    shutil.rmtree(state)


def complete(system: Path) -> None:
    """What installing would have added: the links of merged folders, and the file of the processors."""
    for name in ("bin", "lib", "sbin"):
        if not (system / name).exists():
            (system / name).symlink_to(f"usr/{name}")
    (system / "proc").mkdir(exist_ok=True)
    text = "".join(CPUINFO.format(number=number) for number in range(os.cpu_count() or 1))
    (system / "proc" / "cpuinfo").write_text(text)


def find_python(system: Path) -> Path:
    """The interpreter that the distribution calls python3."""
    link = system / "usr" / "bin" / "python3"
    if not link.is_symlink():
        raise Failed(f"There is no Python in {system}; delete that folder and try again.")
    return link.with_name(os.readlink(link))


def emulated_glibc(python: Path) -> tuple[int, int]:
    """The version of the C library that a program has there; pip asks for it, too."""
    code = "import os, platform; print(platform.machine(), os.confstr('CS_GNU_LIBC_VERSION').split()[1])"
    answer = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=False)
    machine, _, glibc = answer.stdout.strip().partition(" ")
    if answer.returncode != 0 or machine != "aarch64":
        raise Failed(f"The emulated Python does not run: {(answer.stderr or answer.stdout).strip()[-500:]}")
    major, minor = glibc.split(".")[:2]
    return int(major), int(minor)
