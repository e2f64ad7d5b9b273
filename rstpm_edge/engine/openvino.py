"""OpenVINO's own runtime, behind the four methods of ONNX Runtime's session that session.py calls."""

import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rstpm_edge.engine.providers import Choice
from rstpm_edge.errors import ModelError, ProviderError
from rstpm_edge.model.model_file import ModelFile

_TYPES = {"u8": "tensor(uint8)", "f32": "tensor(float)"}  # OpenVINO's names, and ONNX Runtime's
_TELEMETRY = "openvino_telemetry"


@dataclass(frozen=True)
class Port:
    """An input or output, as ONNX Runtime describes one: `shape` has a string where a size is free."""

    name: str
    type: str
    shape: list[int | str]


class OpenVINOSession:
    """A compiled model. Safe to share between threads."""

    def __init__(self, compiled: Any, device: str, inputs: list[Port], outputs: list[Port]) -> None:
        self._compiled = compiled
        self._device = device
        self._inputs, self._outputs = inputs, outputs
        # A request holds the buffers of one call at a time. Appending to a list and popping from it are atomic.
        self._idle: list[Any] = []
        self.precision = str(compiled.get_property("INFERENCE_PRECISION_HINT").to_string())

    def get_inputs(self) -> list[Port]:
        return self._inputs

    def get_outputs(self) -> list[Port]:
        return self._outputs

    def get_providers(self) -> list[str]:
        return [f"OpenVINO {self._device}"]

    def run(self, names: Sequence[str], feed: dict[str, NDArray[np.uint8]]) -> list[NDArray[np.float32]]:
        try:
            request = self._idle.pop()
        except IndexError:
            request = self._compiled.create_infer_request()
        outputs = request.infer(feed, share_inputs=True)  # the outputs are copies
        self._idle.append(request)
        return [outputs[name] for name in names]


def load(model: ModelFile, choice: Choice, *, threads: int, engine_cache: Path | None) -> OpenVINOSession:
    """Read the model and compile it for `choice`, to take `choice.batch` images a call.

    There is nothing to be `polite` about: a millisecond after a call, OpenVINO's threads sleep.

    Raises ModelError for a file that OpenVINO cannot read, ProviderError for a device or option that it does not
    have, or when OpenVINO itself cannot be loaded.
    """
    core = _openvino().Core()
    try:
        network = core.read_model(model.source)
        inputs, outputs = ([_port(port) for port in ports] for ports in (network.inputs, network.outputs))
    except Exception as error:  # RuntimeError, mostly
        raise ModelError(f"The model {model.path} is damaged, or not an ONNX file: {_reason(error)}.") from error
    try:
        # For exactly one image the network takes a tenth less time, and on a CPU larger batches save nothing.
        network.reshape({port.name: [choice.batch, *port.shape[1:]] for port in inputs})
        compiled = core.compile_model(network, choice.device, _properties(choice, threads, engine_cache))
        return OpenVINOSession(compiled, choice.device, inputs, outputs)
    except Exception as error:
        raise ProviderError(f"The model {model.path} cannot be loaded with openvino: {_reason(error)}.") from error


def version() -> str:
    """OpenVINO's version, as in "2026.4.1"."""
    return str(_openvino().__version__).partition("-")[0]


def _properties(choice: Choice, threads: int, engine_cache: Path | None) -> dict[str, Any]:
    properties: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": choice.precision,  # OpenVINO itself takes bf16 where the processor has it
    }
    if choice.device == "CPU":
        properties |= {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "ENABLE_CPU_PINNING": False}
    if engine_cache is not None:
        properties["CACHE_DIR"] = str(engine_cache)
    return {**properties, **choice.options}


def _openvino() -> ModuleType:
    """OpenVINO without its telemetry, which at import writes to ~/intel and reports to Google Analytics.

    It does without where that package is missing, so for the time of the import it is.
    """
    hidden = _TELEMETRY not in sys.modules
    if hidden:
        sys.modules[_TELEMETRY] = None  # type: ignore[assignment]
    try:
        return importlib.import_module("openvino")
    except Exception as error:  # ImportError, or whatever a library that does not fit raises
        raise ProviderError(f"OpenVINO is installed but cannot be loaded: {_reason(error)}.") from error
    finally:
        if hidden:
            del sys.modules[_TELEMETRY]


def _port(port: Any) -> Port:
    kind = port.get_element_type().get_type_name()
    shape = [size.get_length() if size.is_static else "?" for size in port.get_partial_shape()]
    return Port(port.get_any_name(), _TYPES.get(kind, kind), shape)


def _reason(error: Exception) -> str:
    """The last line that says something: the ones before name OpenVINO's source files."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else type(error).__name__
