"""What PyInstaller must know to put rstpm-edge into a program; it finds this by the entry point `pyinstaller40`."""

from pathlib import Path


def hook_dirs() -> list[str]:
    """Where the hooks lie."""
    return [str(Path(__file__).parent)]
