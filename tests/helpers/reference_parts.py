"""Folders of a measurement-system analysis, and judged parts, for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from rstpm_edge.msa.agreement import JudgedPart, Judgement
from rstpm_edge.msa.reference_parts import Reference

VERDICTS = {"n": "normal", "a": "anomalous", "i": "invalid"}


def part(reference: Reference, verdicts: str, scores: Sequence[float] = (), name: str = "part") -> JudgedPart:
    """`verdicts` has a letter a repeat: n, a or i; others are verdicts themselves."""
    scores = scores or [0.0] * len(verdicts)
    return JudgedPart(
        name,
        reference,
        tuple(
            Judgement(Path(f"{number}.png"), "", VERDICTS.get(letter, letter), score)
            for number, (letter, score) in enumerate(zip(verdicts, scores, strict=True))
        ),
    )


def shot(grey: float, rng: np.random.Generator, size: tuple[int, int] = (48, 64)) -> NDArray[np.uint8]:
    """A grey photo of an even part, (H, W, 3), with a noise of 3 grey levels."""
    noise = rng.normal(0, 3, (*size, 1))
    return np.repeat(np.asarray((grey + noise).round().clip(0, 255), np.uint8), 3, axis=2)


def write_parts(folder: Path, parts: Mapping[str, Sequence[float]], size: tuple[int, int] = (48, 64)) -> Path:
    """By part, such as good/a, the grey levels of its repeats. The tiny model calls 127 ± 21 normal."""
    rng = np.random.default_rng(0)
    for name, levels in parts.items():
        (folder / name).mkdir(parents=True)
        for number, grey in enumerate(levels):
            cv2.imwrite(str(folder / name / f"{number}.png"), shot(grey, rng, size))
    return folder
