"""The example of a container: what its Dockerfile names is there, and what it says of itself holds."""

from __future__ import annotations

import re
import shlex

import pytest
from checkout import ROOT

from rstpm_edge.cli.main import main

TEXT = (ROOT / "examples" / "Dockerfile").read_text()
NOTES = "\n".join(line.lstrip("# ") for line in TEXT.splitlines() if line.startswith("#"))


def stages() -> list[list[list[str]]]:
    """Instructions of each stage, as words."""
    lines = re.sub(r"\\\n", " ", "\n".join(line for line in TEXT.splitlines() if not line.startswith("#"))).splitlines()
    found: list[list[list[str]]] = []
    for line in filter(None, lines):
        words = shlex.split(line)
        if words[0] == "FROM":
            found.append([])
        found[-1].append(words)
    return found


@pytest.mark.checkout
def test_what_is_copied_is_there() -> None:
    build, final = stages()
    copied = [word for words in build if words[0] == "COPY" for word in words[1:-1]]
    assert {"pyproject.toml", "setup.py", "csrc", "rstpm_edge", "training"} <= set(copied)
    assert all((ROOT / name).exists() for name in copied)
    assert all(words[1] == "--from=build" for words in final if words[0] == "COPY")


def test_the_final_stage_has_no_tools_and_no_root() -> None:
    build, final = stages()
    assert build[0][1] == final[0][1]  # the same Python at the same place, so that the venv works
    assert not any(words[0] == "RUN" for words in final)
    (user,) = [words[1] for words in final if words[0] == "USER"]
    assert int(user.split(":")[0]) > 0
    (entry,) = [line for line in TEXT.splitlines() if line.startswith("ENTRYPOINT")]
    assert entry == 'ENTRYPOINT ["rstpm-edge"]'  # without a shell, which would keep signals and the exit code


def test_options_and_variables_that_it_names_exist() -> None:
    infer = main.commands["infer"]
    options = {option for parameter in infer.params for option in parameter.opts}
    used = [line[line.index("infer ") :] for line in NOTES.splitlines() if "infer /" in line]
    assert len(used) == 2
    named = {word for line in used for word in line.split() if word.startswith("--")}
    assert named == {"--json", "--save-overlay"} <= options
    assert "RSTPM_EDGE_MODEL" in TEXT
    assert any(parameter.envvar == "RSTPM_EDGE_MODEL" for parameter in infer.params)
    assert re.search(r"^mqtt = ", (ROOT / "pyproject.toml").read_text(), re.M)
