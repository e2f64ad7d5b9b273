"""A data set from one photo of a surface, in the MVTec AD layout: to try a model where there are no defects yet.

    python tools/texture_set.py plaster.jpg --other wall.jpg --output plaster
    python tools/texture_set.py lid.jpg --aligned --output lid      # parts that always lie alike
    python tools/texture_set.py lid.jpg --turned --output disc      # round ones that lie at any angle

Good images are crops of the photo; with --halves those to learn from are of its left half, those of the test of its
right one, which nobody has seen. With --aligned they are the photo, brought to --size by its shorter side, turned and
moved a little each time; with --turned a round piece of it lies on a grey ground, turned by any angle. Light and noise
change from image to image. Into more such images defects are painted, with their outlines as masks:

crack     a thin dark wandering line
hole      a dark blob with a bright rim
stain     a soft blob of one grey
smear     the surface dragged in one direction
foreign   a piece of another surface: of --other, or of the photo, turned
warp      the surface pushed aside

A change that nobody would see is drawn anew. Lines and soft edges have their width in pixels, whatever the --size. The
same photos and options give the same images.

Painted defects are no proof: they rank methods and show blunders, no more. Cracks, stains and foreign pieces are like
some of those that a model's head is trained on (training/pseudo_defects.py), holes and warps are not. With --halves
a false-reject rate means nothing: the images held out for the threshold are of the left half, too.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
from numpy.typing import NDArray

from rstpm_edge.atomic_files import make_folder, write_bytes
from rstpm_edge.errors import OutputError, RstpmEdgeError, UsageError
from rstpm_edge.image.decode import read_image
from rstpm_edge.training.data.noise import Field, blur, float32

# A Field is (S, S), or an image (S, S, 3), BGR, 0 to 255
Mask = NDArray[np.bool_]
Draw = np.random.Generator
Shot = Callable[[Draw], Field]

SEEN = 8.0  # grey values: the least change, on average inside the outline, that counts as a defect
NOISE = 2.5  # grey values
ROUND, GROUND = 0.46, 70.0  # a round part's radius, as a share of the image's side, and what it lies on, a grey value


def blob(size: int, radius: float, draw: Draw) -> Field:
    """A wobbly disc somewhere inside: (size, size), 0 or 1."""
    y, x = draw.uniform(0.15 * size, 0.85 * size, 2)
    rows, columns = np.mgrid[:size, :size].astype(np.float32)
    squeezed = (rows - y) * draw.uniform(0.6, 1.6)
    angle, distance = np.arctan2(rows - y, columns - x), np.hypot(squeezed, columns - x)
    wobble = sum(draw.normal(0, 0.15) * np.cos(k * angle + draw.uniform(0, 2 * np.pi)) for k in range(1, 6))
    return float32(distance < radius * (1 + wobble))


def blend(image: Field, over: Field | float, share: Field) -> Field:
    """`over` on the image, as far as `share` (S, S) says."""
    return float32(image + share[..., None] * (over - image))


def crack(image: Field, other: Field, draw: Draw) -> tuple[Field, Mask]:
    size = len(image)
    line, at, angle = np.zeros((size, size), np.float32), draw.uniform(0.2 * size, 0.8 * size, 2), draw.uniform(0, 6.28)
    for _ in range(draw.integers(25, 70)):
        to = at + 0.012 * size * np.array([np.cos(angle), np.sin(angle)])
        cv2.line(line, tuple(at.astype(int)), tuple(to.astype(int)), 1, 1, cv2.LINE_AA)
        at, angle = to, angle + draw.normal(0, 0.45)
    line = blur(line, 0.7)
    line /= max(float(line.max()), 1e-6)
    return blend(image, 0.0, line * np.float32(draw.uniform(0.35, 0.8))), line > 0.25


def hole(image: Field, other: Field, draw: Draw) -> tuple[Field, Mask]:
    where = blob(len(image), draw.uniform(0.02, 0.055) * len(image), draw)
    inside = blur(where, 1.2)
    rim = float32((blur(where, 2.5) - inside).clip(0, 1))
    return blend(blend(image, 0.0, 0.75 * inside), 255.0, 0.4 * rim), where > 0


def stain(image: Field, other: Field, draw: Draw) -> tuple[Field, Mask]:
    where = blob(len(image), draw.uniform(0.05, 0.14) * len(image), draw)
    return blend(image, draw.uniform(20, 230), blur(where, 3) * np.float32(draw.uniform(0.25, 0.6))), where > 0


def smear(image: Field, other: Field, draw: Draw) -> tuple[Field, Mask]:
    where = blob(len(image), draw.uniform(0.07, 0.16) * len(image), draw)
    kernel, angle, middle = np.zeros((25, 25), np.float32), draw.uniform(0, np.pi), np.array([12, 12])
    step = 12 * np.array([np.cos(angle), np.sin(angle)])
    cv2.line(kernel, tuple((middle - step).astype(int)), tuple((middle + step).astype(int)), 1, 1)
    return blend(image, float32(cv2.filter2D(image, -1, kernel / kernel.sum())), blur(where, 3)), where > 0


def foreign(image: Field, other: Field, draw: Draw) -> tuple[Field, Mask]:
    where = blob(len(image), draw.uniform(0.04, 0.11) * len(image), draw)
    return blend(image, other, blur(where, 1.2)), where > 0


def warp(image: Field, other: Field, draw: Draw) -> tuple[Field, Mask]:
    size = len(image)
    where = blob(size, draw.uniform(0.07, 0.15) * size, draw)
    angle, push = draw.uniform(0, 2 * np.pi), blur(where, 5) * np.float32(draw.uniform(0.02, 0.04) * size)
    rows, columns = np.mgrid[:size, :size].astype(np.float32)
    x, y = columns + push * np.float32(np.cos(angle)), rows + push * np.float32(np.sin(angle))
    return float32(cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)), where > 0


KINDS = {each.__name__: each for each in (crack, hole, stain, smear, foreign, warp)}


def crops(photo: Field, size: int, share: tuple[float, float]) -> Shot:
    """Crops of the part of the photo between two shares of its width."""
    height, width = photo.shape[:2]
    left, right = (round(width * each) for each in share)

    def shot(draw: Draw) -> Field:
        y, x = draw.integers(0, height - size + 1), draw.integers(left, right - size + 1)
        return photo[y : y + size, x : x + size]

    return shot


def placed(photo: Field, size: int) -> Shot:
    """The photo, its shorter side brought to `size`, turned by a degree and moved by a hundredth or so."""
    scale = size / min(photo.shape[:2])
    if scale != 1:
        shape = (max(size, round(photo.shape[1] * scale)), max(size, round(photo.shape[0] * scale)))
        photo = float32(cv2.resize(photo, shape, interpolation=cv2.INTER_AREA))
    height, width = photo.shape[:2]
    top, left = (height - size) // 2, (width - size) // 2

    def shot(draw: Draw) -> Field:
        matrix = cv2.getRotationMatrix2D((width / 2, height / 2), draw.normal(0, 1.2), 1)
        matrix[:, 2] += draw.normal(0, 0.008 * size, 2).tolist()
        moved = cv2.warpAffine(photo, matrix, (width, height), borderMode=cv2.BORDER_REFLECT)
        return float32(moved[top : top + size, left : left + size])

    return shot


def round_part(photo: Field, size: int) -> tuple[Shot, Mask]:
    """The photo's middle as a round part at any angle, moved by a hundredth or so; and where it surely is."""
    upright = placed(photo, size)
    rows, columns = np.mgrid[:size, :size] - (size - 1) / 2
    distance = np.hypot(rows, columns)
    share = float32((ROUND * size - distance).clip(-0.5, 0.5) + 0.5)

    def shot(draw: Draw) -> Field:
        middle = ((size - 1) / 2, (size - 1) / 2)
        matrix = cv2.getRotationMatrix2D(middle, draw.uniform(0, 360), 1)
        turned = cv2.warpAffine(
            upright(draw), matrix, (size, size), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
        )
        ground = np.full(turned.shape, GROUND, np.float32)
        move = np.array([[1, 0, draw.normal(0, 0.008 * size)], [0, 1, draw.normal(0, 0.008 * size)]])
        on_ground = blend(ground, float32(turned), share)
        return float32(cv2.warpAffine(on_ground, move, (size, size), borderMode=cv2.BORDER_REPLICATE))

    return shot, np.asarray(distance < (ROUND - 0.03) * size)  # however it was moved


