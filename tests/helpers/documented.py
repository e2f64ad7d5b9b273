"""Code that stands in the documentation."""

from __future__ import annotations

import re

from checkout import ROOT


def embedding_page() -> str:
    return (ROOT / "docs" / "embedding.md").read_text()


def code_block(language: str, word: str) -> str:
    """The block of that language in docs/embedding.md in which a word occurs."""
    (found,) = [code for code in re.findall(rf"```{language}\n(.*?)```", embedding_page(), re.DOTALL) if word in code]
    return str(found)
