"""What a product's log says: its versions, and which of them judges."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypeAlias

from rstpm_edge import document as read
from rstpm_edge.errors import UsageError
from rstpm_edge.outputs.hash_chain import TORN

Stage: TypeAlias = Literal["candidate", "shadow", "live"]
ADDED, NOTED, PROMOTED, ROLLED_BACK = "added", "noted", "promoted", "rolled back"
LONGEST_NOTE = 500  # characters


@dataclass(frozen=True)
class Calibrated:
    """What a model promises: of `images` held-out good photos, a share of at most `alpha` scores above `threshold`."""

    alpha: float
    threshold: float
    typical_score: float
    images: int


@dataclass(frozen=True)
class ModelFacts:
    """What is kept of a model beside its file.

    `sha256` is that of the file, `signature` that of its signature's file, None where it has none; `signed_by` is the
    key that was seen to have signed it when it was added. `height` and `width` are those of its input. `size` is in
    bytes.
    """

    sha256: str
    signature: str | None
    signed_by: str | None
    size: int
    preset: str
    precision: str
    height: int
    width: int
    exported_by: str  # the release of rstpm-edge
    calibration: Calibrated

    @property
    def name(self) -> str:
        """That of its folder: other bytes have another one."""
        return self.sha256 if self.signature is None else f"{self.sha256}-{self.signature[:16]}"

    def to_json(self) -> dict[str, Any]:
        """As `parse_facts` takes it."""
        return asdict(self)


@dataclass(frozen=True)
class Version:
    """A model of a product, numbered from 1. `evaluation` is what `rstpm-edge evaluate --json` wrote, or part of it."""

    number: int
    model: ModelFacts
    added: str  # UTC, ISO 8601
    added_by: str  # user@host
    evaluation: Mapping[str, Any] | None = None
    note: str | None = None


@dataclass(frozen=True)
class Product:
    """A product's versions. `lives` are the numbers of those that were live, the one that is last; `shadow` is one.

    `entries` and `hash` are those of the end of its log.
    """

    name: str
    versions: tuple[Version, ...] = ()
    lives: tuple[int, ...] = ()
    shadow: int | None = None
    entries: int = 0
    hash: str = "0" * 64

    @property
    def live(self) -> Version | None:
        """The version that judges; None before one was promoted."""
        return self.version(self.lives[-1]) if self.lives else None

    @property
    def before(self) -> Version | None:
        """The version that `rollback` makes live again; None where none was."""
        return self.version(self.lives[-2]) if len(self.lives) > 1 else None

    @property
    def in_shadow(self) -> Version | None:
        """The version that judges without effect."""
        return None if self.shadow is None else self.version(self.shadow)

    def version(self, number: int) -> Version:
        """Raises UsageError where there is none of this number."""
        if not 1 <= number <= len(self.versions):
            there = f"its versions are 1 to {len(self.versions)}" if self.versions else "it has none"
            raise UsageError(f"The product {self.name} has no version {number}: {there}.")
        return self.versions[number - 1]

    def stage(self, number: int) -> Stage:
        """What a version is for now."""
        if self.lives and self.lives[-1] == number:
            return "live"
        return "shadow" if self.shadow == number else "candidate"

    def holding(self, model: ModelFacts) -> Version | None:
        """The version with this file and signature."""
        return next((one for one in self.versions if one.model.name == model.name), None)

    def promoted(self, number: int, to: Stage) -> "Product":
        """What follows when a version is promoted. Raises UsageError for what means nothing."""
        self.version(number)
        now = self.stage(number)
        if now == "live" and to != "live":
            raise UsageError(
                f"Version {number} of {self.name} is live: promote another one, or roll back with "
                "`rstpm-edge registry rollback`."
            )
        shadow = number if to == "shadow" else None if self.shadow == number else self.shadow
        lives = (*self.lives, number) if to == "live" and now != "live" else self.lives
        return replace(self, lives=lives, shadow=shadow)

    def rolled_back(self) -> "Product":
        """What follows on `rollback`. Raises UsageError where no version was live before."""
        if self.before is None:
            raise UsageError(f"No other version of {self.name} was live before: promote the one that you want.")
        shadow = None if self.shadow == self.before.number else self.shadow
        return replace(self, lives=self.lives[:-1], shadow=shadow)


def replay(name: str, entries: Sequence[Mapping[str, Any]]) -> Product:
    """What the entries of a log say, in their order. Raises ValueError, in a phrase, for what no log says."""
    product = Product(name)
    for number, entry in enumerate(entries, 1):
        try:
            product = _after(product, entry)
        except UsageError as error:
            raise ValueError(f"entry {number} cannot follow on those before it: {error}") from error
        except ValueError as error:
            raise ValueError(f"entry {number}: {error}") from error
    return product


def parse_facts(value: Any) -> ModelFacts:
    """What `ModelFacts.to_json` gave. Raises ValueError."""
    found = read.fields(value, "the model", tuple(ModelFacts.__dataclass_fields__))
    calibration = read.fields(found["calibration"], "the calibration", tuple(Calibrated.__dataclass_fields__))
    return ModelFacts(
        sha256=_digest(found["sha256"], "the SHA-256"),
        signature=None if found["signature"] is None else _digest(found["signature"], "the signature's SHA-256"),
        signed_by=None if found["signed_by"] is None else _digest(found["signed_by"], "the key"),
        size=read.whole(found["size"], "the size", 0, 1 << 40),
        preset=read.text(found["preset"], "the preset", 200),
        precision=read.text(found["precision"], "the precision", 20),
        height=read.whole(found["height"], "the height", 1, 1 << 20),
        width=read.whole(found["width"], "the width", 1, 1 << 20),
        exported_by=read.text(found["exported_by"], "the release", 50),
        calibration=Calibrated(
            alpha=read.number(calibration["alpha"], "the rate", 0, 1),
            threshold=read.number(calibration["threshold"], "the threshold", -3.4e38, 3.4e38),
            typical_score=read.number(calibration["typical_score"], "the typical score", -3.4e38, 3.4e38),
            images=read.whole(calibration["images"], "the number of held-out photos", 0, 1 << 40),
        ),
    )


def checked_note(note: str | None) -> str | None:
    """A note as it is kept. Raises ValueError for one that is too long, or cannot be printed."""
    return None if note is None else read.text(note, "the note", LONGEST_NOTE)


def _after(product: Product, entry: Mapping[str, Any]) -> Product:
    event = entry.get("event")
    if event == TORN:
        return product
    if event == ROLLED_BACK:
        rolled = product.rolled_back()
        if entry.get("version") != rolled.lives[-1]:
            raise ValueError("another version was live before")
        return rolled
    if event not in (ADDED, NOTED, PROMOTED):
        raise ValueError(f"its event {read.shown(event)} is not known: a newer rstpm-edge may have written it")
    number = read.whole(entry.get("version"), "the version", 1, 10**9)
    if event == PROMOTED:
        return product.promoted(number, read.choice(entry.get("to"), "the stage", ("candidate", "shadow", "live")))
    evaluation = entry.get("evaluation")
    evaluation = None if evaluation is None else read.summary(evaluation, "the evaluation")
    note = checked_note(entry.get("note"))
    if event == NOTED:
        version = product.version(number)
        version = replace(version, evaluation=evaluation or version.evaluation, note=note or version.note)
        return replace(product, versions=(*product.versions[: number - 1], version, *product.versions[number:]))
    if number != len(product.versions) + 1:
        raise ValueError(f"version {number} does not follow on version {len(product.versions)}")
    added_by = f"{read.text(entry.get('user'), 'the user', 300)}@{read.text(entry.get('host'), 'the host', 300)}"
    version = Version(
        number,
        parse_facts(entry.get("model")),
        read.text(entry.get("time"), "the time", 50),
        added_by,
        evaluation,
        note,
    )
    return replace(product, versions=(*product.versions, version))


def _digest(value: Any, name: str) -> str:
    text = read.text(value, name, 64)
    if len(text) != 64 or set(text) - set("0123456789abcdef"):
        raise ValueError(f"{name} is no SHA-256")
    return text
