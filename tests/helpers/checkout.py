"""Where the sources lie that are tested."""

from pathlib import Path

import rstpm_edge

ROOT = Path(__file__).parents[2]


def modules() -> dict[str, Path]:
    """The files of the package by their names in a checkout, where it is installed from a wheel, too."""
    package = Path(rstpm_edge.__file__).parent
    training = package / "training"  # a link, in a checkout
    found = {f"rstpm_edge/{path.relative_to(package)}": path for path in package.rglob("*.py")}
    own = {name: path for name, path in found.items() if not name.startswith("rstpm_edge/training/")}
    return own | {f"training/{path.relative_to(training)}": path for path in training.rglob("*.py")}
