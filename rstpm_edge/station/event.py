"""What a station tells of one image that it judged, or could not."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from numpy.typing import NDArray

from rstpm_edge.result import Result

REQUEST = "request"  # the origin of what was sent, and its name where it has none


@dataclass(frozen=True, eq=False)
class Inspection:
    """One verdict. Everything that a station shows, keeps or sends is made of these.

    `id` grows from one to the next, also across restarts; 0 before the feed has it. `time` is when it was judged, in
    seconds since 1970. `origin` is the name of the line, or "request" for an image that somebody sent. `product` and
    `version` name the model. `fields` are what `infer --json` prints: "verdict", "score", "model_sha256", …; of an
    image that failed "verdict" and "error".

    `result` is None where there is no score, and `photo` where nothing is known of it: an array (H, W, 3) BGR, uint8 or
    uint16, or what the image file held, as bytes or as a view of them. Whoever keeps inspections for long leaves both
    out: `light`, which keeps the `size` of the photo.
    `seconds` is what each stage took, by its name. `model` is (product, version) of what judged the photo, where that
    is another one than is told: of a part that several cameras see, that of the view.
    """

    time: float
    origin: str
    product: str
    version: str
    fields: Mapping[str, Any]
    result: Result | None = None
    photo: NDArray[Any] | bytes | memoryview | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    id: int = 0
    size: tuple[int, int] | None = None
    model: tuple[str, str] | None = None

    @property
    def verdict(self) -> str:
        """normal, anomalous, invalid or failed."""
        return str(self.fields["verdict"])

    @property
    def p_value(self) -> float | None:
        """That of a part; None of an image that says nothing of one."""
        return float(self.fields["p_value"]) if self.verdict in ("normal", "anomalous") else None

    @property
    def image_size(self) -> tuple[int, int] | None:
        """(width, height) of the photo, where it was judged."""
        if self.result is None:
            return self.size
        height, width = self.result.image_size
        return width, height

    def light(self) -> "Inspection":
        """The same without photo and result, to be kept for long."""
        return replace(self, photo=None, result=None, size=self.image_size)

    @property
    def document(self) -> dict[str, Any]:
        """What other programs read: the fields, and who says so."""
        return {
            "id": self.id,
            "judged": self.time,
            "origin": self.origin,
            "product": self.product,
            "version": self.version,
            **self.fields,
        }
