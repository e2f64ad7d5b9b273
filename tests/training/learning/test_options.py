"""Options of a training that cannot work are refused before any work."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from small_training import teach

from rstpm_edge.errors import UsageError, WeightsError
from rstpm_edge.training.learning import (
    train,
)
from rstpm_edge.training.learning.run_summary import load_summary
from rstpm_edge.training.model.presets import EDGE, EDGE_SMALL


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"size": (100, 64)}, "The input size 100x64 does not work: .* multiples of 32, from 64 to 4096"),
        ({"size": (64, 4128)}, "The input size 64x4128 does not work"),
        ({"size": (64, 32)}, "The input size 64x32 does not work"),
        ({"size": (0, 0)}, "The input size 0x0 does not work"),
        ({"size": None, "most_pixels": 4095}, "The most pixels of an input are at least 4096, not 4095"),
        ({"most_pixels": 8192}, "Give a size, or the most pixels of one that is chosen, not both"),
        ({"holdout": 0.0}, "`holdout` is a share between 0 and 1, not 0"),
        ({"holdout": 1.0}, "`holdout` is a share between 0 and 1, not 1"),
        ({"holdout": float("nan")}, "`holdout` is a share between 0 and 1, not nan"),
        ({"epochs": 0}, "`epochs` must be at least 1, not 0"),
        ({"max_minutes": 0.0}, "`max_minutes` must be positive, and at most 1000000, not 0"),
        ({"max_minutes": float("nan")}, "`max_minutes` must be positive, and at most 1000000, not nan"),
        ({"max_minutes": float("inf")}, "`max_minutes` must be positive, and at most 1000000, not inf"),
        ({"max_minutes": 1e308}, r"`max_minutes` must be positive, and at most 1000000, not 1e\+308"),
        ({"alpha": 0.01}, "rate of 0.01 needs at least 99 held-out good images, but there are 2: hold more of them"),
        ({"alpha": 0.0}, "`alpha` must lie between 0 and 1"),
        ({"alpha": 1.5}, "`alpha` must lie between 0 and 1"),
        ({"seed": -1}, r"`seed` must lie between 0 and 2\^63 - 1, not -1"),
        ({"seed": 1 << 64}, "`seed` must lie between"),
        (
            {"weights": {"resnet18": "x.pth"}},
            "`weights` names resnet18, but the teachers are tf_efficientnet_lite0 and tf_efficientnet_lite1",
        ),
    ],
    ids=lambda value: re.sub(r"[^a-z0-9]+", "-", str(value).lower()).strip("-") if isinstance(value, dict) else "",
)
def test_options_that_cannot_work(
    parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], says: str
) -> None:
    monkeypatch.setattr(train, "RSTPM", None)  # nothing is built
    with pytest.raises(UsageError, match=f"^{says}" if says.startswith("--") else says):
        teach(parts, tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()


def test_the_small_preset_takes_multiples_of_64(parts: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"The input size 128x96 does not work: .* multiples of 64, from 128 to 4096"):
        teach(parts, tmp_path / "run", size=(128, 96), preset=EDGE_SMALL)


def test_an_alpha_that_the_images_allow(parts: Path, tmp_path: Path) -> None:
    folder = teach(parts, tmp_path / "run", epochs=1, alpha=0.34, holdout=0.2)
    assert load_summary(folder).calibration.alpha == 0.34


def test_weights_that_are_missing(parts: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"^Cannot read the weights .*x\.pth: No such file or directory\.$"):
        teach(parts, tmp_path / "run", weights={EDGE.teacher1: str(tmp_path / "x.pth")})
    assert not (tmp_path / "run").exists()
