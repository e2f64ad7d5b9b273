"""`rstpm-edge fleet`: many products, or many photos, on more than one processor or machine."""

import click

from rstpm_edge.cli.fleet_plan import plan
from rstpm_edge.cli.fleet_score import score
from rstpm_edge.cli.fleet_train.command import train


@click.group()
def fleet() -> None:
    """Work on many products or photos at once, by Ray, on this machine or a cluster.

    \b
    Example:
      rstpm-edge fleet train products --out models
      rstpm-edge fleet plan --products 1000 --photos 100000000
      rstpm-edge fleet score photos --model model.onnx --out scores
    """


fleet.add_command(train)
fleet.add_command(score)
fleet.add_command(plan)
