"""From a model file to its maps: the one module that owns the session of a runtime."""

import ctypes
import os
import stat
import threading
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rstpm_edge.atomic_files import make_folder
from rstpm_edge.cpu import dot_products, usable_cores
from rstpm_edge.engine import onnx_runtime
from rstpm_edge.engine.providers import (
    INPUT_NAME,
    OPENVINO,
    Provider,
    choose,
    short,
)
from rstpm_edge.errors import ModelError, UsageError
from rstpm_edge.model.keys import PublicKey, as_public_key
from rstpm_edge.model.metadata import Bundle
from rstpm_edge.model.model_file import ModelFile, opened
from rstpm_edge.model.outputs import ModelOutputs
from rstpm_edge.model.read_metadata import parse_bundle

# What runtimes have loaded in this process. A forked child has none of their threads: what it calls waits for them for
# ever, or crashes, and so does freeing it. So the child keeps its copies until it ends, and opens sessions of its own.
_loaded: "weakref.WeakSet[Any]" = weakref.WeakSet()
_opening = threading.Lock()


def _after_fork() -> None:
    global _opening
    _opening = threading.Lock()  # another thread may have held it
    for inference in list(_loaded):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(inference))
    _loaded.clear()


os.register_at_fork(after_in_child=_after_fork)


@dataclass(frozen=True)
class Session:
    """A loaded model: the runtime's session and what the file says about itself.

    `providers` are ONNX Runtime's names, or "OpenVINO CPU". `precision` is that of `Detector`'s providers, None where
    ONNX Runtime's own defaults hold. `batch` is how many images the runtime takes at a time, None for any number.
    `sha256` is that of the file, in hexadecimal. Safe to share between threads. In a forked child it opens the file
    once more, and only if it is still the same.
    """

    path: Path
    bundle: Bundle
    providers: tuple[str, ...]
    precision: str | None
    batch: int | None
    threads: int
    sha256: str
    goldens: str | None  # the document of `rstpm_edge.model.goldens`, where it was asked for and the file has one
    _inference: Any
    _options: Mapping[str, Any]  # of `open_session`
    _process: int = field(default_factory=os.getpid)
    _in_children: dict[int, Any] = field(default_factory=dict)

    def run(self, images: NDArray[np.uint8]) -> ModelOutputs:
        """The model's outputs of `images` (N, H, W, 3) uint8 RGB. Raises ModelError."""
        step = self.batch or len(images)
        return ModelOutputs.concatenate(
            [self._run(images[start : start + step]) for start in range(0, len(images), step)]
        )

    def _run(self, images: NDArray[np.uint8]) -> ModelOutputs:
        inference = self._inference if os.getpid() == self._process else self._in_child()
        names = list(self.bundle.graph_outputs)
        try:
            values: list[NDArray[np.float32]] = inference.run(names, {INPUT_NAME: images})
        except Exception as error:  # the runtimes' exceptions have no base class but Exception
            raise ModelError(f"The model {self.path} could not be run: {onnx_runtime.reason(error)}.") from error
        if [one.shape for one in values] != [(len(images), *size) for size in self.bundle.graph_outputs.values()]:
            raise ModelError(f"The maps of {self.path} do not have the sizes that its metadata promises.")
        return ModelOutputs.named(names, values)

    def _in_child(self) -> Any:
        """The inference of a child of the process that opened this."""
        process = os.getpid()
        with _opening:
            if process not in self._in_children:
                if self.providers != ("CPUExecutionProvider",):
                    # Neither CUDA nor OpenVINO outlives a fork: their locks may be held by threads that are gone.
                    raise UsageError(
                        f"A detector with {short(self.providers[0])} cannot be used in a forked process: make the "
                        "Detector in the child, or start processes with multiprocessing's method spawn."
                    )
                own = open_session(**self._options)
                if own.sha256 != self.sha256:
                    raise ModelError(
                        f"The model {self.path} has changed since the detector was made, before the fork; "
                        "make a new one."
                    )
                self._in_children[process] = own._inference
            return self._in_children[process]


