"""What `rstpm-edge registry` shows: tables for people, and the same as JSON."""

from typing import TYPE_CHECKING, Any

from rstpm_edge.cli.terminal import percent
from rstpm_edge.printable import one_line

if TYPE_CHECKING:
    from rstpm_edge.registry.product import Product, Version
    from rstpm_edge.registry.registry import Registry


def told(entry: Any) -> list[str]:
    """What an entry of a log says, and its note."""
    event, note = entry["event"], str(entry.get("note", ""))
    if event == "promoted":
        return [f"version {entry['version']} to {entry['to']}", note]
    if event == "rolled back":
        return [f"back to version {entry['version']}", note]
    if event == "torn":
        return ["a line before this one was cut off", note]
    more = ", with an evaluation" if entry.get("evaluation") else ""
    if event == "noted":
        return [f"about version {entry['version']}{more}", note]
    return [f"version {entry['version']} added, SHA-256 {entry['model']['sha256'][:12]}…{more}", note]


def versions_table(product: "Product") -> str:
    """The versions of a product."""
    header = ["version", "stage", "added (UTC)", "by", "SHA-256", "signed with", "good rejected", "image AUROC", "note"]
    rows = [
        [
            str(one.number),
            product.stage(one.number),
            one.added[:19],
            one.added_by,
            one.model.sha256[:12],
            (one.model.signed_by or ("unchecked" if one.model.signature else "–"))[:16],
            f"at most {percent(one.model.calibration.alpha)}",
            _auroc(one),
            one.note or "",
        ]
        for one in product.versions
    ]
    return table([header, *rows])


def products_table(products: "list[Product]") -> str:
    """What is live of each product."""
    rows = [["product", "live", "before", "shadow", "versions", "last added (UTC)"]]
    for one in products:
        rows.append(
            [
                one.name,
                "–" if one.live is None else str(one.live.number),
                "–" if one.before is None else str(one.before.number),
                "–" if one.shadow is None else str(one.shadow),
                str(len(one.versions)),
                one.versions[-1].added[:19] if one.versions else "–",
            ]
        )
    return table(rows)


def version_fields(opened: "Registry", product: "Product", version: "Version") -> dict[str, Any]:
    """A version as JSON."""
    return {
        "version": version.number,
        "stage": product.stage(version.number),
        "added": version.added,
        "added_by": version.added_by,
        "file": str(opened.model_file(version.model)),
        "model": version.model.to_json(),
        "evaluation": version.evaluation,
        "note": version.note,
    }


def product_fields(opened: "Registry", product: "Product") -> dict[str, Any]:
    """A product as JSON."""
    return {
        "product": product.name,
        "versions": len(product.versions),
        "live": None if product.live is None else version_fields(opened, product, product.live),
        "before": None if product.before is None else product.before.number,
        "shadow": None if product.in_shadow is None else version_fields(opened, product, product.in_shadow),
        "hash": product.hash,
    }


def _auroc(version: "Version") -> str:
    both = (version.evaluation or {}).get("both")
    value = both.get("image_auroc") if isinstance(both, dict) else None
    return f"{value:.3f}" if isinstance(value, float) else "–"


def table(rows: list[list[str]]) -> str:
    """Rows of cells, the first of which are the header, in columns."""
    shown = [[one_line(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in shown) for i in range(len(shown[0]))]
    return "\n".join(
        "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in shown
    )
