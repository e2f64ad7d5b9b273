"""What users call execution providers, and what ONNX Runtime is told for them.

Short names ("cpu", "cuda", "tensorrt", "openvino") come with defaults of ours and take three options of ours,
`precision`, `batch` and `device`; all other options go to the runtime as they are. ONNX Runtime's own names
("CUDAExecutionProvider") come with ONNX Runtime's own options and defaults.
"""

import importlib.util
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from rstpm_edge.engine.no_telemetry import onnxruntime
from rstpm_edge.errors import ProviderError, UsageError
from rstpm_edge.model.metadata import Bundle

Provider: TypeAlias = str | tuple[str, Mapping[str, Any]]
INPUT_NAME = "image"
OPENVINO = "OpenVINO"  # its own runtime; ONNX Runtime's provider is called OpenVINOExecutionProvider
_SUFFIX = "executionprovider"

# The first is the default: the numbers that were checked at export. The others are faster where the hardware has them.
PRECISIONS = {
    "cpu": ("f32", "bf16"),
    "cuda": ("f32", "tf32"),
    "tensorrt": ("f32", "f16", "int8"),
    "openvino": ("f32", "f16", "bf16"),
}
_OURS = {"cpu": {"precision"}, "cuda": {"precision"}, "tensorrt": {"precision", "batch"}}
_OURS["openvino"] = {"precision", "device"}
LARGEST_BATCH = 8  # what `Detector.predict_batch` takes at a time; a TensorRT engine is built up to a size

_GPU = "install onnxruntime-gpu in place of onnxruntime; for a Jetson, docs/jetson.md says where to find it"
_MISSING = {
    "cuda": _GPU,
    "tensorrt": _GPU,
    "openvino": "pip install openvino",
}


@dataclass(frozen=True)
class Choice:
    """One provider that was asked for.

    `name` is ONNX Runtime's own, or OPENVINO. `precision` is None where the runtime's own defaults hold. `batch` is
    how many images a call takes at most, None for any number. `options` are the runtime's own.
    """

    name: str
    precision: str | None = None
    batch: int | None = None
    device: str = "CPU"
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def short(self) -> str:
        """The name that users type."""
        return short(self.name)

    @property
    def on_processor(self) -> bool:
        """Whether the processor itself computes the network."""
        return self.short not in ("cuda", "tensorrt") and self.device == "CPU"

    @property
    def keeps_engines(self) -> bool:
        """Whether `engine_cache` means something to it."""
        return self.precision is not None and self.short in ("tensorrt", "openvino")


def choose(providers: Sequence[Provider] | str | None) -> list[Choice]:
    """What `providers` of `Detector` asks for.

    Raises ProviderError for a provider that is not installed, saying how to get it; UsageError for options that
    cannot work.
    """
    if providers is None:
        providers = "cpu"
    listed: list[Provider] = [providers] if isinstance(providers, str) else [*providers]
    if not listed:
        raise UsageError("The list of execution providers is empty.")
    choices = [_choice(*((provider, {}) if isinstance(provider, str) else provider)) for provider in listed]
    if len(choices) > 1 and any(choice.name == OPENVINO for choice in choices):
        raise UsageError(
            "OpenVINO's runtime runs all of the model and goes with no other provider; "
            "ONNX Runtime's own is called OpenVINOExecutionProvider."
        )
    return choices


def available_providers() -> list[str]:
    """Short names of what is installed here, best first: "cuda", "openvino", "cpu", …"""
    names = [short(name) for name in onnxruntime.get_available_providers()]
    if has_openvino() and "openvino" not in names:
        names.insert(len(names) - len({"azure", "cpu"}.intersection(names)), "openvino")
    return names


def has_openvino() -> bool:
    """Whether OpenVINO's own runtime is installed; it is not loaded."""
    return importlib.util.find_spec("openvino") is not None


def short(name: str) -> str:
    """ "cuda" for "CUDAExecutionProvider"."""
    return name.lower().removesuffix(_SUFFIX)


def onnxruntime_providers(
    choices: Sequence[Choice], bundle: Bundle, *, threads: int, engine_cache: Path | None
) -> list[tuple[str, dict[str, Any]]]:
    """ONNX Runtime's `providers` for these choices, for the model that `bundle` describes."""
    listed = []
    for choice in choices:
        ours: dict[str, Any] = {}
        if choice.precision is not None:
            if choice.short == "cuda":
                ours = _cuda(choice)
            elif choice.short == "tensorrt":
                ours = _tensorrt(choice, bundle, engine_cache)
            elif choice.short == "openvino":
                ours = _openvino_provider(choice, threads, engine_cache)
        listed.append((choice.name, {**ours, **choice.options}))
    named = [choice.short for choice in choices]
    if "tensorrt" in named and "cuda" not in named and "cuda" in available_providers():
        # For operators that TensorRT leaves out, which would otherwise go to the CPU and back.
        listed.insert(named.index("tensorrt") + 1, ("CUDAExecutionProvider", {}))
    return listed


