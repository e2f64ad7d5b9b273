"""How many defective images among good ones `rstpm-edge audit` names first, over random draws.

python tools/measure_audit.py DATA --draws 20        # DATA in the MVTec AD layout
"""

import time
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from rstpm_edge.training.data import good_images, load_inputs, test_images
from rstpm_edge.training.model import RSTPM
from rstpm_edge.training.presets import EDGE
from rstpm_edge.training.unusual import CELL, describe, look, nearest, ranking_of

SIZE = (256, 256)


@click.command()
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--draws", type=click.IntRange(min=1), default=20, show_default=True)
@click.option("--good", type=click.IntRange(min=10), default=300, show_default=True, help="Good images in each draw.")
@click.option("--bad", type=click.IntRange(min=1), default=5, show_default=True, help="Defective ones among them.")
@click.option("--most", type=click.IntRange(min=1), default=10, show_default=True, help="Images that are named.")
@click.option("--mixed", is_flag=True, help="Take kinds in turn, not in proportion to their numbers.")
def main(data: Path, draws: int, good: int, bad: int, most: int, mixed: bool) -> None:
    """Mix defective test images into good training images, and count those among the ones that are named first."""
    goods = good_images(data)
    if good > len(goods):
        raise click.UsageError(f"--good {good} is more than the {len(goods)} good images in {data}.")
    defects = [image for image in test_images(data) if image.is_defective]
    if bad > len(defects):
        raise click.UsageError(f"--bad {bad} is more than the {len(defects)} defective images in {data}.")
    kinds = np.array([image.kind for image in defects])
    inputs, _, _ = load_inputs([*goods, *(image.path for image in defects)], SIZE, "stretch")
    levels = look(RSTPM(EDGE).eval(), inputs)
    found, started = [], time.monotonic()
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        picked = _mixed(kinds, bad, rng) if mixed else rng.choice(len(defects), bad, replace=False)
        rows = np.concatenate([rng.choice(len(goods), good, replace=False), len(goods) + picked])
        distances = nearest(describe([level[rows] for level in levels]), np.arange(len(rows)))
        first = ranking_of(distances, (SIZE[0] // CELL, SIZE[1] // CELL)).order()[:most]
        found.append(sum(row >= good for row in first))
        click.echo(f"draw {seed}: {found[-1]} of {bad} ({', '.join(kinds[picked])})")
    need = bad - 1
    click.echo(
        f"{np.mean(found):.2f} of {bad} on average; at least {need} in {sum(n >= need for n in found)} of {draws} "
        f"draws; {(time.monotonic() - started) / draws:.1f} s a draw, without the teachers."
    )


def _mixed(kinds: NDArray[np.str_], bad: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """`bad` rows, one of each kind in turn."""
    orders = [rng.permutation(np.flatnonzero(kinds == kind)) for kind in np.unique(kinds)]
    turns = [order[i] for i in range(max(map(len, orders))) for order in orders if i < len(order)]
    return np.array(turns[:bad])


if __name__ == "__main__":
    main()
