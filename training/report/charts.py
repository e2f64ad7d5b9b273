"""The report's two charts as inline SVG: the ROC curve, and histograms of the scores.

Colours come from the style sheet, by class, so that one chart serves a light screen, a dark one and paper.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

from ..evaluation.evaluation import JudgedImage, OperatingPoint

_Floats = NDArray[np.float64]
LABEL = (68, 13)  # width and height of the word "threshold"
BINS = 48  # as many as a row of 700 pixels shows well


def roc_chart(images: Sequence[JudgedImage], own: OperatingPoint, points: Sequence[OperatingPoint]) -> str:
    """The share of defects found over the share of good images rejected, with the thresholds marked on it."""
    left, top, side = 58, 14, 330
    svg = _svg(left + side + 22, top + side + 52, "ROC curve of the images")

    def at(fpr: float, tpr: float) -> tuple[float, float]:
        return left + side * fpr, top + side * (1 - tpr)

    for tick in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
        x, y = at(tick, tick)
        _line(svg, x, top, x, top + side, "grid")
        _line(svg, left, y, left + side, y, "grid")
        _text(svg, x, top + side + 18, f"{tick:.0%}", "tick middle")
        _text(svg, left - 8, y + 4, f"{tick:.0%}", "tick end")
    _text(svg, left + side / 2, top + side + 42, "good images rejected", "label middle")
    label = _text(svg, 0, 0, "defective images found", "label middle")
    label.set("transform", f"translate(13 {top + side / 2}) rotate(-90)")
    _line(svg, *at(0, 0), *at(1, 1), "chance")

    defective = [image.kind != "good" for image in images]
    fpr, tpr, _ = roc_curve(defective, [image.score for image in images])  # without points on a straight line
    corners = dict.fromkeys(f"{x:.1f},{y:.1f}" for x, y in map(at, fpr.tolist(), tpr.tolist()))
    ElementTree.SubElement(svg, "polyline", {"points": " ".join(corners), "class": "curve"})
    for point in (*(point for point in points if point is not own), own):  # the model's own on top
        x, y = at(point.false_rejects.rate, point.recall.rate)
        kind, radius = ("own", "6") if point is own else ("other", "4")
        circle = ElementTree.SubElement(
            svg, "circle", {"cx": f"{x:.1f}", "cy": f"{y:.1f}", "r": radius, "class": f"point {kind}"}
        )
        alpha = "" if point.alpha is None else f" (α = {point.alpha:.2%})"
        ElementTree.SubElement(circle, "title").text = (
            f"Threshold {point.threshold:.4g}{alpha}: {point.recall.rate:.1%} found, "
            f"{point.false_rejects.rate:.1%} rejected"
        )
    taken = [at(point.false_rejects.rate, point.recall.rate) for point in points]
    curve = list(map(at, fpr.tolist(), tpr.tolist()))
    for (x1, y1), (x2, y2) in pairwise(curve):
        steps = max(1, round(max(abs(x2 - x1), abs(y2 - y1)) / 6))
        taken += [(x1 + (x2 - x1) * i / steps, y1 + (y2 - y1) * i / steps) for i in range(steps + 1)]
    x, y, kind = _place_label(at(own.false_rejects.rate, own.recall.rate), taken, (left, top, left + side, top + side))
    _text(svg, x, y, "threshold", kind)
    return ElementTree.tostring(svg, encoding="unicode")


def _place_label(
    point: tuple[float, float], taken: Sequence[tuple[float, float]], plot: tuple[float, float, float, float]
) -> tuple[float, float, str]:
    """Where the label of `point` covers least of what is `taken`: x, y of its baseline, and its class."""
    left, top, right, bottom = plot

    def covers(place: tuple[float, float, str]) -> float:
        x, y, kind = place
        start = x - LABEL[0] if kind.endswith("end") else x
        box = (start, y - LABEL[1], start + LABEL[0], y + 3)
        outside = box[0] < left or box[1] < top or box[2] > right or box[3] > bottom
        near = sum(box[0] - 6 < a < box[2] + 6 and box[1] - 6 < b < box[3] + 6 for a, b in taken)
        return near + 1000 * outside

    x, y = point
    places = [
        (x + dx, y + dy, "label strong" if dx > 0 else "label strong end")
        for dy in (24, 40, 4, -14, -30)
        for dx in (12, -12)
    ]
    return min(places, key=covers)


def score_chart(scores: Mapping[str, _Floats], threshold: float, *, narrow: bool = False) -> str:
    """One histogram of scores for each kind, over one axis, with the threshold through all of them.

    Letters are as large as they are in the page where the chart is some 800 pixels wide, or `narrow`, 360.
    """
    left, width, row, top, counts = (96, 220, 46, 26, 44) if narrow else (120, 640, 46, 26, 52)
    bins_wanted, letters = (BINS // 3, 11) if narrow else (BINS, 16)
    bottom = top + row * len(scores)
    svg = _svg(left + width + counts, bottom + 50, "Histograms of the scores", "narrow" if narrow else "wide")
    low, high = _limits(np.concatenate(list(scores.values())), threshold)
    # Bins start at the threshold, so that each is on one side of it; a score equal to it is normal.
    step = (high - low) / bins_wanted
    first = math.ceil((low - threshold) / step) - 1
    start = threshold + first * step
    n = max(math.ceil((high - start) / step), 1 - first)  # one above the threshold at least

    def at(score: float) -> float:
        return left + width * (score - start) / (n * step)

    for tick in _ticks(start, start + n * step)[:: 2 if narrow else 1]:
        _line(svg, at(tick), top, at(tick), bottom, "grid")
        _text(svg, at(tick), bottom + 18, f"{tick:g}", "tick middle")
    for place, (name, values) in enumerate(scores.items()):
        base = top + row * (place + 1)
        bins = np.clip(np.ceil((values - start) / step).astype(int) - 1, 0, n - 1)
        count = np.bincount(bins, minlength=n)
        for i in np.flatnonzero(count).tolist():
            height = (row - 8) * count[i] / count.max()
            bar = {
                "x": f"{at(start + i * step) + 0.5:.1f}",
                "y": f"{base - height:.1f}",
                "width": f"{width / n - 1:.1f}",
                "height": f"{height:.1f}",
                "class": "bar right" if (i < -first) == (name == "good") else "bar wrong",
            }
            rect = ElementTree.SubElement(svg, "rect", bar)
            ElementTree.SubElement(rect, "title").text = f"{count[i]} of {len(values)}"
        _line(svg, left, base, left + width, base, "axis")
        _text(svg, left - 10, base - 6, _short(name, letters), "name end")
        _text(svg, left + width + 8, base - 6, f"{len(values)}", "tick")
    _line(svg, at(threshold), top - 8, at(threshold), bottom, "threshold")
    right = at(threshold) + 6 + 2 * LABEL[0] < left + width  # where there is room for the label
    _text(
        svg,
        at(threshold) + (6 if right else -6),
        top - 10,
        f"threshold {threshold:.4g}",
        "label strong" if right else "label strong end",
    )
    _text(svg, left + width / 2, bottom + 42, "score of an image", "label middle")
    _text(svg, left + width + counts - 1, top - 10, "images", "tick end")
    return ElementTree.tostring(svg, encoding="unicode")


def _limits(scores: _Floats, threshold: float) -> tuple[float, float]:
    """What the axis must show: the threshold and the scores, but for a few far ones, which would flatten the rest."""
    low, high = np.percentile(scores, (1, 99)).tolist()
    room = 0.25 * (high - low)
    low, high = max(low - room, float(scores.min())), min(high + room, float(scores.max()))
    low, high = min(low, threshold), max(high, threshold)
    if high - low < 1e-6 * max(abs(low), abs(high), 1e-6):  # all scores are alike
        return low - 0.5, high + 0.5
    return low, high


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers between the two, six to twelve of them."""
    power = 10.0 ** math.floor(math.log10((high - low) / 6))
    step = next(power * factor for factor in (5, 2, 1) if (high - low) / (power * factor) >= 5)
    return [round(i * step, 12) for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _short(name: str, most: int) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"


def _svg(width: float, height: float, title: str, kind: str = "") -> ElementTree.Element:
    svg = ElementTree.Element(
        "svg",
        {"viewBox": f"0 0 {width:g} {height:g}", "class": f"chart {kind}".strip(), "role": "img", "aria-label": title},
    )
    return svg


def _line(svg: ElementTree.Element, x1: float, y1: float, x2: float, y2: float, kind: str) -> None:
    ends = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
    ElementTree.SubElement(svg, "line", {**{key: f"{value:.1f}" for key, value in ends.items()}, "class": kind})


def _text(svg: ElementTree.Element, x: float, y: float, text: str, kind: str) -> ElementTree.Element:
    element = ElementTree.SubElement(svg, "text", {"x": f"{x:.1f}", "y": f"{y:.1f}", "class": kind})
    element.text = text
    return element
