"""The processes below one of ours, with their command lines: Ray's workers among them."""

from __future__ import annotations

from pathlib import Path


def processes_below(process: int) -> dict[int, str]:
    """Ids and command lines of all that `process` has started, and of what these have."""
    parents, names = {}, {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                names[int(folder.name)] = (folder / "cmdline").read_bytes().decode(errors="replace")
            except OSError:  # it has ended
                continue
    below = {process}
    while more := {one for one, parent in parents.items() if parent in below} - below:
        below |= more
    return {one: names[one] for one in below - {process} if one in names}