def session_entries(choices: Sequence[Choice]) -> dict[str, str]:
    """Entries of ONNX Runtime's session configuration that these choices ask for."""
    if any(choice.short == "cpu" and choice.precision == "bf16" for choice in choices):
        return {"mlas.enable_gemm_fastmath_arm64_bfloat16": "1"}
    return {}


def _choice(name: str, options: Mapping[str, Any]) -> Choice:
    asked = name.lower()
    installed = onnxruntime.get_available_providers()
    for candidate in installed:
        if asked == candidate.lower():
            return Choice(candidate, options=options)
    if asked == "openvino" and has_openvino():
        return _with_options(OPENVINO, asked, options)
    for candidate in installed:
        if asked == short(candidate):
            return _with_options(candidate, asked, options)
    if asked == "openvino":
        raise ProviderError(f"OpenVINO is not installed: {_MISSING[asked]}")
    if asked in ("gpu", "nvidia"):
        raise ProviderError(f"The provider of an NVIDIA GPU is called cuda or tensorrt, not {name}; {_available()}.")
    message = f"This ONNX Runtime has no execution provider {name!r}, only {', '.join(available_providers())}"
    advice = _MISSING.get(short(name))
    raise ProviderError(f"{message}." if advice is None else f"{message}: {advice}.")


def _available() -> str:
    return f"here there are {', '.join(available_providers())}"


def _with_options(name: str, asked: str, options: Mapping[str, Any]) -> Choice:
    ours = {key: value for key, value in options.items() if key in _OURS.get(asked, ())}
    theirs = {key: value for key, value in options.items() if key not in ours}
    if asked not in PRECISIONS:
        return Choice(name, options=theirs)
    precision = ours.pop("precision", PRECISIONS[asked][0])
    if precision not in PRECISIONS[asked]:
        raise UsageError(f"The precision of {asked} is one of {', '.join(PRECISIONS[asked])}, but not {precision!r}.")
    if asked == "cpu" and theirs:  # ONNX Runtime would drop them without a word
        raise UsageError(f"The provider cpu takes the option precision, but not {', '.join(map(repr, theirs))}.")
    if asked == "cpu" and precision == "bf16" and platform.machine() != "aarch64":
        raise UsageError("ONNX Runtime computes in bf16 on ARM64 processors only; on others, OpenVINO may.")
    batch = 1 if name == OPENVINO else None
    if asked == "tensorrt":
        batch = _positive("batch of tensorrt", ours.pop("batch", LARGEST_BATCH))
    return Choice(name, precision, batch, str(ours.pop("device", "CPU")), theirs)


def _positive(what: str, value: Any) -> int:
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = 0
    if number < 1:
        raise UsageError(f"The {what} must be a whole number of at least 1, but is {value!r}.")
    return number


def _cuda(choice: Choice) -> dict[str, Any]:
    version = tuple(int(part) for part in onnxruntime.__version__.split(".")[:2])
    # From Ampere on, convolutions otherwise drop 13 bits of each factor. ONNX Runtime 1.17 has no such option.
    return {"use_tf32": str(int(choice.precision == "tf32"))} if version >= (1, 18) else {}


def _tensorrt(choice: Choice, bundle: Bundle, engine_cache: Path | None) -> dict[str, Any]:
    def shape(batch: int | None) -> str:
        return f"{INPUT_NAME}:{batch}x{bundle.height}x{bundle.width}x3"

    options = {
        "trt_fp16_enable": str(int(choice.precision in ("f16", "int8"))),
        "trt_int8_enable": str(int(choice.precision == "int8")),
        # Without a profile, the engine would be built again, for minutes, whenever a batch is larger than any before.
        "trt_profile_min_shapes": shape(1),
        "trt_profile_opt_shapes": shape(1),
        "trt_profile_max_shapes": shape(choice.batch),
        # Set in any case: variables of the environment could ask for a cache in the working directory.
        "trt_engine_cache_enable": str(int(engine_cache is not None)),
        "trt_timing_cache_enable": str(int(engine_cache is not None)),
    }
    if engine_cache is not None:
        options |= {"trt_engine_cache_path": str(engine_cache), "trt_timing_cache_path": str(engine_cache)}
    return options


def _openvino_provider(choice: Choice, threads: int, engine_cache: Path | None) -> dict[str, Any]:
    if choice.precision == "bf16" or (choice.device == "CPU" and choice.precision != "f32"):
        raise UsageError(f"{choice.precision} takes OpenVINO's own runtime: {_MISSING['openvino']}")
    precision = "FP32" if choice.precision == "f32" else "FP16"
    options = {"device_type": choice.device, "precision": precision, "num_of_threads": str(threads)}
    return options if engine_cache is None else {**options, "cache_dir": str(engine_cache)}
