"""What MkDocs does beside rendering, for `make docs`: hooks that mkdocs.yml names.

The navigation is that of docs/README.md: its bold words are sections, its links are pages. Pages beside docs/ (README,
CONTRIBUTING, CHANGELOG, SECURITY) are part of the site, and so is each file that a page links to, as it is. A page of
the public names is made of their docstrings.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import rstpm_edge

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
INDEX = "README.md"
# Beside docs/: what they are called in the site, where docs/README.md is the first page.
BESIDE = {
    "README.md": "overview.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "CHANGELOG.md": "CHANGELOG.md",
    "SECURITY.md": "SECURITY.md",
}
PROJECT = "Project"  # the section of those that docs/README.md does not name
API = "reference/api.md"
_LINK = re.compile(r"(?<=\]\()([^)\s#]+)((?:#[^)\s]*)?)(?=\))")
_CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.M | re.S)


def navigation(index: str) -> list[dict[str, Any]]:
    """The sections of docs/README.md with the pages that each lists; a page stands where it is named first."""
    sections: list[dict[str, Any]] = [{"Documentation": INDEX}]
    known = {INDEX, API}
    for line in index.splitlines():
        heading = re.match(r"\*\*(.+?)\.\*\*", line)
        if heading:
            sections.append({heading[1]: []})
        if len(sections) > 1 and line.startswith(("- ", "  ")):
            pages = next(iter(sections[-1].values()))
            for title, target in re.findall(r"\[([^]]+)\]\(([^)\s#]+\.md)\)", line):
                page = BESIDE.get(os.path.normpath(target.removeprefix("../")), target)
                if page not in known:
                    known.add(page)
                    pages.append({title.replace("`", ""): page})
                if page == "reference/python.md":
                    pages.append({"Python, from docstrings": API})
    rest = {"Overview": "overview.md", "Contributing": "CONTRIBUTING.md", "Changelog": "CHANGELOG.md"}
    sections.append({PROJECT: [{title: page} for title, page in rest.items() if page not in known]})
    return sections


def api_page() -> str:
    """What mkdocstrings makes a page of: each public name, where it is defined."""
    lines = ["# Python, from docstrings", "", "What `rstpm_edge` promises. Other modules are internal, and may change."]
    for name in rstpm_edge.__all__:
        value = getattr(rstpm_edge, name)
        if isinstance(value, type) or callable(value):
            lines += ["", f"::: {value.__module__}.{value.__qualname__}"]
    lines += ["", "::: rstpm_edge.errors", "    options: { show_root_heading: true, show_if_no_docstring: true }"]
    return "\n".join(lines) + "\n"


def place_in_site(file: Path) -> str:
    """Where a file of the repository lies in the site."""
    name = file.relative_to(ROOT).as_posix()
    return file.relative_to(DOCS).as_posix() if file.is_relative_to(DOCS) else BESIDE.get(name, f"source/{name}")


def source_of(page: str) -> Path:
    """The file of the repository that a page of the site is."""
    beside = {place: name for name, place in BESIDE.items()}
    return ROOT / beside[page] if page in beside else DOCS / page


def relinked(text: str, page: str) -> str:
    """A page's Markdown with links between files of the repository as links between those of the site."""
    source = source_of(page)

    def change(found: re.Match[str]) -> str:
        target, anchor = found.groups()
        if re.match(r"[a-z][a-z0-9+.-]*:", target):
            return found[0]
        file = (source.parent / unquote(target)).resolve()
        if not file.is_file() or not file.is_relative_to(ROOT):
            return found[0]  # MkDocs says that it is lost
        return os.path.relpath(place_in_site(file), os.path.dirname(page) or ".") + anchor

    parts, at = [], 0
    for code in _CODE.finditer(text):
        parts += [_LINK.sub(change, text[at : code.start()]), code[0]]
        at = code.end()
    return "".join([*parts, _LINK.sub(change, text[at:])])


def linked_files(text: str, page: str) -> set[Path]:
    """Files of the repository, beside pages and docs/, that a page links to."""
    source = source_of(page)
    found = {(source.parent / unquote(target)).resolve() for target, _ in _LINK.findall(_CODE.sub("", text))}
    return {file for file in found if file.is_file() and place_in_site(file).startswith("source/")}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    config.nav = navigation((DOCS / INDEX).read_text())
    return config


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add what does not lie in docs/."""
    for name, place in BESIDE.items():
        files.append(File.generated(config, place, content=(ROOT / name).read_text()))
    files.append(File.generated(config, API, content=api_page()))
    pages = [file.src_uri for file in files.documentation_pages() if file.src_uri != API]
    linked = {file for page in pages for file in linked_files(source_of(page).read_text(), page)}
    for file in sorted(linked):
        files.append(File.generated(config, place_in_site(file), abs_src_path=str(file)))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    return markdown if page.file.src_uri == API else relinked(markdown, page.file.src_uri)
