"""What is said about the results of a leaderboard, in Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from leaderboard_measure import METRICS
from leaderboard_results import Latency, Result

from rstpm_edge.atomic_files import write_bytes
from rstpm_edge.errors import UsageError
from rstpm_edge.training.benchmark.results import Spread, spread

BEGIN, END = "<!-- leaderboard -->", "<!-- end of the leaderboard -->"
RULE = {"image_auroc": 0.01, "aupro_30": 0.02}  # what no set may lose
ALONE = {"maximum": "the map's maximum", "stpm": "STPM pair", "recon": "reconstruction pair"}


@dataclass(frozen=True)
class Row:
    """A contestant with the results that it has, of any set and seed, and its latency where it is known."""

    name: str
    results: tuple[Result, ...]
    latency: Latency | None = None

    def seeds(self, sets: Sequence[str]) -> list[int]:
        """Those that it has of all these sets."""
        of_each = [{one.seed for one in self.results if one.set == name} for name in sets]
        return sorted(set.intersection(*of_each)) if of_each else []

    def on(self, name: str) -> list[Result]:
        """Its results on a set, by seed."""
        return sorted((one for one in self.results if one.set == name), key=lambda one: one.seed)

    def matched(self, other: Row) -> Row:
        """With those of its results alone that are of a set and a seed that the other has results of, too."""
        theirs = {(one.set, one.seed) for one in other.results}
        return replace(self, results=tuple(one for one in self.results if (one.set, one.seed) in theirs))

    def figure(self, name: str, metric: str) -> Spread | None:
        """On a set, over its seeds."""
        return spread(one.figures[metric] for one in self.on(name))

    def mean(self, sets: Sequence[str], metric: str) -> Spread | None:
        """Over the sets that have it, for each seed that it has of all sets; over those seeds."""
        means = []
        for seed in self.seeds(sets):
            known = [one.figures[metric] for name in sets for one in self.on(name) if one.seed == seed]
            kept = [value for value in known if value is not None]
            means.append(statistics.fmean(kept) if kept else None)
        return spread(means)

    def interval(self, sets: Sequence[str], metric: str) -> tuple[float, float] | None:
        """Over the photos, at the mean of these sets: their ends' distances, averaged over seeds, add up as squares."""
        found = self.mean(sets, metric)
        distances: list[tuple[float, float]] = []
        for name in sets:
            known = [
                (value - ends[0], ends[1] - value)
                for one in self.on(name)
                if (value := one.figures[metric]) is not None and (ends := one.intervals[metric]) is not None
            ]
            if known:
                distances.append((statistics.fmean(d[0] for d in known), statistics.fmean(d[1] for d in known)))
        if found is None or not distances:
            return None
        low, high = (sum(each[side] ** 2 for each in distances) ** 0.5 / len(distances) for side in (0, 1))
        return max(0.0, found.mean - low), min(1.0, found.mean + high)

    def worst(self, sets: Sequence[str], metric: str) -> tuple[float, str] | None:
        """The lowest of the sets' means, and whose it is."""
        if not self.seeds(sets):
            return None
        known = [(found.mean, name) for name in sets if (found := self.figure(name, metric)) is not None]
        return min(known) if known else None


def tables(rows: Sequence[Row], sets: Sequence[str], base: str) -> str:
    """All that the board says: the mean over the sets, the worst, each set, what each part brings, and the verdicts."""
    parts = [f"**Mean over {len(sets)} sets** ({', '.join(sets)})" if len(sets) > 1 else f"**{sets[0]}**"]
    header = ["", *METRICS.values(), "latency, to ours (ms)", "core-minutes", "seeds"]
    front = on_front(rows, sets)
    parts.append(
        _table(
            header,
            [
                [
                    f"**{row.name}**" if row.name in front else row.name,
                    *(_cell(row.mean(sets, name), row.interval(sets, name)) for name in METRICS),
                    "–" if row.latency is None else f"{row.latency.ratio:.2f} ({row.latency.ms:.1f})",
                    _minutes(row, sets),
                    str(len(row.seeds(sets))),
                ]
                for row in rows
            ],
        )
    )
    if len(sets) > 1:
        parts += ["**Worst set**", _table(["", *METRICS.values()], [[row.name, *_worst(row, sets)] for row in rows])]
        for name in sets:
            body = [
                [row.name, *(_cell(row.figure(name, one), row.interval([name], one)) for one in METRICS)]
                for row in rows
                if row.on(name)
            ]
            if body:
                parts += [_about(name, rows), _table(["", *METRICS.values()], body)]
    if alone := _alone(rows, sets):
        parts += ["**What each pair does alone**: image AUROC, pixel AUROC, AUPRO", alone]
    for row in rows:
        for metric in RULE:
            if without := _without(row, sets, metric):
                parts += [f"**{row.name} without a part of it**, of the same trainings: {METRICS[metric]}", without]
    if differences := _beside(rows, sets, base):
        parts += [f"**Variants less {base}**, in points of {' and '.join(METRICS[one] for one in RULE)}", differences]
    if said := verdicts(rows, sets, base):
        parts.append("\n".join(f"- {line}" for line in said))
    return "\n\n".join(parts)


