"""`make docs`: the site has every page, its links are checked, and it loads nothing from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from checkout import ROOT

pytestmark = pytest.mark.extra


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("material")
    pytest.importorskip("mkdocstrings")
    folder = tmp_path_factory.mktemp("docs") / "site"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--config-file", ROOT / "mkdocs.yml", "-d", folder]
    run = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    return folder


def test_every_page_is_there(site: Path) -> None:
    pages = {path.relative_to(ROOT / "docs").with_suffix("") for path in (ROOT / "docs").rglob("*.md")}
    pages = {path.with_name("index") if path.name == "README" else path for path in pages}
    built = {path.relative_to(site).with_suffix("") for path in site.rglob("*.html")}
    assert pages <= built
    assert {Path(name) for name in ("overview", "CONTRIBUTING", "CHANGELOG", "SECURITY", "reference/api")} <= built


def test_public_names_have_their_docstrings(site: Path) -> None:
    page = (site / "reference" / "api.html").read_text()
    for name in ("rstpm_edge.detector.Detector", "rstpm_edge.result.Result", "rstpm_edge.errors.UsageError"):
        assert f'id="{name}"' in page
    assert "Judges images with a model that" in page


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    loads = re.compile(r"<(?:script|link|img|iframe|source)\b[^>]*(?:src|href)=[\"']?(?:https?:)?//[^\s\"'>]+")
    for page in site.rglob("*.html"):
        assert loads.findall(page.read_text()) == [], page
    for sheet in site.rglob("*.css"):
        assert re.findall(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", sheet.read_text()) == [], sheet


def test_search_works_without_a_server(site: Path) -> None:
    assert (site / "search" / "search_index.js").read_text().startswith("var __index = {")
    assert 'src="site/iframe-worker.js"' in (site / "index.html").read_text()
    assert (site / "site" / "iframe-worker.js").is_file()


def test_files_that_pages_link_to_are_there(site: Path) -> None:
    assert (site / "source" / "examples" / "rstpm-edge.service").read_bytes() == (
        ROOT / "examples" / "rstpm-edge.service"
    ).read_bytes()
    assert 'href="source/examples/rstpm-edge.service"' in (site / "line.html").read_text()


def test_links_between_files_become_links_between_pages() -> None:
    docs_site = pytest.importorskip("docs_site")
    relinked = docs_site.relinked
    assert relinked("[a](../SECURITY.md#x) [b](trust.md)", "line.md") == "[a](SECURITY.md#x) [b](trust.md)"
    assert relinked("[a](docs/line.md)", "overview.md") == "[a](line.md)"
    assert relinked("[a](../line.md#y)", "reference/output.md") == "[a](../line.md#y)"
    assert relinked("[a](../examples/Dockerfile)", "line.md") == "[a](source/examples/Dockerfile)"
    for kept in (
        "`[a](../SECURITY.md)`",
        "```\n[a](../SECURITY.md)\n```",
        "[a](https://x.y/z)",
        "[a](lost.md)",
        "[a](#b)",
    ):
        assert relinked(kept, "line.md") == kept


def test_the_navigation_is_that_of_the_index() -> None:
    docs_site = pytest.importorskip("docs_site")
    index = "**Learn.** Now.\n\n- [One](a.md), [two](b.md)\n- [Again](a.md)\n\n**Look up.**\n\n- [S](../SECURITY.md)\n"
    learn, look_up = docs_site.navigation(index)[1:3]
    assert learn == {"Learn": [{"One": "a.md"}, {"two": "b.md"}]}
    assert look_up == {"Look up": [{"S": "SECURITY.md"}]}
