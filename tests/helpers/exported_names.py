"""The maps that a model of the preset `edge` gives, as its tests train it."""

from __future__ import annotations

SIZE = (64, 96)  # height, width
STRIDES = (8, 16, 32)
MAPS = [f"{pair}_{stride}{kind}" for kind in ("", "_error") for pair in ("stpm", "recon") for stride in STRIDES]
MAPS += [f"{pair}_{STRIDES[-1]}_angle" for pair in ("stpm", "recon")]
MAPS += ["head_8"]
