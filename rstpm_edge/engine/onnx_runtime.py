"""ONNX Runtime: a session started with the providers that were chosen, or one sentence that says why not."""

import contextlib
import ctypes
import importlib.util
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rstpm_edge.engine.no_telemetry import onnxruntime
from rstpm_edge.engine.providers import Choice, onnxruntime_providers, session_entries, short
from rstpm_edge.errors import ModelError, ProviderError
from rstpm_edge.model.metadata import Bundle
from rstpm_edge.model.model_file import ModelFile

_FATAL = 4  # ONNX Runtime's own messages stay off stderr: what goes wrong is raised


def load(
    model: ModelFile,
    choices: Sequence[Choice],
    bundle: Bundle,
    *,
    threads: int,
    polite: bool,
    engine_cache: Path | None,
) -> Any:
    """A session of ONNX Runtime with these providers.

    Raises ModelError for a file that it does not take, and ProviderError where a provider cannot start.
    """
    providers = onnxruntime_providers(choices, bundle, threads=threads, engine_cache=engine_cache)
    options = session_options(threads, polite=polite, entries=session_entries(choices))
    return _start(model, providers, options)


def session_options(threads: int, *, polite: bool = False, entries: Mapping[str, str] | None = None) -> Any:
    """ONNX Runtime's options for a session of ours; `entries` are further ones of its session configuration."""
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
    for key, value in (entries or {}).items():
        options.add_session_config_entry(key, value)
    options.log_severity_level = _FATAL
    return options


def _start(model: ModelFile, providers: list[tuple[str, dict[str, Any]]], options: Any) -> Any:
    names = [name for name, _ in providers]
    first = short(names[0])
    on_gpu = first in ("cuda", "tensorrt")
    if on_gpu:
        _find_cuda()
    try:
        # Without `enable_fallback`, a provider that fails would be replaced with a line printed to stdout.
        inference = onnxruntime.InferenceSession(model.source, options, providers=providers, enable_fallback=False)
    except Exception as error:  # ONNX Runtime's exceptions have no base class but Exception
        loaded = model.source if isinstance(model.source, str) else ""
        why = reason(error).removeprefix(f"Load model from {loaded} failed:")
        if names == ["CPUExecutionProvider"]:
            raise ModelError(f"The model {model.path} is damaged, or not an ONNX file: {why}.") from error
        why = (_missing_library(first) if on_gpu else None) or why
        raise ProviderError(f"The model {model.path} cannot be loaded with {first}: {why}.") from error
    missing = [short(name) for name in names if name not in inference.get_providers()]
    if missing:
        why = _missing_library(missing[0]) or "its driver does not work, or there is no such device"
        raise ProviderError(f"The execution provider {missing[0]} could not be started: {why}.")
    return inference


def _find_cuda() -> None:
    """Load CUDA from NVIDIA's packages for pip, where they are installed: ONNX Runtime alone does not look there."""
    if hasattr(onnxruntime, "preload_dlls") and importlib.util.find_spec("nvidia") is not None:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does not find; starting will tell
            onnxruntime.preload_dlls()


def _missing_library(provider: str) -> str | None:
    """Why the library of a provider cannot be loaded, None where it can: ONNX Runtime keeps that to its log."""
    library = Path(onnxruntime.__file__).parent / "capi" / f"libonnxruntime_providers_{provider}.so"
    try:
        ctypes.CDLL(str(library))
    except OSError as error:
        return str(error)
    return None


def reason(error: Exception) -> str:
    """ONNX Runtime's reason without its codes ("[ONNXRuntimeError] : 7 : INVALID_PROTOBUF : …") and source lines."""
    first, *_ = str(error).strip().splitlines() or [type(error).__name__]
    return re.sub(r"^/\S+:\d+ .*\) ", "", first.rsplit(" : ", 1)[-1]).rstrip(".")