def lit(image: Field, draw: Draw) -> Field:
    """Under a lamp that is a little brighter or darker, and brighter on one side."""
    slope = 1 + 0.04 * draw.normal() * np.linspace(-1, 1, image.shape[1])
    return float32(image * np.exp(draw.normal(0, 0.06)) * slope[None, :, None])


def taken(image: Field, draw: Draw) -> NDArray[np.uint8]:
    noisy = image + draw.normal(0, NOISE, image.shape)
    return np.asarray(noisy.clip(0, 255), np.uint8)


def spoilt(kind: str, good: Shot, other: Shot, draw: Draw, inside: Mask | None = None) -> tuple[Field, Mask]:
    """An image with a defect that can be seen, all of it `inside`. Raises UsageError where none of fifty can."""
    for _ in range(50):
        image = lit(good(draw), draw)
        changed, outline = KINDS[kind](image, other(draw), draw)
        if inside is not None and (outline & ~inside).any():
            continue
        if outline.any() and np.abs(changed.clip(0, 255) - image.clip(0, 255)).mean(-1)[outline].mean() >= SEEN:
            return changed, outline
    raise UsageError(f"No {kind} can be seen on this surface: give a photo with more to see, or another --other.")


def read_photo(path: Path, size: int, across: int) -> Field:
    """Raises ImageError, and UsageError where it is not `size` high and `across` times as wide."""
    photo = read_image(path, channels="bgr")
    least = (size, across * size)
    if photo.shape[0] < least[0] or photo.shape[1] < least[1]:
        raise UsageError(
            f"{path} has {photo.shape[1]}×{photo.shape[0]} pixels; at least {least[1]}×{least[0]} are needed."
        )
    return photo.astype(np.float32)


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path` that becomes it when the block ends well. Raises OutputError."""
    make_folder(path.parent)
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name[:40]}.", dir=path.parent))
        try:
            yield temporary
            temporary.chmod(0o755)
            temporary.rename(path)  # over an empty folder, too
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise OutputError(f"Cannot make {path}: {error.strerror or error}; give a new folder.") from error


def write_png(path: Path, image: NDArray[np.uint8]) -> None:
    write_bytes(path, cv2.imencode(".png", image)[1].tobytes())


def write_set(
    photo: Field,
    other: Field,
    output: Path,
    *,
    size: int,
    aligned: bool,
    turned: bool,
    halves: bool,
    train: int,
    good: int,
    defective: int,
    seed: int,
) -> None:
    """Write train/good, test/good, test/KIND and ground_truth/KIND below `output`. Raises OutputError, UsageError."""
    draw, inside = np.random.default_rng(seed), None
    if turned:
        learned, inside = round_part(photo, size)
        tested = learned
    elif aligned:
        learned = tested = placed(photo, size)
    else:
        middle = (0.5, 0.5) if halves else (1.0, 0.0)  # where what is learned from ends, and what is tested on begins
        learned, tested = crops(photo, size, (0, middle[0])), crops(photo, size, (middle[1], 1))
    elsewhere = crops(other, size, (0, 1))
    for split, shot, count in (("train", learned, train), ("test", tested, good)):
        make_folder(output / split / "good")
        for i in range(count):
            write_png(output / split / "good" / f"{i:03}.png", taken(lit(shot(draw), draw), draw))
    for kind in KINDS:
        images, masks = output / "test" / kind, output / "ground_truth" / kind
        make_folder(images)
        make_folder(masks)
        for i in range(defective):
            image, outline = spoilt(kind, tested, elsewhere, draw, inside)
            write_png(images / f"{i:03}.png", taken(image, draw))
            write_png(masks / f"{i:03}_mask.png", outline.astype(np.uint8) * 255)


@click.command(help=__doc__.replace("\n\n", "\n\n\b\n"))
@click.argument("photo", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--other", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Photo of another surface.")
@click.option(
    "--output", type=click.Path(path_type=Path, file_okay=False), required=True, metavar="FOLDER", help="A new folder."
)
@click.option("--size", type=click.IntRange(min=64), default=256, show_default=True, help="Of the images, in pixels.")
@click.option("--aligned", is_flag=True, help="The photo is one part that always lies alike.")
@click.option("--turned", is_flag=True, help="The photo's middle is a round part that lies at any angle.")
@click.option("--halves", is_flag=True, help="Learn from the left half, test on the right one.")
@click.option("--train", type=click.IntRange(min=5), default=160, show_default=True, help="Good images to learn from.")
@click.option("--good", type=click.IntRange(min=1), default=40, show_default=True, help="Good images for the test.")
@click.option("--defective", type=click.IntRange(min=1), default=12, show_default=True, help="Of each kind.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
def main(photo: Path, other: Path | None, output: Path, size: int, halves: bool, **options: Any) -> None:
    try:
        if options["aligned"] + options["turned"] + halves > 1:
            raise UsageError("Choose one of --aligned, --turned and --halves: a part has no second half to test on.")
        surface = read_photo(photo, size, 2 if halves else 1)
        elsewhere = read_photo(other, size, 1) if other else surface.transpose(1, 0, 2)[::-1]
        with new_folder(output) as folder:
            write_set(surface, elsewhere, folder, size=size, halves=halves, **options)
    except RstpmEdgeError as error:
        raise click.ClickException(str(error)) from error
    click.echo(
        f"{output}: {options['train']} images to learn from, {options['good']} good and "
        f"{options['defective']} of each of {len(KINDS)} kinds of defect for the test."
    )


if __name__ == "__main__":
    main()
