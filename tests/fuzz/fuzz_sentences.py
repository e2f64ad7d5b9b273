"""What an error has to be, whatever the input: one of our tree, with a sentence for people."""

from __future__ import annotations

from rstpm_edge.errors import RstpmEdgeError

LONGEST = 2000  # characters


def check_sentence(error: Exception) -> None:
    """Raises AssertionError where `error` is none of our tree, or says nothing that can be shown."""
    assert isinstance(error, RstpmEdgeError), repr(error)
    sentence = str(error)
    assert sentence.strip(), repr(error)
    assert len(sentence) <= LONGEST, f"{len(sentence)} characters: {sentence[:200]}"
    assert sentence.isprintable(), f"not printable: {sentence!a}"
