"""An HTML document taken apart, with complaints about what does not match."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "link", "img", "br", "input"}


@dataclass
class Element:
    """A node of the document: its tag, its attributes, and all text below it."""

    tag: str
    attributes: dict[str, str | None]
    text: str = ""
    inside: list[str] = field(default_factory=list)  # tags and ids of what it stands in


class Document(HTMLParser):
    """Every element of a document, and complaints about tags that do not match."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.elements: list[Element] = []
        self.problems: list[str] = []
        self._open: list[Element] = []
        self.feed(content)
        self.close()
        self.problems += [f"<{element.tag}> is never closed" for element in self._open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if len({name for name, _ in attrs}) != len(attrs):
            self.problems.append(f"<{tag}> has an attribute twice")
        inside = [name for element in self._open for name in (element.tag, element.attributes.get("id") or "")]
        element = Element(tag, dict(attrs), inside=inside)
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()  # <rect/>, as SVG may have it

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open[-1].tag != tag:
            self.problems.append(f"</{tag}> closes {self._open[-1].tag if self._open else 'nothing'}")
        else:
            self._open.pop()

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.text += data

    def all(self, tag: str, **attributes: str) -> list[Element]:
        found = (element for element in self.elements if element.tag == tag)
        return [e for e in found if all(e.attributes.get(name) == value for name, value in attributes.items())]

    def one(self, tag: str, **attributes: str) -> Element:
        (element,) = self.all(tag, **attributes)
        return element

    def table(self, section: str) -> list[list[str]]:
        """The cells of the rows in the bodies and feet of the tables of a section."""
        rows: list[list[str]] = []
        for element in self.elements:
            if section in element.inside and "thead" not in element.inside:
                if element.tag == "tr":
                    rows.append([])
                elif element.tag in ("th", "td"):
                    rows[-1].append(" ".join(element.text.split()))
        return rows
