"""AUPRO by its definition: counted at every threshold, in fractions."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np


def pooled(arrays):
    return np.concatenate([array.ravel() for array in arrays])


def flood_fill_regions(mask):
    """The 8-connected regions of one mask, each a list of (y, x)."""
    todo = {(int(y), int(x)) for y, x in np.argwhere(mask)}
    regions = []
    while todo:
        region, stack = [], [todo.pop()]
        while stack:
            y, x = stack.pop()
            region.append((y, x))
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & todo
            todo -= near
            stack.extend(near)
        regions.append(region)
    return regions


def brute_force_aupro(masks, maps, fpr_limit):
    """Count at every distinct value, in fractions; then add up trapezoids, the last cut off at the limit."""
    good = pooled(maps)[~pooled(masks)]
    regions = [
        np.array([anomaly_map[pixel] for pixel in region])
        for mask, anomaly_map in zip(masks, maps, strict=True)
        for region in flood_fill_regions(mask)
    ]
    points = [(Fraction(0), Fraction(0))]
    for threshold in np.unique(pooled(maps))[::-1]:
        fpr = Fraction(int((good >= threshold).sum()), len(good))
        overlaps = [Fraction(int((region >= threshold).sum()), len(region)) for region in regions]
        points.append((fpr, sum(overlaps) / len(overlaps)))
    limit, area = Fraction(fpr_limit), Fraction(0)
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 < limit < x1:
            x1, y1 = limit, y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
        if x1 <= limit:
            area += (x1 - x0) * (y0 + y1) / 2
    return float(area / limit)
