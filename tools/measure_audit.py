"""How many defective images among good ones `rstpm-edge audit` names first, over random draws.

python tools/measure_audit.py DATA --draws 20        # DATA in the MVTec AD layout
"""

import tempfile
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from rstpm_edge.training.audit.audit import audit
from rstpm_edge.training.data.images import good_images, test_images


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
    found = []
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        picked = _mixed(kinds, bad, rng) if mixed else rng.choice(len(defects), bad, replace=False)
        files = [goods[i] for i in rng.choice(len(goods), good, replace=False)] + [defects[i].path for i in picked]
        with tempfile.TemporaryDirectory() as folder:
            for i, file in enumerate(files):
                (Path(folder) / f"{i:05}{file.suffix}").symlink_to(file.resolve())
            named = audit(folder, most=most).named
        ranked = [int(one.path.stem) for one in named if one.rank is not None]
        found.append(sum(i >= good for i in ranked))
        click.echo(f"draw {seed}: {found[-1]} of {bad} ({', '.join(kinds[picked])})")
    need = bad - 1
    click.echo(
        f"{np.mean(found):.2f} of {bad} on average; at least {need} in {sum(n >= need for n in found)} "
        f"of {draws} draws."
    )


def _mixed(kinds: NDArray[np.str_], bad: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """`bad` rows, one of each kind in turn."""
    orders = [rng.permutation(np.flatnonzero(kinds == kind)) for kind in np.unique(kinds)]
    turns = [order[i] for i in range(max(map(len, orders))) for order in orders if i < len(order)]
    return np.array(turns[:bad])


if __name__ == "__main__":
    main()
