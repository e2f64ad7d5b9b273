"""Items go through Ray Data's pool of workers, and each comes back as exactly one row, whatever died on the way."""

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from rstpm_edge.errors import FleetError
from rstpm_edge.fleet_score.judge import ANSWERS, INDEX, Judge, JudgePlan
from rstpm_edge.fleet_score.rows import failed

RETRIES = 2  # of a batch whose worker died: a box may lose power twice, an image that kills comes out by itself then
ALONE_RETRIES = 1
AHEAD = 2  # batches that wait at each worker, so that none is idle


def judged_items(ray: Any, items: Any, plan: JudgePlan, workers: int, batch: int) -> Iterator[Any]:
    """Tables of rows (schema ANSWERS less the index), all of `items` once, in any order.

    Ray gives a batch whose worker has died to another one. A batch that several workers die of is taken apart, and an
    image that even then takes its worker with it has a row that says so.

    Raises FleetError where the cluster itself fails.
    """
    left = items.append_column(INDEX, pa.array(np.arange(len(items))))
    seen = np.zeros(len(items), bool)
    for size, retries, ahead in ((batch, RETRIES, AHEAD), (1, ALONE_RETRIES, 1)):
        for answers in _round(ray, left, plan, min(workers, -(-len(left) // size)), size, retries, ahead):
            index = answers[INDEX].to_numpy()
            new = ~seen[index]  # a batch that was judged twice counts once
            seen[index] = True
            yield answers.filter(pa.array(new)).drop_columns([INDEX])
        if seen.all():
            return
        if not seen.any() and size == 1:
            raise FleetError("No worker could judge a single image: look into the logs of the cluster.")
        left = left.filter(pa.array(~seen[left[INDEX].to_numpy()]))
    reason = f"Each worker process that judged it died, {ALONE_RETRIES + 1} by this image alone."
    yield pa.Table.from_pylist(
        [
            {
                **failed(reason),
                "path": item["path"],
                "model_sha256": plan.model_sha256,
                "sha256": None,
                "size": item["size"],
                "version": item["version"],
            }
            for item in left.to_pylist()
        ],
        schema=ANSWERS.remove(ANSWERS.get_field_index(INDEX)),
    )


def _round(ray: Any, items: Any, plan: JudgePlan, workers: int, size: int, retries: int, ahead: int) -> Iterator[Any]:
    """Answers on `items`, those of a batch together; none of a batch that was given up."""
    context = ray.data.DataContext.get_current()
    before = context.max_errored_blocks, context.enable_progress_bars
    context.max_errored_blocks, context.enable_progress_bars = -1, False
    try:
        blocks = [items.slice(start, size).combine_chunks() for start in range(0, len(items), size)]
        dataset = _mapped(ray, ray.data.from_arrow(blocks), plan, workers, retries, ahead)
        for answers in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            if len(answers):
                yield answers.cast(ANSWERS) if answers.schema != ANSWERS else answers
    except ray.exceptions.RayError as error:
        raise FleetError(f"Ray cannot go on: {_sentence(error)}") from error
    finally:
        context.max_errored_blocks, context.enable_progress_bars = before


def _mapped(ray: Any, dataset: Any, plan: JudgePlan, workers: int, retries: int, ahead: int) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # max_task_retries goes with Ray 2.64, which the extra does not take
        return dataset.map_batches(
            Judge,
            fn_constructor_args=(plan,),
            batch_size=None,  # a block is a batch
            batch_format="pyarrow",
            zero_copy_batch=True,
            compute=ray.data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=ahead),
            num_cpus=1,
            max_task_retries=retries,
        )


def _sentence(error: BaseException) -> str:
    """The last line of what Ray says, which is the reason; a traceback stands before it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:300]
