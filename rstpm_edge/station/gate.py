"""How many requests are worked on at once. What is too much is told at once; what was let in is answered."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


class Overloaded(Exception):
    """No room for one more request."""


class Gate:
    """Lets `workers` and `waiting` requests in, and works on `workers` of them at once, in threads of its own."""

    def __init__(self, workers: int, waiting: int) -> None:
        self.workers, self.room = workers, workers + waiting
        self.inside = 0  # requests that were let in and are not answered yet; only the event loop's thread counts
        self.refused = 0
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="judge")

    @contextlib.contextmanager
    def enter(self) -> Iterator[None]:
        """While in the block, a request has a place. Raises Overloaded where there is none."""
        if self.inside >= self.room:
            self.refused += 1
            raise Overloaded
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1

    async def run(self, work: Callable[..., T], *arguments: Any) -> T:
        """Do the work in one of the threads, when its turn comes."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work, *arguments)

    def close(self) -> None:
        """Take no more work; what is under way ends."""
        self._pool.shutdown(wait=True)
