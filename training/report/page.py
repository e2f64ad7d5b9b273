"""What the reports for people have in common: a page that opens from disk, asks the network for nothing, and prints."""

import base64
import hashlib
from collections.abc import Sequence
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from .tables import counted, percent


def fill_in(template: str, scripts: Sequence[str], **content: Any) -> str:
    """The page that `template` gives with `content`, which is escaped but for Markup.

    `scripts` names packaged files. The template finds `style`, `script`, the `policy` that allows no others, and the
    filters percent, counted and figure.
    """
    engine = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    engine.filters["percent"] = percent
    engine.filters["counted"] = counted
    engine.filters["figure"] = lambda value: "–" if value is None else f"{value:.3f}"
    style, script = _packaged("report.css"), "\n".join(map(_packaged, scripts))
    return engine.from_string(template).render(
        style=Markup(style),
        script=Markup(script),
        policy=(
            f"default-src 'none'; img-src data:; style-src {_source(style)}; script-src {_source(script)}; "
            "base-uri 'none'; form-action 'none'"
        ),
        **content,
    )


def _packaged(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text("utf-8")


def _source(inline: str) -> str:
    """What a Content-Security-Policy calls one inline style or script, and no other."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()}'"
