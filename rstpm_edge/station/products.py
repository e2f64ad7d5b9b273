"""All products of a station: loaded when they are asked for, and let go when memory is short."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from rstpm_edge.errors import ModelError, RstpmEdgeError, UsageError
from rstpm_edge.station.audit import Record, nobody
from rstpm_edge.station.closing import Closing
from rstpm_edge.station.product import OpenDetector, Product, ProductName
from rstpm_edge.station.shelf import Catalogue, Shelf
from rstpm_edge.unexpected import sentence

POLL = 0.5  # seconds between two looks at the files


class UnknownProduct(UsageError):
    """There is no model of this name, or not in this version."""


class Products(Closing):
    """Gives the `Product` of a name and version. May be shared by threads.

    One thread loads, one file after the other, while all others judge. So a product that is not in memory costs the
    request that asks for it the time to load it, and no other request anything. Where those in memory take more than
    `max_memory` bytes, the one that nobody has used for longest is let go; the newest one, and those that lines judge
    with, never are. Requests that have it end with it.

    report: gets a sentence where a file has changed, or is refused. record: gets "model loaded", "model refused", and
    what becomes of changed files, for the audit log; a model that comes back as it was, or is refused again for the
    same reason, is no news.
    """

    def __init__(
        self,
        shelf: Shelf,
        open_detector: OpenDetector,
        *,
        max_memory: int | None = None,
        report: Callable[[str], None] = lambda sentence: None,
        record: Record = nobody,
    ) -> None:
        self._shelf, self._open, self._max_memory, self._report = shelf, open_detector, max_memory, report
        self._record = record
        self._recorded: dict[ProductName, object] = {}  # what was said last of loading it
        self._lock = threading.Lock()
        self._catalogue = shelf.catalogue()
        self._loaded: dict[ProductName, Product] = {}
        self._loading: dict[ProductName, Future[Product]] = {}
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="models")
        self._stopped = threading.Event()
        self._watch = threading.Thread(target=self._look, name="changed models", daemon=True)
        self._watch.start()
        self.counts: Counter[str] = Counter()  # loads, evictions, failures; and what came of changed files

    @property
    def catalogue(self) -> Catalogue:
        """What there is, loaded or not."""
        return self._catalogue

    @property
    def may_exchange(self) -> bool:
        """Whether the station may put another model into the place of a file."""
        return self._shelf.may_exchange

    def loaded(self) -> list[Product]:
        """What is in memory, the one that was used last at the end."""
        with self._lock:
            return sorted(self._loaded.values(), key=lambda product: product.used)

    def in_memory(self, name: ProductName) -> Product | None:
        """The product, if it is in memory; nobody has asked for it by that."""
        with self._lock:
            return self._loaded.get(name)

    def resolve(self, name: str | None = None, version: str | None = None) -> ProductName:
        """The full name: without a version the newest one, without a name the only product.

        Raises UnknownProduct, with what there is.
        """
        for catalogue in (self._catalogue, None):
            found = self._catalogue = catalogue if catalogue is not None else self._shelf.catalogue()
            if name is None and len(found) == 1:
                (name,) = found
            versions = found.get(name or "", {})
            if versions and version is None:
                version = list(versions)[-1]
            if name is not None and version in versions:
                assert version is not None
                return ProductName(name, version)
        there = ", ".join(found) or "none"
        if name is None:
            raise UnknownProduct(f"Say which product: there are {there}.")
        if versions:
            raise UnknownProduct(f"There is no version {version} of {name}: there are {', '.join(versions)}.")
        raise UnknownProduct(f"There is no product {name}: there are {there}.")

    def find(self, name: ProductName) -> "Future[Product]":
        """The product, at once where it is in memory. The future raises what `Detector` does, and UnknownProduct."""
        with self._lock:
            product = self._loaded.get(name)
            if product is not None:
                product.used = time.monotonic()
                done: Future[Product] = Future()
                done.set_result(product)
                return done
            waiting = self._loading.get(name)
            if waiting is None:
                if self._stopped.is_set():
                    raise UsageError("The station is stopping.")
                waiting = self._loading[name] = self._loader.submit(self._load, name)
            return waiting

    def get(self, name: ProductName) -> Product:
        """The same for a thread that may wait."""
        return self.find(name).result()

    def pin(self, name: ProductName) -> Product:
        """As `get`, and keep it in memory until `unpin`."""
        while True:
            product = self.get(name)
            with self._lock:
                if self._loaded.get(name) is product:  # not let go in between
                    product.pinned += 1
                    return product

    def unpin(self, product: Product) -> None:
        """A line judges with it no more."""
        with self._lock:
            product.pinned -= 1

    def unload(self, name: ProductName) -> bool:
        """Let go of it; whether it was in memory. Raises UsageError where a line judges with it."""
        with self._lock:
            product = self._loaded.get(name)
            if product is not None and product.pinned:
                raise UsageError(f"A line judges with {name}: select another product for it first.")
            return product is not None and self._forget(product) is product

    def outcomes(self) -> Counter[str]:
        """What happened so far: loaded, let go, failed; taken, refused, rolled back of files that changed."""
        with self._lock:
            return sum((product.outcomes for product in self._loaded.values()), Counter(self.counts))

    def close(self) -> None:
        """Load and watch no more."""
        self._stopped.set()
        self._loader.shutdown(wait=True, cancel_futures=True)
        self._watch.join()

    def _load(self, name: ProductName) -> Product:
        try:
            path = self._catalogue.get(name.name, {}).get(name.version)
            if path is None:
                raise UnknownProduct(f"There is no {name} any more.")
            product = Product(name, path, self._open, self._shelf.check, self._tell)
        except RstpmEdgeError as error:
            self.counts["failed"] += 1
            self._refused(name, str(error))
            with self._lock:
                del self._loading[name]
            raise
        except Exception as error:  # a fault of ours, or no memory: no reason to stop judging
            self.counts["failed"] += 1
            self._refused(name, sentence(error))
            with self._lock:
                del self._loading[name]
            raise ModelError(sentence(error)) from error
        facts = product.facts()
        if self._recorded.get(name) != facts:  # told before it judges anything
            self._tell("model loaded", facts)
        with self._lock:
            self.counts["loaded"] += 1
            self._loaded[name] = product
            del self._loading[name]
            gone = self._make_room(product)
        del gone  # outside of the lock: to let go of a model takes its time
        return product

    def _tell(self, event: str, facts: Mapping[str, Any]) -> None:
        """What judges from now on, or goes on."""
        self._recorded[ProductName(facts["product"], facts["product_version"])] = {
            name: value for name, value in facts.items() if name not in ("error", "sha256_before")
        }
        self._record(event, facts)

    def _refused(self, name: ProductName, why: str) -> None:
        if self._recorded.get(name) != why:
            self._recorded[name] = why
            self._record("model refused", {"product": name.name, "product_version": name.version, "error": why})

    def _make_room(self, newest: Product) -> list[Product]:
        """Products that were let go of. The caller holds the lock."""
        gone: list[Product] = []
        if self._max_memory is None:
            return gone
        for product in sorted(self._loaded.values(), key=lambda product: product.used):
            if sum(one.memory for one in self._loaded.values()) <= self._max_memory:
                break
            if product is not newest and not product.pinned:
                gone.append(self._forget(product))
        return gone

    def _forget(self, product: Product) -> Product:
        self.counts["let go"] += 1
        self.counts.update(product.outcomes)
        return self._loaded.pop(product.name)

    def _look(self) -> None:
        problem = None
        while not self._stopped.wait(POLL):
            try:
                self._look_once()
            except Exception as error:  # a fault of ours, or of a share: no reason to stop judging
                if sentence(error) != problem:
                    problem = sentence(error)
                    self._report(f"Cannot look for models that have changed: {problem} Judging goes on.")
            else:
                problem = None

    def _look_once(self) -> None:
        self._catalogue = self._shelf.catalogue()
        for product in self.loaded():
            path = self._catalogue.get(product.name.name, {}).get(product.name.version)
            if path is not None or product.pinned:
                product.look(path or product.path, self._report)
                continue
            with self._lock:
                if self._loaded.get(product.name) is product and not product.pinned:
                    self._forget(product)
            del product  # the thread holds no model that is gone