def open_session(
    path: str | os.PathLike[str],
    *,
    providers: Sequence[Provider] | str | None = None,
    threads: int | None = None,
    polite: bool = False,
    engine_cache: str | os.PathLike[str] | None = None,
    public_key: str | os.PathLike[str] | PublicKey | None = None,
    with_goldens: bool = False,
) -> Session:
    """Load a model file. The options are those of `Detector`; `with_goldens` keeps the file's goldens, if any.

    Raises SignatureError for a file that is not signed with the key; ModelError for one that is missing, damaged, not
    exported by rstpm-edge or newer than this package, or that this processor computes wrongly; ProviderError for a
    provider that is not installed or cannot start; UsageError for other options that cannot work; OutputError when the
    folder for engines cannot be made.
    """
    key = None if public_key is None else as_public_key(public_key)
    options = {
        "path": os.path.abspath(path),  # a child may go to another folder
        "providers": providers,
        "threads": threads,
        "polite": polite,
        "engine_cache": engine_cache,
        "public_key": key,
    }
    choices = choose(providers)
    if threads is None:
        threads = usable_cores()
    elif threads < 1:
        raise UsageError(f"The number of threads must be at least 1, but is {threads}.")
    if engine_cache is not None and not any(choice.keeps_engines for choice in choices):
        raise UsageError(f"There are no engines of {choices[0].short} to keep: leave engine_cache out.")
    first = choices[0]
    with opened(Path(path), key) as model:
        bundle = parse_bundle(model.document)
        folder = None if engine_cache is None else _engines_of(model, engine_cache, private=key is not None)
        if first.name == OPENVINO:
            from rstpm_edge.engine import openvino as session_openvino

            inference = session_openvino.load(model, first, threads=threads, engine_cache=folder)
        else:
            inference = onnx_runtime.load(model, choices, bundle, threads=threads, polite=polite, engine_cache=folder)
        _loaded.add(inference)
        _check_graph(inference, bundle, model.path)
        session = Session(
            path=model.path,
            bundle=bundle,
            providers=tuple(inference.get_providers()),
            precision=inference.precision if first.name == OPENVINO else first.precision,
            batch=min((choice.batch for choice in choices if choice.batch is not None), default=None),
            threads=threads,
            sha256=model.sha256,
            goldens=model.goldens if with_goldens else None,
            _inference=inference,
            _options=options,
        )
        if bundle.precision == "int8" and first.on_processor and dot_products() is None:
            from rstpm_edge.engine.int8_check import check_integers

            check_integers(session.run, model, bundle, OPENVINO if first.name == OPENVINO else "ONNX Runtime", threads)
    return session


def _engines_of(model: ModelFile, engine_cache: str | os.PathLike[str], *, private: bool) -> Path:
    """The folder for engines of this very file. TensorRT's provider names an engine for the graph without its weights,
    so in one folder a model that was trained again would run as the one before.

    Raises UsageError, with `private`, where others may put engines there: they run in the place of the signed model.
    """
    base = make_folder(engine_cache)
    own = make_folder(base / model.sha256)
    for path in (base, own, *own.iterdir()) if private else ():
        status = path.stat()
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) or status.st_uid not in (os.getuid(), 0):
            raise UsageError(
                f"Others may write to {path}, and engines are not signed as the model is: take that from them "
                "(chmod -R go-w), give a folder of your own, or leave `engine_cache` out."
            )
    return own


def _check_graph(inference: Any, bundle: Bundle, path: Path) -> None:
    """Raises ModelError where the graph is not what its metadata says."""

    def matches(node: Any, kind: str, *sizes: int) -> bool:
        # The batch must be free. Other dimensions may go by a name where the exporter could not infer them.
        batch, *rest = node.shape if node.shape else (1,)
        agree = len(rest) == len(sizes) and all(
            not isinstance(given, int) or given == size for given, size in zip(rest, sizes, strict=True)
        )
        return node.type == f"tensor({kind})" and not isinstance(batch, int) and agree

    inputs = {node.name: node for node in inference.get_inputs()}
    size = (bundle.height, bundle.width)
    if list(inputs) != [INPUT_NAME] or not matches(inputs[INPUT_NAME], "uint8", *size, 3):
        raise ModelError(f"The input of {path} does not match its metadata; export the model again.")
    outputs = {node.name: node for node in inference.get_outputs()}
    for name, shape in bundle.graph_outputs.items():
        if name not in outputs or not matches(outputs[name], "float", *shape):
            raise ModelError(
                f"The output {name} of {path} is missing or does not match its metadata; export the model again."
            )
