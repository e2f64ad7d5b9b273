"""What a model learned from: the sizes, values and colours of its photos, which what it judges is compared with."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

from rstpm_edge import document as read
from rstpm_edge.image.roi import Roi, check_roi

Size: TypeAlias = tuple[int, int]  # height, width

BITS = (8, 10, 12, 14, 16)  # ranges that cameras give; where a photo's values are 16 bits wide, it may use fewer
QUARTERS = 4  # of an image's pixels, from the darkest to the brightest
MOST_SIZES = 16
MOST_PIXELS = 1 << 23  # a side of a photo
GREY = 1.0  # a mean chroma below it is that of grey photos, whatever a JPEG made of them
ONE_ASPECT = 1.03  # aspect ratios that differ by more are not one shape: at 1.05 every good demo part was rejected


@dataclass(frozen=True)
class InputProfile:
    """What `photos` good photos were like, held-out ones included.

    `sizes` are those that occur, (height, width), the most frequent first; of more than 16, the longest and the widest
    shape and the smallest and the largest photo are among those that are kept. `depth` is 8 or 16, what a value takes
    in the files; `bits` says how many of 16 are used, so that 2^bits - 1 is white.

    The rest is of the part in `roi` that was learned from (None for all of a photo), at the size of the model's input,
    in grey levels of 0…255, as means over the photos and standard deviations between them: `brightness`; `chroma`, how
    far a pixel's channels lie apart, 0 where all was grey; and `tint`, red minus blue in four quarters of the pixels,
    the darkest first.
    """

    photos: int
    sizes: tuple[Size, ...]
    depth: int
    bits: int
    brightness: tuple[float, float]  # mean, standard deviation
    chroma: float
    tint: tuple[float, ...]
    tint_std: tuple[float, ...]
    roi: Roi | None = None

    @property
    def parts(self) -> tuple[Size, ...]:
        """The sizes of what was learned from: the photos, or their part in the ROI."""
        return self.sizes if self.roi is None else ((self.roi[3], self.roi[2]),)

    @property
    def input_bits(self) -> int:
        """The range of 16-bit values that are judged: they go up to 2^this - 1."""
        return self.bits if self.depth == 16 else 16

    @property
    def one_size(self) -> Size | None:
        """The size of all photos, if they had one."""
        return self.sizes[0] if len(self.sizes) == 1 else None


def describe_sizes(sizes: tuple[Size, ...], most: int = 3) -> str:
    """ "640×480", or "640×480, 800×600 or 1024×768", for people: width first."""
    names = [f"{width}×{height}" for height, width in sizes[:most]]
    if len(sizes) > most:
        return ", ".join(names) + f" and {len(sizes) - most} other sizes"
    return " or ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]


def aspects(sizes: tuple[Size, ...]) -> tuple[float, float]:
    """The least and the largest width of a photo beside its height."""
    ratios = [width / height for height, width in sizes]
    return min(ratios), max(ratios)


def parse_profile(value: Any) -> InputProfile:
    """What `dataclasses.asdict` made of a profile, and JSON of that. Raises ValueError, and UsageError for the ROI."""
    names = [field.name for field in fields(InputProfile)]
    found = read.fields(value, "the profile", names)
    sizes = found["sizes"]
    if not isinstance(sizes, list) or not 0 < len(sizes) <= MOST_SIZES:
        raise ValueError(f"the photos' sizes are no list of up to {MOST_SIZES}")
    brightness, deviation = read.numbers(found["brightness"], "the brightness", 2, 0, 255)
    return InputProfile(
        photos=read.whole(found["photos"], "the number of photos", 1, 1 << 31),
        sizes=tuple(_integers(size, "a photo's size", 2, 1) for size in sizes),
        depth=_one_of(found["depth"], "the depth", (8, 16)),
        bits=_one_of(found["bits"], "the number of bits", BITS),
        brightness=(brightness, deviation),
        chroma=read.number(found["chroma"], "the chroma", 0, 255),
        tint=read.numbers(found["tint"], "the tint", QUARTERS, -255, 255),
        tint_std=read.numbers(found["tint_std"], "the tint's deviation", QUARTERS, 0, 255),
        roi=None if found["roi"] is None else check_roi(_integers(found["roi"], "the photos' ROI", 4, 0)),
    )


def _integers(value: Any, name: str, count: int, least: int) -> Any:
    if not isinstance(value, list) or len(value) != count:
        raise ValueError(f"{name} is no list of {count} numbers")
    return tuple(read.whole(number, name, least, MOST_PIXELS) for number in value)


def _one_of(value: Any, name: str, choices: Sequence[int]) -> int:
    if read.whole(value, name, min(choices), max(choices)) not in choices:
        raise ValueError(f"{name} is none of {', '.join(map(str, choices))}")
    return int(value)
