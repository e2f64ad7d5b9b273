"""The products of `rstpm-edge serve`: which models there are, and how they judge."""

from dataclasses import replace
from pathlib import Path

from rstpm_edge.cli.line.judging import judging_of
from rstpm_edge.cli.serve.audit_log import record_of
from rstpm_edge.cli.serve.options import ServeOptions
from rstpm_edge.cli.terminal import say_note
from rstpm_edge.detector import Detector
from rstpm_edge.station.audit import StationAudit
from rstpm_edge.station.products import Products
from rstpm_edge.station.registry_shelf import RegistryShelf
from rstpm_edge.station.shelf import FolderShelf, Shelf


def open_products(options: ServeOptions, audit: StationAudit | None = None, line: str | None = None) -> Products:
    """Those of the station, or of a line that has options of its own.

    Raises UsageError, and what `Detector` does for the only model of a station.
    """
    judging = judging_of(options)

    def open_detector(path: Path) -> Detector:
        return Detector(path, **vars(replace(judging, notify=lambda sentence: say_note(f"{path.name}: {sentence}"))))

    shelf: Shelf
    if options.models is not None:
        shelf = FolderShelf(options.models)
    elif options.registry is not None:
        shelf = RegistryShelf(options.registry)
    else:
        shelf = FolderShelf(file=options.model)
    max_memory = None if options.max_memory is None else options.max_memory * 1_000_000
    products = Products(
        shelf,
        open_detector,
        max_memory=max_memory,
        report=say_note,
        record=record_of(audit, judging, line),
    )
    try:
        if options.models is None and options.registry is None:  # one that cannot be loaded is told at the start
            products.get(products.resolve())
    except BaseException:
        products.close()
        raise
    return products
