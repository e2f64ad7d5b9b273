"""Write the software bill of materials of a wheel: CycloneDX 1.6, as JSON.

    python tools/sbom.py WHEEL REPORT OUTPUT --time SECONDS

REPORT is what `pip install --dry-run --ignore-installed --report` says of the wheel, for the system that it is for:
what pip would install today. Beside that, the bill names what is compiled into the wheel, and what lies in it. What
the packages of others bring inside them (OpenCV has FFmpeg, say) stands in their own bills. `build_wheels.py` calls
this with the packages of wheels.txt.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentScope, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

OURS = "rstpm-edge"
REQUIREMENTS = Path(__file__).with_name("wheels.txt")
_LONGEST_LICENCE = 100  # characters; some packages put the whole text there
_NAMESPACE = uuid.UUID("5a1f3a5e-5c1a-4b53-9a63-6f0a6c2f4f0e")  # of our bills' serial numbers


NOTE = Path(__file__).parent.parent / "rstpm_edge" / "station" / "page" / "uplot-licence.txt"


@dataclass(frozen=True)
class Compiled:
    """What is compiled into the wheel from a package that wheels.txt lists."""

    name: str
    package: str
    licence: str


COMPILED = (
    Compiled("libc++", "ziglang", "Apache-2.0 WITH LLVM-exception"),
    Compiled("pybind11", "pybind11", "BSD-3-Clause"),
)


def bill_of(wheel: Path, report: Mapping[str, Any], versions: Mapping[str, str], time: int) -> str:
    """The bill as JSON. `versions` are those of wheels.txt, `time` is in seconds since 1970.

    Raises ValueError where the report is not of this wheel, or lacks a package that is needed on its system.
    """
    found: dict[str, Mapping[str, Any]] = {
        canonicalize_name(item["metadata"]["name"]): item for item in report["install"]
    }
    if OURS not in found:
        raise ValueError(f"The report says nothing of {OURS}.")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    bom = Bom(serial_number=uuid.uuid5(_NAMESPACE, digest))
    bom.metadata.timestamp = datetime.fromtimestamp(time, timezone.utc)
    machine = re.search(r"_(x86_64|aarch64)\.whl$", wheel.name)  # pip tells of the one that it runs on
    system = {**report["environment"], "extra": "", **({"platform_machine": machine[1]} if machine else {})}
    components: dict[str, Component] = {name: _component(item) for name, item in found.items()}
    root = components[OURS]
    root.type = ComponentType.APPLICATION
    root.hashes = [HashType(alg=HashAlgorithm.SHA_256, content=digest)]
    root.properties = [Property(name="rstpm-edge:wheel", value=wheel.name)]
    bom.metadata.component = root
    waiting, listed = [OURS], {OURS}
    while waiting:  # what pip found for this machine, and that one does not need, is left out
        name = waiting.pop()
        needed = _needs(found[name], system)
        if missing := sorted(set(needed) - set(found)):
            raise ValueError(f"The report says nothing of {missing[0]}, which {name} needs: let pip resolve it, too.")
        needs = [components[other] for other in needed]
        if name == OURS:
            needs += [_compiled(one, versions[one.package]) for one in COMPILED]
            needs.append(_uplot(NOTE))
        for component in needs:
            bom.components.add(component)
        bom.register_dependency(components[name], needs)
        waiting += [other for other in needed if other not in listed]
        listed.update(needed)
    text: str = JsonV1Dot6(bom).output_as_string(indent=2)
    return text + "\n"


def pinned(requirements: str) -> dict[str, str]:
    """Versions by name, of a file that fixes each."""
    return dict(re.findall(r"^([\w.-]+)==(\S+)$", requirements, re.MULTILINE))


def _component(item: Mapping[str, Any]) -> Component:
    metadata = item["metadata"]
    name, version = canonicalize_name(metadata["name"]), metadata["version"]
    hashes = item["download_info"].get("archive_info", {}).get("hashes", {})
    purl = PackageURL("pypi", name=name, version=version)
    return Component(
        name=name,
        version=version,
        type=ComponentType.LIBRARY,
        scope=ComponentScope.REQUIRED,
        bom_ref=str(purl),
        purl=purl,
        description=metadata.get("summary"),
        licenses=_licences(metadata),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=hashes["sha256"])] if "sha256" in hashes else [],
    )


def _licences(metadata: Mapping[str, Any]) -> Sequence[Any]:
    """What the package says of its licence: as an SPDX expression, in its own words, or by a classifier."""
    make = LicenseFactory()
    for field in ("license_expression", "license"):
        text = (metadata.get(field) or "").strip()
        if text and len(text) <= _LONGEST_LICENCE and "\n" not in text:
            return [make.make_from_string(text)]
    classified = [text for text in metadata.get("classifier", []) if text.startswith("License :: ")]
    return [make.make_with_name(text.rpartition(" :: ")[2]) for text in classified]


def _needs(item: Mapping[str, Any], system: Mapping[str, str]) -> list[str]:
    """Names of what a package needs on that system, without extras."""
    needed = map(Requirement, item["metadata"].get("requires_dist") or [])
    return [canonicalize_name(one.name) for one in needed if one.marker is None or one.marker.evaluate(system)]


def _compiled(one: Compiled, version: str) -> Component:
    return Component(
        name=one.name,
        version=version if one.name == one.package else f"of {one.package} {version}",
        type=ComponentType.LIBRARY,
        scope=ComponentScope.REQUIRED,
        bom_ref=f"compiled-in:{one.name}",
        purl=PackageURL("pypi", name=one.package, version=version),
        licenses=[LicenseFactory().make_from_string(one.licence)],
        description="compiled into the wheel's extension",
    )


def _uplot(note: Path) -> Component:
    """The script that draws the chart of the station's page; its first line and its licence are in `note`.

    Raises ValueError where the note does not say which version that is, or the script is another one.
    """
    said = note.read_text(encoding="utf-8")
    version = re.match(r"uPlot (\d+\.\d+\.\d+), ", said)
    script = note.with_name("uplot.js").read_bytes()
    if version is None or "The MIT License" not in said or f"(v{version[1]})".encode() not in script[:100]:
        raise ValueError(f"{note} does not say the version and licence of the script beside it.")
    purl = PackageURL("npm", name="uplot", version=version[1])
    return Component(
        name="uPlot",
        version=version[1],
        type=ComponentType.LIBRARY,
        scope=ComponentScope.REQUIRED,
        bom_ref=str(purl),
        purl=purl,
        licenses=[LicenseFactory().make_from_string("MIT")],
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=hashlib.sha256(script).hexdigest())],
        description="in the wheel, as rstpm_edge/station/page/uplot.js",
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("wheel", type=Path)
    parser.add_argument("report", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--time", type=int, required=True, metavar="SECONDS", help="since 1970, of the last commit")
    options = parser.parse_args()
    try:
        report = json.loads(options.report.read_text())
        bill = bill_of(options.wheel, report, pinned(REQUIREMENTS.read_text()), options.time)
    except (OSError, ValueError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    options.output.write_text(bill)
    return 0


if __name__ == "__main__":
    sys.exit(main())
