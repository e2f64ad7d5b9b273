"""Which files of a folder are images, in which order they come, and what is to be said about the others."""

import os
import re
import stat
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from rstpm_edge.errors import ImageError

Reason: TypeAlias = Literal[
    "hidden", "hidden folder", "no image", "unfinished", "special", "dangling", "again", "forbidden", "litter"
]

# Names of pictures. What some of them hold cannot be read, which is then told of each.
EXTENSIONS = frozenset(
    re.findall(
        r"\.\w+",
        ".png .apng .jpg .jpeg .jpe .jfif .jfi .jif .bmp .dib .tif .tiff .btf .tf8 .webp .pgm .ppm .pbm .pnm .pam .pfm "
        ".jp2 .j2k .j2c .jpc .jpf .jpx .jpm .jph .jhc "
        ".gif .heic .heif .hif .avif .jxl .jxr .wdp .hdp .psd .psb .exr .hdr .dds .tga .pcx .sgi .ras .xcf .ico "
        ".raw .dng .cr2 .cr3 .crw .nef .nrw .arw .sr2 .srf .raf .orf .rw2 .pef .srw .3fr .iiq .x3f .mef .mos",
    )
)
# Names that a file has until it is whole, and its own then.
UNFINISHED = frozenset(
    {".part", ".partial", ".crdownload", ".download", ".opdownload", ".filepart", ".tmp", ".temp", ".swp", ".aria2"}
)
LITTER = frozenset({"thumbs.db", "desktop.ini", "ehthumbs.db", ".ds_store", ".localized", ".directory"})
HEAD = 64  # bytes that tell a picture

NAMED = 3  # files of one kind in a sentence

PHRASES: Mapping[Reason, tuple[str, str]] = {  # one, many
    "hidden": ("hidden", "hidden"),
    "hidden folder": ("hidden folder", "hidden folders"),
    "no image": ("no image", "no images"),
    "unfinished": ("unfinished", "unfinished"),
    "special": ("no regular file", "no regular files"),
    "dangling": ("link that leads nowhere", "links that lead nowhere"),
    "again": ("linked folder that is read already or leads up", "linked folders that are read already or lead up"),
    "forbidden": ("without permission to read", "without permission to read"),
    "litter": ("of the system", "of the system"),
}
_FOLDERS: frozenset[Reason] = frozenset({"hidden folder", "again"})

_MAGIC = re.compile(
    rb"\x89PNG\r\n\x1a\n|\xff\xd8\xff"
    rb"|BM.{12}[\x0c\x10\x28\x34\x38\x40\x6c\x7c]\0\0\0"  # the size of its second header
    rb"|II[*+]\0|MM\0[*+]|II\xbc\x01|IIU\0|IIR[OS]"
    rb"|RIFF.{4}WEBP|GIF8[79]a|8BPS\0|\x76\x2f\x31\x01|#\?RADIANCE|DDS \x7c|FUJIFILMCCD-RAW"
    rb"|P[1-6](\s|#[^\n]*\n)+[0-9]|P7\nWIDTH|P[Ff]\n[0-9]"
    rb"|\0\0\0\x0c(jP  |JXL )\r\n\x87\n|\xff\x4f\xff\x51"
    rb"|.{4}ftyp(heic|heix|heim|heis|hevc|hevx|mif1|msf1|avif|avis|crx )",
    re.DOTALL,
)


@dataclass(frozen=True)
class Listing:
    """What a folder holds: its images in natural order, and what was left out, by the reason."""

    folder: Path
    images: tuple[Path, ...]
    left_out: Mapping[Reason, tuple[Path, ...]]

    @property
    def files(self) -> int:
        """How many files there are, images or not."""
        others = sum(len(paths) for reason, paths in self.left_out.items() if reason not in _FOLDERS)
        return len(self.images) + others

    def note(self) -> str | None:
        """One sentence on how many of how many files were taken, and why the others were not.

        None where nobody needs to hear it: all were taken, but for what the system leaves in every folder.
        """
        about = self.about_left_out()
        return about and f"Took {len(self.images)} of {self.files} files in {self.folder}: {about}."

    def about_left_out(self) -> str | None:
        """ "left out 2 hidden (.a.png, .b.png), 1 no image (notes.txt)"; None where there is nothing to tell."""
        if not set(self.left_out) - {"litter"}:
            return None
        told = []
        for reason, phrases in PHRASES.items():
            paths = self.left_out.get(reason, ())
            if paths:
                names = ", ".join(os.path.relpath(path, self.folder) for path in paths[:NAMED])
                more = ", …" if len(paths) > NAMED else ""
                told.append(f"{len(paths)} {phrases[len(paths) > 1]} ({names}{more})")
        return f"left out {', '.join(told)}"


def find_images(folder: str | os.PathLike[str], *, recursive: bool = True) -> list[Path]:
    """The images of `list_folder`. Raises ImageError where a folder cannot be listed."""
    return list(list_folder(folder, recursive=recursive).images)