def verdicts(rows: Sequence[Row], sets: Sequence[str], base: str) -> list[str]:
    """A line for each variant of ours that has all sets, by the rule of `is_kept`, and the other way round."""
    return [
        f"{row.name}: {is_kept(row, usual, sets)[1]} The other way round, {base} in the place of {row.name} is "
        f"{'kept' if is_kept(usual, row, sets)[0] else 'not kept'}."
        for row, usual in _variants(rows, base)
        if row.matched(usual).seeds(sets)
    ]


def _variants(rows: Sequence[Row], base: str) -> list[tuple[Row, Row]]:
    """Each other contestant of ours, beside the base, where there is one."""
    ours = {row.name: row for row in rows if row.results and all(one.ours for one in row.results)}
    usual = ours.pop(base, None)
    return [] if usual is None else [(row, usual) for row in ours.values()]


def _beside(rows: Sequence[Row], sets: Sequence[str], base: str) -> str:
    """What each variant has more than the base, of the sets and seeds that both have."""
    body = []
    for row, usual in _variants(rows, base):
        new, old = row.matched(usual), usual.matched(row)
        cells = [_points((new.figure(name, one), old.figure(name, one)) for one in RULE) for name in sets]
        mean = _points((new.mean(sets, one), old.mean(sets, one)) for one in RULE)
        body.append([row.name, *cells, mean, str(len(new.seeds(sets)))])
    return _table(["", *sets, "mean", "seeds"], body) if body else ""


def _points(pairs: Iterable[tuple[Spread | None, Spread | None]]) -> str:
    found = [f"{100 * (new.mean - old.mean):+.1f}" for new, old in pairs if new is not None and old is not None]
    return ", ".join(found) or "–"


def is_kept(variant: Row, base: Row, sets: Sequence[str]) -> tuple[bool, str]:
    """Whether the variant may take the base's place, and a sentence with the reason.

    It may when the mean over the sets gains more than the seeds' spread, by image AUROC or by AUPRO, while the other
    of the two loses no more than its own, and no set loses more than a point of image AUROC or two of AUPRO. All that
    is of the seeds that both rows have. The spread is the larger one of the two rows' sample standard deviations over
    all of their seeds; where both have one seed it is not known, and counts as 0.
    """
    gains, lost = {}, []
    new_row, old_row = variant.matched(base), base.matched(variant)
    for metric, most in RULE.items():
        ours, theirs = new_row.mean(sets, metric), old_row.mean(sets, metric)
        if ours is None or theirs is None:
            continue
        gains[metric] = ours.mean - theirs.mean, max(_std(variant, sets, metric), _std(base, sets, metric))
        for name in sets:
            new, old = new_row.figure(name, metric), old_row.figure(name, metric)
            if new is not None and old is not None and old.mean - new.mean > most + 1e-9:
                lost.append(f"{name} loses {100 * (old.mean - new.mean):.1f} points of {METRICS[metric]}")
    gained = any(gain > least for gain, least in gains.values())
    fell = any(gain < -least for gain, least in gains.values())
    kept = gained and not fell and not lost
    means = ", ".join(f"{METRICS[metric]} {gain:+.3f} (spread {least:.3f})" for metric, (gain, least) in gains.items())
    alone = len(new_row.seeds(sets)) < 2
    reason = "; ".join(lost) or ("no set loses too much" if kept else "the mean does not gain enough")
    return kept, f"{'kept' if kept else 'not kept'}: {means}; {reason}{'; one seed' if alone else ''}."


def _std(row: Row, sets: Sequence[str], metric: str) -> float:
    found = row.mean(sets, metric)
    return 0.0 if found is None else found.std or 0.0


def on_front(rows: Sequence[Row], sets: Sequence[str]) -> set[str]:
    """The contestants that no other is as good as by mean image AUROC while being as fast, and better in one of them.

    Of those alone whose latency is known.
    """
    points = {
        row.name: (-mean.mean, row.latency.ratio)
        for row in rows
        if row.latency is not None and (mean := row.mean(sets, "image_auroc")) is not None
    }

    def beaten(point: tuple[float, float]) -> bool:
        return any(other[0] <= point[0] and other[1] <= point[1] and other != point for other in points.values())

    return {name for name, point in points.items() if not beaten(point)}


