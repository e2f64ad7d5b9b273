"""The one module that owns an ONNX Runtime session: from a model file to six anomaly maps."""

import mmap
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from rstpm_edge.bundle import METADATA_KEY, Bundle, parse_bundle
from rstpm_edge.errors import ModelError, ProviderError, UsageError
from rstpm_edge.wire import uses_external_data

Provider: TypeAlias = str | tuple[str, Mapping[str, Any]]
INPUT_NAME = "image"
_SUFFIX = "ExecutionProvider"
_FATAL = 4  # ONNX Runtime's own messages stay off stderr: what goes wrong is raised


@dataclass(frozen=True)
class Session:
    """A loaded model: its ONNX Runtime session and what the file says about itself.

    `map_sizes` are the (height, width) of the three levels, finest first. Safe to share between threads.
    """

    path: Path
    bundle: Bundle
    map_sizes: tuple[tuple[int, int], ...]
    providers: tuple[str, ...]
    threads: int
    _inference: Any

    def run(self, images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """Six maps, each (N, h, w) float32, of `images` (N, H, W, 3) uint8 RGB. Raises ModelError."""
        try:
            maps: list[NDArray[np.float32]] = self._inference.run(list(self.bundle.map_names), {INPUT_NAME: images})
        except Exception as error:  # ONNX Runtime's exceptions have no base class but Exception
            raise ModelError(f"The model {self.path} could not be run: {_first_line(error)}.") from error
        expected = [(len(images), *size) for size in self.map_sizes * 2]
        if [six.shape for six in maps] != expected:
            raise ModelError(f"The maps of {self.path} do not have the sizes that its metadata promises.")
        return maps


def open_session(
    path: str | os.PathLike[str],
    *,
    providers: Sequence[Provider] | str | None = None,
    threads: int | None = None,
    polite: bool = False,
) -> Session:
    """Load a model file. `providers`, `threads` and `polite` are those of `Detector`.

    Raises ModelError for a file that is missing, damaged, not exported by rstpm-edge or newer than this
    package; ProviderError for a provider that this ONNX Runtime lacks or cannot start; UsageError for other
    options that cannot work.
    """
    path = Path(path)
    chosen = [_resolve(provider) for provider in _listed(providers)]
    if threads is None:
        threads = usable_cores()
    elif threads < 1:
        raise UsageError(f"The number of threads must be at least 1, but is {threads}.")
    inference = _load(path, chosen, _options(threads, polite))
    document = inference.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if document is None:
        raise ModelError(f"The model {path} was not exported by rstpm-edge.")
    bundle = parse_bundle(document)
    map_sizes = _check_graph(inference, bundle, path)
    return Session(path, bundle, map_sizes, tuple(inference.get_providers()), threads, inference)


def available_providers() -> list[str]:
    """Short names of what this ONNX Runtime build offers, best first: "cuda", "cpu", …"""
    return [_short(name) for name in onnxruntime.get_available_providers()]


def usable_cores() -> int:
    """Physical cores that this process may run on: a second hyper-thread adds nothing to matrix products.

    Not left to ONNX Runtime, which counts the machine's cores and pins its threads to them, also in a
    container that was given two of them.
    """
    cores = set()
    for cpu in os.sched_getaffinity(0):
        siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        cores.add(siblings.read_text() if siblings.exists() else str(cpu))
    return max(min(len(cores), _cpu_quota()), 1)


def _cpu_quota() -> int:
    """Whole processors that the container may use (`docker run --cpus`); without a limit, a huge number."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return int(quota) // int(period)
    except (OSError, ValueError):  # no limit ("max"), or control groups of version 1
        return 1 << 16


def _options(threads: int, polite: bool) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.enable_cpu_mem_arena = True  # a call reuses the memory of the one before
    # One more block for all that a call needs, planned ahead: 15 MB for the edge preset, and no faster.
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "0" if polite else "1")
    if not polite:
        # Smaller pieces, so that a core that was taken away for a moment does not hold up the others: the 95th
        # percentile falls from 33 to 21 ms on a shared machine, the median stays. Without spinning it costs a tenth.
        options.add_session_config_entry("session.dynamic_block_base", "4")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")  # there is one such thread
    options.log_severity_level = _FATAL
    return options


def _load(path: Path, providers: list[Provider], options: Any) -> Any:
    if path.is_dir():
        raise ModelError(f"The model {path} is a folder; name the .onnx file itself.")
    try:
        with open(path, "rb") as file:
            before = os.fstat(file.fileno())
            if uses_external_data(_content(file, before.st_size)):
                # ONNX Runtime would open that file, whatever it is.
                raise ModelError(f"The model {path} keeps weights in a second file; export it again as one file.")
            # ONNX Runtime reads the file itself: given its bytes, it would hold it twice. It gets the file that
            # was looked at, by a name that another file cannot take.
            source: str | bytes = f"/proc/self/fd/{file.fileno()}"
            if not os.path.exists(source):
                file.seek(0)
                source = file.read()
            inference = _start(source, path, providers, options)
            after = os.fstat(file.fileno())
    except FileNotFoundError as error:
        raise ModelError(f"There is no model file {path}; `rstpm-edge export` makes one.") from error
    except OSError as error:
        raise ModelError(f"Cannot read the model {path}: {error.strerror or error}.") from error
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise ModelError(f"The model {path} was written to while it was being loaded; load it again.")
    return inference


def _content(file: BinaryIO, size: int) -> bytes | mmap.mmap:
    """The whole file, in memory that goes back to the system at once, as that of `bytes` does not: the allocator
    takes a large block that is freed for a sign of more to come, and from then on holds on to some."""
    if size == 0:
        return file.read()
    content = mmap.mmap(-1, size)  # not of the file: one that is cut short meanwhile would end the process
    file.readinto(content)  # type: ignore[attr-defined]
    return content


def _start(source: str | bytes, path: Path, providers: list[Provider], options: Any) -> Any:
    try:
        # Without `enable_fallback`, a provider that fails would be replaced with a line printed to stdout.
        inference = onnxruntime.InferenceSession(source, options, providers=providers, enable_fallback=False)
    except Exception as error:  # ONNX Runtime's exceptions have no base class but Exception
        reason = _first_line(error).removeprefix(f"Load model from {source!s} failed:")
        if _names(providers) == ["CPUExecutionProvider"]:
            raise ModelError(f"The model {path} is damaged, or not an ONNX file: {reason}.") from error
        first = _short(_names(providers)[0])
        raise ProviderError(f"The model {path} cannot be loaded with {first}: {reason}.") from error
    missing = [_short(name) for name in _names(providers) if name not in inference.get_providers()]
    if missing:
        raise ProviderError(
            f"The execution provider {missing[0]} could not be started; is its driver or library missing?"
        )
    return inference


def _check_graph(inference: Any, bundle: Bundle, path: Path) -> tuple[tuple[int, int], ...]:
    """Sizes of the three levels' maps. Raises ModelError where the graph is not what its metadata says."""

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
    sizes = tuple((bundle.height // stride, bundle.width // stride) for stride in bundle.strides)
    outputs = {node.name: node for node in inference.get_outputs()}
    for name, size in zip(bundle.map_names, sizes * 2, strict=True):
        if name not in outputs or not matches(outputs[name], "float", *size):
            raise ModelError(
                f"The output {name} of {path} is missing or does not match its metadata; export the model again."
            )
    return sizes


def _listed(providers: Sequence[Provider] | str | None) -> list[Provider]:
    if providers is None:
        return ["cpu"]
    listed: list[Provider] = [providers] if isinstance(providers, str) else [*providers]
    if not listed:
        raise UsageError("The list of execution providers is empty.")
    return listed


def _resolve(provider: Provider) -> Provider:
    """ONNX Runtime's name for "cuda" or "CUDAExecutionProvider", with the options kept."""
    name, options = (provider, None) if isinstance(provider, str) else provider
    for candidate in onnxruntime.get_available_providers():
        if name.lower() in (candidate.lower(), _short(candidate)):
            return candidate if options is None else (candidate, options)
    raise ProviderError(
        f"This ONNX Runtime has no execution provider {name!r}, only {', '.join(available_providers())}."
    )


def _short(name: str) -> str:
    return name.removesuffix(_SUFFIX).lower()


def _names(providers: list[Provider]) -> list[str]:
    return [provider if isinstance(provider, str) else provider[0] for provider in providers]


def _first_line(error: Exception) -> str:
    """ONNX Runtime's reason without its codes: "[ONNXRuntimeError] : 7 : INVALID_PROTOBUF : …"."""
    first, *_ = str(error).strip().splitlines() or [type(error).__name__]
    return first.rsplit(" : ", 1)[-1].rstrip(".")
