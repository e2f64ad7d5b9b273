"""Train many products by Ray: it schedules, tries again where a worker dies, and places each by what it asks for.

First all photos are hashed, which tells what is done; then the memory of a training is measured, once for each kind;
then each product that is left becomes one task, in a process of its own.
"""

import contextlib
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rstpm_edge.atomic_files import make_folder
from rstpm_edge.errors import FleetError, OutputError, UsageError
from rstpm_edge.folder_lock import one_writer
from rstpm_edge.image.input_profile import Size
from rstpm_edge.ray_cluster import cluster

from ..data.input_size import MOST, choose_size
from ..learning.machine import Machine
from ..learning.options import TrainingOptions, size_unit
from .content import Seen, look
from .product import Product, check_products
from .report import write_fleet_report
from .resources import MemoryUse, Resources, kind_of_memory, measure_memory, resources_of
from .result import ProductResult, failed
from .status import Board, ProductStatus
from .teller import Teller
from .work import Task, work

RETRIES = 3  # of a product whose worker died: each goes on after the last epoch that was whole
POLL = 0.5  # seconds
ANSWERS_WITHIN = 2.0  # seconds
ROOM = 120_000_000  # bytes on the disk that a product takes while it is trained, about: run, model, report


@dataclass(frozen=True)
class FleetPlan:
    """What is trained, and how it is shared out.

    `threads` processors for each training. `workers` is how many run at once on this machine; None: as many as its
    processors and its memory allow. `address` is that of a Ray cluster which there is.
    """

    products: tuple[Product, ...]
    out: Path
    machine: Machine
    threads: int = 1
    workers: int | None = None
    address: str | None = None


Report = Callable[[Sequence[ProductResult], Sequence[ProductStatus]], None]


def train_fleet(
    plan: FleetPlan,
    processors: int,
    *,
    report: Report = lambda results, statuses: None,
    stop: Callable[[], bool] = lambda: False,
    wording: Callable[[str], str] = str,
) -> list[ProductResult]:
    """Bring all products to completion and give their results, in the order of the plan.

    `processors` are those of this machine. `report` gets the results so far, and where the workers are, twice a second;
    `stop` is asked as often, and where it says so, what has no result yet is left for the next time. `wording` says a
    product's failure as its reader would: with the command line's options in the place of arguments.

    Raises UsageError, OutputError, and FleetError where the cluster itself fails.
    """
    check_products(plan.products)
    if plan.address is not None and plan.workers is not None:
        raise UsageError("`workers` is for this machine: a cluster says itself how many processors it has.")
    processors = plan.threads * plan.workers if plan.workers else processors
    if plan.threads > processors and plan.address is None:
        raise UsageError(f"This machine has {processors} processors, fewer than `threads={plan.threads}`.")
    make_folder(plan.out)
    plan = replace(plan, out=plan.out.absolute(), products=tuple(one.anywhere() for one in plan.products))
    with one_writer(plan.out), cluster(plan.address, processors) as ray:
        return _Fleet(ray, plan, report, stop, wording).results()


def check_room(out: Path, products: int) -> None:
    """Raises OutputError where the disk of the folder `out` does not hold so many products more."""
    needed, free = products * ROOM, shutil.disk_usage(out).free
    if needed > free:
        raise OutputError(
            f"{products} products need about {needed / 1e9:.1f} GB in {out}, where {free / 1e9:.1f} GB are free: make "
            "room, or give another `out`."
        )


class _Stopped(Exception):
    """Somebody has asked for an end."""


