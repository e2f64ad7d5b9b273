"""The registry: a folder that several people and stations share.

    registry.json                     says that it is one
    products/NAME/log.jsonl           a chain of entries (`hash_chain`), which alone says what is live
    models/SHA256/model.onnx          and model.onnx.sig beside it, where it is signed

A model's files are written, and synced, before the entry that names them. Nothing is overwritten or removed. So whoever
is killed leaves files that nobody names, or the beginning of a line, and the next one goes on.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rstpm_edge import document as read
from rstpm_edge.atomic_files import make_folder, write_json
from rstpm_edge.errors import ModelError, UsageError
from rstpm_edge.loaded_model import LoadedModel, check_replacement
from rstpm_edge.model.keys import PublicKey
from rstpm_edge.model.signature import check_signature, signature_file
from rstpm_edge.model.small_file import read_small
from rstpm_edge.pipeline import InferenceOptions
from rstpm_edge.registry import product as of_product
from rstpm_edge.registry.model_copy import copy_model, try_model
from rstpm_edge.registry.product import ModelFacts, Product, Stage, Version
from rstpm_edge.registry.product_log import Change, Logged, read_log, write_log
from rstpm_edge.registry.store import check_file, put, sync_folder

SCHEMA_VERSION, NEEDS = 1, "0.1.0"  # of the folder, and the first release that reads it
MARKER, LOG, MODEL = "registry.json", "log.jsonl", "model.onnx"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class Registry:
    """The registry in `folder`, which `open_registry` or `make_registry` gave."""

    folder: Path

    def products(self) -> list[str]:
        """The names of products that have a version, in their order. Raises ModelError."""
        try:
            names = sorted(os.listdir(self.folder / "products"))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise ModelError(f"Cannot read the registry {self.folder}: {error.strerror or error}.") from error
        return [name for name in names if _NAME.fullmatch(name) and self._has_log(name)]

    def product(self, name: str) -> Product:
        """A product as it is now. Raises UsageError for one that there is not, and ModelError for a damaged log."""
        return self.logged(name).product

    def logged(self, name: str, looked_for: str | None = None) -> Logged:
        """The same with all that its log says; `looked_for` is the hash of an entry that must be in it."""
        if not self._has_log(checked_name(name)):
            there = self.products()
            known = f"it has {', '.join(there[:10])}{', …' if len(there) > 10 else ''}" if there else "it is empty"
            raise UsageError(f"The registry {self.folder} has no product {name}: {known}.")
        return read_log(self.log_file(name), name, looked_for)

    def live(self, name: str) -> Version:
        """The version that judges. Raises UsageError where there is none."""
        found = self.product(name).live
        if found is None:
            raise UsageError(
                f"No version of {name} is live: `rstpm-edge registry promote {name} VERSION` makes one so."
            )
        return found

    def log_file(self, name: str) -> Path:
        """Where the log of a product lies."""
        return self.folder / "products" / name / LOG

    def model_file(self, model: ModelFacts) -> Path:
        """Where a model lies; its signature, if any, lies beside it."""
        return self.folder / "models" / model.name / MODEL

    def check_files(self, model: ModelFacts) -> None:
        """Raises ModelError where a file of the model is missing, or was changed."""
        file = self.model_file(model)
        check_file(file, model.sha256)
        if model.signature is not None:
            check_file(signature_file(file), model.signature)

    def add(
        self,
        name: str,
        model: Path,
        *,
        key: PublicKey | None = None,
        evaluation: Mapping[str, Any] | None = None,
        note: str | None = None,
    ) -> tuple[Version, bool]:
        """Add a model file, and the signature beside it, as a new version: a candidate.

        It is loaded and run once before, and its goldens are judged, where it has any. With a `key` it must be signed
        with it. Where a version has these files already, an evaluation or a note are added to that. Gives the version,
        and whether it is a new one. Raises UsageError, ModelError, SignatureError and OutputError.
        """
        checked_name(name)
        try:
            note = of_product.checked_note(note)
            evaluation = None if evaluation is None else read.summary(dict(evaluation), "the evaluation")
        except ValueError as error:
            raise UsageError(f"The registry cannot keep that: {error}.") from error
        copy = copy_model(model, key)
        facts, target = copy.facts, self.model_file(copy.facts)
        signature = {} if copy.signature is None else {signature_file(target).name: copy.signature}
        put(target.parent, {MODEL: copy.content, **signature})
        if key is not None:
            check_signature(target, facts.sha256, key)  # what was copied, whatever `model` is by now
        make_folder(self.log_file(name).parent)
        for folder in (self.log_file(name).parent, self.folder / "products"):
            sync_folder(folder)
        extra = {
            **({} if evaluation is None else {"evaluation": dict(evaluation)}),
            **({} if note is None else {"note": note}),
        }

        is_new = [False]

        def decide(now: Product) -> Change | None:
            there = now.holding(facts)
            is_new[0] = there is None
            if there is not None:
                return Change(of_product.NOTED, {"version": there.number, **extra}, now) if extra else None
            fields = {"version": len(now.versions) + 1, "model": facts.to_json(), **extra}
            return Change(of_product.ADDED, fields, now)

        write_log(self.log_file(name), name, decide)
        found = self.product(name).holding(facts)
        assert found is not None
        return found, is_new[0]

    def promote(
        self,
        name: str,
        number: int,
        to: Stage,
        *,
        key: PublicKey | None = None,
        note: str | None = None,
        force: bool = False,
    ) -> tuple[Product, Product]:
        """Let a version judge (`live`), or judge without effect (`shadow`), or neither.

        Before it does, it is loaded from the registry and run once, as a station will; with a `key`, its signature is
        checked. One that stations refuse to take over, since it learned from photos of another kind than the live one,
        is refused here, unless with `force`. Gives the product before and after; the same where it was so already.

        Raises UsageError, ModelError, SignatureError and OutputError.
        """
        now = self.product(name)
        version = now.version(number)
        fields = {"version": number, "to": to, **_noted(note)}
        if to != "candidate":
            new = try_model(self.model_file(version.model), key)
            if new.sha256 != version.model.sha256:
                self.check_files(version.model)  # says so
            if now.live is not None and now.live.number != number and not force:
                self._check_takes_over(new, now.live)
        before = [now]

        def decide(found: Product) -> Change | None:
            before[0] = found
            after = found.promoted(number, to)
            if (after.lives, after.shadow) == (found.lives, found.shadow):
                return None
            return Change(of_product.PROMOTED, {**fields, "live": found.lives[-1] if found.lives else None}, after)

        after = write_log(self.log_file(name), name, decide)
        return before[0], after

    def roll_back(self, name: str, *, number: int | None = None, note: str | None = None) -> tuple[Product, Product]:
        """Make the version live that was live before. `number` is the one that must be live now.

        Gives the product before and after. Raises UsageError, also where another one is live than `number`; ModelError
        where the files of the version before are damaged; OutputError.
        """
        fields = _noted(note)
        before = [self.product(name)]

        def decide(found: Product) -> Change:
            before[0] = found
            if number is not None and (found.live is None or found.live.number != number):
                there = "none is" if found.live is None else f"version {found.live.number} is"
                raise UsageError(f"Version {number} of {name} is not live, {there}: nothing was changed.")
            after = found.rolled_back()
            assert after.live is not None
            self.check_files(after.live.model)
            return Change(of_product.ROLLED_BACK, {"version": after.live.number, **fields}, after)

        after = write_log(self.log_file(name), name, decide)
        return before[0], after

    def _check_takes_over(self, new: LoadedModel, live: Version) -> None:
        try:
            running = try_model(self.model_file(live.model), None)
        except ModelError:  # one that is damaged must not keep its place
            return
        try:
            check_replacement(new, running, InferenceOptions())
        except ModelError as error:
            raise UsageError(
                f"{error} Stations that run would refuse it; `force` makes it live all the same."
            ) from error

    def _has_log(self, name: str) -> bool:
        try:
            return self.log_file(name).stat().st_size > 0
        except OSError:
            return False


def open_registry(folder: Path) -> Registry:
    """The registry in a folder. Raises UsageError where there is none, and ModelError for a newer one."""
    try:
        content = read_small(folder / MARKER, 10_000)
    except FileNotFoundError as error:
        raise UsageError(f"There is no registry in {folder}; `rstpm-edge registry add` makes one.") from error
    except OSError as error:
        raise ModelError(f"Cannot read the registry {folder}: {error.strerror or error}.") from error
    try:
        read.schema_version(read.load(content.decode()), SCHEMA_VERSION)
    except read.NewerError as error:
        raise ModelError(f"The registry {folder} {error}.") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"The registry {folder} is damaged: {folder / MARKER} is none of ours.") from error
    return Registry(folder)


def make_registry(folder: Path) -> Registry:
    """The same, in a folder that is made where it is missing. Raises UsageError for one that holds something else."""
    if (folder / MARKER).exists():
        return open_registry(folder)
    if folder.exists() and (not folder.is_dir() or any(not name.endswith(".tmp") for name in os.listdir(folder))):
        raise UsageError(f"{folder} holds something else than a registry: give an empty folder, or a new one.")
    make_folder(folder)
    write_json(folder / MARKER, {"schema_version": SCHEMA_VERSION, "needs": NEEDS})
    sync_folder(folder)
    return Registry(folder)


def checked_name(name: str) -> str:
    """A product's name, which is also that of its folder. Raises UsageError."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"A product's name has up to 100 letters a to z, digits, and . _ - behind the first of them, not {name!a}."
        )
    return name


def check_loaded(version: Version, sha256: str, path: Path) -> None:
    """Raises ModelError where what was loaded from `path` is not the file that the log names."""
    if sha256 != version.model.sha256:
        raise ModelError(
            f"The registry's file {path} is damaged, or was exchanged: its SHA-256 is {sha256}, and version "
            f"{version.number} has {version.model.sha256}. Copy it from a backup, or add the same model again."
        )


def _noted(note: str | None) -> dict[str, str]:
    try:
        note = of_product.checked_note(note)
    except ValueError as error:
        raise UsageError(f"The registry cannot keep that: {error}.") from error
    return {} if note is None else {"note": note}
