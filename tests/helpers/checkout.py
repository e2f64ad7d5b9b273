"""Where the sources lie that are tested."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