def list_folder(
    folder: str | os.PathLike[str], *, recursive: bool = True, leave_out: Iterable[str | os.PathLike[str]] = ()
) -> Listing:
    """Image files in a folder and (`recursive`) the folders below it, in natural order: 2.png before 10.png.

    A file is an image by its extension, or, where that is none of an image, by its first bytes. Links are followed, to
    folders, too, but to each folder once, and never to one that the link itself lies in. Hidden files and folders are
    left out, names of files that are not whole yet (.part, .tmp), and all that is no regular file; `leave_out` are
    folders that are not looked into, nor spoken of.

    Raises ImageError where a folder cannot be listed.
    """
    images: list[Path] = []
    left_out: dict[Reason, list[Path]] = {}
    hidden_from_us = tuple(os.path.realpath(path) for path in leave_out)
    walk = FolderWalk(os.fspath(folder))
    for path, _ in walk:
        if is_below(path, hidden_from_us):
            continue
        try:
            with os.scandir(path) as children:
                entries = sorted(children, key=lambda child: child.name)
        except OSError as error:
            raise ImageError(f"Cannot list the folder {error.filename}: {error.strerror}.") from error
        for child in entries:
            entry = kind_of_entry(child)
            kind = kind_of_file(child.path) if entry == "file" else entry
            if kind == "folder":
                if recursive:
                    walk.add(child.path, is_link=child.is_symlink())
            elif kind != "image":
                if kind != "hidden folder" or recursive:
                    left_out.setdefault(kind, []).append(Path(child.path))
            elif not (child.is_symlink() and is_below(child.path, hidden_from_us)):
                images.append(Path(child.path))
    if walk.again:
        left_out["again"] = [Path(path) for path in walk.again]
    return Listing(
        Path(folder),
        tuple(sorted(images, key=natural_order)),
        {reason: tuple(sorted(paths, key=natural_order)) for reason, paths in left_out.items()},
    )


class FolderWalk:
    """A folder and all that are added on the way, each real folder once; linked ones come last.

    Gives each path and its status, None where that is not to be had. `again` are the links to folders that are known
    by another name.
    """

    def __init__(self, folder: str) -> None:
        self.again: list[str] = []
        self._real = os.path.realpath(folder)
        self._todo, self._linked = deque([folder]), deque[str]()
        self._seen: set[tuple[int, int]] = set()

    def __iter__(self) -> "FolderWalk":
        return self

    def __next__(self) -> tuple[str, os.stat_result | None]:
        while self._todo or self._linked:
            is_linked = not self._todo
            path = (self._todo or self._linked).popleft()
            try:
                status = os.stat(path)
            except OSError:
                return path, None  # whoever lists it says why that cannot be done
            key = (status.st_dev, status.st_ino)
            if key not in self._seen and not (is_linked and self._leads_up(path)):
                self._seen.add(key)
                return path, status
            if is_linked:
                self.again.append(path)
        raise StopIteration

    def add(self, path: str, *, is_link: bool) -> None:
        """Come to this folder later."""
        (self._linked if is_link else self._todo).append(path)

    def _leads_up(self, link: str) -> bool:
        """Whether it leads to a folder that it, or the first of all, lies in: it would lead out, to all beside."""
        target, here = os.path.realpath(link), os.path.realpath(os.path.dirname(link))
        return any(is_below(place, (target,)) for place in (self._real, here))


def kind_of_entry(child: "os.DirEntry[str]") -> Reason | Literal["file", "folder"]:
    """What an entry of a folder is to us, without a look into it: of a "file", `kind_of_file` says more."""
    name = child.name
    if name.lower() in LITTER:
        return "litter"
    try:
        mode = child.stat().st_mode if child.is_symlink() else None
        is_folder = stat.S_ISDIR(mode) if mode is not None else child.is_dir(follow_symlinks=False)
        is_file = stat.S_ISREG(mode) if mode is not None else child.is_file(follow_symlinks=False)
    except OSError:
        return "hidden" if name.startswith(".") else "dangling"
    if name.startswith("."):
        return "hidden folder" if is_folder else "hidden"
    if is_folder:
        return "folder"
    return "file" if is_file else "special"


def kind_of_file(path: str | os.PathLike[str]) -> Literal["image", "unfinished", "no image", "special", "forbidden"]:
    """What a file is, by its name, or else by its first bytes; nothing but a regular file is read."""
    if is_image_name(os.path.basename(path)):
        return "image"
    if is_unfinished_name(os.path.basename(path)):
        return "unfinished"
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)  # who opens a FIFO waits for a writer
    except OSError:
        return "forbidden"
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return "special"
        return "image" if _MAGIC.match(os.read(descriptor, HEAD)) else "no image"
    except OSError:
        return "forbidden"
    finally:
        os.close(descriptor)


def is_image_name(name: str) -> bool:
    """Whether a file of this name is taken for an image without a look into it: by its extension."""
    return os.path.splitext(name)[1].lower() in EXTENSIONS and not name.startswith(".")


def is_unfinished_name(name: str) -> bool:
    """Whether a file of this name is one that somebody still writes, who will rename it then."""
    return os.path.splitext(name)[1].lower() in UNFINISHED


def image_stem(path: Path) -> str:
    """The file's name without an extension of images: "part.1" of part.1.png, and of a file part.1."""
    return path.stem if path.suffix.lower() in EXTENSIONS else path.name


def is_below(path: str | os.PathLike[str], folders: Sequence[str]) -> bool:
    """Whether `path` is one of `folders`, or below it; these are real paths, `path` may lead over links."""
    if not folders:
        return False
    real = os.path.realpath(path)
    return any(real == folder or real.startswith(folder.rstrip(os.sep) + os.sep) for folder in folders)


def natural_order(path: Path) -> tuple[tuple[tuple[int, str, int], ...], ...]:
    """Sort key: 2.png before 10.png, and each folder's files together."""

    # Part by part. Numbers sort before text, and by value.
    def key(run: str) -> tuple[int, str, int]:
        return (0, "", int(run)) if run.isdecimal() else (1, run.lower(), 0)

    return tuple(tuple(key(run) for run in re.findall(r"\d+|\D+", part)) for part in path.parts)
