"""How arrays may lie in memory, and sequences that lie about themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# How an array of the right values may lie in memory. Only the first is what the extension takes.
LAYOUTS = (
    *("plain", "plain", "plain", "plain", "fortran", "reversed", "every other", "offset", "misaligned", "read-only"),
    *(
        "swapped",
        "double",
        "bytes",
        "objects",
        "flat",
        "one more dimension",
        "other size",
        "subclass",
        "broadcast",
        "list",
    ),
)


class Liar(list[Any]):
    """Says that it is `told` long, and the next time that it is not."""

    def __init__(self, values: list[Any], told: int) -> None:
        super().__init__(values)
        self.told = told

    def __len__(self) -> int:
        told, self.told = self.told, super().__len__()
        return told


def laid_out(values: NDArray[Any], layout: str) -> Any:
    """`values` in another layout; the same numbers where that is possible."""
    if layout == "fortran":
        return np.asfortranarray(values)
    if layout == "reversed":
        return values[..., ::-1]
    if layout == "every other":
        return np.repeat(values, 2, axis=-1)[..., ::2]
    if layout == "offset":
        return np.concatenate([values.ravel()[:1], values.ravel()])[1:].reshape(values.shape)
    if layout == "misaligned":
        raw = np.zeros(values.nbytes + 1, np.uint8)
        raw[1:] = values.view(np.uint8).ravel() if values.size else []
        return raw[1:].view(values.dtype).reshape(values.shape)
    if layout == "read-only":
        values = values.copy()
        values.flags.writeable = False
        return values
    if layout == "broadcast":
        return np.broadcast_to(values[:, :1], values.shape) if values.ndim > 1 and values.size else values
    if layout == "list":
        return values.tolist()
    changed = {
        "swapped": lambda: values.astype(values.dtype.newbyteorder()),
        "double": lambda: values.astype(np.float64),
        "bytes": lambda: values.view(np.uint8),
        "objects": lambda: values.astype(object),
        "flat": lambda: values.ravel(),
        "one more dimension": lambda: values[None],
        "other size": lambda: values[:, :-1],
        "subclass": lambda: values.view(np.recarray),
    }
    return changed[layout]() if layout in changed else values


def is_taken(array: Any, shape: tuple[int, ...]) -> bool:
    """Whether the extension has to take the array as a map: float32 as it stands in memory."""
    return (
        isinstance(array, np.ndarray)
        and array.dtype == np.float32
        and array.dtype.isnative
        and array.shape == shape
        and array.flags.c_contiguous
        and array.flags.aligned
    )
