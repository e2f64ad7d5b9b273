"""Results of a benchmark: one for each category and seed, kept as JSON, and the tables over them."""

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rstpm_edge.atomic_files import write_json
from rstpm_edge.errors import TrainingError
from rstpm_edge.printable import one_line

from ..evaluation.evaluation import Metrics

PAIRS = {"both": "both pairs", "stpm": "STPM pair alone", "recon": "reconstruction pair alone"}
COLUMNS = {
    "image_auroc": "image AUROC",
    "image_ap": "image AP",
    "image_f1": "best F1",
    "pixel_auroc": "pixel AUROC",
    "pixel_ap": "pixel AP",
    "aupro_30": "AUPRO",
}


@dataclass(frozen=True)
class RunResult:
    """What one training came to on the test images. `evaluation` is what Evaluation.to_json gives."""

    category: str
    seed: int
    split: str
    images: int  # learned from and held out
    test_images: int
    epochs: int
    minutes: float
    evaluation: Mapping[str, Any]

    def metric(self, pair: str, name: str) -> float | None:
        """One figure of a row of the evaluation; None where there are no masks."""
        figure: float | None = getattr(Metrics(**self.evaluation[pair]), name)
        return figure


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation over seeds; no deviation for one."""

    mean: float
    std: float | None
    values: tuple[float, ...]

    def __str__(self) -> str:
        return f"{self.mean:.3f}" + ("" if self.std is None else f" ± {self.std:.3f}")


def save_result(path: Path, result: RunResult, *, below: Path | None = None) -> None:
    """`below` as for `replacing`. Raises OutputError."""
    write_json(path, asdict(result), below=below)


def load_result(path: Path, category: str, seed: int) -> RunResult | None:
    """The result in `path`, or None when there is none. Raises TrainingError when it is damaged or another's."""
    try:
        result = RunResult(**json.loads(path.read_text()))
        figures = [result.metric(pair, name) for pair in PAIRS for name in COLUMNS]
        if not all(figure is None or 0 <= figure <= 1 for figure in figures):
            raise ValueError("a figure is not between 0 and 1")
        if not (math.isfinite(result.minutes) and result.images > 0):
            raise ValueError("its minutes or images are no numbers")
        if (result.category, result.seed) != (category, seed):
            raise ValueError(f"it is that of {result.category}, seed {result.seed}")
        return result
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise TrainingError(
            f"The result {path} is damaged ({error}): delete it, and the next benchmark trains that one again."
        ) from error


def spread(values: Iterable[float | None]) -> Spread | None:
    """Over one value a seed; None without values, or where one is None."""
    given = list(values)
    known = [value for value in given if value is not None]
    if not known or len(known) < len(given):
        return None
    return Spread(statistics.fmean(known), statistics.stdev(known) if len(known) > 1 else None, tuple(known))


def by_category(results: Iterable[RunResult]) -> dict[str, list[RunResult]]:
    """The results of each category, in their order."""
    groups: dict[str, list[RunResult]] = {}
    for result in results:
        groups.setdefault(result.category, []).append(result)
    return groups


def mean_over_categories(results: Sequence[RunResult], pair: str, name: str) -> Spread | None:
    """The categories' mean for each seed that all of them have, and its spread over these seeds."""
    groups = by_category(results)
    common = set.intersection(*({result.seed for result in group} for group in groups.values())) if groups else set()
    means = []
    for seed in sorted(common):
        figures = spread(result.metric(pair, name) for result in results if result.seed == seed)
        means.append(figures.mean if figures else None)
    return spread(means)


def summary(results: Sequence[RunResult]) -> dict[str, Any]:
    """For JSON: {"categories": {NAME: {PAIR: {METRIC: {"mean", "std", "values"}}, …}}, "mean": {PAIR: …}}."""

    def rows(figure: Any) -> dict[str, Any]:
        table = {pair: {name: figure(pair, name) for name in COLUMNS} for pair in PAIRS}
        return {
            pair: {name: asdict(found) if found else None for name, found in row.items()} for pair, row in table.items()
        }

    categories = {
        category: {
            **rows(lambda pair, name, group=group: spread(result.metric(pair, name) for result in group)),
            "seeds": [result.seed for result in group],
            "split": group[0].split,
            "images": group[0].images,
            "test_images": group[0].test_images,
            "minutes": statistics.fmean(result.minutes for result in group),
        }
        for category, group in by_category(results).items()
    }
    return {"categories": categories, "mean": rows(lambda pair, name: mean_over_categories(results, pair, name))}


def text_table(results: Sequence[RunResult]) -> str:
    """For a terminal: a line for each category, and the means of both pairs and of each alone."""
    groups = by_category(results)
    lines = [" " * 28 + "".join(f"{title:>16}" for title in COLUMNS.values())]
    for category, group in groups.items():
        figures = [spread(result.metric("both", name) for result in group) for name in COLUMNS]
        lines.append(f"{one_line(category)[:27]:28}" + "".join(f"{_cell(figure):>16}" for figure in figures))
    for pair, title in PAIRS.items():
        figures = [mean_over_categories(results, pair, name) for name in COLUMNS]
        label = f"mean of {len(groups)}" if pair == "both" else f"  {title}"
        lines.append(f"{label:28}" + "".join(f"{_cell(figure):>16}" for figure in figures))
    return "\n".join(lines)


def markdown(results: Sequence[RunResult]) -> str:
    """A table for both pairs and one for each alone, a row for each category and one for their mean."""
    groups = by_category(results)
    parts = []
    for pair, title in PAIRS.items():
        rows = [
            [one_line(category), *(_cell(spread(result.metric(pair, name) for result in group)) for name in COLUMNS)]
            for category, group in groups.items()
        ]
        rows.append([f"mean of {len(groups)}", *(_cell(mean_over_categories(results, pair, name)) for name in COLUMNS)])
        parts.append(f"{title[0].upper()}{title[1:]}\n\n{_table(['category', *COLUMNS.values()], rows)}")
    splits = "\n".join(
        f"- {one_line(category)}: {group[0].images} images to learn from, {group[0].test_images} to test on; split: "
        f"{group[0].split}; seeds {', '.join(str(result.seed) for result in group)}; "
        f"{statistics.fmean(result.minutes for result in group):.1f} minutes of training"
        for category, group in groups.items()
    )
    return "\n\n".join([*parts, splits]) + "\n"


def _cell(figure: Spread | None) -> str:
    return "–" if figure is None else str(figure)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
