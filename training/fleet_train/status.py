"""How far each product is, and the actor of Ray that keeps it for whoever looks. Importing this is quick."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class ProductStatus:
    """Where a worker is: `share` (0…1) of all stages, `epoch` of `epochs`, from 1, and the loss of both pairs.

    `process` is the worker's id on its machine, `tries` how many workers have begun the product.
    """

    name: str
    stage: str
    share: float = 0.0
    seconds_left: float | None = None
    epoch: int | None = None
    epochs: int | None = None
    loss: tuple[float, float] | None = None
    process: int | None = None
    tries: int = 0


class Board:
    """Keeps the last that was told of each product. One for all workers, as an actor of Ray."""

    def __init__(self) -> None:
        self._statuses: dict[str, ProductStatus] = {}
        self._tries: dict[str, int] = {}

    def begin(self, name: str) -> None:
        """Count a worker that begins the product."""
        self._tries[name] = self._tries.get(name, 0) + 1

    def tell(self, status: ProductStatus) -> None:
        """Keep the status in the place of the one before."""
        self._statuses[status.name] = status

    def statuses(self) -> list[ProductStatus]:
        """Of all products that were begun."""
        return [replace(one, tries=self._tries.get(one.name, 1)) for one in self._statuses.values()]