class _Fleet:
    """The tasks of one command."""

    def __init__(
        self, ray: Any, plan: FleetPlan, report: Report, stop: Callable[[], bool], wording: Callable[[str], str]
    ) -> None:
        self._ray, self._plan, self._report, self._stop, self._wording = ray, plan, report, stop, wording
        self._results: dict[str, ProductResult] = {}
        self._known: list[ProductStatus] = []
        self._has_gpu = plan.machine.device != "cpu" and ray.cluster_resources().get("GPU", 0) > 0
        if plan.machine.device == "cuda" and not self._has_gpu:
            raise UsageError("There is no GPU for `device=cuda`: leave it out, or name a cluster that has one.")
        self._machine = replace(plan.machine, device="cuda" if self._has_gpu else "cpu")
        self._board: Any = ray.remote(num_cpus=0, max_restarts=-1)(Board).remote()

    def results(self) -> list[ProductResult]:
        """Of all products; of those that `stop` left, none. Reports are written as results come."""
        try:
            todo = self._look()
            check_room(self._plan.out, len(todo))
            asked = self._ask_for(todo)
            self._train([product for product in self._plan.products if product.name in asked], asked)
        except _Stopped:
            pass
        except self._ray.exceptions.RayError as error:
            raise FleetError(f"Ray cannot go on: {_sentence(error)}") from error
        self._write()
        return self._in_order()

    def _write(self) -> None:
        write_fleet_report(self._plan.out, self._in_order(), len(self._plan.products) - len(self._results))

    def _look(self) -> dict[str, Seen]:
        """What is left to do of each product; those that are done, or cannot be read, have results now."""
        task = self._ray.remote(num_cpus=1, max_retries=RETRIES)(look)
        tasks = {task.remote(product.photos(), self._plan.out): product for product in self._plan.products}
        todo = {}
        for product, seen in self._each(tasks):
            if not isinstance(seen, Seen):
                self._results[product.name] = seen
            elif seen.done is not None:
                self._results[product.name] = replace(seen.done, done_before=True)
            else:
                todo[product.name] = seen
        return todo

    def _ask_for(self, todo: Mapping[str, Seen]) -> dict[str, Resources]:
        """What each training asks for, as a short one of its kind at the largest size took it."""
        kinds: dict[str, list[Product]] = {}
        for product in self._plan.products:
            if product.name in todo:
                kinds.setdefault(kind_of_memory(product.options), []).append(product)
        node = max((int(one["Resources"].get("memory", 0)) for one in self._ray.nodes() if one["Alive"]), default=0)
        asked = {}
        for products in kinds.values():
            use = self._measured(products, todo)
            for product in products:
                seen = todo[product.name]
                asked[product.name] = resources_of(
                    use,
                    product.options,
                    _input_size(product.options, seen),
                    seen.content.photos,
                    self._plan.threads,
                    node,
                )
        return asked

    def _measured(self, products: Sequence[Product], todo: Mapping[str, Seen]) -> MemoryUse:
        """By the first product whose photos can be learned from; nothing where there is none: each says why itself."""
        size = max((_input_size(one.options, todo[one.name]) for one in products), key=math.prod)
        measure = self._ray.remote(
            num_cpus=self._plan.threads, num_gpus=int(self._has_gpu), max_calls=1, max_retries=RETRIES
        )(_measure)
        for product in products:
            task = measure.remote(product, size, self._machine, self._plan.threads)
            for _, use in self._each({task: product}):
                if isinstance(use, MemoryUse):
                    return use
        return MemoryUse(size, 0, 0, 0, 0)

    def _train(self, products: Sequence[Product], asked: Mapping[str, Resources]) -> None:
        tasks = {}
        for product in products:
            needs = asked[product.name]
            # A process of its own: what it has had at most says what it took, and the system gets all of it back.
            train = self._ray.remote(
                num_cpus=needs.cpus,
                num_gpus=needs.gpus,
                memory=needs.memory,
                max_calls=1,
                max_retries=RETRIES,
            )(_work)
            memory = needs.memory or None
            task = Task(product, self._plan.out, self._machine, self._plan.threads, memory)
            tasks[train.remote(task, self._board)] = product
        for product, result in self._each(tasks):
            tries = {one.name: one.tries for one in self._statuses()}
            self._results[product.name] = replace(result, tries=tries.get(product.name, 1))
            self._write()

    def _each(self, tasks: Mapping[Any, Product]) -> Any:
        """What each task gives, as it comes; a failed result where its workers died. Raises _Stopped."""
        left = list(tasks)
        while left:
            done, left = self._ray.wait(left, timeout=POLL)
            for one in done:
                yield tasks[one], self._got(one, tasks[one])
            self._report(self._in_order(), self._statuses())
            if self._stop():
                for one in left:  # Ray may be older than this command, and outlive it
                    self._ray.cancel(one, force=True)
                raise _Stopped

    def _got(self, task: Any, product: Product) -> Any:
        errors = self._ray.exceptions
        try:
            return self._ray.get(task)
        except errors.OutOfMemoryError:
            reason = "memory ran out; give fewer `workers`, or a smaller `size`"
        except (errors.WorkerCrashedError, errors.NodeDiedError):
            reason = f"{RETRIES + 1} workers died of it; the end of its train.log says in which stage"
        return failed(product.name, product.data, f"{reason}.")

    def _statuses(self) -> list[ProductStatus]:
        """Where the workers are, of products without a result; where they were when the board is too busy to say."""
        with contextlib.suppress(self._ray.exceptions.GetTimeoutError):
            self._known = self._ray.get(self._board.statuses.remote(), timeout=ANSWERS_WITHIN)
        return [one for one in self._known if one.name not in self._results]

    def _in_order(self) -> list[ProductResult]:
        found = [self._results[one.name] for one in self._plan.products if one.name in self._results]
        return [one if one.failure is None else replace(one, failure=self._wording(one.failure)) for one in found]


def _input_size(options: TrainingOptions, seen: Seen) -> Size:
    most = MOST if options.most_pixels is None else options.most_pixels
    return options.size or choose_size(seen.sizes, size_unit(options.preset), most)


def _measure(product: Product, size: tuple[int, int], machine: Machine, threads: int) -> MemoryUse | None:
    """In a worker."""
    try:
        return measure_memory(product.options, size, product.photos().learned(), machine, threads)
    except Exception:  # another product may say more; this one is told why when it is trained
        return None


def _work(task: Task, board: Any) -> ProductResult:
    """In a worker."""
    board.begin.remote(task.product.name)
    return work(task, Teller(task.product.name, lambda status: board.tell.remote(status)))


def _sentence(error: BaseException) -> str:
    """The last line of what Ray says, which is the reason; a traceback stands before it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:300]
