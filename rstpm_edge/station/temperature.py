"""How warm the box is, as Linux tells it."""

import contextlib
from pathlib import Path

ZONES = Path("/sys/class/thermal")


def temperatures(folder: Path = ZONES) -> dict[str, float]:
    """Degrees Celsius of each thermal zone, by its type, such as "cpu-thermal"; empty where none is told."""
    found: dict[str, float] = {}
    for zone in sorted(folder.glob("thermal_zone*")):
        with contextlib.suppress(OSError, ValueError):  # a sensor that sleeps
            name = (zone / "type").read_text().strip()
            celsius = int((zone / "temp").read_text()) / 1000
            found[name if name not in found else f"{name} {zone.name.removeprefix('thermal_zone')}"] = celsius
    return found