def agreement(quick: Sequence[Row], full: Sequence[Row], sets: Sequence[str]) -> str:
    """How alike quick and full results rank the contestants that have both: Kendall's tau. Raises UsageError."""
    from scipy.stats import kendalltau

    pairs = [
        (one, other)
        for one in quick
        for other in full
        if one.name == other.name and one.seeds(sets) and other.seeds(sets)
    ]
    if len(pairs) < 3:
        raise UsageError(
            f"A rank agreement takes three contestants with quick and full results on all sets; there are {len(pairs)}."
        )
    body, tau = [[one.name] for one, _ in pairs], ["Kendall's τ"]
    header = [""]
    for metric, title in METRICS.items():
        known = [(one.mean(sets, metric), other.mean(sets, metric)) for one, other in pairs]
        values = [(a.mean, b.mean) for a, b in known if a is not None and b is not None]
        header.append(f"{title}: quick, full")
        for line, (a, b) in zip(body, known, strict=True):
            line.append("–" if a is None or b is None else f"{a.mean:.3f}, {b.mean:.3f}")
        whole = len(values) == len(pairs)
        tau.append(f"{kendalltau(*zip(*values, strict=True)).statistic:.2f}" if whole else "–")
    return _table(header, [*body, tau])


def write_between(path: Path, text: str) -> None:
    """Put `text` between the two marks of a Markdown file. Raises UsageError where they are missing, OutputError."""
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"Cannot read {path}, which the table is to go into: {error}.") from error
    before, begin, rest = content.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UsageError(f"{path} needs a line {BEGIN} and, after it, a line {END}: the table goes between them.")
    write_bytes(path, f"{before}{BEGIN}\n\n{text}\n\n{END}{after}".encode())


def rows_of(results: Iterable[Result]) -> list[Row]:
    """A row for each contestant among the results, in their order."""
    found: dict[str, list[Result]] = {}
    for one in results:
        found.setdefault(one.contestant, []).append(one)
    return [Row(name, tuple(each)) for name, each in found.items()]


def _about(name: str, rows: Sequence[Row]) -> str:
    one = next(result for row in rows for result in row.on(name))
    return (
        f"**{name}**: {one.learned} photos to learn from; {one.good} good and {one.defective} defective ones to test on"
    )


def _worst(row: Row, sets: Sequence[str]) -> list[str]:
    found = (row.worst(sets, metric) for metric in METRICS)
    return ["–" if each is None else f"{each[0]:.3f} ({each[1]})" for each in found]


def _alone(rows: Sequence[Row], sets: Sequence[str]) -> str:
    body = []
    for row in rows:
        for name in sets:
            mine = row.on(name)
            if not mine or not mine[0].parts:
                continue
            parts: list[Callable[[Result], Mapping[str, float | None]]] = [lambda one: one.figures]
            parts += [lambda one, part=part: one.parts.get(part, {}) for part in ALONE]  # type: ignore[misc]
            body.append([row.name, name, *(_three(mine, part) for part in parts)])
    return _table(["", "set", "as it is", *ALONE.values()], body) if body else ""


def _without(row: Row, sets: Sequence[str], metric: str) -> str:
    """A line as it is, and one for each other way in which results of this contestant have been measured.

    Results without these do not count, so that all lines are of the same trainings.
    """
    found = [one for one in row.results if set(one.parts) > set(ALONE) and one.figures[metric] is not None]
    names = list(dict.fromkeys(name for one in found for name in one.parts if name not in ALONE))
    whole = replace(row, results=tuple(found))
    lines = {"as it is": whole}
    for name in names:
        measured = ((one, one.parts.get(name, {})) for one in found)
        own = [replace(one, figures={**one.figures, **part}) for one, part in measured if part.get(metric) is not None]
        if own:
            lines[name] = replace(row, results=tuple(own))
    sets = [name for name in sets if whole.on(name)]
    if len(lines) == 1:
        return ""
    body = [
        [
            name,
            *(_cell(each.figure(one, metric), None) for one in sets),
            _cell(each.mean(sets, metric), None),
            *([_recalls(each, sets)] if metric == "image_auroc" else []),
        ]
        for name, each in lines.items()
    ]
    return _table(["", *sets, "mean", *(["mean recall at 1 %, 5 %"] if metric == "image_auroc" else [])], body)


def _recalls(row: Row, sets: Sequence[str]) -> str:
    found = [row.mean(sets, metric) for metric in ("recall_01", "recall_05")]
    return ", ".join("–" if each is None else f"{each.mean:.3f}" for each in found)


def _three(results: Sequence[Result], part: Callable[[Result], Mapping[str, float | None]]) -> str:
    found = [spread(part(one).get(name) for one in results) for name in ("image_auroc", "pixel_auroc", "aupro_30")]
    return ", ".join(f"{each.mean:.3f}" for each in found if each is not None) or "–"


def _minutes(row: Row, sets: Sequence[str]) -> str:
    known = [one.core_minutes for name in sets for one in row.on(name)]
    return f"{statistics.fmean(known):.1f}" if known else "–"


def _cell(found: Spread | None, ends: Sequence[float] | None) -> str:
    return "–" if found is None else str(found) + ("" if ends is None else f" ({ends[0]:.2f}–{ends[1]:.2f})")


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
