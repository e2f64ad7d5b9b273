"""Where an image lies inside the model's input."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

ResizePolicy: TypeAlias = Literal["stretch", "letterbox"]


@dataclass(frozen=True)
class Placement:
    """Where an image lies inside the model's input, in input pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the input that show the image."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


def place(image_height: int, image_width: int, size: tuple[int, int], policy: ResizePolicy) -> Placement:
    """Where an image of this size comes to lie in the input, `size` (height, width)."""
    height, width = size
    if policy == "stretch":
        return Placement(0, 0, height, width)
    scale = min(height / image_height, width / image_width)
    inner_height = min(max(round(image_height * scale), 1), height)
    inner_width = min(max(round(image_width * scale), 1), width)
    return Placement((height - inner_height) // 2, (width - inner_width) // 2, inner_height, inner_width)
